//! The tables of a store, as maps: what a transaction loads, and how it writes what a decision changed.
//!
//! Loads exactly what the real stores load for the same [`Want`], so that a decision that needs more fails here
//! too. Writes check unique keys, the schema's checks and the table of legal moves. No decision is made here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use crate::id::{
    CallId, DedupeKeyId, GrantId, HoldId, MessageId, MissionId, RunId, ScheduleId, SignalId, TaskId, TenantId,
    ToolCallId, WalletId, WorkflowId,
};
use crate::record::{
    Attempt, CallState, DedupeKey, Event, Grant, Hold, KeptOutput, Message, Mission, Op, PlannedWorkflow, Run,
    Schedule, Signal, Task, ToolRun, UsageCall, Wallet,
};
use crate::state::TaskState;
use crate::working_set::{Rows, WorkingSet};

use super::checks;
use super::verify::Balances;

/// What a decision wants to see. Mirrors the stores' own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Want {
    pub tasks: Vec<TaskId>,
    pub nodes: Vec<(RunId, i32)>,
    pub missions: Vec<MissionId>,
    /// Tasks of missions' latest runs that are in a state.
    pub latest: Vec<(MissionId, TaskState)>,
    pub wallets: Vec<WalletId>,
    /// Nodes whose results are read.
    pub results: Vec<(RunId, i32)>,
    /// Workflows whose `inputs` are read, by mission and the number of their first node.
    pub inputs: Vec<(MissionId, i32)>,
    pub op_keys: Vec<(WalletId, String)>,
    pub calls: Vec<CallId>,
    /// Whether calls are loaded with their journaled answers.
    pub journals: bool,
    /// Tool calls, by task and number.
    pub tool_runs: Vec<(TaskId, i32)>,
    /// Grants, those with nothing left included.
    pub grants: Vec<GrantId>,
    /// Holds without a task or run.
    pub holds: Vec<HoldId>,
    /// Parents whose next items are loaded, and how many.
    pub heirs: Vec<(TaskId, i32)>,
    /// Items by parent and number.
    pub items: Vec<(TaskId, i32)>,
    /// Parents whose items are loaded that nobody works on.
    pub idle: Vec<TaskId>,
    /// Secrets of leases: the running tasks that have them.
    pub handed: Vec<String>,
    /// Items whose results are read.
    pub item_results: Vec<(TaskId, i32)>,
    /// Missions whose waiting signals are read.
    pub signals: Vec<MissionId>,
    /// Signals by mission and key.
    pub signal_keys: Vec<(MissionId, String)>,
    /// Messages by mission and key.
    pub message_keys: Vec<(MissionId, String)>,
    /// Dedupe keys.
    pub dedupe_keys: Vec<(TenantId, String)>,
    /// Schedules.
    pub schedules: Vec<ScheduleId>,
}

/// All rows there are.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Tables {
    pub missions: BTreeMap<MissionId, Mission>,
    pub runs: BTreeMap<RunId, Run>,
    pub tasks: BTreeMap<TaskId, Task>,
    pub calls: BTreeMap<CallId, UsageCall>,
    pub tool_runs: BTreeMap<ToolCallId, ToolRun>,
    pub signals: BTreeMap<SignalId, Signal>,
    pub messages: BTreeMap<MessageId, Message>,
    pub holds: BTreeMap<HoldId, Hold>,
    pub grants: BTreeMap<GrantId, Grant>,
    pub wallets: BTreeMap<WalletId, Wallet>,
    pub ops: BTreeMap<(WalletId, String), Op>,
    pub events: BTreeMap<(MissionId, i64), Event>,
    pub attempts: BTreeMap<(TaskId, i32), Attempt>,
    pub kept: BTreeMap<TaskId, KeptOutput>,
    pub planned: BTreeMap<WorkflowId, PlannedWorkflow>,
    pub dedupe_keys: BTreeMap<DedupeKeyId, DedupeKey>,
    pub schedules: BTreeMap<ScheduleId, Schedule>,
    /// What the entries of all operations add up to, kept by the tests and not by the code under test.
    pub balances: Balances,
}

