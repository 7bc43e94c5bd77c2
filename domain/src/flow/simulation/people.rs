//! What people do while the storm blows: they decide what they are asked, too late, twice and against each other. Each
//! refusal is foretold.

use crate::flow::ApprovalRefusal;
use crate::id::TaskId;
use crate::record::Verdict;
use crate::state::{TaskState, WaitCause};

use super::storm::Storm;

impl Storm {
    /// Decides something that is open, or that was decided before.
    pub(super) fn decide_something(&mut self) {
        let open_only = self.dice.percent(70);
        let is_asked = |wait: Option<WaitCause>| wait == Some(WaitCause::Approval);
        let tasks = self.world.tables.tasks.values();
        let tasks = tasks.filter(|task| task.kind == "approval" && (!open_only || is_asked(task.wait)));
        let tasks: Vec<TaskId> = tasks.map(|task| task.id).collect();
        let Some(at) = self.pick(tasks.len()) else { return };
        let before = self.world.tables.tasks[&tasks[at]].clone();
        let is_live = self.world.tables.runs[&before.run_id].state.is_live();
        let is_late = before.due_at.is_some_and(|due| due <= self.world.now);
        let is_approved = self.dice.percent(60);
        let verdict = if is_approved { Verdict::Approved } else { Verdict::Rejected };
        match self.world.decide_approval(before.id, is_approved, None) {
            Ok(decided) if decided.repeated => {
                assert_eq!(before.decision, Some(decided.decision));
                self.saw("decided again");
            }
            Ok(decided) => {
                assert!(is_live && !is_late && before.state == TaskState::Waiting && is_asked(before.wait));
                assert_eq!((before.decision, decided.decision.decision), (None, verdict));
                self.saw(verdict.as_str());
            }
            Err(ApprovalRefusal::Expired) => {
                let was = before.decision.as_ref().map(|decision| decision.decision);
                assert!(was == Some(Verdict::Expired) || is_late && is_asked(before.wait), "{before:?}");
                self.saw("decided too late");
            }
            Err(ApprovalRefusal::DecidedOtherwise(was)) => assert_ne!(was, verdict),
            Err(ApprovalRefusal::NotOpen(_)) => assert!(!is_live || !is_asked(before.wait), "{before:?}"),
            Err(ApprovalRefusal::Refused(other)) => panic!("{other}"),
        }
    }
}
