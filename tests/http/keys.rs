//! API keys: shown once, powerful as they say, dead when revoked.

use bursar::store::Role;
use reqwest::Method;
use serde_json::json;

use super::server::{Server, key};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_until_it_is_revoked() {
    let server = Server::start().await;
    let made = server.post("/v1/api-keys", &json!({"name": "ci"})).await;
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let made = made.expect(201);
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with(made["prefix"].as_str().unwrap()));
    assert_eq!(made["role"], "user");
    let with = |path: &str| server.request(Method::GET, path).bearer_auth(secret);
    server.send(with("/v1/wallet")).await.expect(200);

    let list = server.get("/v1/api-keys").await;
    assert!(!list.text.contains(secret) && !list.text.contains("secret"));
    let list = list.expect(200);
    assert_eq!((list["data"][0]["id"].clone(), list["data"][0]["name"].as_str()), (made["id"].clone(), Some("ci")));

    let path = format!("/v1/api-keys/{}", made["id"].as_str().unwrap());
    let revoke = || server.request(Method::DELETE, &path).bearer_auth(&server.ours.key);
    assert_eq!(server.send(revoke()).await.status, 204);
    server.send(with("/v1/wallet")).await.refused(401, "unauthorized");
    server.send(revoke()).await.refused(404, "not-found");
    assert!(server.get("/v1/api-keys").await.expect(200)["data"][0]["revoked_at"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_admins_make_other_keys_than_their_own() {
    let server = Server::start().await;
    for body in [
        json!({"name": "x", "role": "admin"}),
        json!({"name": "x", "role": "worker"}),
        json!({"name": "x", "tenant_id": server.other.id.to_string()}),
    ] {
        server.post("/v1/api-keys", &body).await.refused(403, "forbidden");
    }
    for name in ["", "  ", "a\nb", &"x".repeat(101)] {
        let told = server.post("/v1/api-keys", &json!({"name": name})).await.refused(422, "validation");
        assert_eq!(told["errors"][0]["pointer"], "/name");
    }
    let body = json!({"name": "for them", "role": "admin", "tenant_id": server.other.id.to_string()});
    let request = server.request(Method::POST, "/v1/api-keys").bearer_auth(&server.admin).json(&body);
    let made = server.send(request).await.expect(201);
    assert_eq!((made["role"].as_str(), made["tenant_id"].clone()), (Some("admin"), json!(server.other.id)));
    let body = json!({"name": "x", "tenant_id": "ten_01h455vb4pex5vsknk084sn02q"});
    let request = server.request(Method::POST, "/v1/api-keys").bearer_auth(&server.admin).json(&body);
    server.send(request).await.refused(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workers_key_does_not_open_the_api() {
    let server = Server::start().await;
    let secret = key(&server.engine, server.ours.id, Role::Worker).await;
    for path in ["/v1/missions", "/v1/wallet", "/v1/admin/workers"] {
        server.send(server.request(Method::GET, path).bearer_auth(&secret)).await.refused(403, "forbidden");
    }
}
