//! Maps whose worker, and whose server, die by `kill -9`: in the middle of the items, and while these are being made.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use super::processes::Installation;
use super::{PATIENCE, all_succeed};
use crate::support::{eventually, unique_name};

/// Items of the map whose worker dies.
const ITEMS: usize = 200;

/// Each item is written and reviewed; every other one is sent back once. The items are short and the words few, so that
/// the kill meets many under way.
const BOOK: &str = "
workflow: book
flat_fee: 1
defaults: { model: simulated-small, max_output_tokens: 60, retry: { max_attempts: 3 } }
agents:
  writer: { instructions: 'You write.' }
  critic: { instructions: 'You review.' }
nodes:
  pages:
    agent: writer
    map: { over: range(200), as: page, key: '{{ page }}', max_parallel: 24 }
    prompt: 'Write page {{ page }} in round {{ review.round }} [[simulate tokens=6 delay_ms=40]]'
    review:
      agent: critic
      prompt: >-
        Review page {{ page }} in round {{ review.round }}: {{ review.draft }}
        [[simulate json={\"verdict\":\"{{ 'LGTM' if review.round > page % 2 else 'no' }}\"} delay_ms=40]]
      accept: verdict == 'LGTM'
      max: 3
  after: { needs: [pages], transform: '{{ nodes.pages.output|length }}' }
outputs: { pages: nodes.after.output }
";

/// One number of a query.
async fn number(desk: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(desk).await.unwrap()
}

/// The provider's own books: how often it was asked what.
struct Sold(PathBuf);

impl Sold {
    fn new() -> Self {
        Self(std::env::temp_dir().join(unique_name("bursar-sold")))
    }

    fn requests(&self) -> BTreeMap<String, usize> {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        let mut requests = BTreeMap::new();
        text.lines().for_each(|line| *requests.entry(line.to_owned()).or_default() += 1);
        requests
    }
}

impl Drop for Sold {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn kill_nine_in_the_middle_of_a_map_with_reviews_does_and_bills_each_item_once() {
    let sold = Sold::new();
    let journal = sold.0.display().to_string();
    let environment =
        [("BURSAR_LEASE", "2s"), ("BURSAR_SIMULATED_WORD_MS", "0"), ("BURSAR_SIMULATED_JOURNAL", journal.as_str())];
    let mut installation = Installation::start().await;
    installation.put("book", BOOK).await;
    let (doomed, staying) = (installation.worker(&environment), installation.worker(&environment));
    let mission = installation.submit("book", json!({}), None).await;
    // writers take as many requests as critics, and every other page takes two rounds
    let calls = ITEMS / 2 * 2 + ITEMS / 2 * 4;
    eventually("a third of it is done", PATIENCE, || async { (sold.requests().len() >= calls / 3).then_some(()) })
        .await;
    let mut desk = PgConnection::connect(installation.database_url()).await.unwrap();
    installation.kill_nine(doomed);
    let lost = number(&mut desk, "select count(*) from tasks where state = 'running'").await;
    all_succeed(&installation, std::slice::from_ref(&mission)).await;

    let over = installation.get(&format!("/v1/missions/{mission}")).await.unwrap();
    assert_eq!(over["output"], json!({"pages": ITEMS}), "{over:#}");
    let requests = sold.requests();
    assert_eq!(requests.len(), calls, "as many different requests as an undisturbed run has");
    let twice = requests.values().filter(|count| **count > 1).count();
    assert!(requests.values().all(|count| *count <= 2), "{requests:?}");
    // only what the dead worker had in flight, which is at most all of its slots, was asked for again
    assert!(twice <= 16, "{twice} requests were sent twice; {lost} tasks were running at the kill");
    let billed = number(&mut desk, "select count(*) from usage_calls where billable").await;
    let tasks = number(&mut desk, "select count(distinct task_id) from usage_calls where billable").await;
    assert_eq!((billed, tasks), (calls as i64, calls as i64), "each writer and each reviewer is billed for one call");
    let bill = number(&mut desk, "select sum(cost_ucr)::bigint from usage_calls where billable").await;
    let spent = number(&mut desk, "select spent_ucr from missions").await;
    assert_eq!(spent, bill + 1_000_000, "the mission cost its fee and what its billed calls cost");
    let held = number(&mut desk, "select held_ucr from missions").await;
    assert_eq!(held, 0);
    installation.terminate(staying);
    installation.verify();
}

/// A map of many chunks: made by whoever lets it begin, here the server.
const WIDE: &str = "
workflow: wide
flat_fee: 0
nodes:
  each: { transform: '{{ item * 2 }}', units: { step: 1 }, map: { over: range(3000), max_parallel: 200 } }
  sum: { needs: [each], transform: '{{ nodes.each.output|sum }}' }
outputs: { sum: nodes.sum.output }
";

#[tokio::test]
async fn kill_nine_of_server_and_worker_while_items_are_made_leaves_a_map_that_is_made_whole() {
    let mut installation = Installation::start().await;
    installation.put("wide", WIDE).await;
    let doomed = installation.worker(&[("BURSAR_LEASE", "2s")]);
    let hasty = installation.submit_hastily("wide", json!({}), "the-one");
    let mut desk = PgConnection::connect(installation.database_url()).await.unwrap();
    let url = installation.database_url().to_owned();
    let made = async || {
        let mut look = PgConnection::connect(&url).await.unwrap();
        number(&mut look, "select count(*) from tasks where parent_id is not null").await
    };
    let at_first = eventually("the first chunks are made", PATIENCE, async || {
        let made = made().await;
        (made > 0).then_some(made)
    })
    .await;
    installation.kill_server();
    installation.kill_nine(doomed);
    let at_kill = made().await;
    assert!(at_kill < 3_000, "both died while items were made: {at_first}, then {at_kill}");
    installation.restart_server().await;
    drop(hasty.await);
    let worker = installation.worker(&[]);
    // the same wish again is the same mission
    let mission = installation.submit("wide", json!({}), Some("the-one")).await;
    all_succeed(&installation, std::slice::from_ref(&mission)).await;
    let over: Value = installation.get(&format!("/v1/missions/{mission}")).await.unwrap();
    assert_eq!(over["output"], json!({"sum": 3_000 * 2_999}), "{over:#}");
    let items = number(&mut desk, "select count(*) from tasks where parent_id is not null").await;
    let done =
        number(&mut desk, "select count(distinct item) from tasks where parent_id is not null and state = 'succeeded'");
    assert_eq!((items, done.await), (3_000, 3_000), "each item once");
    let costs = number(&mut desk, "select count(distinct cost_ucr) from tasks where parent_id is not null").await;
    let bill = number(&mut desk, "select sum(cost_ucr)::bigint from tasks where parent_id is not null").await;
    let spent = number(&mut desk, "select spent_ucr from missions").await;
    assert_eq!((costs, spent), (1, bill), "each item was billed, and all the same");
    installation.terminate(worker);
    installation.verify();
}
