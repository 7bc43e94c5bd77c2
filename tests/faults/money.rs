//! Money while the database is killed: sixteen clients over HTTP, a server with workers as a process, and a Postgres that
//! dies by `kill -9` and comes back, again and again. In the end what every client was told is what the store has.
//!
//! `BURSAR_MONEY_STORM_SECONDS` says how long (a few seconds in the suite), `BURSAR_MONEY_STORM_SEED` repeats what the
//! clients wish and when the server dies (not how they meet):
//!
//! ```sh
//! BURSAR_MONEY_STORM_SECONDS=300 ./test --no-capture faults::money
//! ```

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bursar::store::Store;
use bursar_domain::flow::Chance as _;
use bursar_domain::record::{Account, Leg};
use reqwest::Method;
use serde_json::{Value, json};

use super::clients::{Client, Counter, Model, Tenant, end_of};
use super::processes::bursar;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::hand::SeededChance;

const CLIENTS: u64 = 16;
const TENANTS: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(150);
/// Credits that each tenant gets in the end, so that whatever waits can go on.
const LAST_GRANT_UCR: i64 = 1_000_000_000_000;

/// Three steps of 0.2 credits and a fee of 0.1.
const STEPS: &str = "
workflow: steps
inputs: { type: object }
flat_fee: '0.1'
nodes:
  a: { transform: { x: 1 }, units: { tool_call: 20 } }
  b: { needs: [a], transform: { x: 1 }, units: { tool_call: 20 } }
  c: { needs: [b], transform: { x: 1 }, units: { tool_call: 20 } }
";
const STEPS_COST: &str = "0.700000";

/// One answer of a model that does what it is told.
const TALK: &str = "
workflow: talk
inputs: { type: object, properties: { how: { type: string } } }
flat_fee: '0.05'
agents: { a: { instructions: 'You talk.', model: simulated-large, max_output_tokens: 64 } }
nodes:
  say: { agent: a, prompt: 'Say {{ inputs.how }}', retry: { max_attempts: 2, backoff: { initial: 10ms } } }
";

/// A server with workers on a cluster of its own.
struct Bank {
    cluster: Cluster,
    server: Child,
    counter: Counter,
    tenants: Vec<Arc<Tenant>>,
}

impl Drop for Bank {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn key(url: &str, tenant: &str, role: &str) -> Value {
    let made = bursar()
        .args(["keys", "create", "--tenant", tenant, "--role", role, "--json"])
        .env("DATABASE_URL", url)
        .output()
        .unwrap();
    serde_json::from_slice(&made.stdout).unwrap_or_else(|_| panic!("{made:?}"))
}

impl Bank {
    async fn open() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let cluster = Cluster::start().await;
        let url = cluster.url();
        assert!(bursar().arg("migrate").env("DATABASE_URL", &url).stdout(Stdio::null()).status().unwrap().success());
        let text = |value: &Value, field: &str| value[field].as_str().unwrap().to_owned();
        let admin = text(&key(&url, "operators", "admin"), "secret");
        let tenant = |number| {
            let made = key(&url, &format!("tenant-{number}"), "user");
            let (id, wallet) = (text(&made, "tenant_id"), text(&made, "wallet_id"));
            Arc::new(Tenant { id, wallet, key: text(&made, "secret") })
        };
        let tenants: Vec<_> = (0..TENANTS).map(tenant).collect();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let server = bursar()
            .args(["server", "--with-workers", "--port", &port.to_string()])
            .env("DATABASE_URL", &url)
            .env_remove("REDIS_URL")
            .env("RUST_LOG", "error")
            .env("BURSAR_BIND", "127.0.0.1")
            .env("BURSAR_LEASE", "2s")
            .env("BURSAR_SIMULATED_WORD_MS", "1")
            .spawn()
            .unwrap();
        let base = format!("http://127.0.0.1:{port}");
        let bank = Self { cluster, server, counter: Counter { http: reqwest::Client::new(), base, admin }, tenants };
        for tenant in &bank.tenants {
            for (name, yaml) in [("steps", STEPS), ("talk", TALK)] {
                let put = |counter: &Counter| {
                    let request = counter.request(Method::PUT, &format!("/v1/workflows/{name}"));
                    request.bearer_auth(&tenant.key).header("Content-Type", "application/yaml").body(yaml)
                };
                let (_, status, body, _) = bank.counter.ask(put).await;
                assert!(status.is_success(), "{status} {body}");
            }
        }
        bank
    }

