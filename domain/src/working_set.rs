//! The working set: the rows that one transaction loaded, and what a decision made of them.
//!
//! A store fills it under locks, pure code changes it, the store writes exactly what changed. It knows
//! nothing about how that happens. Effects are data: new rows are consequences.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use crate::id::{
    CallId, DedupeKeyId, GrantId, HoldId, MessageId, MissionId, RunId, ScheduleId, SignalId, TaskId, TenantId,
    ToolCallId, WalletId, WorkflowId,
};
use crate::record::{
    Attempt, DedupeKey, Event, Grant, Hold, KeptOutput, Message, Mission, Op, PlannedWorkflow, Run, Schedule, Signal,
    Task, TenantQueue, ToolRun, UsageCall, Wallet,
};
use crate::time::Timestamp;
use crate::workflow::Definition;

/// Whether a row must be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Loaded,
    Changed,
    New,
}

/// The loaded and new rows of one table.
#[derive(Debug, Clone)]
pub struct Rows<K, V> {
    rows: BTreeMap<K, (Mark, V)>,
}

impl<K, V> Default for Rows<K, V> {
    fn default() -> Self {
        Self { rows: BTreeMap::new() }
    }
}

impl<K: Ord + Copy, V> Rows<K, V> {
    /// Adds a row as the store has it.
    pub fn load(&mut self, key: K, row: V) {
        self.rows.insert(key, (Mark::Loaded, row));
    }

    /// The row of that key.
    pub fn get(&self, key: K) -> Option<&V> {
        self.rows.get(&key).map(|(_, row)| row)
    }

    /// All rows in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = &V> {
        self.rows.values().map(|(_, row)| row)
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The row, to be changed.
    pub(crate) fn change(&mut self, key: K) -> Option<&mut V> {
        self.rows.get_mut(&key).map(|(mark, row)| {
            if *mark == Mark::Loaded {
                *mark = Mark::Changed;
            }
            row
        })
    }

    /// Adds a row that the store does not have.
    pub(crate) fn add(&mut self, key: K, row: V) {
        self.rows.insert(key, (Mark::New, row));
    }

    /// Rows that the store must insert.
    pub fn added(&self) -> impl Iterator<Item = &V> {
        self.rows.values().filter(|(mark, _)| *mark == Mark::New).map(|(_, row)| row)
    }

    /// Rows that the store must update.
    pub fn changed(&self) -> impl Iterator<Item = &V> {
        self.rows.values().filter(|(mark, _)| *mark == Mark::Changed).map(|(_, row)| row)
    }
}

/// Everything one decision may look at and change.
#[derive(Debug, Clone, Default)]
pub struct WorkingSet {
    /// Missions, without input and metadata unless new.
    pub missions: Rows<MissionId, Mission>,
    /// Runs.
    pub runs: Rows<RunId, Run>,
    /// Tasks, without output unless it was just written.
    pub tasks: Rows<TaskId, Task>,
    /// Usage calls of the loaded tasks.
    pub calls: Rows<CallId, UsageCall>,
    /// Tool calls, of those numbers that were asked for.
    pub tool_runs: Rows<ToolCallId, ToolRun>,
    /// Signals of the missions in `signals_of` that no task took yet, and those that were asked for by their key.
    pub signals: Rows<SignalId, Signal>,
    /// Missions all of whose waiting signals are known.
    pub signals_of: BTreeSet<MissionId>,
    /// Messages that were asked for by the sender's key.
    pub messages: Rows<MessageId, Message>,
    /// Parents of which those children were loaded that nobody works on, a chunk at most.
    pub idle_of: BTreeSet<TaskId>,
    /// Holds of the loaded tasks and runs.
    pub holds: Rows<HoldId, Hold>,
    /// Grants of the loaded wallets that have something left or that a loaded hold drew from.
    pub grants: Rows<GrantId, Grant>,
    /// Wallets of the loaded missions, and those asked for.
    pub wallets: Rows<WalletId, Wallet>,
    /// The dedupe keys that were asked for.
    pub dedupe_keys: Rows<DedupeKeyId, DedupeKey>,
    /// The queues of tenants that have a limit, where something may begin.
    pub queues: BTreeMap<TenantId, TenantQueue>,
    /// Schedules, without their input.
    pub schedules: Rows<ScheduleId, Schedule>,
    /// Operations that exist already, of those keys that were asked for.
    pub known_ops: BTreeMap<(WalletId, String), Op>,
    /// What the nodes of workflows see as `inputs`, by mission and the number of the workflow's first node, where a
    /// decision reads it.
    pub inputs: BTreeMap<(MissionId, i32), Value>,
    /// Workflow versions that this decision came by, besides its facts.
    pub definitions: BTreeMap<WorkflowId, Arc<Definition>>,
    /// Workflow versions to insert.
    pub planned: Vec<PlannedWorkflow>,
    /// What nodes of a run handed on, by node index, where a decision reads it: those that are over and let their
    /// dependents go on.
    pub results: BTreeMap<(RunId, i32), Value>,
    /// Operations to insert.
    pub ops: Vec<Op>,
    /// Events to insert.
    pub events: Vec<Event>,
    /// Outputs that later tasks may use, to insert.
    pub kept: Vec<KeptOutput>,
    /// Attempts to insert.
    pub attempts: Vec<Attempt>,
    /// What tasks of a family handed on, by their parent and number, where a decision reads it.
    pub item_results: BTreeMap<(TaskId, i32), Value>,
    nodes: BTreeMap<(RunId, i32), TaskId>,
    items: BTreeMap<(TaskId, i32), TaskId>,
    purses: BTreeMap<WalletId, BTreeSet<GrantId>>,
    journals: BTreeMap<TaskId, Vec<CallId>>,
    keys: BTreeMap<(TenantId, String), DedupeKeyId>,
}

