//! What a settle must charge, reckoned by arithmetic that shares nothing with the code under test.

use std::collections::BTreeMap;

use crate::flow::testbed::{INPUT_UCR, OUTPUT_UCR};
use crate::id::{CallId, TaskId};
use crate::outcome::{FinishedCall, Outcome};
use crate::record::{CallState, Hold, HoldState, Overrun};
use crate::state::RunState;

use super::actors::Unanswered;
use super::storm::Storm;

impl Storm {
    /// What the task will have been charged if this settle ends it.
    pub(super) fn bill(&self, sent: &Unanswered) -> i64 {
        let task = &self.world.tables.tasks[&sent.lease.task];
        let run = &self.world.tables.runs[&sent.lease.run];
        let (calls, succeeded) = match &sent.request.outcome {
            Outcome::Succeeded { calls, .. } => (calls.as_slice(), true),
            Outcome::Failed { calls, .. } => (calls.as_slice(), false),
            Outcome::HandedBack => (&[][..], false),
        };
        let mut distinct: BTreeMap<_, &FinishedCall> = BTreeMap::new();
        for call in calls {
            // what was charged before its run was retried is not charged again
            if !self.world.tables.calls[&call.id].billable {
                distinct.entry(call.id).or_insert(call);
            }
        }
        let price = |call: &FinishedCall| {
            let reported = call.usage.filter(|usage| usage.cache_read_tokens <= usage.input_tokens);
            let usage = reported.unwrap_or(call.counted);
            i64::try_from(usage.input_tokens).unwrap() * INPUT_UCR
                + i64::try_from(usage.output_tokens).unwrap() * OUTPUT_UCR
        };
        let wallet = &self.world.tables.wallets[&self.world.wallet];
        let hold = task.hold_id.map(|hold| self.world.tables.holds[&hold].amount_ucr.get());
        let most = if wallet.overrun == Overrun::Absorb { hold.unwrap_or(0) } else { i64::MAX };
        let full = match run.state {
            RunState::Cancelling => {
                let capped = |call: &FinishedCall| {
                    let row = &self.world.tables.calls[&call.id];
                    match row.state {
                        CallState::Sent => price(call).min(row.reserved_ucr.get()),
                        _ => row.cost_ucr.get(),
                    }
                };
                let listed: i64 = distinct.values().map(|call| capped(call)).sum();
                let is_owed = |id| !distinct.contains_key(&id) && !self.world.tables.calls[&id].billable;
                listed + self.journaled(task.id, is_owed)
            }
            RunState::Queued | RunState::Running | RunState::Paused if succeeded => {
                let node = self.world.facts.workflows[&task.workflow_id].node_for(task.place()).unwrap();
                let units: u64 = node.units.values().sum();
                let tokens: i64 = distinct.into_values().filter(|call| call.succeeded).map(price).sum();
                tokens + i64::try_from(units).unwrap() * 1_000_000
            }
            _ => 0,
        };
        full.min(most)
    }

    /// What the answered calls of a task cost that nobody was charged for yet, as far as they are counted.
    pub(super) fn journaled(&self, task: TaskId, counts: impl Fn(CallId) -> bool) -> i64 {
        let calls =
            self.world.tables.calls.values().filter(|call| call.task_id == task && call.state == CallState::Done);
        calls.filter(|call| counts(call.id)).map(|call| call.cost_ucr.get()).sum()
    }

    /// So much, or what the task's settled hold had where the platform absorbs the rest.
    pub(super) fn most_absorbed(&self, task: TaskId, owed: i64) -> i64 {
        let absorbs = self.world.tables.wallets[&self.world.wallet].overrun == Overrun::Absorb;
        let is_settled = |hold: &&Hold| hold.owner_id == task.to_string() && hold.state == HoldState::Settled;
        let hold = self.world.tables.holds.values().find(is_settled).filter(|_| absorbs);
        hold.map_or(owed, |hold| owed.min(hold.amount_ucr.get()))
    }
}
