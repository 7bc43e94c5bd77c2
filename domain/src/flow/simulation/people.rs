//! What comes from outside while the storm blows: people decide what they are asked, too late, twice and against each
//! other; signals come early, late, twice and too many; users say something at any time. Each refusal is foretold.

use std::collections::BTreeMap;

use serde_json::json;

use crate::flow::{ApprovalRefusal, MessageRefusal, Refusal, SignalRefusal};
use crate::id::{MissionId, TaskId};
use crate::limits::MAX_BUFFERED_SIGNALS;
use crate::record::{Message, MessageEffect, MessageRole, Verdict};
use crate::state::{RunState, TaskState, WaitCause};

use super::renewals::MOST_RUNS;
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
        let is_open = self.world.tables.runs[&before.run_id].state.is_open();
        let is_over = |end: Option<crate::time::Timestamp>| end.is_some_and(|end| end <= self.world.now);
        let is_late = is_over(before.due_at) || is_over(before.deadline_at);
        let is_approved = self.dice.percent(60);
        let verdict = if is_approved { Verdict::Approved } else { Verdict::Rejected };
        match self.world.decide_approval(before.id, is_approved, None) {
            Ok(decided) if decided.repeated => {
                assert_eq!(before.decision, Some(decided.decision));
                self.saw("decided again");
            }
            Ok(decided) => {
                assert!(is_open && !is_late && before.state == TaskState::Waiting && is_asked(before.wait));
                assert_eq!((before.decision, decided.decision.decision), (None, verdict));
                self.saw(verdict.as_str());
            }
            Err(ApprovalRefusal::Expired) => {
                let was = before.decision.as_ref().map(|decision| decision.decision);
                assert!(was == Some(Verdict::Expired) || is_late && is_asked(before.wait), "{before:?}");
                self.saw("decided too late");
            }
            Err(ApprovalRefusal::DecidedOtherwise(was)) => assert_ne!(was, verdict),
            Err(ApprovalRefusal::NotOpen(_)) => assert!(!is_open || !is_asked(before.wait), "{before:?}"),
            Err(ApprovalRefusal::Refused(other)) => panic!("{other}"),
        }
    }

    /// A signal comes to some mission, perhaps once more.
    pub(super) fn send_something(&mut self) {
        let any = self.dice.percent(20);
        let tasks =
            self.world.tables.tasks.values().filter(|task| task.kind == "signal" && (any || !task.state.is_final()));
        let missions: Vec<_> = tasks.map(|task| task.mission_id).collect();
        let Some(at) = self.pick(missions.len()) else { return };
        let mission = missions[at];
        // few keys, so that some are used again
        let key = self.dice.percent(60).then(|| format!("key-{}", self.dice.below(4)));
        let (name, payload) = (format!("s{}", self.dice.below(2)), json!({"n": self.dice.below(2)}));
        let waiting = |storm: &Self| {
            storm.world.tables.signals.values().filter(|row| row.mission_id == mission && row.task_id.is_none()).count()
        };
        let before = waiting(self);
        let known = self.world.tables.signals.values().find(|row| row.mission_id == mission && row.key == key);
        let known = known.filter(|_| key.is_some()).cloned();
        match self.world.signal(mission, &name, key.as_deref(), payload.clone()) {
            Ok(received) if received.repeated => {
                assert_eq!(Some(received.signal), known);
                self.saw("signal repeated");
            }
            Ok(received) => {
                assert_eq!(known, None);
                self.saw(if received.signal.task_id.is_some() { "signal taken" } else { "signal waits" });
            }
            Err(SignalRefusal::KeyReused) => {
                assert!(known.is_some_and(|row| (row.name, row.payload) != (name, payload)));
            }
            Err(SignalRefusal::Over(_)) => assert!(!self.world.run(mission).state.is_open()),
            Err(SignalRefusal::TooMany) => assert_eq!(before, MAX_BUFFERED_SIGNALS),
            Err(other) => panic!("{other}"),
        }
    }

    /// Somebody says something to a mission, perhaps once more: it steers, or begins the next run, or is refused for a
    /// reason that was there before.
    pub(super) fn say_something(&mut self) {
        let missions: Vec<_> = self.world.tables.missions.keys().copied().collect();
        let Some(at) = self.pick(missions.len()) else { return };
        let mission = missions[at];
        let (row, run) = (self.world.tables.missions[&mission].clone(), self.world.run(mission).clone());
        if run.state.is_final() && run.number >= MOST_RUNS {
            return;
        }
        let key = self.dice.percent(50).then(|| format!("key-{}", self.dice.below(4)));
        let text = format!("text {}", self.dice.below(2));
        let known = self.world.tables.messages.values().find(|other| other.mission_id == mission && other.key == key);
        let known = known.filter(|_| key.is_some()).cloned();
        match self.world.say(mission, &text, key.as_deref()) {
            Ok(said) if said.repeated => {
                assert_eq!(Some(said.message), known);
                self.saw("message repeated");
            }
            Ok(said) => {
                assert_eq!((known, said.message.number), (None, row.last_message + 1));
                let effect = if run.state.is_final() { MessageEffect::BeginsRun } else { MessageEffect::Steers };
                assert_eq!(said.message.effect, Some(effect));
                let next = self.world.run(mission);
                assert_eq!(next.id != run.id, effect == MessageEffect::BeginsRun);
                assert_eq!(next.id, said.message.run_id);
                if effect == MessageEffect::BeginsRun {
                    assert_eq!((next.number, next.heard), (run.number + 1, said.message.number));
                }
                self.saw(if next.id == run.id { "message steers" } else { "message begins a run" });
            }
            Err(MessageRefusal::KeyReused) => assert!(known.is_some_and(|other| other.content != Some(text))),
            Err(MessageRefusal::Ending(_)) => assert!(!run.state.is_open() && !run.state.is_final()),
            Err(MessageRefusal::NobodyListens) => assert!(run.state.is_open()),
            Err(MessageRefusal::ChangesNothing) => assert!(run.state.is_final()),
            Err(MessageRefusal::Refused(refusal)) => {
                assert!(run.state.is_final() && !matches!(refusal, Refusal::Unloaded(_)), "{refusal}");
                assert_eq!(self.world.run(mission), &run);
                self.saw("message refused");
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// Messages are numbered without a gap, and each run that succeeded answered once where anything was said.
    pub(super) fn look_at_messages(&mut self) {
        let mut said: BTreeMap<MissionId, Vec<&Message>> = BTreeMap::new();
        for message in self.world.tables.messages.values() {
            said.entry(message.mission_id).or_default().push(message);
        }
        let mut has_reply = false;
        for (mission, row) in &self.world.tables.missions {
            let mut messages = said.remove(mission).unwrap_or_default();
            messages.sort_by_key(|message| message.number);
            let numbers: Vec<i64> = messages.iter().map(|message| message.number).collect();
            assert_eq!(numbers, (1..=row.last_message).collect::<Vec<_>>());
            let users = messages.iter().filter(|message| message.role == MessageRole::User);
            assert_eq!(users.map(|message| message.number).max().unwrap_or(0), row.last_said);
            let replies = messages.iter().filter(|message| message.role == MessageRole::Assistant);
            for reply in replies {
                assert_eq!(self.world.tables.runs[&reply.run_id].state, RunState::Succeeded);
                has_reply = true;
            }
        }
        if has_reply {
            self.saw("reply");
        }
    }

    /// Each signal went to one task and is what that handed on; none waits beside a task that waits for it.
    pub(super) fn look_at_signals(&mut self) {
        let tables = &self.world.tables;
        let mut is_early = false;
        for signal in tables.signals.values() {
            if let Some(taker) = signal.task_id.map(|id| &tables.tasks[&id]) {
                let about = format!("{signal:?} {taker:?}");
                assert_eq!((taker.mission_id, taker.state), (signal.mission_id, TaskState::Succeeded), "{about}");
                assert_eq!(taker.output.as_ref(), Some(&signal.payload), "{about}");
                is_early |= signal.delivered_at > Some(signal.received_at);
                continue;
            }
            let run = self.world.run(signal.mission_id);
            for task in tables.tasks_of(run.id).into_iter().filter(|task| task.wait == Some(WaitCause::Signal)) {
                let reason = task.status_reason.clone().unwrap();
                let is_over = |end: Option<crate::time::Timestamp>| end.is_some_and(|end| end <= signal.received_at);
                let is_late = is_over(task.due_at) || is_over(task.deadline_at);
                assert!(is_late || !reason.contains(&format!("`{}`", signal.name)), "{signal:?} {task:?}");
            }
        }
        if is_early {
            self.saw("early signal taken");
        }
    }
}
