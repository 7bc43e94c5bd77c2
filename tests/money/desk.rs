//! A cashier's desk on a store of either kind: missions, calls, holds and corrections one by one, the clock held.
//!
//! Each operation loads what the engine loads for it, so that a decision that needs more fails here too.

use bursar::store::Journals;
use bursar::store::read::{CallView, GrantView, MissionView, TaskView};
use bursar::store::{Claimed, StoreError, Want};
use bursar::verify::verify;
use bursar_domain::credits::Ucr;
use bursar_domain::flow::{self, Refusal, SettleRequest, Settlement, Submission, Turn};
use bursar_domain::id::{CallId, GrantId, HoldId, MissionId, OpId, TaskId};
use bursar_domain::ledger::{self, Charge, Correction, HoldRequest, LedgerRefusal, Settled, Subject, Terms};
use bursar_domain::outcome::{CallPermit, CallRefusal, CallRequest, ErrorClass, FinishedCall, Outcome, StepError};
use bursar_domain::record::{Account, GrantKind, HoldOwner, Leg};
use bursar_domain::state::RunState;
use bursar_domain::usage::Usage;
use serde_json::{Value, json};

use crate::support::hand::Hand;
use crate::support::stores::Storage;

/// A credit.
pub(super) const CREDIT: i64 = 1_000_000;
/// What a token of `simulated-large` costs on its way in, in µcr.
pub(super) const INPUT: i64 = 100;
/// What it costs on its way out.
pub(super) const OUTPUT: i64 = 400;

/// A store with one wallet, and whoever works at it.
pub(super) struct Desk {
    pub(super) hand: Hand,
}

/// A claimed task.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) claimed: Claimed,
    pub(super) token: String,
}

/// A workflow of one agent's steps: `simulated-large`, answers of at most 100 tokens.
pub(super) fn agents(head: &str, nodes: &str) -> String {
    format!(
        "{{workflow: w, flat_fee: 0, {head} agents: {{a: {{instructions: i, model: simulated-large, \
         max_output_tokens: 100}}}}, nodes: {{{nodes}}}}}"
    )
}

/// An agent's step.
pub(super) const ONE: &str = "one: {agent: a, prompt: p}";

/// A workflow of steps that each hold and cost so many credits (hundredths, one hundred being a credit), each after
/// the one before.
pub(super) fn priced(head: &str, hundredths: &[u64]) -> String {
    let node = |(index, price): (usize, &u64)| {
        let needs = if index == 0 { String::new() } else { format!("needs: [n{}], ", index - 1) };
        format!("n{index}: {{{needs}transform: {{x: 1}}, units: {{tool_call: {price}}}}}")
    };
    let nodes: Vec<String> = hundredths.iter().enumerate().map(node).collect();
    format!("{{workflow: w, {head} nodes: {{{}}}}}", nodes.join(", "))
}

/// Tokens in and out.
pub(super) fn tokens(input: u64, output: u64) -> Usage {
    Usage { input_tokens: input, output_tokens: output, ..Usage::default() }
}

/// A call that was answered, with what the provider reported.
pub(super) fn answered(id: CallId, usage: Usage) -> FinishedCall {
    FinishedCall {
        id,
        usage: Some(usage),
        counted: usage,
        succeeded: true,
        rejected: false,
        response: json!({"text": "answer", "finish_reason": "stop"}),
        duration_ms: 5,
        first_token_ms: Some(1),
    }
}

/// A call that was answered, and whose answer is why its attempt failed.
pub(super) fn rejected(id: CallId, usage: Usage) -> FinishedCall {
    FinishedCall { rejected: true, ..answered(id, usage) }
}

/// An attempt that failed.
pub(super) fn failed(class: ErrorClass, code: &str, calls: Vec<FinishedCall>) -> Outcome {
    Outcome::Failed { error: StepError::new(class, code, "the test says so"), calls }
}

/// An attempt that did its work.
pub(super) fn done(calls: Vec<FinishedCall>) -> Outcome {
    Outcome::Succeeded { output: json!("done"), calls }
}

impl Desk {
    /// An empty wallet.
    pub(super) async fn empty(storage: Storage) -> Self {
        Self { hand: Hand::new(storage).await }
    }

    /// A wallet with 100 bought credits.
    pub(super) async fn open(storage: Storage) -> Self {
        let mut desk = Self::empty(storage).await;
        desk.give(100 * CREDIT).await;
        desk
    }

