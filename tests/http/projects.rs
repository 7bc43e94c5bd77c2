//! Projects over the API and the command line.

use reqwest::Method;
use serde_json::{Value, json};

use super::server::{Answer, Server};

async fn send(server: &Server, method: Method, path: &str, body: Option<&Value>) -> Answer {
    let request = server.request(method, path).bearer_auth(&server.ours.key);
    server.send(if let Some(body) = body { request.json(body) } else { request }).await
}

fn into(project: &Value) -> Value {
    json!({"workflow": "note", "input": {"name": "Ada"}, "project_id": project})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_holds_missions_until_it_is_archived() {
    let server = Server::start().await;
    let wish = json!({"name": "  launch ", "description": "all of it", "metadata": {"team": 7}});
    let answer = server.post("/v1/projects", &wish).await;
    let path = answer.header("location").unwrap().to_owned();
    let etag = answer.header("etag").unwrap().to_owned();
    let made = answer.expect(201);
    assert_eq!(
        (&made["name"], &made["metadata"], &made["archived"]),
        (&json!("launch"), &wish["metadata"], &json!(false))
    );
    assert_eq!(server.get_with(&path, "if-none-match", &etag).await.status, 304);
    assert_eq!(server.get(&path).await.expect(200), made);
    server.post("/v1/projects", &wish).await.refused(409, "name-taken");

    let mission = server.post("/v1/missions?wait=25", &into(&made["id"])).await.expect(202);
    assert_eq!((&mission["project_id"], &mission["status"]), (&made["id"], &json!("succeeded")));
    assert!(server.run("note", &json!({"name": "Bob"})).await["project_id"].is_null());
    let filter = format!("/v1/missions?project_id={}", made["id"].as_str().unwrap());
    let listed = server.get(&filter).await.expect(200);
    assert_eq!((listed["data"].as_array().unwrap().len(), &listed["data"][0]["id"]), (1, &mission["id"]));
    let cursor_of_all = server.get("/v1/missions?limit=1").await.expect(200)["next_cursor"].clone();
    let mixed = format!("{filter}&cursor={}", cursor_of_all.as_str().unwrap());
    server.get(&mixed).await.refused(400, "bad-cursor");

    let other = server.request(Method::POST, "/v1/missions").bearer_auth(&server.admin).json(&into(&made["id"]));
    let told = server.send(other).await.refused(422, "validation");
    assert_eq!(
        (&told["errors"][0]["pointer"], &told["errors"][0]["code"]),
        (&json!("/project_id"), &json!("unknown_project"))
    );

    let changed = send(&server, Method::PATCH, &path, Some(&json!({"archived": true, "description": null}))).await;
    let changed = changed.expect(200);
    assert_eq!((&changed["archived"], changed["archived_at"].is_string()), (&json!(true), true));
    assert_eq!(
        (&changed["description"], &changed["name"], &changed["metadata"]),
        (&Value::Null, &made["name"], &made["metadata"])
    );
    let told = server.post("/v1/missions", &into(&made["id"])).await.refused(422, "validation");
    assert_eq!(told["errors"][0]["code"], "archived_project");
    send(&server, Method::DELETE, &path, None).await.refused(409, "illegal-state");
    let active = send(&server, Method::PATCH, &path, Some(&json!({"archived": false}))).await.expect(200);
    assert_eq!((&active["archived"], &active["archived_at"]), (&json!(false), &Value::Null));
    server.post("/v1/missions", &into(&made["id"])).await.expect(202);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_archived_project_is_removed_and_lists_go_page_by_page() {
    let server = Server::start().await;
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        ids.push(server.post("/v1/projects", &json!({"name": name})).await.expect(201)["id"].clone());
    }
    let first = server.get("/v1/projects?limit=2").await.expect(200);
    assert_eq!((&first["data"][0]["id"], &first["data"][1]["id"]), (&ids[2], &ids[1]));
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = server.get(&format!("/v1/projects?limit=2&cursor={cursor}")).await.expect(200);
    assert_eq!((&second["data"][0]["id"], second["has_more"].as_bool()), (&ids[0], Some(false)));
    let path = format!("/v1/projects/{}", ids[1].as_str().unwrap());
    send(&server, Method::PATCH, &path, Some(&json!({"name": "c"}))).await.refused(409, "name-taken");
    send(&server, Method::DELETE, &path, None).await.refused(409, "illegal-state");
    send(&server, Method::PATCH, &path, Some(&json!({"archived": true}))).await.expect(200);
    assert_eq!(server.get("/v1/projects?archived=true").await.expect(200)["data"][0]["id"], ids[1]);
    assert_eq!(server.get("/v1/projects?archived=false").await.expect(200)["data"].as_array().unwrap().len(), 2);
    assert_eq!(send(&server, Method::DELETE, &path, None).await.status, 204);
    send(&server, Method::DELETE, &path, None).await.refused(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_makes_projects_and_puts_missions_into_them() {
    let server = Server::start().await;
    let bursar = async |words: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_bursar"));
        let output =
            command.args(words).args(["--url", &server.base, "--key", &server.ours.key]).output().await.unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let id = bursar(&["project", "create", "launch", "--description", "all of it"]).await;
    assert!(bursar(&["project", "list"]).await.contains(&id));
    let shown = bursar(&["project", "show", &id]).await;
    assert!(shown.contains("launch") && shown.contains("active") && shown.contains("all of it"), "{shown}");
    let mission = bursar(&["mission", "submit", "note", "--input", "{\"name\": \"Ada\"}", "--project", &id]).await;
    server.run("note", &json!({"name": "Bob"})).await;
    let missions = bursar(&["mission", "list", "--project", &id]).await;
    assert!(missions.contains(&mission) && missions.lines().count() == 2, "{missions}");
    assert!(bursar(&["project", "archive", &id]).await.contains("archived"));
    assert!(bursar(&["project", "unarchive", &id]).await.contains("active"));
}