impl WorkingSet {
    /// Adds a task as the store has it.
    pub fn load_task(&mut self, task: Task) {
        self.index(&task);
        self.tasks.load(task.id, task);
    }

    /// Adds a task that the store does not have.
    pub(crate) fn add_task(&mut self, task: Task) {
        self.index(&task);
        self.tasks.add(task.id, task);
    }

    fn index(&mut self, task: &Task) {
        self.nodes.insert((task.run_id, task.node_index), task.id);
        if let Some(parent) = task.parent_id {
            self.items.insert((parent, task.item), task.id);
        }
    }

    /// The loaded tasks that were made of a task, by their numbers.
    pub fn items_of(&self, parent: TaskId) -> impl Iterator<Item = &Task> {
        self.items.range((parent, i32::MIN)..=(parent, i32::MAX)).filter_map(|(_, id)| self.tasks.get(*id))
    }

    /// The task of that number among those that were made of a task, if it was loaded.
    pub fn item_of(&self, parent: TaskId, item: i32) -> Option<&Task> {
        self.items.get(&(parent, item)).and_then(|id| self.tasks.get(*id))
    }

    /// What one of many handed on: just now, or before its result was loaded.
    pub fn item_result(&self, parent: TaskId, item: i32) -> Option<&Value> {
        let new = self.item_of(parent, item).and_then(|task| task.output.as_ref());
        new.or_else(|| self.item_results.get(&(parent, item)))
    }

    /// Adds a grant as the store has it.
    pub fn load_grant(&mut self, grant: Grant) {
        self.purses.entry(grant.wallet_id).or_default().insert(grant.id);
        self.grants.load(grant.id, grant);
    }

    /// Adds a grant that the store does not have.
    pub(crate) fn add_grant(&mut self, grant: Grant) {
        self.purses.entry(grant.wallet_id).or_default().insert(grant.id);
        self.grants.add(grant.id, grant);
    }

    /// Adds a usage call as the store has it.
    pub fn load_call(&mut self, call: UsageCall) {
        if self.calls.get(call.id).is_none() {
            self.journals.entry(call.task_id).or_default().push(call.id);
        }
        self.calls.load(call.id, call);
    }

    /// Adds a usage call that the store does not have.
    pub(crate) fn add_call(&mut self, call: UsageCall) {
        self.journals.entry(call.task_id).or_default().push(call.id);
        self.calls.add(call.id, call);
    }

    /// Adds a dedupe key as the store has it.
    pub fn load_dedupe_key(&mut self, row: DedupeKey) {
        self.keys.insert((row.tenant_id, row.key.clone()), row.id);
        self.dedupe_keys.load(row.id, row);
    }

