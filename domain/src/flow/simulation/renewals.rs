//! Missions that are paused, resumed, retried and forked while the storm blows; and the reckoning in the end.

use std::collections::BTreeMap;

use crate::flow::Refusal;
use crate::id::TaskId;
use crate::record::{Account, CallState, OpKind};
use crate::state::{RunState, TaskState};

use super::storm::Storm;

/// Runs of one mission at most; keeps the checks after each step quick.
pub(super) const MOST_RUNS: i32 = 4;

impl Storm {
    /// Somebody pauses or resumes whatever there is; what is over or being ended refuses.
    pub(super) fn pause_or_resume(&mut self) {
        let missions: Vec<_> = self.world.tables.missions.keys().copied().collect();
        let Some(at) = self.pick(missions.len()) else { return };
        let mission = missions[at];
        let is_open = self.world.run(mission).state.is_open();
        let done = if self.dice.percent(50) { self.world.pause(mission) } else { self.world.resume(mission) };
        assert_eq!(done.is_ok(), is_open);
    }

    pub(super) fn resume_all(&mut self) {
        let missions: Vec<_> = self.world.tables.missions.keys().copied().collect();
        for mission in missions {
            if self.world.run(mission).state == RunState::Paused {
                self.world.resume(mission).unwrap();
            }
        }
    }

    /// Somebody lets a mission that is over go on, or tries to. What is shown before is what happens, or why it does not.
    pub(super) fn renew(&mut self) {
        let missions: Vec<_> = self.world.tables.missions.keys().copied().collect();
        let Some(at) = self.pick(missions.len()) else { return };
        let mission = missions[at];
        let run = self.world.run(mission).clone();
        let done = if self.dice.percent(60) {
            let is_renewed = |state| matches!(state, TaskState::Failed | TaskState::Cancelled | TaskState::Skipped);
            let tasks = self.world.tables.tasks_of(run.id).into_iter().filter(|task| is_renewed(task.state));
            let tasks: Vec<TaskId> = tasks.map(|task| task.id).collect();
            let done = self.world.retry(mission);
            if done.is_ok() {
                self.owed.retain(|task, _| !tasks.contains(task));
            }
            let may_be = matches!(run.state, RunState::Failed | RunState::Cancelled | RunState::Expired);
            assert_eq!(matches!(done, Err(Refusal::IllegalMove { .. })), !may_be, "{done:?}");
            done
        } else if run.number < MOST_RUNS {
            let nodes = &self.world.facts.workflows[&run.workflow_id].nodes;
            let keys: Vec<String> = nodes.iter().map(|node| node.key.clone()).collect();
            let from = self.pick(keys.len()).unwrap();
            let done = self.world.fork(mission, &keys[from]);
            assert_eq!(matches!(done, Err(Refusal::IllegalMove { .. })), !run.state.is_final(), "{done:?}");
            done
        } else {
            return;
        };
        let is_known = |refusal: &Refusal| {
            matches!(refusal, Refusal::IllegalMove { .. } | Refusal::OverBudget { .. } | Refusal::Ledger(_))
        };
        assert!(done.as_ref().err().is_none_or(is_known), "{done:?}");
    }

    /// Everything that was promised about the end.
    pub(super) fn reckon(&self) {
        let tables = &self.world.tables;
        for (id, task) in &tables.tasks {
            // one that its family, or the failure of its run, ended before is no user's to pay for
            let by_others = task.status_reason.as_ref().is_some_and(|reason| reason.starts_with("cancelled: "));
            let by_user = tables.runs[&task.run_id].state == RunState::Cancelled && !by_others;
            let unsettled = match task.state {
                TaskState::Succeeded if matches!(task.kind.as_str(), "sleep" | "until" | "approval" | "signal") => {
                    task.units_ucr.get()
                }
                // no worker had it in its hands when its user cancelled: what was answered before is charged
                TaskState::Cancelled if by_user => self.most_absorbed(*id, self.journaled(*id, |_| true)),
                TaskState::Failed => self.owed_for_failure(*id, task),
                _ => 0,
            };
            let owed = self.owed.get(id).copied().flatten().unwrap_or(unsettled);
            let retries = usize::try_from(tables.runs[&task.run_id].retries).unwrap();
            // of a run that was retried, the checks after each step say that each call was charged once
            assert!(retries > 0 || task.cost_ucr.get() == owed, "{owed} was owed for {task:?}");
            let settles = tables.ops.values().filter(|op| op.task_id == Some(*id) && op.kind == OpKind::Settle);
            assert!(settles.count() <= 1 + retries, "{id} was charged twice");
        }
        for call in tables.calls.values().filter(|call| call.state == CallState::Sent) {
            assert_eq!(tables.tasks[&call.task_id].state, TaskState::Running, "{call:?} is open for ever");
        }
        let mut fees = BTreeMap::new();
        for leg in tables.ops.values().flat_map(|op| &op.legs).filter(|leg| leg.1 == Account::Fee) {
            let Account::Hold(hold) = leg.0 else { continue };
            let run = tables.holds[&hold].owner_id.clone();
            assert_eq!(fees.insert(run.clone(), leg.2), None, "two fees for {run}");
        }
    }
}