impl Tables {
    /// A working set with the rows that a store would load.
    pub(crate) fn load(&self, want: &Want) -> WorkingSet {
        let mut set = WorkingSet::default();
        let nodes: BTreeSet<_> = want.nodes.iter().copied().collect();
        let mut named: BTreeSet<_> = want.tasks.iter().copied().collect();
        self.name_children(want, &mut named);
        let is_latest = |task: &&Task| {
            want.latest.contains(&(task.mission_id, task.state))
                && self.missions.get(&task.mission_id).is_some_and(|mission| mission.run_id == task.run_id)
        };
        for task in self.tasks.values().filter(is_latest) {
            named.insert(task.id);
            named.extend(task.ancestors.iter().flatten());
        }
        for task in self.tasks.values() {
            if named.contains(&task.id) || nodes.contains(&(task.run_id, task.node_index)) {
                set.load_task(Task { output: None, shown: None, ..task.clone() });
            }
        }
        let mut missions: BTreeSet<_> = want.missions.iter().copied().collect();
        missions.extend(set.tasks.iter().map(|task| task.mission_id));
        for mission in missions.iter().filter_map(|id| self.missions.get(id)) {
            let row = Mission { input: None, metadata: None, idempotency_key: None, ..mission.clone() };
            if let Some(run) = self.runs.get(&mission.run_id) {
                set.runs.load(run.id, run.clone());
            }
            set.missions.load(row.id, row);
        }
        for run in self.tool_runs.values().filter(|run| want.tool_runs.contains(&(run.task_id, run.number))) {
            set.tool_runs.load(run.id, run.clone());
        }
        self.load_money(want, &mut set);
        self.load_words(want, &mut set);
        for row in self.dedupe_keys.values().filter(|row| want.dedupe_keys.contains(&(row.tenant_id, row.key.clone())))
        {
            let live = self.run_of(row.mission_id).is_some_and(|run| run.ended_at.is_none());
            set.load_dedupe_key(DedupeKey { live, ..row.clone() });
        }
        for row in want.schedules.iter().filter_map(|id| self.schedules.get(id)) {
            set.schedules.load(row.id, Schedule { input: None, ..row.clone() });
        }
        let read: BTreeSet<_> = want.results.iter().copied().collect();
        for task in self.tasks.values().filter(|task| read.contains(&(task.run_id, task.node_index))) {
            let is_handed_on = matches!(task.state, TaskState::Succeeded | TaskState::Skipped | TaskState::Failed);
            if let Some(output) = self.output_of(task).filter(|_| is_handed_on) {
                set.results.insert((task.run_id, task.node_index), output);
            }
        }
        for (parent, item) in &want.item_results {
            let child = self.tasks.values().find(|task| task.parent_id == Some(*parent) && task.item == *item);
            if let Some(output) = child.and_then(|child| child.output.clone()) {
                set.item_results.insert((*parent, *item), output);
            }
        }
        for id in &want.inputs {
            if let Some(input) = self.input_of(*id) {
                set.inputs.insert(*id, input);
            }
        }
        set
    }

    /// What the nodes of a workflow see as `inputs`: the mission's input, or what the first child of a scope made.
    pub(crate) fn input_of(&self, (mission, base): (MissionId, i32)) -> Option<serde_json::Value> {
        let mission = self.missions.get(&mission)?;
        if base == 0 {
            return mission.input.clone();
        }
        let mut tasks = self.tasks.values();
        let first = tasks.clone().find(|task| task.run_id == mission.run_id && task.node_index == base)?;
        tasks.find(|task| task.parent_id == first.parent_id && task.item == 0)?.output.clone()
    }

