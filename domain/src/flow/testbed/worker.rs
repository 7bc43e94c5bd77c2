//! What workers do: claim, beat, ask for calls, settle. The claim and the heartbeat are the stores' own guarded
//! updates, done over maps.

use serde_json::{Value, json};

use crate::flow::{self, Guard, Handoff, Refusal, SettleRequest, Settlement};
use crate::id::{CallId, MissionId, RunId, TaskId, WorkerId};
use crate::limits::{HEARTBEAT_MS, LEASE_MS};
use crate::outcome::{
    CallPermit, CallRefusal, CallRequest, ErrorClass, FinishedCall, Outcome, StepError, ToolEnd, ToolPermit,
    ToolRequest,
};
use crate::state::{RunState, TaskState};
use crate::usage::Usage;

use super::World;
use super::tables::Want;

/// A claimed task, as its worker knows it.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub task: TaskId,
    pub mission: MissionId,
    pub run: RunId,
    pub worker: WorkerId,
    pub guard: Guard,
}

/// A call that was answered with so many tokens.
pub(crate) fn answer(id: CallId, input: u64, output: u64) -> FinishedCall {
    let usage = Usage { input_tokens: input, output_tokens: output, ..Usage::default() };
    FinishedCall {
        id,
        usage: Some(usage),
        counted: usage,
        succeeded: true,
        rejected: false,
        response: json!({"text": format!("answer {id}"), "finish_reason": "stop"}),
        duration_ms: 5,
        first_token_ms: Some(1),
    }
}

/// The wish for a call of at most so many tokens.
pub(crate) fn request(number: i32, body: &str, tokens: (u64, u64)) -> CallRequest {
    CallRequest {
        number,
        request_hash: body.to_owned(),
        provider: "test".to_owned(),
        model: "m".to_owned(),
        input_tokens: tokens.0,
        max_output_tokens: tokens.1,
        alternatives: Vec::new(),
        in_place_of: None,
        heard: 0,
        finished: Vec::new(),
    }
}

impl Lease {
    /// The lease of a task that is running now.
    pub(crate) fn of(world: &World, task: TaskId) -> Self {
        let row = &world.tables.tasks[&task];
        let guard = Guard { task_id: task, fence: row.fence, token: row.lease_token.clone().unwrap() };
        Self { task, mission: row.mission_id, run: row.run_id, worker: row.worker_id.unwrap(), guard }
    }

    /// The settle that says so.
    pub(crate) fn settle(&self, outcome: Outcome) -> SettleRequest {
        SettleRequest { guard: self.guard.clone(), outcome, handoff: None, cache: None, prompt: None }
    }
}

impl World {
    /// Claims a task for a worker, as the store does; `None` when it may not be had.
    pub(crate) fn claim_for(&mut self, worker: WorkerId, id: TaskId) -> Option<Lease> {
        let token = format!("token-{}", self.dice.below(u64::MAX));
        let (now, task) = (self.now, self.tables.tasks.get(&id)?);
        let run_state = self.tables.runs.get(&task.run_id)?.state;
        if task.state != TaskState::Ready || !matches!(run_state, RunState::Queued | RunState::Running) {
            return None;
        }
        let task = self.tables.tasks.get_mut(&id)?;
        task.state = TaskState::Running;
        task.status_reason = Some("running".to_owned());
        task.attempt += 1;
        task.fence += 1;
        task.lease_token = Some(token);
        task.lease_until = Some(now.plus_ms(LEASE_MS));
        task.worker_id = Some(worker);
        task.started_at = Some(now);
        let run = self.tables.runs.get_mut(&task.run_id)?;
        if run.state == RunState::Queued {
            run.state = RunState::Running;
            run.status_reason = None;
            run.started_at = Some(now);
        }
        Some(Lease::of(self, id))
    }

    /// Claims a mission's node for the usual worker.
    pub(crate) fn claim(&mut self, mission: MissionId, node: &str) -> Lease {
        let (worker, task) = (self.worker, self.task(mission, node).id);
        self.claim_for(worker, task).unwrap_or_else(|| panic!("{node} is {:?}", self.state(mission, node)))
    }

