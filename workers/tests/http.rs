//! The http step against real servers: what is sent, what comes back, what is refused, how failures are classed.

use std::collections::BTreeMap;

use bursar_domain::outcome::{ErrorClass, StepError};
use bursar_workers::http::{HttpConfig, HttpConfigError, HttpSecret, HttpService};
use bursar_workers::{Job, Providers, run};
use serde_json::json;

use crate::support::{Recorder, Server, failed, node_job, succeeded};

fn host(server: &Server) -> String {
    server.base_url.strip_prefix("http://").unwrap().strip_suffix("/v1").unwrap().to_owned()
}

fn config(allow: &[String], allow_private: bool) -> HttpConfig {
    let hosts = allow.iter().cloned().chain(["crm.example.com".to_owned()]).collect();
    let secret = HttpSecret { value: "Bearer t0ps3cret".into(), hosts };
    let elsewhere = HttpSecret { value: "other".into(), hosts: vec!["example.com".to_owned()] };
    let secrets = BTreeMap::from([("crm".to_owned(), secret), ("elsewhere".to_owned(), elsewhere)]);
    HttpConfig { allow: allow.to_vec(), allow_private, timeout_ms: 2_000, secrets }
}

fn providers(config: HttpConfig) -> Providers {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Providers::builder().http(HttpService::new(config).unwrap()).build().unwrap()
}

/// A worker that may call that server only.
fn calling(server: &Server) -> Providers {
    providers(config(&[host(server)], true))
}

async fn refused(job: &Job, providers: &Providers) -> (ErrorClass, String, String) {
    let (StepError { class, code, message, .. }, calls) = failed(run(job, &Recorder::default(), providers).await);
    assert_eq!(calls, []);
    (class, code, message)
}