    /// Signals and messages that are wanted.
    fn load_words(&self, want: &Want, set: &mut WorkingSet) {
        set.signals_of.extend(&want.signals);
        set.idle_of.extend(&want.idle);
        for signal in self.signals.values() {
            let key = signal.key.clone().map(|key| (signal.mission_id, key));
            let is_waiting = signal.task_id.is_none() && want.signals.contains(&signal.mission_id);
            if is_waiting || key.is_some_and(|key| want.signal_keys.contains(&key)) {
                set.signals.load(signal.id, signal.clone());
            }
        }
        for row in self.messages.values() {
            if row.key.clone().is_some_and(|key| want.message_keys.contains(&(row.mission_id, key))) {
                set.messages.load(row.id, row.clone());
            }
        }
    }

    /// The tasks of families that are wanted, and those by the secrets of their leases.
    fn name_children(&self, want: &Want, named: &mut BTreeSet<TaskId>) {
        let is_handed = |task: &&Task| {
            task.state == TaskState::Running
                && task.lease_token.as_ref().is_some_and(|token| want.handed.contains(token))
        };
        named.extend(self.tasks.values().filter(is_handed).map(|task| task.id));
        let items: BTreeSet<_> = want.items.iter().copied().collect();
        let mut children: Vec<(TaskId, &Task)> =
            self.tasks.values().filter_map(|task| Some((task.parent_id?, task))).collect();
        children.sort_by_key(|(parent, task)| (*parent, task.item));
        named.extend(children.iter().filter(|(parent, task)| items.contains(&(*parent, task.item))).map(|c| c.1.id));
        let mut heirs: BTreeMap<TaskId, i32> = BTreeMap::new();
        for (parent, most) in &want.heirs {
            *heirs.entry(*parent).or_default() += most;
        }
        for (parent, most) in &heirs {
            let may_begin = |child: &&(TaskId, &Task)| {
                let is_free = child.1.state == TaskState::Pending && child.1.remaining_needs == 0;
                child.0 == *parent && is_free && child.1.layer > 0
            };
            let most = usize::try_from(*most).unwrap();
            named.extend(children.iter().filter(may_begin).take(most).map(|child| child.1.id));
        }
        for parent in &want.idle {
            let is_idle = |child: &&(TaskId, &Task)| {
                child.0 == *parent && !child.1.state.is_final() && child.1.state != TaskState::Running
            };
            // few at once, to see the seams
            named.extend(children.iter().filter(is_idle).take(3).map(|child| child.1.id));
        }
    }

    /// What a task handed on; a map's list is made of what its items did. One that failed hands on what its stand-in does,
    /// and before that its own error.
    pub(crate) fn output_of(&self, task: &Task) -> Option<serde_json::Value> {
        if let Some(stand_in) = task.stand_in_id {
            let stand_in = &self.tasks[&stand_in];
            return if stand_in.ended_at.is_some() {
                Some(self.own_output_of(stand_in).unwrap_or_default())
            } else {
                task.error.as_ref().map(crate::outcome::StepError::as_output)
            };
        }
        self.own_output_of(task)
    }

    fn own_output_of(&self, task: &Task) -> Option<serde_json::Value> {
        if task.kind != "map" || task.state != TaskState::Succeeded {
            return task.output.clone();
        }
        let mut items: Vec<&Task> = self.tasks.values().filter(|item| item.parent_id == Some(task.id)).collect();
        items.sort_by_key(|item| item.item);
        Some(items.into_iter().map(|item| item.output.clone().unwrap_or_default()).collect())
    }