    /// Renews a lease. Whether it is still held, and whether it has to stop: its run ends, or its time is over.
    pub(crate) fn beat(&mut self, lease: &Lease) -> (bool, bool) {
        let until = self.now.plus_ms(LEASE_MS);
        let task = self.tables.tasks.get_mut(&lease.task).unwrap();
        let token = task.lease_token.as_ref() == Some(&lease.guard.token);
        if task.state != TaskState::Running || task.fence != lease.guard.fence || !token {
            return (false, false);
        }
        task.lease_until = Some(until);
        let is_late = task.deadline_at.is_some_and(|deadline| deadline <= self.now);
        (true, is_late || matches!(self.tables.runs[&lease.run].state, RunState::Failing | RunState::Cancelling))
    }

    /// Lets time pass with all leases renewed.
    pub(crate) fn work_ms(&mut self, leases: &[&Lease], mut ms: i64) {
        while ms > 0 {
            let step = ms.min(HEARTBEAT_MS);
            self.pass_ms(step);
            ms -= step;
            for lease in leases {
                assert!(self.beat(lease).0, "the lease is lost");
            }
        }
    }

    /// Asks for a call of at most so many tokens.
    pub(crate) fn ask(
        &mut self,
        lease: &Lease,
        number: i32,
        body: &str,
        tokens: (u64, u64),
    ) -> Result<CallPermit, CallRefusal> {
        self.ask_for(lease, &request(number, body, tokens))
    }

    /// Asks for a call.
    pub(crate) fn ask_for(&mut self, lease: &Lease, request: &CallRequest) -> Result<CallPermit, CallRefusal> {
        let mut want =
            Want { tasks: vec![lease.task], missions: vec![lease.mission], journals: true, ..Want::default() };
        want.tasks.extend(self.tables.tasks[&lease.task].ancestors.iter().flatten());
        self.decide(&want, |turn| flow::reserve_call(turn, &lease.guard, request))
    }

    /// Asks for tool calls.
    pub(crate) fn ask_tools(&mut self, lease: &Lease, request: &ToolRequest) -> Result<Vec<ToolPermit>, CallRefusal> {
        let want = Want {
            tasks: vec![lease.task],
            missions: vec![lease.mission],
            calls: request.finished.iter().map(|call| call.id).collect(),
            tool_runs: request.calls.iter().map(|call| (lease.task, call.number)).collect(),
            ..Want::default()
        };
        self.decide(&want, |turn| flow::begin_tools(turn, &lease.guard, request))
    }

    /// Tells how a tool call ended.
    pub(crate) fn end_tool(&mut self, lease: &Lease, end: &ToolEnd) -> Result<(), CallRefusal> {
        let want = Want {
            tasks: vec![lease.task],
            missions: vec![lease.mission],
            tool_runs: vec![(lease.task, end.number)],
            ..Want::default()
        };
        self.decide(&want, |turn| flow::end_tool(turn, &lease.guard, end))
    }

    /// Makes a call that uses so many tokens; it fits and was not made before.
    pub(crate) fn call(&mut self, lease: &Lease, input: u64, output: u64) -> FinishedCall {
        let number = 1 + self.tables.calls.values().filter(|call| call.task_id == lease.task).count();
        let number = i32::try_from(number).unwrap();
        let heard = self.tables.runs[&lease.run].heard;
        let request = CallRequest { heard, ..request(number, &format!("body {number}"), (input, output)) };
        match self.ask_for(lease, &request) {
            Ok(CallPermit::Send(id)) => answer(id, input, output),
            other => panic!("{other:?}"),
        }
    }

    /// Settles, loading what the engine loads.
    pub(crate) fn settle(&mut self, lease: &Lease, request: &SettleRequest) -> Result<Settlement, Refusal> {
        let want = self.settle_want(lease, request);
        self.decide_or_nothing(&want, |turn| flow::settle(turn, request))
    }

