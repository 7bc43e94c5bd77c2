//! The same random commands give the same answers and the same rows on both engines.
//!
//! A seed decides everything: commands, ids, outcomes, the time. What fails prints its seed.

use bursar::store::{Beat, Claimed, Journals, Want};
use bursar_domain::credits::Ucr;
use bursar_domain::flow::{self, SettleRequest, Turn};
use bursar_domain::id::{MissionId, TaskId};
use bursar_domain::ledger;
use bursar_domain::outcome::{CallPermit, CallRequest, ErrorClass, FinishedCall, Outcome, StepError};
use bursar_domain::usage::Usage;
use bursar_domain::workflow::Action;
use serde_json::{Value, json};

use crate::support::hand::{DIAMOND, Hand, SeededChance, succeeded};
use crate::support::stores::Storage;

/// Every table that transactions write, with an order of its rows.
pub(super) const TABLES: &[(&str, &str)] = &[
    ("wallets", "id"),
    ("grants", "id"),
    ("missions", "id"),
    ("runs", "id"),
    ("tasks", "id"),
    ("holds", "id"),
    ("usage_calls", "id"),
    ("ops", "wallet_id, key"),
    ("events", "mission_id, seq"),
    ("attempts", "task_id, number"),
];

const STEPS: usize = 250;

const WORKFLOWS: &[&str] = &[
    DIAMOND,
    "{workflow: fee, flat_fee: 2, deadline: 40s, nodes: {a: {sleep: 5s}, b: {needs: [a], transform: {x: 1}}}}",
    "{workflow: flaky, flat_fee: 0, budget: {credits: 3}, nodes: {\
     a: {transform: {x: 1}, units: {tool_call: 5}, retry: {max_attempts: 3, backoff: {initial: 2s}}},\
     b: {needs: [a], transform: {x: 1}, units: {tool_call: 9000}}}}",
    "{workflow: ask, flat_fee: 1, agents: {g: {instructions: be kind, model: simulated-large, max_output_tokens: 4000}}, nodes: {\
     a: {agent: g, prompt: hello, pool: default}, b: {needs: [a], agent: g, prompt: again, pool: default}}}",
];

struct Player {
    hand: Hand,
    dice: SeededChance,
    missions: Vec<MissionId>,
    held: Vec<(Claimed, String)>,
    log: Vec<String>,
    seed: u64,
}

impl Player {
    async fn new(storage: Storage, seed: u64) -> Self {
        let mut hand = Hand::new(storage).await;
        hand.grant(20).await;
        for text in WORKFLOWS {
            hand.put(text).await;
        }
        Self { hand, dice: SeededChance::new(seed), missions: Vec::new(), held: Vec::new(), log: Vec::new(), seed }
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        if of.is_empty() { None } else { of.get(self.dice.below(of.len())).cloned() }
    }