    /// One transaction, as the engine makes it: what is overdue is given back first.
    pub(super) async fn decide<T: Send>(
        &mut self,
        want: Want,
        mut decide: impl FnMut(&mut Turn<'_>) -> T + Send,
    ) -> Result<T, StoreError> {
        let want = Want { now: Some(self.hand.now), ..want };
        let decide = |turn: &mut Turn<'_>| {
            flow::expire_holds(turn);
            decide(turn)
        };
        self.hand.decide(&want, decide).await
    }

    /// Lets time pass.
    pub(super) fn pass_ms(&mut self, ms: i64) {
        self.hand.now = self.hand.now.plus_ms(ms);
    }

    /// Gives so many µcr as bought and tries whoever waits for them.
    pub(super) async fn give(&mut self, ucr: i64) -> GrantId {
        self.give_as(ucr, GrantKind::Paid, 50, None).await
    }

    /// Gives µcr of that kind and priority for so long, and tries whoever waits.
    pub(super) async fn give_as(&mut self, ucr: i64, kind: GrantKind, priority: i16, lasts_ms: Option<i64>) -> GrantId {
        let expires_at = lasts_ms.map(|ms| self.hand.now.plus_ms(ms));
        let request = self.hand.grant_request(Ucr::new(ucr), expires_at);
        let request = ledger::GrantRequest { kind, priority, ..request };
        let want = Want::wallets([self.hand.wallet]);
        let given = self.decide(want, |turn| ledger::grant(turn.set, &request, turn.now)).await.unwrap().unwrap();
        self.retry_waiters().await;
        given
    }

    /// Puts a workflow and submits a mission of it.
    pub(super) async fn start(&mut self, yaml: &str) -> MissionId {
        self.try_start(yaml, |_| ()).await.unwrap()
    }

    /// Puts a workflow and submits a mission of it that is changed before.
    pub(super) async fn try_start(
        &mut self,
        yaml: &str,
        change: impl FnOnce(&mut Submission),
    ) -> Result<MissionId, Refusal> {
        // one version per text, because a name has one content per version
        let name = format!("workflow: w{}", self.hand.id::<bursar_domain::id::OpKind>().to_string().replace('_', "-"));
        let workflow = self.hand.put(&yaml.replacen("workflow: w", &name, 1)).await;
        let mut submission = self.hand.submission(workflow);
        change(&mut submission);
        let want = Want::wallets([self.hand.wallet]);
        let mission = submission.mission_id;
        self.decide(want, |turn| flow::submit(turn, &submission)).await.unwrap().map(|_| mission)
    }

    /// The available, held and owed µcr, as the wallet's row has them.
    pub(super) async fn purse(&self) -> (i64, i64, i64) {
        let sql = "select available_ucr, held_ucr, debt_ucr from wallets where id = $1";
        let row = self.row(sql, self.hand.wallet.to_string()).await;
        let of = |column: &str| row[column].as_i64().unwrap();
        (of("available_ucr"), of("held_ucr"), of("debt_ucr"))
    }

    /// The only row that a query with one parameter finds.
    pub(super) async fn row(&self, sql: &str, id: String) -> Value {
        let mut rows = self.hand.store.rows(sql, &[id.as_str().into()]).await.unwrap();
        assert_eq!(rows.len(), 1, "{sql} {id}");
        rows.remove(0)
    }

    /// A mission.
    pub(super) async fn mission(&self, id: MissionId) -> MissionView {
        self.hand.store.mission(None, id).await.unwrap().unwrap()
    }

    /// Where a mission's run stands, and what it was charged.
    pub(super) async fn end(&self, id: MissionId) -> (RunState, i64) {
        let mission = self.mission(id).await;
        (mission.state, mission.spent_ucr.get())
    }

    /// A mission's task.
    pub(super) async fn task(&self, mission: MissionId, node: &str) -> TaskView {
        let run = self.mission(mission).await.run_id;
        let tasks = self.hand.store.tasks_of_run(run, true, 1_000).await.unwrap();
        tasks.into_iter().find(|task| task.node == node).unwrap()
    }

    /// A mission's calls, in the order in which they were made.
    pub(super) async fn calls(&self, mission: MissionId) -> Vec<CallView> {
        let run = self.mission(mission).await.run_id;
        self.hand.store.calls_of_run(run, 100).await.unwrap()
    }