    /// Settles several in one transaction, as the engine does with whatever queued meanwhile.
    pub(crate) fn settle_batch(&mut self, batch: &[(Lease, SettleRequest)]) -> Vec<Result<Settlement, Refusal>> {
        let mut want = Want::default();
        for (lease, request) in batch {
            let one = self.settle_want(lease, request);
            want.tasks.extend(one.tasks);
            want.missions.extend(one.missions);
            want.nodes.extend(one.nodes);
            want.results.extend(one.results);
            want.inputs.extend(one.inputs);
            want.signals.extend(one.signals);
            want.calls.extend(one.calls);
            want.heirs.extend(one.heirs);
            want.items.extend(one.items);
            want.handed.extend(one.handed);
        }
        self.decide(&want, |turn| batch.iter().map(|(_, request)| flow::settle(turn, request)).collect())
    }

    /// What the engine loads for a settle.
    pub(crate) fn settle_want(&self, lease: &Lease, request: &SettleRequest) -> Want {
        let mut want = Want { tasks: vec![lease.task], missions: vec![lease.mission], ..Want::default() };
        let task = &self.tables.tasks[&lease.task];
        self.reach_family(task, &mut want);
        // the engine asks only where a settle is repeated; before, nobody has the offer's secret
        want.handed.extend(request.handoff.as_ref().map(|offer| offer.token.clone()));
        let of_failure = self.facts.workflows[&task.workflow_id].reach_of_end(task.place().index).of_failure;
        if of_failure || matches!(request.outcome, Outcome::Succeeded { .. }) {
            self.reach(task, false, &mut want);
        }
        if let Outcome::Succeeded { calls, .. } | Outcome::Failed { calls, .. } = &request.outcome {
            want.calls = calls.iter().map(|call| call.id).collect();
        }
        want
    }

    /// Settles with success.
    pub(crate) fn succeed(&mut self, lease: &Lease, calls: Vec<FinishedCall>) -> Settlement {
        let outcome = Outcome::Succeeded { output: json!("done"), calls };
        self.settle(lease, &lease.settle(outcome)).unwrap()
    }

    /// Settles with a failure that the last answer is to blame for, if it was one.
    pub(crate) fn fail(&mut self, lease: &Lease, class: ErrorClass, mut calls: Vec<FinishedCall>) -> Settlement {
        if let Some(last) = calls.last_mut() {
            last.rejected = last.succeeded;
        }
        let error = StepError::new(class, "test", "the test says so");
        let settlement = self.settle(lease, &lease.settle(Outcome::Failed { error, calls })).unwrap();
        if let Some(run) = settlement.ending {
            self.end_run(run);
        }
        settlement
    }

    /// Settles with success and takes the successor.
    pub(crate) fn hand_over(&mut self, lease: &Lease, calls: Vec<FinishedCall>) -> (SettleRequest, Settlement) {
        let request = SettleRequest {
            guard: lease.guard.clone(),
            outcome: Outcome::Succeeded { output: Value::Null, calls },
            handoff: Some(self.offer(lease.worker, "default")),
            cache: None,
            prompt: None,
        };
        let settlement = self.settle(lease, &request).unwrap();
        (request, settlement)
    }

    /// An offer to go on with a successor.
    pub(crate) fn offer(&mut self, worker_id: WorkerId, pool: &str) -> Handoff {
        let token = format!("token-{}", self.dice.below(u64::MAX));
        Handoff { worker_id, pool: pool.to_owned(), token, lease_ms: LEASE_MS }
    }

    /// Records what the calls of a refused late settle used.
    pub(crate) fn record_late(&mut self, lease: &Lease, calls: &[FinishedCall]) {
        let want = Want {
            tasks: vec![lease.task],
            missions: vec![lease.mission],
            calls: calls.iter().map(|call| call.id).collect(),
            ..Want::default()
        };
        self.decide(&want, |turn| flow::record_late(turn, calls));
    }

    /// Claims a mission's node and lets it succeed with a call of so many tokens; `None` is no call.
    pub(crate) fn do_node(&mut self, mission: MissionId, node: &str, tokens: Option<(u64, u64)>) -> Settlement {
        let lease = self.claim(mission, node);
        let calls = tokens.map(|(input, output)| self.call(&lease, input, output)).into_iter().collect();
        self.succeed(&lease, calls)
    }
}
