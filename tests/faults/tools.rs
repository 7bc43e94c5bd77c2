//! An agent's tool loop while its worker dies by `kill -9`: what was bought and run is replayed. The books of those who
//! sell, the provider's journal and the web server's count, say so, not ours.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::get;
use serde_json::{Value, json};

use super::PATIENCE;
use super::processes::{Installation, items};
use crate::support::{eventually, unique_name};

/// A page that is counted.
struct Site {
    address: String,
    reads: Arc<AtomicUsize>,
}

impl Site {
    async fn start() -> Self {
        let reads = Arc::new(AtomicUsize::new(0));
        let count = reads.clone();
        let page = async move || {
            count.fetch_add(1, Ordering::SeqCst);
            "a page"
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let site = Router::new().route("/{page}", get(page));
        tokio::spawn(async move { axum::serve(listener, site).await });
        Self { address, reads }
    }

    fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }
}

/// The files of one test, which go with it.
struct Desk {
    folder: PathBuf,
}

impl Desk {
    fn new(site: &Site) -> Self {
        let folder = std::env::temp_dir().join(unique_name("bursar-tools"));
        std::fs::create_dir(&folder).unwrap();
        let settings = format!("[tools.http_get]\nallow = [\"{}\"]\nallow_private = true\n", site.address);
        std::fs::write(folder.join("bursar.toml"), settings).unwrap();
        Self { folder }
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// What the provider was asked, over all processes: a hash a line.
    fn sold(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.join("sold")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Four turns that read a page each, then the answer: five calls of the model.
fn reading(site: &Site) -> String {
    format!(
        "{{workflow: reading, flat_fee: 0, agents: {{reader: {{instructions: 'You read.', model: simulated-small, \
          max_output_tokens: 100, tools: [http_get]}}}}, nodes: {{read: {{agent: reader, retry: {{max_attempts: 1}}, prompt: \
          'Read [[simulate tool=http_get args={{\"url\":\"http://{}/$n\"}} tool_turns=4 tokens=12 delay_ms=700]]'}}}}, \
          outputs: {{said: nodes.read.output}}}}",
        site.address
    )
}

/// Waits for a mission's success; it and its calls.
async fn done(installation: &Installation, mission: &str) -> (Value, Vec<Value>) {
    super::all_succeed(installation, &[mission.to_owned()]).await;
    let over = installation.get(&format!("/v1/missions/{mission}")).await.unwrap();
    let run = over["run_id"].as_str().unwrap();
    let calls = installation.get(&format!("/v1/runs/{run}/calls")).await.unwrap();
    (over, items(&calls))
}

/// Number, attempt and state of the calls that are billed.
fn billed(calls: &[Value]) -> Vec<(i64, i64)> {
    let billed = calls.iter().filter(|call| call["billable"] == true);
    let mut billed: Vec<_> =
        billed.map(|call| (call["number"].as_i64().unwrap(), call["attempt"].as_i64().unwrap())).collect();
    billed.sort_unstable();
    billed
}

/// An amount of the API in micro-credits.
fn spent_ucr(amount: &Value) -> u64 {
    let digits: String = amount.as_str().unwrap().chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// What the billed calls cost together.
fn bill_ucr(calls: &[Value]) -> u64 {
    let bill = calls.iter().filter(|call| call["billable"] == true).map(|call| spent_ucr(&call["cost"])).sum();
    assert_ne!(bill, 0, "{calls:#?}");
    bill
}

#[tokio::test]
async fn kill_nine_in_the_middle_of_a_five_call_tool_loop_buys_and_runs_nothing_twice() {
    let site = Site::start().await;
    let desk = Desk::new(&site);
    let (config, journal) = (desk.file("bursar.toml"), desk.file("sold"));
    let environment = [
        ("BURSAR_LEASE", "2s"),
        ("BURSAR_SIMULATED_WORD_MS", "0"),
        ("BURSAR_CONFIG", config.as_str()),
        ("BURSAR_SIMULATED_JOURNAL", journal.as_str()),
    ];
    let mut installation = Installation::start().await;
    installation.put("reading", &reading(&site)).await;
    let doomed = installation.worker(&environment);
    let mission = installation.submit("reading", json!({}), None).await;
    // the third call is at the provider: two were answered, two pages were read
    eventually("the third call is sent", PATIENCE, || async { (desk.sold().len() >= 3).then_some(()) }).await;
    installation.kill_nine(doomed);
    assert_eq!((desk.sold().len(), site.reads()), (3, 2), "killed in the middle of the third call");

    let worker = installation.worker(&environment);
    let (over, calls) = done(&installation, &mission).await;
    let sold = desk.sold();
    assert_eq!(sold.len(), 6, "five calls, and the one that was in flight a second time");
    assert_eq!(sold[2], sold[3], "which was the first thing the next worker bought");
    let distinct: std::collections::BTreeSet<_> = sold.iter().collect();
    assert_eq!(distinct.len(), 5);
    assert_eq!(site.reads(), 4, "each page was read once");
    assert_eq!(
        billed(&calls),
        [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2)],
        "number and the attempt that bought it: {calls:#?}"
    );

    // the same without a crash
    let calm = installation.submit("reading", json!({}), None).await;
    let (undisturbed, its_calls) = done(&installation, &calm).await;
    assert_eq!(over["output"], undisturbed["output"]);
    assert!(over["output"]["said"].as_str().is_some_and(|said| !said.is_empty()), "{over:#}");
    assert_eq!(billed(&its_calls).len(), 5);
    assert_eq!(desk.sold()[6..], [&sold[..2], &sold[3..]].concat(), "asked the very same");
    assert_eq!(over["budget"]["spent"], undisturbed["budget"]["spent"]);
    assert_eq!(spent_ucr(&over["budget"]["spent"]), bill_ucr(&calls), "the bill of five calls");
    assert_eq!(bill_ucr(&calls), bill_ucr(&its_calls));
    installation.terminate(worker);
    installation.verify();
}
