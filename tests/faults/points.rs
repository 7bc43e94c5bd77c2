//! A worker that dies by `kill -9`, or sleeps and wakes, at each point of a job's life. The product has no hooks for it:
//! a provider of the test holds calls, and a proxy before each worker's database holds what it writes.

use serde_json::{Value, json};

use super::processes::{Installation, WorkerProcess, items};
use super::{PATIENCE, ending};
use crate::support::chaos::{ChaosProxy, Mode};
use crate::support::eventually;
use crate::support::held::Held;

/// One pool for each point, so that each has a worker of its own to die.
const POINTS: [&str; 5] = ["claimed", "before-call", "middle-stream", "middle-usage", "middle-settled"];

fn workflow(point: &str) -> String {
    format!(
        "{{workflow: {point}, flat_fee: 0, defaults: {{model: gpt-4.1-mini, max_output_tokens: 40, \
          retry: {{max_attempts: 2}}}}, agents: {{a: {{instructions: 'You write.'}}}}, nodes: {{ask: {{agent: a, \
          pool: {point}, prompt: 'Write {point}.'}}, last: {{needs: [ask], pool: {point}, \
          transform: '{{{{ nodes.ask.output }}}}'}}}}, outputs: {{said: nodes.last.output}}}}"
    )
}

struct Desk {
    installation: Installation,
    provider: Held,
}

impl Desk {
    async fn open(points: &'static [&'static str]) -> Self {
        let installation = Installation::start().await;
        for point in points {
            installation.put(point, &workflow(point)).await;
        }
        Self { installation, provider: Held::start(points).await }
    }

    fn worker(&mut self, pools: &[&str], database: &str) -> WorkerProcess {
        let environment = [
            ("BURSAR_LEASE", "2s"),
            ("OPENAI_BASE_URL", self.provider.url()),
            ("OPENAI_API_KEY", "k"),
            ("DATABASE_URL", database),
            ("RUST_LOG", "error"),
        ];
        self.installation.worker_of(pools, &environment)
    }

    /// A worker of one pool, behind a proxy of its own, and a mission for it.
    async fn begin(&mut self, point: &str, is_stalled: bool) -> (WorkerProcess, ChaosProxy, String) {
        let proxy = ChaosProxy::before(self.installation.database_url()).await;
        if is_stalled {
            proxy.stall_at_begin();
        }
        let worker = self.worker(&[point], proxy.url());
        let mission = self.installation.submit(point, json!({}), None).await;
        (worker, proxy, mission)
    }

    async fn asked(&self, mark: &str) {
        eventually(&format!("{mark} is asked for"), PATIENCE, async || (self.provider.asked(mark) > 0).then_some(()))
            .await;
    }

    async fn calls(&self, mission: &str) -> Vec<(i64, bool, String)> {
        let mission = self.installation.get(&format!("/v1/missions/{mission}")).await.unwrap();
        let path = format!("/v1/runs/{}/calls", mission["run_id"].as_str().unwrap());
        let calls = items(&self.installation.get(&path).await.unwrap());
        let word = |call: &Value| {
            let state = call.get("state").or(call.get("status")).and_then(Value::as_str).unwrap_or_default();
            (call["attempt"].as_i64().unwrap(), call["billable"] == true, state.to_owned())
        };
        calls.iter().map(word).collect()
    }
}

async fn stalled(proxy: &ChaosProxy) {
    eventually("the proxy holds a write", PATIENCE, async || (proxy.mode() == Mode::Stall).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_nine_of_a_worker_at_each_point_of_a_call_bills_one_call_and_ends_the_mission() {
    let mut desk = Desk::open(&POINTS).await;
    let mut doomed = Vec::new();
    let mut missions = Vec::new();
    for point in POINTS {
        let (worker, proxy, mission) = desk.begin(point, point == "claimed").await;
        match point {
            "claimed" => stalled(&proxy).await,
            _ => desk.asked(point).await,
        }
        match point {
            // it has the end of the answer, and no settle of it is heard
            "middle-usage" => proxy.stall_at_begin(),
            // it is settled, and nobody hears of it
            "middle-settled" => proxy.cut_answers(1, 1),
            _ => {}
        }
        if point.starts_with("middle-") && point != "middle-stream" {
            doomed.push((worker, proxy));
        } else {
            desk.installation.kill_nine(worker);
        }
        missions.push(mission);
    }
    desk.provider.open();
    for (worker, proxy) in doomed {
        eventually("the write is held", PATIENCE, async || {
            (proxy.mode() == Mode::Stall || proxy.cuts().0 > 0).then_some(())
        })
        .await;
        desk.installation.kill_nine(worker);
    }
    let url = desk.installation.database_url().to_owned();
    let worker = desk.worker(&POINTS, &url);
    super::all_succeed(&desk.installation, &missions).await;
    for (point, mission) in POINTS.iter().zip(&missions) {
        let calls = desk.calls(mission).await;
        let billed: Vec<i64> = calls.iter().filter(|call| call.1).map(|call| call.0).collect();
        let settled = *point == "middle-settled";
        assert_eq!(billed, [if settled { 1 } else { 2 }], "{point}: {calls:?}");
        let sent = match *point {
            "claimed" | "middle-settled" => 1,
            _ => 2,
        };
        assert_eq!((desk.provider.asked(point), calls.len()), (sent, sent), "{point}: {calls:?}");
    }
    ending::holds_at(&url).await;
    desk.installation.terminate(worker);
}

/// One that wakes before it asked for its call, and one that wakes in the middle of an answer.
const ZOMBIES: [&str; 2] = ["claimed", "middle-zombie"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_sleeps_until_its_lease_is_taken_can_neither_spend_nor_settle_when_it_wakes() {
    let mut desk = Desk::open(&ZOMBIES).await;
    let mut asleep = Vec::new();
    let mut missions = Vec::new();
    for point in ZOMBIES {
        let (worker, proxy, mission) = desk.begin(point, point == "claimed").await;
        match point {
            "claimed" => stalled(&proxy).await,
            _ => desk.asked(point).await,
        }
        worker.signal("STOP");
        asleep.push((worker, proxy));
        missions.push(mission);
    }
    let url = desk.installation.database_url().to_owned();
    let other = desk.worker(&ZOMBIES, &url);
    super::all_succeed(&desk.installation, &missions).await;
    let store = bursar::store::open(&url, 2).await.unwrap();
    let books = async || {
        let sql = "select m.id, m.last_seq, m.spent_ucr, t.fence, t.attempt, t.cost_ucr from missions m
                   join tasks t on t.run_id = m.run_id order by m.id, t.node_index";
        store.rows(sql, &[]).await.unwrap()
    };
    let before = books().await;
    desk.provider.open();
    for (worker, proxy) in asleep {
        // what it wanted to write goes on its way as well
        proxy.set(Mode::Pass);
        worker.signal("CONT");
        // ends in order only when it is through with what it did
        desk.installation.terminate(worker);
    }
    assert_eq!(books().await, before, "what woke changed nothing");
    for (point, mission) in ZOMBIES.iter().zip(&missions) {
        let calls = desk.calls(mission).await;
        let billed: Vec<i64> = calls.iter().filter(|call| call.1).map(|call| call.0).collect();
        assert_eq!(billed, [2], "{point}: {calls:?}");
        assert_eq!(desk.provider.asked(point), if *point == "claimed" { 1 } else { 2 }, "{calls:?}");
    }
    ending::holds(&store).await;
    store.close().await;
    desk.installation.terminate(other);
}