    /// Adds a dedupe key that the store does not have.
    pub(crate) fn add_dedupe_key(&mut self, row: DedupeKey) {
        self.keys.insert((row.tenant_id, row.key.clone()), row.id);
        self.dedupe_keys.add(row.id, row);
    }

    /// Who has a tenant's dedupe key, if it was loaded or just given away.
    pub fn dedupe_key_of(&self, tenant: TenantId, key: &str) -> Option<&DedupeKey> {
        self.keys.get(&(tenant, key.to_owned())).and_then(|id| self.dedupe_keys.get(*id))
    }

    /// The loaded calls of a task, in the order in which they were loaded.
    pub fn calls_of(&self, task: TaskId) -> impl Iterator<Item = &UsageCall> {
        self.journals.get(&task).into_iter().flatten().filter_map(|id| self.calls.get(*id))
    }

    /// The loaded grants of a wallet, each once, by their ids.
    pub fn grants_of(&self, wallet: WalletId) -> impl Iterator<Item = &Grant> {
        self.purses.get(&wallet).into_iter().flatten().filter_map(|id| self.grants.get(*id))
    }

    /// The task of a run that stands for a node, if it was loaded.
    pub fn task_of(&self, run: RunId, node_index: i32) -> Option<&Task> {
        self.nodes.get(&(run, node_index)).and_then(|id| self.tasks.get(*id))
    }

    /// What the nodes of a workflow see as `inputs`, of a mission that was just made, or where it was loaded. `base` is
    /// the number in the run of the workflow's first node.
    pub fn input_of(&self, mission: MissionId, base: i32) -> Option<&Value> {
        let row = self.missions.get(mission).filter(|_| base == 0);
        let new = row.and_then(|mission| mission.input.as_ref());
        new.or_else(|| self.inputs.get(&(mission, base)))
    }

    /// What a node handed on: just now, or before its result was loaded. Of one that failed, once the task that stands in
    /// for it is over, what that did.
    pub fn result_of(&self, run: RunId, node_index: i32) -> Option<&Value> {
        let task = self.task_of(run, node_index);
        let stand_in = task.and_then(|task| self.tasks.get(task.stand_in_id?)).filter(|task| task.state.is_final());
        let (task, node_index) = stand_in.map_or((task, node_index), |task| (Some(task), task.node_index));
        let new = task.and_then(|task| task.output.as_ref());
        new.or_else(|| self.results.get(&(run, node_index)))
    }

    /// Appends an event to a mission's log, numbered without a gap.
    pub(crate) fn emit(&mut self, mission: MissionId, kind: &str, task: Option<TaskId>, data: Value, now: Timestamp) {
        let about = task.and_then(|id| self.tasks.get(id)).map(|task| (task.node.clone(), task.attempt));
        let Some(row) = self.missions.change(mission) else { return };
        row.last_seq = row.last_seq.saturating_add(1);
        row.updated_at = now;
        self.events.push(Event {
            mission_id: mission,
            seq: row.last_seq,
            tenant_id: row.tenant_id,
            run_id: row.run_id,
            kind: kind.to_owned(),
            task_id: task,
            node: about.as_ref().map(|(node, _)| node.clone()),
            attempt: about.map(|(_, attempt)| attempt),
            data,
            at: now,
        });
    }

    /// Whether there is anything to write.
    pub fn is_unchanged(&self) -> bool {
        fn quiet<K: Ord + Copy, V>(rows: &Rows<K, V>) -> bool {
            rows.added().next().is_none() && rows.changed().next().is_none()
        }
        self.ops.is_empty()
            && self.events.is_empty()
            && self.attempts.is_empty()
            && self.kept.is_empty()
            && self.planned.is_empty()
            && quiet(&self.missions)
            && quiet(&self.runs)
            && quiet(&self.tasks)
            && quiet(&self.calls)
            && quiet(&self.tool_runs)
            && quiet(&self.signals)
            && quiet(&self.messages)
            && quiet(&self.holds)
            && quiet(&self.grants)
            && quiet(&self.wallets)
            && quiet(&self.dedupe_keys)
            && quiet(&self.schedules)
    }
}