#[tokio::test]
async fn a_request_is_rendered_and_its_answer_handed_on() {
    let headers = [("content-type", "application/json"), ("etag", "\"7\""), ("set-cookie", "session=1")];
    let server = Server::refusing(201, &headers, r#"{"id": 7, "echo": "Bearer t0ps3cret", "raw": "t0ps3cret"}"#).await;
    let node = format!(
        "http: {{ method: POST, url: '{}/tickets/{{{{ inputs.id }}}}', query: {{ q: '{{{{ inputs.title }}}}', n: 5 }}, \
         headers: {{ Authorization: {{ secret: crm }}, X-Title: '{{{{ inputs.title|upper }}}}' }}, \
         body: {{ title: '{{{{ inputs.title }}}}', tags: '{{{{ inputs.tags }}}}' }} }}",
        server.base_url
    );
    let mut job = node_job(&node, &json!({"id": 3, "title": "a & b", "tags": ["x", 1]}));
    let (output, _) = succeeded(run(&job, &Recorder::default(), &calling(&server)).await);
    let body = json!({"id": 7, "echo": "***", "raw": "***"});
    let shown = json!({"content-type": "application/json", "etag": "\"7\""});
    assert_eq!(output, json!({"status": 201, "headers": shown, "body": body}));

    job.attempt = 2;
    succeeded(run(&job, &Recorder::default(), &calling(&server)).await);
    let received = server.received();
    let header = |number: usize, name: &str| received[number].headers[name].to_str().unwrap().to_owned();
    assert_eq!(received[0].body, json!({"title": "a & b", "tags": ["x", 1]}));
    assert_eq!(header(0, "authorization"), "Bearer t0ps3cret");
    assert_eq!(header(0, "x-title"), "A & B");
    assert_eq!(header(0, "content-type"), "application/json");
    assert_eq!(header(0, "idempotency-key"), format!("bursar-{}", job.task_id));
    assert_eq!(header(1, "idempotency-key"), header(0, "idempotency-key"), "all attempts of a task send the same");
}

#[tokio::test]
async fn a_text_is_sent_and_received_as_it_is_and_reads_carry_no_key() {
    let server = Server::refusing(404, &[("content-type", "text/plain")], "nothing\u{0}here").await;
    let node = format!("http: {{ url: '{}/x', expect: [2xx, 404] }}", server.base_url);
    let (output, _) = succeeded(run(&node_job(&node, &json!({})), &Recorder::default(), &calling(&server)).await);
    assert_eq!((&output["status"], &output["body"]), (&json!(404), &json!("nothing\u{FFFD}here")));
    assert!(!server.received()[0].headers.contains_key("idempotency-key"));
    let put =
        format!("http: {{ method: PUT, url: '{}/x', body: '\"{{{{ inputs.a }}}}\"', expect: [4xx] }}", server.base_url);
    succeeded(run(&node_job(&put, &json!({"a": "b"})), &Recorder::default(), &calling(&server)).await);
    assert_eq!(server.received()[1].body, json!("b"));
}

#[tokio::test]
async fn statuses_that_were_not_expected_have_their_classes() {
    use ErrorClass::{Permanent, RateLimited, Retryable};
    for (status, class, code) in [
        (400, Permanent, "http_status"),
        (401, Permanent, "http_status"),
        (404, Permanent, "http_status"),
        (408, Retryable, "http_unavailable"),
        (429, RateLimited, "http_rate_limited"),
        (500, Retryable, "http_unavailable"),
        (503, Retryable, "http_unavailable"),
        (304, Permanent, "http_redirected"),
    ] {
        let server = Server::refusing(status, &[("retry-after", "7")], "the body says t0ps3cret").await;
        let job = node_job(&format!("http: {{ url: '{}' }}", server.base_url), &json!({}));
        let (error, _) = failed(run(&job, &Recorder::default(), &calling(&server)).await);
        assert_eq!((error.class, error.code.as_str()), (class, code), "{status}");
        assert_eq!(error.retry_after_ms, (status == 429).then_some(7_000));
        assert!(!error.message.contains("body"), "{}", error.message);
    }
    let nobody = "127.0.0.1:1".to_owned();
    let job = node_job("http: { url: 'http://127.0.0.1:1/' }", &json!({}));
    let (class, code, _) = refused(&job, &providers(config(&[nobody], true))).await;
    assert_eq!((class, code.as_str()), (Retryable, "http_unreachable"));
}

#[tokio::test]
async fn an_answer_that_is_too_large_or_too_slow_is_given_up() {
    let server = Server::refusing(200, &[], &"x".repeat(2_000)).await;
    let job = node_job(&format!("http: {{ url: '{}', max_bytes: 1999 }}", server.base_url), &json!({}));
    let (class, code, _) = refused(&job, &calling(&server)).await;
    assert_eq!((class, code.as_str()), (ErrorClass::Permanent, "http_body_too_large"));
    let job = node_job(&format!("http: {{ url: '{}', max_bytes: 2000 }}", server.base_url), &json!({}));
    succeeded(run(&job, &Recorder::default(), &calling(&server)).await);

    let silent = Server::start(std::future::pending).await;
    let mut job = node_job(&format!("http: {{ url: '{}' }}", silent.base_url), &json!({}));
    let mut impatient = config(&[host(&silent)], true);
    impatient.timeout_ms = 100;
    let (class, code, _) = refused(&job, &providers(impatient)).await;
    assert_eq!((class, code.as_str()), (ErrorClass::Retryable, "http_timeout"));
    job.timeout_ms = 100;
    let (class, code, _) = refused(&job, &calling(&silent)).await;
    assert_eq!((class, code.as_str()), (ErrorClass::Retryable, "attempt_timeout"));
}

#[tokio::test]
async fn only_hosts_of_the_list_are_called_and_none_that_is_private() {
    let server = Server::refusing(200, &[], "hidden").await;
    let job = node_job("http: { url: '{{ inputs.url }}' }", &json!({"url": server.base_url}));
    let nobody = Providers::builder().build().unwrap();
    for (providers, why) in [
        (nobody, "http.allow"),
        (providers(config(&[], true)), "not on the operator's list"),
        (providers(config(&["example.com".to_owned()], true)), "not on the operator's list"),
        (providers(config(&[host(&server)], false)), "not public"),
    ] {
        let (class, code, message) = refused(&job, &providers).await;
        assert_eq!((class, code.as_str()), (ErrorClass::Permanent, "http_host_refused"));
        assert!(message.contains(why), "{message}");
    }
    let port = server.base_url.strip_prefix("http://127.0.0.1").unwrap();
    let job = node_job("http: { url: '{{ inputs.url }}' }", &json!({"url": format!("http://localhost{port}")}));
    let local = format!("localhost{}", port.strip_suffix("/v1").unwrap());
    let (class, code, message) = refused(&job, &providers(config(&[local], false))).await;
    assert_eq!((class, code.as_str()), (ErrorClass::Permanent, "http_host_refused"), "{message}");
    assert_eq!(server.received().len(), 0);
}

#[tokio::test]
async fn no_redirect_leads_to_another_host() {
    let elsewhere = Server::refusing(200, &[], "elsewhere").await;
    let target: &'static str = Box::leak(elsewhere.base_url.clone().into_boxed_str());
    let server = Server::refusing(302, &[("location", target)], "").await;
    let job = node_job(&format!("http: {{ url: '{}' }}", server.base_url), &json!({}));
    let (class, code, _) = refused(&job, &providers(config(&[host(&server), host(&elsewhere)], true))).await;
    assert_eq!((class, code.as_str()), (ErrorClass::Permanent, "http_redirected"));
    assert_eq!(elsewhere.received().len(), 0);
}

#[tokio::test]
async fn a_secret_goes_to_its_hosts_only() {
    let server = Server::refusing(200, &[], "").await;
    for (secret, why) in [("elsewhere", "is not for 127.0.0.1"), ("unknown", "there is no secret `unknown`")] {
        let node = format!("http: {{ url: '{}', headers: {{ x-key: {{ secret: {secret} }} }} }}", server.base_url);
        let (class, code, message) = refused(&node_job(&node, &json!({})), &calling(&server)).await;
        assert_eq!((class, code.as_str()), (ErrorClass::Permanent, "http_secret_refused"));
        assert!(message.contains(why), "{message}");
    }
    assert_eq!(server.received().len(), 0);
    let shown = format!("{:?} {:?}", calling(&server), config(&[host(&server)], true));
    assert!(!shown.contains("t0ps3cret"), "{shown}");
}

#[tokio::test]
async fn what_cannot_be_rendered_or_sent_fails_for_good() {
    let server = Server::refusing(200, &[], "").await;
    let node = format!("http: {{ url: '{}', headers: {{ x-a: '{{{{ inputs.a }}}}' }} }}", server.base_url);
    let broken = [(json!({}), "template_error"), (json!({"a": "x\r\ny: z"}), "http_header_invalid")];
    for (inputs, expected) in broken {
        let (class, code, _) = refused(&node_job(&node, &inputs), &calling(&server)).await;
        assert_eq!((class, code.as_str()), (ErrorClass::Permanent, expected));
    }
    assert_eq!(server.received().len(), 0);
}

#[test]
fn a_configuration_is_checked_when_it_is_read() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let odd = HttpService::new(config(&["https://example.com".to_owned()], false));
    assert!(matches!(odd, Err(HttpConfigError::Allow(_))));
    let mut homeless = config(&["example.com".to_owned()], false);
    homeless.secrets.get_mut("crm").unwrap().hosts.clear();
    assert!(matches!(HttpService::new(homeless), Err(HttpConfigError::Secret { .. })));
}