    /// The kinds of a mission's events.
    pub(super) async fn events(&self, mission: MissionId) -> Vec<(String, Value)> {
        let events = self.hand.store.events(mission, 0, 1_000).await.unwrap();
        events.into_iter().map(|event| (event.kind, event.data)).collect()
    }

    /// What a grant is now.
    pub(super) async fn grant(&self, id: GrantId) -> GrantView {
        self.hand.store.grant(id).await.unwrap().unwrap()
    }

    /// The last hold that was made for a task.
    pub(super) async fn hold_of(&self, mission: MissionId, node: &str) -> HoldId {
        let task = self.task(mission, node).await.id;
        self.hand.store.hold_of(task).await.unwrap().unwrap()
    }

    /// A hold's amount, and what of it was captured, returned, overrun and refunded.
    pub(super) async fn hold(&self, id: HoldId) -> [i64; 5] {
        let sql = "select amount_ucr, captured_ucr, returned_ucr, overrun_ucr, refunded_ucr from holds where id = $1";
        let row = self.row(sql, id.to_string()).await;
        ["amount_ucr", "captured_ucr", "returned_ucr", "overrun_ucr", "refunded_ucr"]
            .map(|of| row[of].as_i64().unwrap())
    }

    /// The legs of the operation under that key, as text: `source destination µcr`.
    pub(super) async fn legs(&self, key: &str) -> Vec<String> {
        let row = self.row("select legs from ops where key = $1", key.to_owned()).await;
        let legs: Vec<Leg> = match &row["legs"] {
            Value::String(text) => serde_json::from_str(text).unwrap(),
            other => serde_json::from_value(other.clone()).unwrap(),
        };
        let short = |account: &Account| account.to_string().split(':').next().unwrap().to_owned();
        legs.iter().map(|Leg(from, to, amount)| format!("{} {} {}", short(from), short(to), amount.get())).collect()
    }

    /// Claims a mission's task.
    pub(super) async fn claim(&mut self, mission: MissionId, node: &str) -> Job {
        let task = self.task(mission, node).await;
        let (mut claimed, token) = self.hand.claim(&[task.id]).await;
        let claimed = claimed.pop().unwrap_or_else(|| panic!("`{node}` is {:?}", task.state));
        Job { claimed, token }
    }

    /// Asks for a call of `simulated-large`: its number and body, tokens in, and the cap on those out.
    pub(super) async fn ask(
        &mut self,
        job: &Job,
        call: (i32, &str),
        size: (u64, u64),
    ) -> Result<CallPermit, CallRefusal> {
        self.ask_model(job, call, "simulated-large", size).await
    }

    /// Asks for a call of a model.
    pub(super) async fn ask_model(
        &mut self,
        job: &Job,
        (number, body): (i32, &str),
        model: &str,
        (input_tokens, max_output_tokens): (u64, u64),
    ) -> Result<CallPermit, CallRefusal> {
        let guard = job.claimed.guard(&job.token);
        let request = CallRequest {
            number,
            request_hash: body.to_owned(),
            provider: "simulated".to_owned(),
            model: model.to_owned(),
            input_tokens,
            max_output_tokens,
            alternatives: Vec::new(),
            in_place_of: None,
            heard: 0,
            finished: Vec::new(),
        };
        let want = Want { journals: Journals::Open, ..Want::tasks(job.claimed.mission_id, [job.claimed.id]) };
        self.decide(want, |turn| flow::reserve_call(turn, &guard, &request)).await.unwrap()
    }

    /// Makes a call that nobody made before and that fits.
    pub(super) async fn call(&mut self, job: &Job, number: i32, size: (u64, u64)) -> CallId {
        match self.ask(job, (number, &format!("body {number}")), size).await {
            Ok(CallPermit::Send(id)) => id,
            other => panic!("{other:?}"),
        }
    }

    /// Settles an attempt, and ends the run where that follows.
    pub(super) async fn settle(&mut self, job: &Job, outcome: Outcome) -> Result<Settlement, Refusal> {
        let calls = match &outcome {
            Outcome::Succeeded { calls, .. } | Outcome::Failed { calls, .. } => {
                calls.iter().map(|call| call.id).collect()
            }
            Outcome::HandedBack => Vec::new(),
        };
        let want = Want { calls, ..self.hand.settle_want(&job.claimed) };
        let request =
            SettleRequest { guard: job.claimed.guard(&job.token), outcome, handoff: None, cache: None, prompt: None };
        let settled = self.decide(want, |turn| flow::settle(turn, &request)).await.unwrap();
        self.end_runs().await;
        settled
    }

