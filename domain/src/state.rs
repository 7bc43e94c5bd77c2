//! The states of runs and tasks and the table of legal moves between them.
//!
//! The table is data: the docs draw it, a test prints it as one snapshot, and the tests of `flow` hold every change
//! of state that a decision makes to [`TaskState::may_become`] and [`RunState::may_become`].

use serde::{Deserialize, Serialize};

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Some of its needs are not finished.
    Pending,
    /// May be claimed by a worker now.
    Ready,
    /// A worker holds a lease on it.
    Running,
    /// Failed and will be ready again at `due_at`.
    Retrying,
    /// Waits for a named cause without holding a slot.
    Waiting,
    /// Done; final.
    Succeeded,
    /// Gave up; final.
    Failed,
    /// Ended by a user or by the end of its run; final.
    Cancelled,
    /// Never started and never will; final.
    Skipped,
}

/// What a waiting task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitCause {
    /// Credits or room in a budget.
    Credits,
    /// A point in time.
    Timer,
    /// A provider's rate limit.
    RateLimit,
    /// The decision whether it runs, which follows at once.
    Condition,
    /// A person's decision.
    Approval,
    /// A signal from outside.
    Signal,
    /// The tasks that were made of it.
    Children,
    /// Its run was paused before it could begin.
    Paused,
}

impl WaitCause {
    /// The word used in tables and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Credits => "credits",
            Self::Timer => "timer",
            Self::RateLimit => "rate_limit",
            Self::Condition => "condition",
            Self::Approval => "approval",
            Self::Signal => "signal",
            Self::Children => "children",
            Self::Paused => "paused",
        }
    }
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Submitted; no worker has taken a task yet.
    Queued,
    /// Tasks run.
    Running,
    /// A user paused it: what runs goes on, nothing new begins.
    Paused,
    /// A task failed for good; the others are being ended.
    Failing,
    /// A user cancelled; tasks are being ended.
    Cancelling,
    /// All tasks are done; final.
    Succeeded,
    /// A task failed; final.
    Failed,
    /// A user cancelled; final.
    Cancelled,
    /// The deadline passed; final.
    Expired,
}

impl TaskState {
    /// All states, in the order of a task's life.
    pub const ALL: [Self; 9] = [
        Self::Pending,
        Self::Ready,
        Self::Running,
        Self::Retrying,
        Self::Waiting,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Skipped,
    ];

    /// Whether the task is over: nothing happens to it again, unless its run is retried.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::Skipped)
    }

    /// The table of legal moves.
    pub const fn may_become(self, next: Self) -> bool {
        use TaskState::{Cancelled, Failed, Pending, Ready, Retrying, Running, Skipped, Succeeded, Waiting};
        matches!(
            (self, next),
            // `pending → running` is a settle that hands the successor to the worker that settled, `pending → succeeded`
            // a node whose signal came before it
            (Pending, Ready | Running | Waiting | Succeeded | Skipped | Failed)
                | (Ready, Running | Waiting | Failed | Cancelled)
                | (Running, Ready | Succeeded | Failed | Retrying | Waiting | Cancelled)
                | (Retrying, Ready | Waiting | Failed | Cancelled)
                | (Waiting, Ready | Running | Succeeded | Failed | Cancelled | Skipped)
                // what its run's end left is renewed with the run
                | (Failed | Cancelled | Skipped, Pending)
        )
    }

    /// The word used in tables and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Waiting => "waiting",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

impl RunState {
    /// All states, in the order of a run's life.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Running,
        Self::Paused,
        Self::Failing,
        Self::Cancelling,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// Whether the run is over: nothing happens to it again, unless it is retried.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::Expired)
    }

    /// Whether its tasks may be claimed and become ready.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }

    /// Whether it is neither over nor being ended: what its running steps do counts.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Running | Self::Paused)
    }

    /// The table of legal moves.
    pub const fn may_become(self, next: Self) -> bool {
        use RunState::{Cancelled, Cancelling, Expired, Failed, Failing, Paused, Queued, Running, Succeeded};
        matches!(
            (self, next),
            (Queued, Running | Paused | Failing | Cancelling | Succeeded)
                | (Running, Paused | Failing | Cancelling | Succeeded)
                | (Paused, Queued | Running | Failing | Cancelling | Succeeded)
                | (Failing, Failed | Expired | Cancelling)
                | (Cancelling, Cancelled)
                // a retry
                | (Failed | Cancelled | Expired, Queued | Running)
        )
    }

    /// The word used in tables and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Failing => "failing",
            Self::Cancelling => "cancelling",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_task_moves() {
        let table: Vec<String> = TaskState::ALL
            .iter()
            .map(|from| {
                let to: Vec<_> =
                    TaskState::ALL.iter().filter(|next| from.may_become(**next)).map(|next| next.as_str()).collect();
                format!("{} → {}", from.as_str(), if to.is_empty() { "(final)".into() } else { to.join(" | ") })
            })
            .collect();
        insta::assert_snapshot!(table.join("\n"), @r"
        pending → ready | running | waiting | succeeded | failed | skipped
        ready → running | waiting | failed | cancelled
        running → ready | retrying | waiting | succeeded | failed | cancelled
        retrying → ready | waiting | failed | cancelled
        waiting → ready | running | succeeded | failed | cancelled | skipped
        succeeded → (final)
        failed → pending
        cancelled → pending
        skipped → pending
        ");
    }

    #[test]
    fn the_table_of_run_moves() {
        let table: Vec<String> = RunState::ALL
            .iter()
            .map(|from| {
                let to: Vec<_> =
                    RunState::ALL.iter().filter(|next| from.may_become(**next)).map(|next| next.as_str()).collect();
                format!("{} → {}", from.as_str(), if to.is_empty() { "(final)".into() } else { to.join(" | ") })
            })
            .collect();
        insta::assert_snapshot!(table.join("\n"), @r"
        queued → running | paused | failing | cancelling | succeeded
        running → paused | failing | cancelling | succeeded
        paused → queued | running | failing | cancelling | succeeded
        failing → cancelling | failed | expired
        cancelling → cancelled
        succeeded → (final)
        failed → queued | running
        cancelled → queued | running
        expired → queued | running
        ");
    }

    #[test]
    fn only_a_retry_leads_out_of_a_final_state_and_nothing_out_of_success() {
        for state in TaskState::ALL {
            let ways: Vec<_> = TaskState::ALL.into_iter().filter(|next| state.may_become(*next)).collect();
            let is_over = ways.is_empty() || ways == [TaskState::Pending];
            assert_eq!((state.is_final(), ways.is_empty()), (is_over, state == TaskState::Succeeded), "{state:?}");
        }
        for state in RunState::ALL {
            let ways: Vec<_> = RunState::ALL.into_iter().filter(|next| state.may_become(*next)).collect();
            let is_over = ways.is_empty() || ways == [RunState::Queued, RunState::Running];
            assert_eq!((state.is_final(), ways.is_empty()), (is_over, state == RunState::Succeeded), "{state:?}");
        }
    }
}