    fn load_money(&self, want: &Want, set: &mut WorkingSet) {
        let mut holds: BTreeSet<_> = set.tasks.iter().filter_map(|task| task.hold_id).collect();
        holds.extend(set.runs.iter().filter_map(|run| run.fee_hold_id));
        holds.extend(&want.holds);
        for hold in holds.iter().filter_map(|id| self.holds.get(id)) {
            set.holds.load(hold.id, hold.clone());
        }
        let mut wallets: BTreeSet<_> = want.wallets.iter().copied().collect();
        wallets.extend(set.missions.iter().map(|mission| mission.wallet_id));
        let sliced: BTreeSet<_> =
            set.holds.iter().flat_map(|hold| hold.slices.iter().map(|slice| slice.grant)).collect();
        for grant in self.grants.values() {
            let has_rest = wallets.contains(&grant.wallet_id) && grant.remaining_ucr.is_positive();
            if has_rest || sliced.contains(&grant.id) || want.grants.contains(&grant.id) {
                set.load_grant(grant.clone());
            }
        }
        for wallet in wallets.iter().filter_map(|id| self.wallets.get(id)) {
            set.wallets.load(wallet.id, wallet.clone());
        }
        let agents: BTreeSet<_> = set.tasks.iter().filter(|task| task.kind == "agent").map(|task| task.id).collect();
        for call in self.calls.values() {
            let is_lost = call.state == CallState::Lost;
            if agents.contains(&call.task_id) && !is_lost || want.calls.contains(&call.id) {
                let response = if want.journals { call.response.clone() } else { None };
                set.load_call(UsageCall { response, ..call.clone() });
            }
        }
        for key in &want.op_keys {
            if let Some(op) = self.ops.get(key) {
                set.known_ops.insert(key.clone(), op.clone());
            }
        }
    }

    /// Writes what a decision changed, all or nothing. Errors: what the database would refuse, or must not see.
    pub(crate) fn apply(&mut self, set: &WorkingSet) -> Result<(), Vec<String>> {
        let mut broken = Vec::new();
        checks::written_once(self, set, &mut broken);
        let next = Written {
            wallets: upsert(&self.wallets, &set.wallets, |row| row.id, |_, row| row.clone(), &mut broken),
            grants: upsert(&self.grants, &set.grants, |row| row.id, |_, row| row.clone(), &mut broken),
            missions: upsert(&self.missions, &set.missions, |row| row.id, keep_mission, &mut broken),
            runs: upsert(&self.runs, &set.runs, |row| row.id, keep_run, &mut broken),
            tasks: upsert(&self.tasks, &set.tasks, |row| row.id, keep_task, &mut broken),
            holds: upsert(&self.holds, &set.holds, |row| row.id, |_, row| row.clone(), &mut broken),
            calls: upsert(&self.calls, &set.calls, |row| row.id, keep_call, &mut broken),
            tool_runs: upsert(&self.tool_runs, &set.tool_runs, |row| row.id, |_, row| row.clone(), &mut broken),
            signals: upsert(&self.signals, &set.signals, |row| row.id, |_, row| row.clone(), &mut broken),
            messages: upsert(&self.messages, &set.messages, |row| row.id, |_, row| row.clone(), &mut broken),
        };
        let dedupe_keys = upsert(&self.dedupe_keys, &set.dedupe_keys, |row| row.id, |_, row| row.clone(), &mut broken);
        let keep_input = |before: &Schedule, row: &Schedule| Schedule {
            input: row.input.clone().or_else(|| before.input.clone()),
            ..row.clone()
        };
        let schedules = upsert(&self.schedules, &set.schedules, |row| row.id, keep_input, &mut broken);
        checks::rows(self, &next, &mut broken);
        checks::log(self, set, &next, &mut broken);
        if !broken.is_empty() {
            return Err(broken);
        }
        self.wallets.extend(next.wallets.into_iter().map(|row| (row.id, row)));
        self.grants.extend(next.grants.into_iter().map(|row| (row.id, row)));
        self.missions.extend(next.missions.into_iter().map(|row| (row.id, row)));
        self.runs.extend(next.runs.into_iter().map(|row| (row.id, row)));
        self.tasks.extend(next.tasks.into_iter().map(|row| (row.id, row)));
        self.holds.extend(next.holds.into_iter().map(|row| (row.id, row)));
        self.calls.extend(next.calls.into_iter().map(|row| (row.id, row)));
        self.tool_runs.extend(next.tool_runs.into_iter().map(|row| (row.id, row)));
        self.signals.extend(next.signals.into_iter().map(|row| (row.id, row)));
        self.messages.extend(next.messages.into_iter().map(|row| (row.id, row)));
        self.dedupe_keys.extend(dedupe_keys.into_iter().map(|row| (row.id, row)));
        self.schedules.extend(schedules.into_iter().map(|row| (row.id, row)));
        for op in &set.ops {
            self.balances.add(op);
            self.ops.insert((op.wallet_id, op.key.clone()), op.clone());
        }
        self.events.extend(set.events.iter().map(|event| ((event.mission_id, event.seq), event.clone())));
        let attempts = set.attempts.iter().map(|attempt| ((attempt.task_id, attempt.number), attempt.clone()));
        self.attempts.extend(attempts);
        self.planned.extend(set.planned.iter().map(|row| (row.id, row.clone())));
        self.kept.extend(set.kept.iter().map(|row| (row.task_id, row.clone())));
        Ok(())
    }

