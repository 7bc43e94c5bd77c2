//! Bad input at the door: half of a request, nesting without end, texts that are hard to count. Whoever sends it is
//! refused or served; nobody else notices.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use bursar::http::Patience;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{PATIENCE, ending};
use crate::http::server::{Server, Setup};

/// The longest that anybody else waits for an answer meanwhile, on a slow machine.
const PROMPT: Duration = Duration::from_secs(3);

/// Asks as anybody else would; how long it took.
async fn someone_else_asks(server: &Server) -> Duration {
    let began = Instant::now();
    server.get("/v1/wallet").await.expect(200);
    let took = began.elapsed();
    assert!(took < PROMPT, "{took:?}");
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_sent_requests_by_the_hundred_hold_up_nobody_and_leave_their_places() {
    const HALVES: usize = 300;
    let short = Duration::from_secs(2);
    let patience = Patience { header: short, body: short, connections: HALVES + 20, ..Patience::default() };
    let server = Server::start_with(Setup { patience, ..Setup::default() }).await;
    let post = format!(
        "POST /v1/missions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n",
        server.ours.key
    );
    let halves = [
        "P".to_owned(),
        "GET /v1/missions HTTP/1.1\r\nhost: x\r\nx-long: ".to_owned(),
        format!("{post}content-length: 4000\r\n\r\n{{\"workflow\": \"no"),
        format!("{post}transfer-encoding: chunked\r\n\r\n10\r\n{{\"work"),
        format!("{post}transfer-encoding: chunked\r\n\r\nffffffffff"),
    ];
    // twice as many as there are places, so that those of the first must be free again
    for _ in 0..2 {
        let mut sockets = Vec::new();
        for half in halves.iter().cycle().take(HALVES) {
            let mut socket = TcpStream::connect(server.base.trim_start_matches("http://")).await.unwrap();
            socket.write_all(half.as_bytes()).await.unwrap();
            sockets.push(socket);
        }
        for _ in 0..20 {
            someone_else_asks(&server).await;
        }
        assert_eq!(server.run("talk", &json!({"prompt": "hi"})).await["status"], "succeeded");
        for mut socket in sockets {
            let mut answer = Vec::new();
            let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await;
            read.expect("each is cut").ok();
            let answer = String::from_utf8_lossy(&answer);
            let is_refused = ["HTTP/1.1 408", "HTTP/1.1 400"].iter().any(|head| answer.starts_with(head));
            assert!(answer.is_empty() || is_refused, "{answer}");
        }
    }
    let missions = server.get("/v1/missions?limit=100").await.expect(200);
    assert_eq!(missions["data"].as_array().unwrap().len(), 2, "no half of a request made a mission");
    ending::holds(server.engine.store()).await;
}

/// Definitions that a careless reader follows until its stack or memory ends.
fn endless_yaml() -> Vec<String> {
    let mut aliases = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let before = level - 1;
        let all = vec![format!("*a{before}"); 10].join(", ");
        writeln!(aliases, "a{level}: &a{level} [{all}]").unwrap();
    }
    let mut indented = String::new();
    for depth in 0..1_000 {
        writeln!(indented, "{}a:", " ".repeat(depth)).unwrap();
    }
    vec![
        "[".repeat(500_000),
        "{a: ".repeat(200_000),
        "- ".repeat(400_000),
        "? ".repeat(400_000),
        format!("workflow: deep\nnodes: {{a: {{transform: {}1{}}}}}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("workflow: bomb\n{aliases}nodes: {{a: {{transform: *a29}}}}"),
        "a: &a [*a, *a]".to_owned(),
        indented,
        "!".repeat(800_000),
        "&a ".repeat(200_000),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nesting_without_end_and_aliases_that_multiply_are_refused_and_the_process_lives() {
    let server = Server::start().await;
    let json = [
        "[".repeat(4_000_000),
        "{\"a\":".repeat(800_000),
        format!("{{\"workflow\": \"note\", \"input\": {}1{}}}", "[".repeat(2_000_000), "]".repeat(2_000_000)),
        format!("{{\"workflow\": \"note\", \"metadata\": {}1{}}}", "{\"a\":".repeat(500_000), "}".repeat(500_000)),
    ];
    let to = |method, path: &str, media_type: &str, body: &str| {
        let request = server.request(method, path).bearer_auth(&server.ours.key);
        server.send(request.header("content-type", media_type.to_owned()).body(body.to_owned()))
    };
    for body in &json {
        let began = Instant::now();
        to(Method::POST, "/v1/missions", "application/json", body).await.refused(400, "malformed-json");
        for body in [body, &body[..900_000]] {
            let answer = to(Method::POST, "/v1/workflows/validate", "application/json", body).await;
            assert!(answer.status.is_client_error(), "{} {}", answer.status, answer.text);
        }
        println!("{}… of {} bytes: {} ms", &body[..12], body.len(), began.elapsed().as_millis());
        someone_else_asks(&server).await;
    }
    for body in endless_yaml() {
        let began = Instant::now();
        let answer = to(Method::PUT, "/v1/workflows/deep", "application/yaml", &body).await;
        let took = began.elapsed();
        println!("{}… of {} bytes: {} after {} ms", &body[..9], body.len(), answer.status, took.as_millis());
        assert!(answer.status.is_client_error() && took < PATIENCE, "{} {}", answer.status, answer.text);
        someone_else_asks(&server).await;
    }
    assert_eq!(server.run("talk", &json!({"prompt": "hi"})).await["status"], "succeeded");
    ending::holds(server.engine.store()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prompts_of_200_kilobytes_of_one_letter_hold_up_nobody() {
    let server = Server::start().await;
    let grant = server.request(Method::POST, "/v1/wallet/grants").bearer_auth(&server.admin);
    let grant = grant.header("X-Bursar-Tenant", server.ours.id.to_string()).header("Idempotency-Key", "much");
    server.send(grant.json(&json!({"amount": "1000000", "kind": "paid"}))).await.expect(201);
    let mut missions = Vec::new();
    for unit in ["a", "a", " ", "\n", "8", "🦀", "漢", "aA", ".", "a\u{301}", "a", "a"] {
        let prompt = unit.repeat(200_000 / unit.len());
        missions.push(server.submit("talk", &json!({"prompt": prompt})).await);
    }
    let ends = futures::future::join_all(missions.iter().map(|id| server.finished(id)));
    let mut ends = std::pin::pin!(ends);
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let (mut slowest, mut asked) = (Duration::ZERO, 0);
    let ends = loop {
        let beside = async {
            ticks.tick().await;
            let took = someone_else_asks(&server).await;
            let note = server.run("note", &json!({"name": "x"})).await;
            assert_eq!(note["status"], "succeeded");
            took
        };
        tokio::select! {
            biased;
            ends = &mut ends => break ends,
            took = beside => {
                slowest = slowest.max(took);
                asked += 1;
            }
        }
    };
    println!("{asked} others were served meanwhile, the slowest in {} ms", slowest.as_millis());
    assert!(asked > 0, "nobody else asked");
    for end in ends {
        assert_eq!(end["status"], "succeeded", "{end:#}");
    }
    // the last of the others may still be on its way
    ending::holds(server.engine.store()).await;
}
