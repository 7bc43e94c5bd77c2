//! Rows of work: missions, runs, tasks, attempts, events.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Bound, Fan};
use crate::credits::Ucr;
use crate::id::{HoldId, MissionId, PriceBookId, ProjectId, RunId, TaskId, TenantId, WalletId, WorkerId, WorkflowId};
use crate::outcome::StepError;
use crate::record::Decision;
use crate::state::{RunState, TaskState, WaitCause};
use crate::time::Timestamp;
use crate::usage::Usage;
use crate::workflow::{Node, OnExhausted, Place};

/// What a user asked for. The live counters of its latest run stand here, so that a settle updates one row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mission {
    /// Its id.
    pub id: MissionId,
    /// Who owns it.
    pub tenant_id: TenantId,
    /// Who pays.
    pub wallet_id: WalletId,
    /// The workflow version that its latest run executes.
    pub workflow_id: WorkflowId,
    /// The latest run.
    pub run_id: RunId,
    /// The workflow's input; written once, `None` in a working set that did not make it.
    pub input: Option<Value>,
    /// The client's own data; written once.
    pub metadata: Option<Value>,
    /// The client's idempotency key, kept for ever.
    pub idempotency_key: Option<String>,
    /// SHA-256 of the submitted body, to tell a replay from a reuse.
    pub request_hash: String,
    /// Higher goes first among the tenant's own tasks, −100 to 100.
    pub priority: i16,
    /// The most that the mission may spend; `None` is no limit.
    pub budget_ucr: Option<Ucr>,
    /// What happens when the budget is used up.
    pub on_exhausted: OnExhausted,
    /// The number of the last event.
    pub last_seq: i64,
    /// Tasks of the latest run.
    pub tasks_total: i64,
    /// Of these, how many are in a final state.
    pub tasks_done: i64,
    /// Credits in the mission's open holds.
    pub held_ucr: Ucr,
    /// Credits charged so far, for all its runs, fees included.
    pub spent_ucr: Ucr,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// The client's own words by which usage is reported; written once.
    pub tags: Option<Vec<String>>,
    /// The project that it was submitted into.
    pub project_id: Option<ProjectId>,
    /// The number of its last message.
    #[serde(default)]
    pub last_message: i64,
    /// The number of the last message that a user sent.
    #[serde(default)]
    pub last_said: i64,
}

/// One execution of a workflow version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// Who owns it.
    pub tenant_id: TenantId,
    /// What it is for.
    pub mission_id: MissionId,
    /// The pinned workflow version.
    pub workflow_id: WorkflowId,
    /// The pinned prices.
    pub price_book_id: PriceBookId,
    /// 1 for a mission's first run.
    pub number: i32,
    /// Where it stands.
    pub state: RunState,
    /// Why it stands there, for people.
    pub status_reason: Option<String>,
    /// The error that made it fail, with the node's key: `{"node", "code", "class", "message"}`.
    pub error: Option<Value>,
    /// The flat fee, charged once on success.
    pub fee_ucr: Ucr,
    /// The hold on the fee, where there is one.
    pub fee_hold_id: Option<HoldId>,
    /// When it fails if it is not over by then.
    pub deadline_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its first task was claimed.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// How often it was retried after it was over.
    pub retries: i32,
    /// What it was given, where that is not what its mission was submitted with; written once, `None` in a working set
    /// that did not make it.
    pub input: Option<Value>,
    /// The client's idempotency key of the retry or fork that was carried out last.
    pub order_key: Option<String>,
    /// SHA-256 of what that asked for.
    pub order_hash: Option<String>,
    /// What its failure has in common with others, once it fails.
    pub fingerprint: Option<String>,
    /// What was pruned of it since: see [`PRUNED_DETAILS`] and the following. Only ever written beside decisions.
    pub pruned: i16,
    /// The number of the mission's last message when it began; what came later steers it.
    #[serde(default)]
    pub heard: i64,
}

/// A run whose events and journals are gone: it cannot go on any more.
pub const PRUNED_DETAILS: i16 = 1;
/// A run whose outputs are gone as well.
pub const PRUNED_OUTPUTS: i16 = 2;
/// A run of which only what the ledger refers to is left.
pub const PRUNED_MISSION: i16 = 3;