    /// The wallets are thawed and full: whatever waited can end. What was given for that.
    async fn let_all_end(&self) -> BTreeMap<String, i64> {
        for tenant in &self.tenants {
            let admins = |method, path, body: Value| {
                move |counter: &Counter| {
                    let request = counter.request(Method::clone(&method), path).bearer_auth(&counter.admin);
                    request.header("X-Bursar-Tenant", &tenant.id).header("Idempotency-Key", "last").json(&body)
                }
            };
            self.counter.ask(admins(Method::PATCH, "/v1/wallet", json!({"frozen": false}))).await;
            let grant = json!({"amount": (LAST_GRANT_UCR / 1_000_000).to_string(), "kind": "paid"});
            let (_, status, body, _) = self.counter.ask(admins(Method::POST, "/v1/wallet/grants", grant)).await;
            assert_eq!(status, 201, "{body}");
        }
        BTreeMap::from([("grant:last".to_owned(), LAST_GRANT_UCR)])
    }

    /// A mission as its tenant sees it.
    async fn mission(&self, tenant: &Tenant, id: &str) -> Value {
        let get =
            |counter: &Counter| counter.request(Method::GET, &format!("/v1/missions/{id}")).bearer_auth(&tenant.key);
        let (_, status, body, _) = self.counter.ask(get).await;
        assert_eq!(status, 200, "{id}: {body}");
        body
    }
}

/// Kills the server of the database again and again, at least once, and always leaves it running. How often it did.
async fn kill_again_and_again(cluster: &Cluster, dice: &mut SeededChance, end: Instant) -> u64 {
    let mut kills = 0;
    loop {
        let pause = Duration::from_millis(1_000 + dice.random() % 3_000);
        let next = (Instant::now() + pause).min(end.checked_sub(Duration::from_millis(500)).unwrap_or(end));
        tokio::time::interval_at(next.into(), pause).tick().await;
        cluster.kill_nine().await;
        cluster.start_again().await;
        kills += 1;
        if Instant::now() + Duration::from_secs(1) >= end {
            return kills;
        }
    }
}

