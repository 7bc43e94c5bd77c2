//! The way to the database breaks: after the commit and before its answer, on every kind of write, for the server and
//! for the workers; and it stalls.

use serde_json::{Value, json};

use super::processes::{Installation, items};
use super::{PATIENCE, ending};
use crate::support::chaos::{ChaosProxy, Mode};
use crate::support::eventually;

/// A call that is reserved and settled, a decision of a person, and steps before and after.
const GATE: &str = "
workflow: gate
flat_fee: 1
defaults: { model: simulated-small, max_output_tokens: 40, retry: { max_attempts: 3 } }
agents: { one: { instructions: 'You write.' } }
nodes:
  draft: { agent: one, prompt: 'Draft {{ inputs.n }} [[simulate tokens=4]]' }
  side: { transform: { n: '{{ inputs.n }}' }, units: { step: 1 } }
  ask: { needs: [draft, side], approval: { show: '{{ nodes.draft.output }}' } }
  last: { needs: [ask], agent: one, prompt: 'End {{ nodes.draft.output }} [[simulate tokens=4]]' }
";

const MISSIONS: u64 = 32;

async fn state(installation: &Installation, mission: &str) -> Option<Value> {
    installation.get(&format!("/v1/missions/{mission}")).await
}

/// Approves what each mission asks, but for those that are cancelled.
async fn approve(installation: &Installation, missions: &[String]) {
    for (n, mission) in missions.iter().enumerate().filter(|(n, _)| n % 8 != 0) {
        let approval = eventually("somebody is asked", PATIENCE, async || {
            let open = items(&installation.get(&format!("/v1/approvals?mission_id={mission}")).await?);
            let asked = open.first().and_then(|one| one["id"].as_str().map(str::to_owned));
            if asked.is_none() {
                let state = state(installation, mission).await?;
                assert_ne!(state["status"], "failed", "{state:#}");
            }
            asked
        })
        .await;
        let path = format!("/v1/approvals/{approval}/decide");
        let (status, told) = installation.insist(&path, &json!({"decision": "approved"}), &format!("a{n}")).await;
        assert_eq!(status, 200, "{told:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_to_commits_cut_off_on_every_kind_of_write_lose_and_double_nothing() {
    let seed = u64::from(rand::random::<u32>());
    println!("seed {seed}");
    let environment = [("BURSAR_LEASE", "3s"), ("BURSAR_SIMULATED_WORD_MS", "1"), ("RUST_LOG", "error")];
    let (mut installation, at_server) = Installation::start_behind_a_proxy(&environment).await;
    installation.put("gate", GATE).await;
    let at_worker = ChaosProxy::before(installation.database_url()).await;
    let through = [&environment[..], &[("DATABASE_URL", at_worker.url())]].concat();
    let worker = installation.worker(&through);
    // a process that does not reach its database when it starts says so and ends; whoever started it tries again
    eventually("the worker works", PATIENCE, async || {
        (!items(&installation.get("/v1/admin/workers").await?).is_empty()).then_some(())
    })
    .await;
    at_server.cut_answers(seed, 6);
    at_worker.cut_answers(seed + 1, 6);

    let mut missions = Vec::new();
    for n in 0..MISSIONS {
        let body = json!({"workflow": "gate", "input": {"n": n}});
        let (status, made) = installation.insist("/v1/missions", &body, &format!("m{n}")).await;
        assert!(matches!(status, 200 | 202), "{status} {made:#}");
        missions.push(made["id"].as_str().unwrap().to_owned());
        let grant = json!({"amount": "1", "kind": "paid"});
        let (status, granted) = installation.insist("/v1/wallet/grants", &grant, &format!("g{n}")).await;
        assert!(matches!(status, 200 | 201), "{status} {granted:#}");
        if n % 8 == 0 {
            let path = format!("/v1/missions/{}/cancel", missions.last().unwrap());
            let (status, told) = installation.insist(&path, &json!({}), &format!("c{n}")).await;
            assert!(matches!(status, 200 | 202 | 409), "{status} {told:#}");
        }
    }
    approve(&installation, &missions).await;
    let mut ends = Vec::new();
    for mission in &missions {
        let over = eventually("the mission ends", PATIENCE, async || {
            let mission = state(&installation, mission).await?;
            matches!(mission["status"].as_str(), Some("succeeded" | "failed" | "cancelled" | "expired"))
                .then_some(mission)
        })
        .await;
        ends.push(over);
    }
    let (server_cuts, worker_cuts) = (at_server.cuts(), at_worker.cuts());
    println!("answers cut (commits, statements): server {server_cuts:?}, worker {worker_cuts:?}");
    at_server.spare_answers();
    at_worker.spare_answers();
    for (n, over) in ends.iter().enumerate() {
        let expected = if n % 8 == 0 { "cancelled" } else { "succeeded" };
        // a mission may be over before its cancel is heard only when somebody approved it, and nobody did
        assert_eq!(over["status"], expected, "{over:#}");
    }
    let cuts = [server_cuts.0, server_cuts.1, worker_cuts.0, worker_cuts.1];
    assert!(cuts.iter().all(|cuts| *cuts >= 5), "{cuts:?}");
    ending::holds_at(installation.database_url()).await;
    let store = bursar::store::open(installation.database_url(), 2).await.unwrap();
    let rows = store.rows("select count(*) as n from missions", &[]).await.unwrap();
    assert_eq!(rows[0]["n"], MISSIONS, "each key one mission");
    let rows = store.rows("select count(*) as n from ops where kind = 'grant'", &[]).await.unwrap();
    assert_eq!(rows[0]["n"], MISSIONS + 1, "each key one grant");
    store.close().await;
    installation.terminate(worker);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_database_stalls_and_is_cut_gives_its_work_up_and_goes_on_by_itself() {
    let mut installation = Installation::start().await;
    installation.put("team", super::TEAM).await;
    let proxy = ChaosProxy::before(installation.database_url()).await;
    let environment = [
        ("BURSAR_LEASE", "2s"),
        ("BURSAR_SIMULATED_WORD_MS", "40"),
        ("DATABASE_URL", proxy.url()),
        ("RUST_LOG", "error"),
    ];
    let worker = installation.worker(&environment);
    let mut missions = Vec::new();
    for n in 0..8 {
        missions.push(installation.submit("team", json!({"what": n}), None).await);
    }
    // it claimed, and what it asks before its first call is not heard
    let store = bursar::store::open(installation.database_url(), 2).await.unwrap();
    let count = async |sql: &'static str| store.rows(sql, &[]).await.unwrap()[0]["n"].as_i64().unwrap();
    let (running, lost) = (
        "select count(*) as n from tasks where state = 'running'",
        "select count(*) as n from tasks where fence > 0 and state = 'ready'",
    );
    eventually("tasks run", PATIENCE, async || (count(running).await > 0).then_some(())).await;
    proxy.stall_at_begin();
    eventually("the worker is stalled", PATIENCE, async || (proxy.mode() == Mode::Stall).then_some(())).await;
    eventually("its leases run out", PATIENCE, async || {
        (count(lost).await > 0 && count(running).await == 0).then_some(())
    })
    .await;
    proxy.set(Mode::Refuse);
    proxy.cut_all();
    proxy.set(Mode::Pass);
    super::all_succeed(&installation, &missions).await;
    super::each_task_was_billed_once(&installation, &missions).await;
    ending::holds(&store).await;
    store.close().await;
    installation.terminate(worker);
}
