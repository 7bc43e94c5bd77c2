//! The life of a run, decided over values: submit, make ready, reserve a call, settle, recover, pause, cancel, retry, fork.
//!
//! Each function takes a [`Turn`] (loaded rows, immutable facts, the time, chance), refuses by name before it
//! changes anything, or changes the rows and every consequence with them. Whoever calls it writes the
//! working set in one transaction. Nothing here waits or does I/O.

mod advance;
mod approval;
mod begin;
mod budget;
mod cancel;
mod concurrency;
mod deadline;
mod dedupe;
mod estimate;
mod fallback;
mod family;
mod family_budget;
mod family_rounds;
mod forecast;
mod forecast_families;
mod fork;
mod lesson;
mod message;
mod metering;
mod pause;
mod queue;
mod raise;
mod recover;
mod redrive;
mod rehearsal;
mod reserve;
mod retry;
mod reunion;
mod schedule;
mod scope;
mod settle;
mod signal;
mod submit;
mod timer;
mod tools;
mod wake;

#[cfg(test)]
mod scenario_tests;
#[cfg(test)]
mod simulation;
#[cfg(test)]
pub(crate) mod testbed;

pub use approval::{Answer, ApprovalRefusal, Decided, decide};
pub use cancel::{CancelPreview, cancel, preview_cancel, wind_down};
pub use deadline::expire_task;
pub use dedupe::{Dedupe, DedupeMode};
pub use family::{add_items, refuse_items};
pub use forecast::{Forecast, ForecastRequest, NodeForecast, Source, forecast};
pub use fork::{ForkRequest, RunFrom, fork, preview_fork};
pub use lesson::{CallLesson, Doubt, Lesson, NodeLesson, Observed, OpenCalls};
pub use message::{MessageRefusal, NewMessage, Said, say};
pub use metering::{hold_call, hold_key, settle_call};
pub use pause::{pause, resume};
pub use raise::set_budget;
pub use recover::{lease_ran_out, recover_lease};
pub use redrive::{DeadLetter, Redriven, redrive};
pub use rehearsal::{Order, Ordered, Plan, PlannedNode, Preview};
pub use reserve::{CallGuard, record_late, reserve_call};
pub use retry::{preview_retry, retry};
pub use schedule::{Due, Fired, Firing, FiringError, Slot, add_schedule, change_schedule, fire, slot};
pub use settle::{CacheUse, Guard, Handoff, SettleRequest, Settlement, settle};
pub use signal::{NewSignal, Received, SignalRefusal, receive_signal};
pub use submit::{Submission, submit};
pub use tools::{begin_tools, end_tool};
pub use wake::{expire_holds, expire_run, wake_task};

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::estimate::Learned;
use crate::id::{Id, Kind, MissionId, PriceBookId, RunId, TaskId, WorkflowId};
use crate::ledger::{LedgerRefusal, Subject};
use crate::pricing::{PriceBook, PricingError};
use crate::record::{Mission, Run, Task};
use crate::time::Timestamp;
use crate::workflow::{Definition, Node};
use crate::working_set::WorkingSet;

/// Where new ids and random numbers come from; held in the hand by tests.
pub trait Chance: Send {
    /// A new `UUIDv7` (any unique UUID in tests).
    fn uuid(&mut self) -> Uuid;
    /// 64 random bits.
    fn random(&mut self) -> u64;
}

/// Things that decisions refer to and do not change: workflow versions and price books, by id, and a snapshot of what
/// experience says about costs.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The workflow versions of the loaded runs.
    pub workflows: BTreeMap<WorkflowId, Arc<Definition>>,
    /// The price books of the loaded runs.
    pub prices: BTreeMap<PriceBookId, Arc<PriceBook>>,
    /// What was learned about models and nodes.
    pub learned: Arc<Learned>,
}

/// Everything a decision is made from.
pub struct Turn<'a> {
    /// The loaded rows, changed in place.
    pub set: &'a mut WorkingSet,
    /// Workflows and prices.
    pub facts: &'a Facts,
    /// The time by the store's clock.
    pub now: Timestamp,
    /// Ids and random numbers.
    pub chance: &'a mut dyn Chance,
}