/// Looks at the books again and again while all this happens; how often it could.
async fn audit(url: &str, is_over: &AtomicBool) -> u64 {
    let mut looks = 0;
    let store = bursar::store::open(url, 2).await.unwrap();
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    while !is_over.load(Ordering::Relaxed) {
        ticks.tick().await;
        match bursar::verify::verify(&store).await {
            Ok(report) => {
                assert!(report.is_clean(), "{}", report.to_text());
                looks += 1;
            }
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
    store.close().await;
    looks
}

/// What the ledger has under each key of those kinds that clients post: µcr, signed for adjustments.
async fn posted(store: &Arc<dyn Store>, wallet: &str) -> BTreeMap<String, i64> {
    let sql = "select key, legs from ops where wallet_id = $1 and kind in ('grant', 'refund', 'adjust', 'write_off')";
    let rows = store.rows(sql, &[wallet.into()]).await.unwrap();
    let sum = |row: &Value| {
        let legs: Vec<Leg> = serde_json::from_value(row["legs"].clone()).unwrap();
        let part = |Leg(from, to, amount): &Leg| match (from, to) {
            (Account::Issue | Account::Adjust | Account::Usage | Account::Fee | Account::Writeoff, _) => amount.get(),
            (_, Account::Adjust) => -amount.get(),
            _ => 0,
        };
        legs.iter().map(part).sum::<i64>()
    };
    rows.iter().map(|row| (row["key"].as_str().unwrap().to_owned(), sum(row))).collect()
}

/// Everything that the clients of one tenant were told is so, and nothing else is.
async fn agree(bank: &Bank, store: &Arc<dyn Store>, tenant: &Tenant, told: &[Model], last: &BTreeMap<String, i64>) {
    let mut expected = last.clone();
    expected.extend(told.iter().flat_map(|model| model.posted.clone()));
    assert_eq!(posted(store, &tenant.wallet).await, expected, "operations that were acknowledged, and no others");

    let sql = "select id from missions where tenant_id = $1 order by id";
    let rows = store.rows(sql, &[tenant.id.as_str().into()]).await.unwrap();
    let stored: Vec<String> = rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
    let seen: BTreeMap<&String, _> = told.iter().flat_map(|model| &model.missions).collect();
    assert_eq!(stored.iter().collect::<Vec<_>>(), seen.keys().copied().collect::<Vec<_>>(), "each mission once");
    for (id, seen) in seen {
        let mission = bank.mission(tenant, id).await;
        let end = end_of(&mission);
        assert!(end.is_some(), "{mission}");
        assert!(seen.is_none() || *seen == end, "told {seen:?}, now {end:?}");
        if mission["workflow"]["name"] == "steps" && mission["status"] == "succeeded" {
            assert_eq!(mission["budget"]["spent"], STEPS_COST, "{mission}");
        }
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_nine_of_postgres_again_and_again_leaves_what_sixteen_clients_were_told() {
    let seconds = variable("BURSAR_MONEY_STORM_SECONDS").unwrap_or(6);
    let seed = variable("BURSAR_MONEY_STORM_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    println!("{seconds} seconds with the seed {seed}");
    let bank = Bank::open().await;
    let end = Instant::now() + Duration::from_secs(seconds);
    let client = |number: u64| {
        let tenant = bank.tenants[(number % TENANTS) as usize].clone();
        tokio::spawn(Client::new(bank.counter.clone(), tenant, seed, number).work(end))
    };
    let is_over = Arc::new(AtomicBool::new(false));
    let auditor = tokio::spawn({
        let (url, is_over) = (bank.cluster.url(), is_over.clone());
        async move { audit(&url, &is_over).await }
    });
    let clients: Vec<_> = (0..CLIENTS).map(client).collect();
    let mut dice = SeededChance::new(seed);
    let kills = kill_again_and_again(&bank.cluster, &mut dice, end).await;
    let mut told: Vec<Vec<Model>> = (0..TENANTS).map(|_| Vec::new()).collect();
    for (number, client) in clients.into_iter().enumerate() {
        told[number % TENANTS as usize].push(client.await.unwrap());
    }
    is_over.store(true, Ordering::Relaxed);
    let looks = auditor.await.unwrap();

    let last = bank.let_all_end().await;
    let store = bursar::store::open(&bank.cluster.url(), 2).await.unwrap();
    eventually("every mission ends", PATIENCE, || async {
        let rows = store.rows("select count(*) as n from runs where ended_at is null", &[]).await.ok()?;
        (rows[0]["n"] == 0).then_some(())
    })
    .await;
    for (tenant, told) in bank.tenants.iter().zip(&told) {
        agree(&bank, &store, tenant, told, &last).await;
    }
    let report = bursar::verify::verify(&store).await.unwrap();
    assert!(report.is_clean(), "{}", report.to_text());
    let sum = |of: fn(&Model) -> u64| told.iter().flatten().map(of).sum::<u64>();
    println!(
        "{kills} kills, {} requests answered ({} refused by a rule), {} repeated, {} answered by a replay, {} missions, \
         {} operations of clients, {looks} looks of the auditor\n{}",
        sum(|model| model.answered),
        sum(|model| model.refused),
        sum(|model| model.repeated),
        sum(|model| model.replayed),
        sum(|model| model.missions.len() as u64),
        sum(|model| model.posted.len() as u64),
        report.to_text()
    );
    assert!(kills > 0 && looks > 0, "{kills} kills, {looks} looks");
    store.close().await;
}