    /// Claims a task and lets it succeed without a call.
    pub(super) async fn do_node(&mut self, mission: MissionId, node: &str) {
        let job = self.claim(mission, node).await;
        self.settle(&job, done(Vec::new())).await.unwrap();
    }

    /// Records what the calls of a refused settle used.
    pub(super) async fn record_late(&mut self, job: &Job, calls: Vec<FinishedCall>) {
        let ids = calls.iter().map(|call| call.id).collect();
        let want = Want { calls: ids, ..Want::tasks(job.claimed.mission_id, [job.claimed.id]) };
        self.decide(want, |turn| flow::record_late(turn, &calls)).await.unwrap();
    }

    /// A user cancels.
    pub(super) async fn cancel(&mut self, mission: MissionId) {
        let want = Want { missions: vec![mission], ..Want::default() };
        self.decide(want, |turn| flow::cancel(turn, mission, None)).await.unwrap().unwrap();
        self.end_runs().await;
    }

    /// Ends what ending runs have left and nobody works on.
    pub(super) async fn end_runs(&mut self) {
        for (run, mission) in self.hand.store.ending_runs(100).await.unwrap() {
            let tasks = self.hand.store.tasks_to_end(run, self.hand.now, 100).await.unwrap();
            let tasks: Vec<_> = tasks.into_iter().map(|task| task.id).collect();
            let want = Want::tasks(mission, tasks.clone());
            self.decide(want, |turn| flow::wind_down(turn, run, &tasks)).await.unwrap().unwrap();
        }
    }

    /// One pass of the sweep: what is due, lost, late or overdue; then whoever waits for credits.
    pub(super) async fn sweep(&mut self) {
        let (store, now) = (self.hand.store.clone(), self.hand.now);
        for due in store.due_tasks(now, 100).await.unwrap() {
            self.wake(due.id, due.mission_id).await;
        }
        for lost in store.lost_leases(now, 100).await.unwrap() {
            let want = Want::tasks(lost.mission_id, [lost.id]);
            self.decide(want, |turn| flow::recover_lease(turn, lost.id)).await.unwrap().unwrap();
        }
        self.end_runs().await;
        for (grant, wallet) in store.overdue_grants(now, 100).await.unwrap() {
            let op = self.hand.id();
            let want = Want { grants: vec![grant], ..Want::wallets([wallet]) };
            self.decide(want, |turn| ledger::expire(turn.set, grant, op, turn.now)).await.unwrap();
        }
        for (hold, wallet) in store.overdue_holds(now, 100).await.unwrap() {
            let want = Want { holds: vec![hold], ..Want::wallets([wallet]) };
            self.decide(want, |_| ()).await.unwrap();
        }
        self.retry_waiters().await;
    }