    /// The latest run of a mission.
    fn run_of(&self, mission: MissionId) -> Option<&Run> {
        self.missions.get(&mission).and_then(|mission| self.runs.get(&mission.run_id))
    }

    /// The tasks of a run, by node.
    pub(crate) fn tasks_of(&self, run: RunId) -> Vec<&Task> {
        let mut tasks: Vec<&Task> = self.tasks.values().filter(|task| task.run_id == run).collect();
        tasks.sort_by_key(|task| task.node_index);
        tasks
    }
}

/// The rows as they will stand after the write.
#[derive(Debug)]
pub(super) struct Written {
    pub missions: Vec<Mission>,
    pub runs: Vec<Run>,
    pub tasks: Vec<Task>,
    pub calls: Vec<UsageCall>,
    pub tool_runs: Vec<ToolRun>,
    pub signals: Vec<Signal>,
    pub messages: Vec<Message>,
    pub holds: Vec<Hold>,
    pub grants: Vec<Grant>,
    pub wallets: Vec<Wallet>,
}

fn upsert<K: Ord + Copy + Debug, V: Clone>(
    table: &BTreeMap<K, V>,
    rows: &Rows<K, V>,
    key: impl Fn(&V) -> K,
    keep: impl Fn(&V, &V) -> V,
    broken: &mut Vec<String>,
) -> Vec<V> {
    let mut written = Vec::new();
    for row in rows.added() {
        if table.contains_key(&key(row)) {
            broken.push(format!("{:?} is inserted twice", key(row)));
        }
        written.push(row.clone());
    }
    for row in rows.changed() {
        match table.get(&key(row)) {
            Some(before) => written.push(keep(before, row)),
            None => broken.push(format!("{:?} is updated and does not exist", key(row))),
        }
    }
    written
}

fn keep_mission(before: &Mission, row: &Mission) -> Mission {
    Mission {
        input: before.input.clone(),
        metadata: before.metadata.clone(),
        idempotency_key: before.idempotency_key.clone(),
        ..row.clone()
    }
}

fn keep_run(before: &Run, row: &Run) -> Run {
    Run { started_at: row.started_at.or(before.started_at), input: before.input.clone(), ..row.clone() }
}

fn keep_task(before: &Task, row: &Task) -> Task {
    let (output, shown) = (row.output.clone().or(before.output.clone()), row.shown.clone().or(before.shown.clone()));
    Task { output, shown, ..row.clone() }
}

fn keep_call(before: &UsageCall, row: &UsageCall) -> UsageCall {
    UsageCall { response: row.response.clone().or_else(|| before.response.clone()), ..row.clone() }
}