    async fn decide<T: Send + std::fmt::Debug>(
        &mut self,
        what: &str,
        want: &Want,
        decide: impl FnMut(&mut Turn<'_>) -> T + Send,
    ) -> Option<T> {
        let answer = self.hand.decide(want, decide).await;
        self.log.push(format!("{what}: {answer:?}"));
        answer.ok()
    }

    async fn step(&mut self) {
        match self.dice.below(20) {
            0..4 => self.submit().await,
            4 => self.grant().await,
            5..9 => self.claim().await,
            9..14 => self.settle().await,
            14 => self.beat().await,
            15 => self.cancel().await,
            16 => self.call().await,
            _ => self.time_passes().await,
        }
    }

    async fn submit(&mut self) {
        let workflows: Vec<_> = self.hand.facts.workflows.keys().copied().collect();
        let workflow = self.pick(&workflows).unwrap();
        let mut submission = self.hand.submission(workflow);
        submission.priority = self.dice.below(5) as i16;
        submission.input = json!({"n": self.dice.below(1_000)});
        let want = Want::wallets([submission.wallet_id]);
        if let Some(Ok(_)) = self.decide("submit", &want, |turn| flow::submit(turn, &submission)).await {
            self.missions.push(submission.mission_id);
        }
    }

    async fn grant(&mut self) {
        let amount = Ucr::new(1_000 + self.dice.below(3_000_000) as i64);
        let expires_at = (self.dice.below(2) == 0).then(|| self.hand.now.plus_ms(20_000));
        let request = self.hand.grant_request(amount, expires_at);
        let want = Want { op_keys: vec![(request.wallet_id, request.key())], ..Want::wallets([request.wallet_id]) };
        self.decide("grant", &want, |turn| ledger::grant(turn.set, &request, turn.now)).await;
        let waiters = self.hand.store.credit_waiters(Some(request.wallet_id), 100).await.unwrap();
        let mut ids: Vec<_> = waiters.into_iter().map(|due| due.id).collect();
        ids.sort_unstable();
        for id in ids {
            self.wake(id).await;
        }
    }

    async fn claim(&mut self) {
        let mut ready: Vec<TaskId> = self
            .hand
            .store
            .ready_tasks("default", self.hand.now, 100)
            .await
            .unwrap()
            .into_iter()
            .map(|row| row.id)
            .collect();
        // equals come in no order of their own
        ready.sort_unstable();
        let wanted = self.dice.below(4);
        let from = self.dice.below(ready.len().max(1));
        let asked: Vec<TaskId> = ready.into_iter().skip(from).take(wanted).collect();
        let (claimed, token) = self.hand.claim(&asked).await;
        self.log.push(format!("claim: {claimed:?}"));
        self.held.extend(claimed.into_iter().map(|task| (task, token.clone())));
    }

    fn error(&mut self) -> StepError {
        let class = match self.dice.below(4) {
            0 => ErrorClass::Retryable,
            1 => ErrorClass::RateLimited,
            2 => ErrorClass::Budget,
            _ => ErrorClass::Permanent,
        };
        StepError::new(class, "thrown", "by the dice")
    }

    async fn settle(&mut self) {
        // now and then one that was settled before, or whose lease was lost
        let held = self.held.clone();
        let Some((task, token)) = self.pick(&held) else { return };
        if self.dice.below(10) > 0 {
            self.held.retain(|(other, _)| (other.id, other.fence) != (task.id, task.fence));
        }
        let outcome = match self.dice.below(8) {
            0 => Outcome::HandedBack,
            1 | 2 => Outcome::Failed { error: self.error(), calls: Vec::new() },
            _ => succeeded(json!({"n": self.dice.below(100), "text": "ü".repeat(self.dice.below(50))})),
        };
        let want = self.hand.settle_want(&task);
        let request = SettleRequest { guard: task.guard(&token), outcome, handoff: None, cache: None, prompt: None };
        self.decide("settle", &want, |turn| flow::settle(turn, &request)).await;
    }

    /// An agent's step: a call is reserved, and mostly ends with the step.
    async fn call(&mut self) {
        let agents: Vec<_> = self.held.iter().filter(|(task, _)| self.is_agent(task)).cloned().collect();
        let Some((task, token)) = self.pick(&agents) else { return };
        let guard = task.guard(&token);
        let request = CallRequest {
            number: 1,
            request_hash: "the same".to_owned(),
            provider: "simulated".to_owned(),
            model: "simulated-large".to_owned(),
            input_tokens: self.dice.below(20_000) as u64,
            max_output_tokens: 4_000,
            alternatives: Vec::new(),
            in_place_of: None,
            heard: 0,
            finished: Vec::new(),
        };
        let want = Want { journals: Journals::Open, ..Want::tasks(task.mission_id, [task.id]) };
        let permit = self.decide("reserve", &want, |turn| flow::reserve_call(turn, &guard, &request)).await;
        let Some(Ok(permit)) = permit else { return };
        if self.dice.below(4) == 0 {
            return;
        }
        let call = match permit {
            CallPermit::Listen(number) => panic!("nobody said {number}"),
            CallPermit::Replay(call) => call,
            CallPermit::Send(id) => FinishedCall {
                id,
                usage: Some(Usage {
                    input_tokens: 900,
                    output_tokens: self.dice.below(4_000) as u64,
                    ..Usage::default()
                }),
                counted: Usage::default(),
                succeeded: self.dice.below(4) > 0,
                rejected: false,
                response: json!({"text": "words", "finish_reason": "stop"}),
                duration_ms: 10,
                first_token_ms: None,
            },
        };
        self.held.retain(|(other, _)| (other.id, other.fence) != (task.id, task.fence));
        let want = Want { calls: vec![call.id], ..self.hand.settle_want(&task) };
        let outcome = if call.succeeded && self.dice.below(4) > 0 {
            Outcome::Succeeded { output: json!("words"), calls: vec![call] }
        } else {
            Outcome::Failed { error: self.error(), calls: vec![call] }
        };
        let request = SettleRequest { guard, outcome, handoff: None, cache: None, prompt: None };
        self.decide("settle a call", &want, |turn| flow::settle(turn, &request)).await;
    }

    fn is_agent(&self, task: &Claimed) -> bool {
        let definition = &self.hand.facts.workflows[&task.workflow_id];
        let node = definition.node(u32::try_from(task.node_index).unwrap()).unwrap();
        matches!(node.action, Action::Agent(_))
    }

    async fn beat(&mut self) {
        let leases = self.held.iter().map(|(task, token)| task.guard(token)).collect();
        let beat = Beat { leases, lease_until: self.hand.now.plus_ms(15_000), now: self.hand.now };
        let mut fates: Vec<String> =
            self.hand.store.beat(&beat).await.unwrap().iter().map(|fate| format!("{fate:?}")).collect();
        fates.sort_unstable();
        self.log.push(format!("beat: {fates:?}"));
    }

    async fn cancel(&mut self) {
        let missions = self.missions.clone();
        if self.dice.below(3) > 0 {
            return;
        }
        let Some(mission) = self.pick(&missions) else { return };
        let want = Want { missions: vec![mission], ..Want::default() };
        self.decide("cancel", &want, |turn| flow::cancel(turn, mission, Some("dice"))).await;
    }

    async fn wake(&mut self, task: TaskId) {
        let row = self.hand.store.task(None, task).await.unwrap().unwrap();
        let mission = self.hand.store.mission(None, row.mission_id).await.unwrap().unwrap();
        let definition = &self.hand.facts.workflows[&mission.workflow_id];
        let dependents = &definition.node(u32::try_from(row.node_index).unwrap()).unwrap().dependents;
        let nodes = dependents.iter().map(|index| (row.run_id, i32::try_from(*index).unwrap())).collect();
        let want = Want { nodes, ..Want::tasks(row.mission_id, [task]) };
        self.decide("wake", &want, |turn| flow::wake_task(turn, task)).await;
    }

    /// What the sweep does, one finding at a time.
    async fn time_passes(&mut self) {
        self.hand.now = self.hand.now.plus_ms(self.dice.below(6_000) as i64);
        let (store, now) = (self.hand.store.clone(), self.hand.now);
        let mut due: Vec<_> = store.due_tasks(now, 100).await.unwrap().into_iter().map(|due| due.id).collect();
        due.sort_unstable();
        for task in due {
            self.wake(task).await;
        }
        let mut lost = store.lost_leases(now, 100).await.unwrap();
        lost.sort_by_key(|due| due.id);
        for due in lost {
            let want = Want::tasks(due.mission_id, [due.id]);
            self.decide("recover", &want, |turn| flow::recover_lease(turn, due.id)).await;
        }
        let mut overdue = store.overdue_runs(now, 100).await.unwrap();
        overdue.sort_unstable();
        for (run, mission) in overdue {
            let want = Want { missions: vec![mission], ..Want::default() };
            self.decide("expire run", &want, |turn| flow::expire_run(turn, run)).await;
        }
        for (run, mission) in store.ending_runs(100).await.unwrap() {
            let tasks = store.tasks_to_end(run, now, 100).await.unwrap();
            let mut tasks: Vec<_> = tasks.into_iter().map(|task| task.id).collect();
            tasks.sort_unstable();
            let want = Want::tasks(mission, tasks.clone());
            self.decide("wind down", &want, |turn| flow::wind_down(turn, run, &tasks)).await;
        }
        let mut grants = store.overdue_grants(now, 100).await.unwrap();
        grants.sort_unstable();
        for (grant, wallet) in grants {
            let op = self.hand.id();
            let want = Want { grants: vec![grant], ..Want::wallets([wallet]) };
            self.decide("expire grant", &want, |turn| ledger::expire(turn.set, grant, op, turn.now)).await;
        }
    }

    /// All rows, and what the reads make of them.
    async fn rows(&self) -> Vec<(String, Vec<Value>)> {
        let mut all = Vec::new();
        for (table, order) in TABLES {
            all.push(((*table).to_owned(), self.hand.table(table, order).await));
        }
        all.push(("entries".to_owned(), self.hand.table("entries", "op_id, source, destination, amount_ucr").await));
        for mission in &self.missions {
            let view = self.hand.store.mission(None, *mission).await.unwrap().unwrap();
            let tasks = self.hand.store.tasks_of_run(view.run_id, true, 100).await.unwrap();
            let calls = self.hand.store.calls_of_run(view.run_id, 100).await.unwrap();
            all.push((format!("{mission}"), vec![json!([view, tasks, calls])]));
        }
        all
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_engines_answer_the_same_commands_alike() {
    for seed in [1, 2, 3] {
        let mut sqlite = Player::new(Storage::Sqlite, seed).await;
        let mut postgres = Player::new(Storage::Postgres, seed).await;
        for step in 0..STEPS {
            sqlite.step().await;
            postgres.step().await;
            assert_eq!(sqlite.log, postgres.log, "seed {seed}, step {step}");
            sqlite.log.clear();
            postgres.log.clear();
        }
        for (of_sqlite, of_postgres) in sqlite.rows().await.into_iter().zip(postgres.rows().await) {
            assert_eq!(of_sqlite, of_postgres, "seed {seed}");
        }
        let states = sqlite.hand.table("runs", "id").await;
        let ended = states.iter().filter(|run| !run["ended_at"].is_null()).count();
        assert!(states.len() > 20 && ended > 5, "seed {}: {ended} of {} runs ended", sqlite.seed, states.len());
    }
}
