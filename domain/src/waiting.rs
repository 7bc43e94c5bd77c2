//! Why a task that is not over does not run: one closed list of causes, decided from where the task and its run stand.
//!
//! Pure: places in lines and names of others are facts that the store counts when somebody asks. Must not guess: a
//! task that could run is said to wait for a worker, and whether one listens to its pool is given.

use serde::{Deserialize, Serialize};

use crate::state::{RunState, TaskState, WaitCause};

/// Why a task does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Nodes that it needs are not over.
    Needs,
    /// Its turn among the tasks that were made of one: so many of them run at once.
    Turn,
    /// Ready, in line for a worker's slot.
    Worker,
    /// Ready, and no worker takes anything of its pool.
    NoWorker,
    /// Ready, and kept back because as many tasks with its concurrency key run as may.
    Concurrency,
    /// Credits or room in a budget or limit.
    Credits,
    /// A point in time.
    Timer,
    /// The pause before another attempt.
    Retry,
    /// A pause that a provider asked for, or room in its limits.
    RateLimit,
    /// A decision of the system that follows at once.
    Condition,
    /// A person's decision.
    Approval,
    /// A signal from outside.
    Signal,
    /// The tasks that were made of it.
    Children,
    /// Its mission is paused.
    Paused,
    /// Its run is being ended: the task ends with it, and never runs.
    Ending,
}

/// Who takes tasks of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Listeners {
    /// Workers that are alive and take new tasks.
    Some,
    /// Only workers that are draining and take nothing new.
    Draining,
    /// Nobody who is alive.
    None,
}

/// Where a task stands, as far as it says why it does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stance {
    /// Its run.
    pub run: RunState,
    /// The task.
    pub task: TaskState,
    /// What it waits for, when it waits.
    pub wait: Option<WaitCause>,
    /// Whether something that it needs is not over.
    pub has_needs: bool,
    /// Whether a claim kept it back for its concurrency key.
    pub is_kept_back: bool,
    /// Who takes tasks of its pool.
    pub listeners: Listeners,
}

impl Cause {
    /// The word used in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Needs => "needs",
            Self::Turn => "turn",
            Self::Worker => "worker",
            Self::NoWorker => "no_worker",
            Self::Concurrency => "concurrency",
            Self::Credits => "credits",
            Self::Timer => "timer",
            Self::Retry => "retry",
            Self::RateLimit => "rate_limit",
            Self::Condition => "condition",
            Self::Approval => "approval",
            Self::Signal => "signal",
            Self::Children => "children",
            Self::Paused => "paused",
            Self::Ending => "ending",
        }
    }

    /// What is said of a task whose row gives no reason of its own.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Needs => "waiting for the nodes it needs",
            Self::Turn => "waits for its turn among the tasks that were made of one",
            Self::Worker => "ready, in line for a worker",
            Self::NoWorker => "ready, and no worker takes tasks of its pool",
            Self::Concurrency => "waits for its turn: as many tasks with its concurrency key run as may",
            Self::Credits => "waits for credits",
            Self::Timer => "waits until its time has come",
            Self::Retry => "tries again after a pause",
            Self::RateLimit => "waits as long as a provider asked for",
            Self::Condition => "what becomes of it is about to be decided",
            Self::Approval => "waits until somebody approves or rejects it",
            Self::Signal => "waits for a signal",
            Self::Children => "waits for the tasks that were made of it",
            Self::Paused => "its mission is paused; it goes on when the mission is resumed",
            Self::Ending => "its run is being ended",
        }
    }
}

/// Why a task does not run; `None` when it runs or is over.
pub const fn cause(stance: Stance) -> Option<Cause> {
    if stance.task.is_final() || matches!(stance.task, TaskState::Running) {
        return None;
    }
    if !stance.run.is_open() {
        return Some(Cause::Ending);
    }
    let is_paused = matches!(stance.run, RunState::Paused);
    Some(match (stance.task, stance.wait) {
        (TaskState::Pending, _) if stance.has_needs => Cause::Needs,
        // whoever waits for credits is not even tried while the mission is paused
        (TaskState::Pending | TaskState::Ready, _) | (TaskState::Waiting, Some(WaitCause::Credits)) if is_paused => {
            Cause::Paused
        }
        (TaskState::Pending, _) => Cause::Turn,
        (TaskState::Ready, _) if stance.is_kept_back => Cause::Concurrency,
        (TaskState::Ready, _) => match stance.listeners {
            Listeners::Some => Cause::Worker,
            Listeners::Draining | Listeners::None => Cause::NoWorker,
        },
        (TaskState::Retrying, _) => Cause::Retry,
        (_, Some(wait)) => of_wait(wait),
        (_, None) => Cause::Condition,
    })
}