/// Why a decision is refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The object does not exist (for this tenant).
    #[error("{0} does not exist")]
    NotFound(String),
    /// The write names a fence or token that no longer owns the task.
    #[error("this attempt no longer owns the task: it was taken by fence {present}")]
    StaleFence {
        /// The task's present fence.
        present: i64,
    },
    /// The state does not allow it.
    #[error("{what} is {state} and can't be {wish}")]
    IllegalMove {
        /// `mission`, `run`, `task` or `usage call`.
        what: &'static str,
        /// Its state.
        state: &'static str,
        /// What was wished.
        wish: &'static str,
    },
    /// The ledger refuses.
    #[error(transparent)]
    Ledger(#[from] LedgerRefusal),
    /// There is no price for it.
    #[error(transparent)]
    Pricing(#[from] PricingError),
    /// A budget does not allow it.
    #[error("the {of}'s budget of {budget} credits leaves {room} and {required} are needed")]
    OverBudget {
        /// `mission` or `node`.
        of: &'static str,
        /// The budget.
        budget: crate::credits::Ucr,
        /// What is left of it.
        room: crate::credits::Ucr,
        /// What is needed.
        required: crate::credits::Ucr,
    },
    /// Another mission has the dedupe key.
    #[error("mission {mission_id} has this dedupe key")]
    Duplicate {
        /// The mission that has it.
        mission_id: MissionId,
        /// That mission's first run.
        run_id: RunId,
    },
    /// The tenant has as many missions that are not over as it may have.
    #[error(
        "the tenant has {live} missions that are not over and may have {most}: wait until some are over, or cancel some"
    )]
    QueueFull {
        /// Missions that are not over.
        live: i64,
        /// How many it may have.
        most: i64,
    },
    /// The working set lacks a row that the decision needs: a defect of the caller, never of a client.
    #[error("the working set lacks {0}")]
    Unloaded(String),
}

impl Turn<'_> {
    /// A new id.
    fn id<K: Kind>(&mut self) -> Id<K> {
        Id::from_uuid(self.chance.uuid())
    }

    fn task(&self, id: TaskId) -> Result<&Task, Refusal> {
        self.set.tasks.get(id).ok_or_else(|| Refusal::NotFound(format!("task {id}")))
    }

    fn run(&self, id: RunId) -> Result<&Run, Refusal> {
        self.set.runs.get(id).ok_or_else(|| Refusal::NotFound(format!("run {id}")))
    }

    fn mission(&self, id: MissionId) -> Result<&Mission, Refusal> {
        self.set.missions.get(id).ok_or_else(|| Refusal::NotFound(format!("mission {id}")))
    }

    fn definition(&self, id: WorkflowId) -> Result<Arc<Definition>, Refusal> {
        let known = self.facts.workflows.get(&id).or_else(|| self.set.definitions.get(&id));
        known.cloned().ok_or_else(|| Refusal::Unloaded(format!("workflow {id}")))
    }

    fn prices(&self, run: RunId) -> Result<Arc<PriceBook>, Refusal> {
        let id = self.run(run)?.price_book_id;
        self.facts.prices.get(&id).cloned().ok_or_else(|| Refusal::Unloaded(format!("price book {id}")))
    }

    fn emit(&mut self, mission: MissionId, kind: &str, task: Option<TaskId>, data: serde_json::Value) {
        self.set.emit(mission, kind, task, data, self.now);
    }
}

/// The node a task stands for.
fn node_of<'a>(definition: &'a Definition, task: &Task) -> Result<&'a Node, Refusal> {
    let node = definition.node_for(task.place());
    node.ok_or_else(|| Refusal::Unloaded(format!("node {} of workflow {}", task.node_at, task.workflow_id)))
}

/// What a task's ledger operations belong to.
fn subject(task: &Task) -> Subject {
    Subject { mission_id: Some(task.mission_id), task_id: Some(task.id) }
}