    /// Tries whoever waits for credits, in the store's order, all in one transaction as the engine does.
    pub(super) async fn retry_waiters(&mut self) {
        let waiters = self.hand.store.credit_waiters(None, 100).await.unwrap();
        let mut want = Want::default();
        (want.tasks, want.missions) = waiters.iter().map(|task| (task.id, task.mission_id)).unzip();
        let wake = |turn: &mut Turn<'_>| {
            for task in &waiters {
                flow::wake_task(turn, task.id).unwrap();
            }
        };
        if !waiters.is_empty() {
            self.decide(want, wake).await.unwrap();
        }
    }

    async fn wake(&mut self, task: TaskId, mission: MissionId) {
        let want = Want::tasks(mission, [task]);
        self.decide(want, |turn| flow::wake_task(turn, task)).await.unwrap().unwrap();
    }

    /// Changes the wallet's terms and tries whoever waits.
    pub(super) async fn set_terms(&mut self, terms: Terms) {
        let wallet = self.hand.wallet;
        let want = Want::wallets([wallet]);
        self.decide(want, |turn| ledger::set_terms(turn.set, wallet, &terms)).await.unwrap().unwrap();
        self.retry_waiters().await;
    }

    /// Freezes or thaws the wallet.
    pub(super) async fn freeze(&mut self, frozen: bool) {
        self.set_terms(Terms { frozen: Some(frozen), ..Terms::default() }).await;
    }

    /// A correction under that reference.
    pub(super) fn correction(&mut self, reference: &str) -> Correction {
        Correction {
            op_id: self.hand.id(),
            grant_id: self.hand.id(),
            wallet_id: self.hand.wallet,
            reference: reference.to_owned(),
            actor: "somebody".to_owned(),
            reason: "for a reason".to_owned(),
        }
    }

    /// Refunds part of a charge.
    pub(super) async fn refund(&mut self, reference: &str, hold: HoldId, ucr: i64) -> Result<OpId, LedgerRefusal> {
        let correction = self.correction(reference);
        self.refund_as(&correction, hold, ucr).await
    }

    /// Refunds part of a charge by a correction.
    pub(super) async fn refund_as(&mut self, how: &Correction, hold: HoldId, ucr: i64) -> Result<OpId, LedgerRefusal> {
        let (wallet, settle) = (how.wallet_id, ledger::settle_key(hold));
        let op_keys = vec![(wallet, settle.clone()), (wallet, ledger::refund_key(&how.reference))];
        let want = Want { holds: vec![hold], op_keys, ..Want::wallets([wallet]) };
        let origins = |turn: &mut Turn<'_>| ledger::origins(turn.set, wallet, hold);
        let grants = self.decide(want.clone(), origins).await.unwrap();
        let want = Want { grants, ..want };
        self.decide(want, |turn| ledger::refund(turn.set, how, hold, Ucr::new(ucr), turn.now)).await.unwrap()
    }

    /// Adjusts the balance.
    pub(super) async fn adjust(&mut self, reference: &str, ucr: i64) -> Result<OpId, LedgerRefusal> {
        let how = self.correction(reference);
        let op_keys = vec![(how.wallet_id, ledger::adjust_key(reference))];
        let want = Want { op_keys, ..Want::wallets([how.wallet_id]) };
        self.decide(want, |turn| ledger::adjust(turn.set, &how, Ucr::new(ucr), turn.now)).await.unwrap()
    }

    /// Writes debt off.
    pub(super) async fn write_off(&mut self, reference: &str, ucr: i64) -> Result<OpId, LedgerRefusal> {
        let how = self.correction(reference);
        let op_keys = vec![(how.wallet_id, ledger::write_off_key(reference))];
        let want = Want { op_keys, ..Want::wallets([how.wallet_id]) };
        self.decide(want, |turn| ledger::write_off(turn.set, &how, Ucr::new(ucr), turn.now)).await.unwrap()
    }

    /// Holds µcr for a call from outside any mission.
    pub(super) async fn hold_for_call(
        &mut self,
        owner: &str,
        ucr: i64,
        lasts_ms: i64,
    ) -> Result<HoldId, LedgerRefusal> {
        let request = HoldRequest {
            id: self.hand.id(),
            op_id: self.hand.id(),
            wallet_id: self.hand.wallet,
            owner_kind: HoldOwner::Call,
            owner_id: owner.to_owned(),
            number: 1,
            amount: Ucr::new(ucr),
            subject: Subject::default(),
            expires_at: Some(self.hand.now.plus_ms(lasts_ms)),
        };
        let op_keys = vec![(request.wallet_id, request.key())];
        let want = Want { op_keys, ..Want::wallets([self.hand.wallet]) };
        self.decide(want, |turn| ledger::hold(turn.set, &request, turn.now)).await.unwrap()
    }

    /// Charges a hold for usage.
    pub(super) async fn charge(&mut self, hold: HoldId, ucr: i64) -> Result<Settled, LedgerRefusal> {
        let (op, charge) = (self.hand.id(), Charge::Usage(Ucr::new(ucr)));
        let op_keys = vec![(self.hand.wallet, ledger::settle_key(hold))];
        let want = Want { holds: vec![hold], op_keys, ..Want::wallets([self.hand.wallet]) };
        self.decide(want, |turn| ledger::settle(turn.set, hold, op, charge, Subject::default(), turn.now))
            .await
            .unwrap()
    }

    /// The auditor finds nothing.
    pub(super) async fn clean(&self) {
        let report = verify(&self.hand.store).await.unwrap();
        assert!(report.is_clean(), "{}", report.to_text());
    }
}