const fn of_wait(wait: WaitCause) -> Cause {
    match wait {
        WaitCause::Credits => Cause::Credits,
        WaitCause::Timer => Cause::Timer,
        WaitCause::RateLimit => Cause::RateLimit,
        WaitCause::Condition => Cause::Condition,
        WaitCause::Approval => Cause::Approval,
        WaitCause::Signal => Cause::Signal,
        WaitCause::Children => Cause::Children,
        WaitCause::Paused => Cause::Paused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every cause of a wait, and none: a new one does not compile until it has its place here and in the table.
    fn waits() -> Vec<Option<WaitCause>> {
        let next = |wait: Option<WaitCause>| match wait {
            None => Some(WaitCause::Credits),
            Some(WaitCause::Credits) => Some(WaitCause::Timer),
            Some(WaitCause::Timer) => Some(WaitCause::RateLimit),
            Some(WaitCause::RateLimit) => Some(WaitCause::Condition),
            Some(WaitCause::Condition) => Some(WaitCause::Approval),
            Some(WaitCause::Approval) => Some(WaitCause::Signal),
            Some(WaitCause::Signal) => Some(WaitCause::Children),
            Some(WaitCause::Children) => Some(WaitCause::Paused),
            Some(WaitCause::Paused) => None,
        };
        let mut waits = vec![None];
        while let Some(wait) = next(waits.last().copied().flatten()) {
            waits.push(Some(wait));
        }
        waits
    }

    fn said(
        run: RunState,
        task: TaskState,
        wait: Option<WaitCause>,
        [needs, kept]: [bool; 2],
        who: Listeners,
    ) -> &'static str {
        let stance = Stance { run, task, wait, has_needs: needs, is_kept_back: kept, listeners: who };
        cause(stance).map_or("-", Cause::as_str)
    }

    #[test]
    fn every_combination_of_state_and_wait_has_its_cause() {
        let mut table = Vec::new();
        for task in TaskState::ALL {
            let waits = if task == TaskState::Waiting { waits() } else { vec![None] };
            for wait in waits {
                let [live, paused, ending] = [RunState::Running, RunState::Paused, RunState::Cancelling]
                    .map(|run| said(run, task, wait, [false; 2], Listeners::Some));
                let wait = wait.map_or("", WaitCause::as_str);
                table.push(format!("{} {wait}: {live} | {paused} | {ending}", task.as_str()));
            }
        }
        let expected = [
            "pending : turn | paused | ending",
            "ready : worker | paused | ending",
            "running : - | - | -",
            "retrying : retry | retry | ending",
            "waiting : condition | condition | ending",
            "waiting credits: credits | paused | ending",
            "waiting timer: timer | timer | ending",
            "waiting rate_limit: rate_limit | rate_limit | ending",
            "waiting condition: condition | condition | ending",
            "waiting approval: approval | approval | ending",
            "waiting signal: signal | signal | ending",
            "waiting children: children | children | ending",
            "waiting paused: paused | paused | ending",
            "succeeded : - | - | -",
            "failed : - | - | -",
            "cancelled : - | - | -",
            "skipped : - | - | -",
        ];
        assert_eq!(table, expected);
    }

    #[test]
    fn every_state_of_the_run_is_live_paused_or_ending() {
        for run in RunState::ALL {
            let word = said(run, TaskState::Ready, None, [false; 2], Listeners::Some);
            let expected = match run {
                RunState::Queued | RunState::Running => "worker",
                RunState::Paused => "paused",
                RunState::Failing
                | RunState::Cancelling
                | RunState::Succeeded
                | RunState::Failed
                | RunState::Cancelled
                | RunState::Expired => "ending",
            };
            assert_eq!(word, expected, "{run:?}");
        }
    }

    #[test]
    fn what_a_ready_or_pending_task_waits_for_depends_on_others() {
        let live = RunState::Running;
        let of = |task, flags, who| said(live, task, None, flags, who);
        let (pending, ready) = (TaskState::Pending, TaskState::Ready);
        assert_eq!(of(pending, [true, false], Listeners::None), "needs");
        assert_eq!(said(RunState::Paused, pending, None, [true, false], Listeners::None), "needs");
        assert_eq!(of(ready, [false, true], Listeners::None), "concurrency");
        assert_eq!(of(ready, [false, false], Listeners::None), "no_worker");
        assert_eq!(of(ready, [false, false], Listeners::Draining), "no_worker");
        assert_eq!(of(ready, [false, false], Listeners::Some), "worker");
    }
}