/// One node in one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Who owns it.
    pub tenant_id: TenantId,
    /// Its mission.
    pub mission_id: MissionId,
    /// Its run.
    pub run_id: RunId,
    /// The workflow version it comes from.
    pub workflow_id: WorkflowId,
    /// The node's key in the workflow.
    pub node: String,
    /// Its number in the run: the node's index, for the nodes of the run's own workflow; larger for tasks that came
    /// with time.
    pub node_index: i32,
    /// The kind of node, e.g. `agent`.
    pub kind: String,
    /// The pool whose workers may take it.
    pub pool: String,
    /// Higher goes first, −200 to 200 (mission + node).
    pub priority: i16,
    /// Where it stands.
    pub state: TaskState,
    /// What it waits for, when it waits.
    pub wait: Option<WaitCause>,
    /// Why it stands there, for people.
    pub status_reason: Option<String>,
    /// How many of its needs are not finished.
    pub remaining_needs: i32,
    /// Bytes of what it will be given (templates, mission input, outputs of its needs): sizes its first hold.
    pub input_bytes: i64,
    /// How often it was claimed.
    pub attempt: i32,
    /// How many attempts failed by the step's own fault: what `max_attempts` counts.
    pub failures: i32,
    /// How many leases in a row ran out.
    pub losses: i32,
    /// Grows with every claim; a write of an older fence is refused.
    pub fence: i64,
    /// The secret of the present lease; kept after the end, so that a repeated settle is recognised.
    pub lease_token: Option<String>,
    /// When the present lease runs out.
    pub lease_until: Option<Timestamp>,
    /// Who holds the lease.
    pub worker_id: Option<WorkerId>,
    /// When it became ready.
    pub ready_at: Option<Timestamp>,
    /// When a retry, timer or rate limit is over.
    pub due_at: Option<Timestamp>,
    /// When the present attempt began.
    pub started_at: Option<Timestamp>,
    /// When it reached a final state.
    pub ended_at: Option<Timestamp>,
    /// Whether it can cost anything.
    pub priced: bool,
    /// Its open hold.
    pub hold_id: Option<HoldId>,
    /// How often a hold was made for it: numbers the ledger keys.
    pub holds: i32,
    /// What its dependents receive; `None` in a working set that did not settle it.
    pub output: Option<Value>,
    /// The last error.
    pub error: Option<StepError>,
    /// The task that stands in for it since it failed: what that hands on is what this one does.
    #[serde(default)]
    pub stand_in_id: Option<TaskId>,
    /// What was really charged; set when it ends.
    pub cost_ucr: Ucr,
    /// The part of the charge that priced units cost.
    pub units_ucr: Ucr,
    /// The sum of what its billed calls used.
    pub usage: Option<Usage>,
    /// When it was made.
    pub created_at: Timestamp,
    /// What whoever decides an approval is shown; `None` in a working set that did not ask for the decision.
    pub shown: Option<String>,
    /// What became of an approval.
    pub decision: Option<Decision>,
    /// When it fails if it is not over by then, whatever it waits for; known once its needs are done.
    pub deadline_at: Option<Timestamp>,
    /// The node's index in its workflow.
    pub node_at: i32,
    /// The number in the run of its workflow's first node.
    pub base: i32,
    /// The tasks above it that wait for it, the nearest first; `None` for the nodes of the run's own workflow.
    pub ancestors: Option<Vec<TaskId>>,
    /// The nearest of them.
    pub parent_id: Option<TaskId>,
    /// How many of its node's layers are around it; 0 for the node's own task.
    pub layer: i32,
    /// Its number among the tasks that were made of its parent.
    pub item: i32,
    /// What it sees besides what its node sees.
    pub bound: Option<Bound>,
    /// The tasks that a layer made of it.
    pub fan: Option<Fan>,
    /// What it shares with tasks that must not all run at once; set when it becomes ready, where its node says so.
    #[serde(default)]
    pub concurrency_key: Option<String>,
    /// How many tasks with that key may run at once.
    #[serde(default)]
    pub concurrency_max: Option<i32>,
    /// Since when it is ready and kept back because as many as may are running. Only claims set it.
    #[serde(default)]
    pub held_since: Option<Timestamp>,
    /// The number of the mission's last message when it first became ready: what it is told from the start, in every
    /// attempt.
    #[serde(default)]
    pub heard: Option<i64>,
}

impl Task {
    /// Which task of its node it is.
    pub fn place(&self) -> Place {
        let unsigned = |number: i32| u32::try_from(number).unwrap_or(u32::MAX);
        Place { index: unsigned(self.node_at), layer: unsigned(self.layer), item: unsigned(self.item) }
    }

    /// The number in the run of the node of that index, in the workflow that this task's node belongs to.
    pub fn neighbour(&self, index: u32) -> i32 {
        self.base.saturating_add(i32::try_from(index).unwrap_or(i32::MAX))
    }

    /// The nodes that wait for the task's node; none wait for one of many.
    pub fn dependents<'n>(&self, node: &'n Node) -> &'n [u32] {
        if self.layer == 0 { &node.dependents } else { &[] }
    }
}

/// An attempt that ended without success (a success is the task itself).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// The task.
    pub task_id: TaskId,
    /// The owner.
    pub tenant_id: TenantId,
    /// 1, 2, 3…
    pub number: i32,
    /// `failed`, `lost`, `handed_back` or `cancelled`.
    pub outcome: String,
    /// Who tried.
    pub worker_id: Option<WorkerId>,
    /// Why it ended so.
    pub error: Option<StepError>,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Timestamp,
}

/// One row of a mission's event log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The mission.
    pub mission_id: MissionId,
    /// 1, 2, 3… without a gap.
    pub seq: i64,
    /// The owner.
    pub tenant_id: TenantId,
    /// The run it happened in.
    pub run_id: RunId,
    /// The type, e.g. `task.succeeded`.
    pub kind: String,
    /// The task it is about.
    pub task_id: Option<TaskId>,
    /// The task's node.
    pub node: Option<String>,
    /// The task's attempt.
    pub attempt: Option<i32>,
    /// What the type says it carries.
    pub data: Value,
    /// When it happened.
    pub at: Timestamp,
}
