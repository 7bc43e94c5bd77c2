//! Nodes that call services and run programs, as the documentation shows them, on both stores.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bursar::engine::{PutWorkflowError, SubmitError};
use bursar_domain::state::{RunState, TaskState};
use bursar_workers::Providers;
use bursar_workers::exec::{ExecConfig, ExecLimits, ExecService};
use bursar_workers::http::{HttpConfig, HttpSecret, HttpService};
use serde_json::{Value, json};

use crate::support::docs::example;
use crate::support::hand::definition;
use crate::support::stores::{Storage, on_both_stores};
use crate::support::world::{LEASE, Queues, World};

on_both_stores!(idle:
    the_example_of_calling_services_runs_as_it_says,
    a_service_that_is_down_is_tried_again_and_one_that_refuses_is_not,
    the_example_of_running_programs_runs_as_it_says,
    programs_are_refused_where_the_operator_did_not_enable_them,
);

/// A world with credits and without workers.
async fn idle(storage: Storage) -> World {
    let world = World::new(storage, Queues::Memory).await;
    world.grant(1_000).await;
    world
}

/// A help desk: answers with the statuses it is given, then with 201; remembers keys and bodies.
#[derive(Clone, Default)]
struct Desk {
    statuses: Arc<Mutex<Vec<u16>>>,
    heard: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
}

impl Desk {
    /// Starts it with the statuses it begins with, the last one first; its URL and the host's part of it.
    async fn start(&self, statuses: &[u16]) -> (String, String) {
        *self.statuses.lock().unwrap() = statuses.to_vec();
        let desk = self.clone();
        let answer = move |headers: HeaderMap, axum::Json(body): axum::Json<Value>| {
            desk.heard.lock().unwrap().push((headers, body));
            let status = desk.statuses.lock().unwrap().pop().unwrap_or(201);
            let head = (StatusCode::from_u16(status).unwrap(), [("retry-after", "0")]);
            std::future::ready((head.0, head.1, axum::Json(json!({"id": 17}))))
        };
        let app = axum::Router::new().route("/tickets", post(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, app).await });
        (format!("http://{host}"), host)
    }
}

fn calling(host: &str) -> Providers {
    bursar::boot::install_crypto();
    let hosts = vec![host.to_owned()];
    let secrets =
        BTreeMap::from([("desk".to_owned(), HttpSecret { value: "Bearer desk-key".into(), hosts: hosts.clone() })]);
    let config = HttpConfig { allow: hosts, allow_private: true, timeout_ms: 5_000, secrets };
    Providers::builder().http(HttpService::new(config).unwrap()).build().unwrap()
}

async fn the_example_of_calling_services_runs_as_it_says(mut world: World) {
    let desk = Desk::default();
    // a moment of overload and one of sickness are over by themselves
    let (url, host) = desk.start(&[503, 429]).await;
    world.process.work_with(calling(&host), 2, LEASE);
    let workflow = world.put(&example("ticket")).await;
    let mission = world.submit_with(workflow.id, json!({"service": url, "title": "it smokes"})).await;
    let over = world.finished(mission).await;
    assert_eq!(over.state, RunState::Succeeded, "{:?}", over.error);
    assert_eq!(world.task(mission, "link").await.output, Some(json!("ticket 17")));
    let open = world.task(mission, "open").await;
    assert_eq!((open.pool.as_str(), open.attempt), ("http", 3));
    let heard = desk.heard.lock().unwrap().clone();
    assert_eq!(heard.len(), 3);
    assert_eq!(heard[0].1, json!({"title": "it smokes", "tags": ["new"]}));
    assert!(heard.iter().all(|(headers, _)| headers["authorization"] == "Bearer desk-key"));
    assert!(heard.iter().all(|(headers, _)| headers["idempotency-key"] == heard[0].0["idempotency-key"]));
    world.balances().await;
}

async fn a_service_that_is_down_is_tried_again_and_one_that_refuses_is_not(mut world: World) {
    let desk = Desk::default();
    let (url, host) = desk.start(&[422, 500]).await;
    world.process.work_with(calling(&host), 2, LEASE);
    let yaml = format!(
        "{{workflow: w, flat_fee: 0, nodes: {{a: {{http: {{method: POST, url: '{url}/tickets', body: {{}}}}, \
          retry: {{backoff: {{initial: 1ms}}}}}}}}}}"
    );
    let mission = world.run(&yaml).await;
    let over = world.finished(mission).await;
    assert_eq!((over.state, &over.error.unwrap()["code"]), (RunState::Failed, &json!("http_status")));
    let task = world.task(mission, "a").await;
    assert_eq!((task.state, task.attempt, desk.heard.lock().unwrap().len()), (TaskState::Failed, 2, 2));
}

async fn the_example_of_running_programs_runs_as_it_says(mut world: World) {
    world.engine().allow_exec();
    let env = BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]);
    let config = ExecConfig { folder: std::env::temp_dir(), env, limits: ExecLimits::default() };
    world.process.work_with(Providers::builder().exec(ExecService::new(config)).build().unwrap(), 2, LEASE);
    let workflow = world.put(&example("count")).await;
    let mission = world.submit_with(workflow.id, json!({"text": "to be or not; rm -rf /"})).await;
    let over = world.finished(mission).await;
    assert_eq!(over.state, RunState::Succeeded, "{:?}", over.error);
    assert_eq!(world.task(mission, "say").await.output, Some(json!("7 words")));
    world.balances().await;
}

async fn programs_are_refused_where_the_operator_did_not_enable_them(world: World) {
    let definition = definition(&example("count"));
    let refused = world.engine().put_workflow(world.tenant, &definition).await;
    let Err(PutWorkflowError::NotAllowed(problems)) = refused else { panic!("{refused:?}") };
    assert_eq!((problems[0].pointer.as_str(), problems[0].code), ("/nodes/words/exec", "exec_off"));
    assert!(problems[0].hint.as_ref().unwrap().contains("exec.enabled = true"));

    // put where it was on, submitted where it is not
    let elsewhere = world.another_process().await;
    elsewhere.engine.allow_exec();
    let workflow = elsewhere.engine.put_workflow(world.tenant, &definition).await.unwrap().workflow;
    let refused = world.try_submit(world.submission(workflow.id, json!({"text": "x"}))).await;
    assert!(
        matches!(&refused, Err(SubmitError::NotAllowed(problems)) if problems[0].code == "exec_off"),
        "{refused:?}"
    );
    elsewhere.stop().await;
}
