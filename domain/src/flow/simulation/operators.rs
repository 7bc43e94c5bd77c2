//! What operators, users and callers from outside do to a wallet while the storm blows: refunds, adjustments, debt given
//! up, limits, budgets, holds that expire by themselves. Each refusal is foretold.

use crate::credits::Ucr;
use crate::flow::Refusal;
use crate::id::{HoldId, TaskId};
use crate::ledger::{Charge, LedgerRefusal, Terms, settle_key};
use crate::outcome::{ErrorClass, StepError};
use crate::record::{Account, CallState, ChargeFailed, Hold, HoldOwner, HoldState, Op, OpKind, Overrun, Task};

use super::storm::Storm;

/// Calls from outside that are under way at most.
const MOST_OUTSIDE: usize = 12;

impl Storm {
    /// The policies of this storm: some platforms absorb overruns, some charge for failures.
    pub(super) fn choose_policies(&mut self) {
        let overrun = if self.dice.percent(25) { Overrun::Absorb } else { Overrun::Debt };
        let charge_failed = match self.dice.below(4) {
            0 => ChargeFailed::Fault,
            1 => ChargeFailed::Always,
            _ => ChargeFailed::Never,
        };
        let terms = Terms { overrun: Some(overrun), charge_failed: Some(charge_failed), ..Terms::default() };
        self.world.set_terms(&terms);
    }

    fn amount(&mut self, most: u64) -> i64 {
        i64::try_from(self.dice.below(most)).unwrap()
    }

    fn reference(&mut self) -> String {
        // few, so that keys are used again
        self.dice.below(200).to_string()
    }

    pub(super) fn correct(&mut self) {
        let reference = self.reference();
        match self.dice.below(4) {
            0 | 1 => self.refund(&reference),
            2 => {
                let amount = self.amount(60_000) - 30_000;
                let _ = self.world.adjust(&reference, amount);
            }
            _ => {
                let (amount, debt) = (self.amount(60_000), self.world.purse().2);
                if let Err(refusal) = self.world.write_off(&reference, amount) {
                    let is_reused = matches!(refusal, LedgerRefusal::KeyReused(_));
                    assert!(is_reused || amount == 0 || amount > debt, "{refusal}");
                }
            }
        }
    }

    fn refund(&mut self, reference: &str) {
        let closed: Vec<HoldId> =
            self.world.tables.holds.values().filter(|hold| hold.state != HoldState::Open).map(|hold| hold.id).collect();
        let Some(at) = self.pick(closed.len()) else { return };
        let hold = &self.world.tables.holds[&closed[at]];
        let left = hold.captured_ucr.get() + hold.overrun_ucr.get() - hold.refunded_ucr.get();
        let amount = if self.dice.percent(30) { left } else { self.amount(50_000) };
        match self.world.refund(reference, closed[at], amount) {
            Ok(_) | Err(LedgerRefusal::KeyReused(_)) => {}
            Err(LedgerRefusal::AmountNotPositive(_)) => assert_eq!(amount, 0),
            Err(LedgerRefusal::NotRefundable { .. }) => assert!(amount > left, "{left} were left"),
            Err(other) => panic!("{other}"),
        }
    }

    pub(super) fn change_terms(&mut self) {
        let mut limit = |most: u64| {
            let is_limited = self.dice.percent(40);
            Some(is_limited.then(|| Ucr::new(i64::try_from(self.dice.below(most)).unwrap())))
        };
        let (day_limit, month_limit, mission_limit) = (limit(3_000_000), limit(6_000_000), limit(2_000_000));
        let frozen = Some(self.dice.percent(20));
        let terms = Terms { frozen, day_limit, month_limit, mission_limit, ..Terms::default() };
        self.world.set_terms(&terms);
    }

    /// Nothing keeps anybody from spending any more.
    pub(super) fn lift_terms(&mut self) {
        let terms = Terms {
            frozen: Some(false),
            day_limit: Some(None),
            month_limit: Some(None),
            mission_limit: Some(None),
            ..Terms::default()
        };
        self.world.set_terms(&terms);
    }

    pub(super) fn change_budget(&mut self) {
        let missions: Vec<_> = self.world.tables.missions.keys().copied().collect();
        let Some(at) = self.pick(missions.len()) else { return };
        let budget = self.dice.percent(70).then(|| Ucr::new(self.amount(900_000)));
        let mission = self.world.mission(missions[at]);
        let committed = mission.spent_ucr.saturating_add(mission.held_ucr);
        let state = self.world.run(missions[at]).state;
        let lives = state.is_open() || state.is_final();
        match self.world.change_budget(missions[at], budget) {
            Ok(()) => assert!(lives && budget.is_none_or(|budget| budget >= committed)),
            Err(Refusal::IllegalMove { .. }) => assert!(!lives),
            Err(Refusal::Ledger(LedgerRefusal::AmountNotPositive(_))) => assert_eq!(budget, Some(Ucr::ZERO)),
            Err(Refusal::OverBudget { .. }) => assert!(budget.is_some_and(|budget| budget < committed)),
            Err(other) => panic!("{other}"),
        }
    }

    /// A call from outside any mission holds, or one that did is charged: in time, late, or again.
    pub(super) fn call_from_outside(&mut self) {
        if self.outside.len() < MOST_OUTSIDE && self.dice.percent(60) {
            self.calls_outside += 1;
            let (amount, lasts_ms) = (1 + self.amount(50_000), 1 + self.amount(20_000));
            let owner = format!("outside-{}", self.calls_outside);
            self.outside.extend(self.world.hold_for_call(&owner, amount, lasts_ms));
            return;
        }
        let Some(at) = self.pick(self.outside.len()) else { return };
        let hold = self.outside[at];
        if self.dice.percent(70) {
            self.outside.swap_remove(at);
        }
        let amount = self.amount(80_000);
        self.world.give_back_overdue();
        let row = self.world.tables.holds[&hold].clone();
        let known = self.world.tables.ops.get(&(self.world.wallet, settle_key(hold))).cloned();
        let settled = self.world.charge_call(hold, Charge::Usage(Ucr::new(amount)));
        match (known, settled) {
            (Some(op), Err(LedgerRefusal::KeyReused(_))) => assert_ne!(op.request_hash, amount.to_string()),
            (Some(op), Ok(_)) => assert_eq!(op.request_hash, amount.to_string()),
            (None, Ok(settled)) => {
                let held = if row.state == HoldState::Expired { 0 } else { row.amount_ucr.get() };
                assert_eq!(settled.captured.get(), amount.min(held));
                assert_eq!(settled.returned.get(), held - amount.min(held));
            }
            (known, settled) => panic!("{known:?} {settled:?}"),
        }
    }

    /// What a task that failed must have been charged, by the wallet's policy.
    pub(super) fn owed_for_failure(&self, id: TaskId, task: &Task) -> i64 {
        let wallet = &self.world.tables.wallets[&self.world.wallet];
        let error = task.error.as_ref().unwrap();
        let is_own_fault = |error: &StepError| {
            matches!(error.class, ErrorClass::Retryable | ErrorClass::Permanent)
                && !["poison_pill", "deadline_exceeded"].contains(&error.code.as_str())
        };
        let is_charged = match wallet.charge_failed {
            ChargeFailed::Never => false,
            ChargeFailed::Fault => is_own_fault(error),
            ChargeFailed::Always => true,
        };
        let answered = |state: CallState| matches!(state, CallState::Done | CallState::Rejected | CallState::Failed);
        let calls = self.world.tables.calls.values().filter(|call| call.task_id == id && answered(call.state));
        let used: i64 = calls.map(|call| call.cost_ucr.get()).sum();
        if !is_charged || used == 0 {
            return 0;
        }
        let of_task = |hold: &&Hold| hold.owner_kind == HoldOwner::Task && hold.owner_id == id.to_string();
        let settled = |hold: &&Hold| of_task(hold) && hold.state == HoldState::Settled;
        match self.world.tables.holds.values().find(settled) {
            Some(hold) if wallet.overrun == Overrun::Absorb => used.min(hold.amount_ucr.get()),
            Some(_) => used,
            // what waits for credits with nothing journaled has no hold that could be charged, whatever ends it
            None => {
                let was_parked = error.class == ErrorClass::Budget || error.code == "deadline_exceeded";
                assert!(was_parked, "{task:?} should have been charged {used}");
                0
            }
        }
    }

    /// What of all this was seen.
    pub(super) fn look_at_money(&self) -> Vec<String> {
        let tables = &self.world.tables;
        let mut seen = Vec::new();
        let mut notice = |is_seen: bool, what: &str| seen.extend(is_seen.then(|| what.to_owned()));
        let has = |is_it: fn(&Op) -> bool| tables.ops.values().any(is_it);
        notice(has(|op| op.kind == OpKind::Refund), "refund");
        notice(
            has(|op| op.kind == OpKind::Refund && op.legs.iter().any(|leg| leg.1 == Account::Debt)),
            "debt refunded",
        );
        notice(has(|op| op.kind == OpKind::Adjust), "adjustment");
        notice(has(|op| op.kind == OpKind::WriteOff), "write-off");
        let says = |words: &'static str| {
            tables.ops.values().any(|op| op.reason.as_ref().is_some_and(|reason| reason.contains(words)))
        };
        notice(says("absorbed"), "overrun absorbed");
        notice(says("failed"), "failure charged");
        let expired = || tables.holds.values().filter(|hold| hold.state == HoldState::Expired);
        notice(expired().next().is_some(), "hold expired");
        notice(expired().any(|hold| hold.overrun_ucr.is_positive()), "late charge");
        let is_alert = |event: &crate::record::Event| event.kind == "wallet.budget_alert";
        notice(tables.events.values().any(is_alert), "budget alert");
        let fails = |task: &Task| task.error.as_ref().is_some_and(|error| error.code == "hold_never_fits");
        notice(tables.tasks.values().any(fails), "never fits");
        let reason = |words: &str| {
            tables.tasks.values().any(|task| task.status_reason.as_ref().is_some_and(|reason| reason.contains(words)))
        };
        notice(reason("in line behind"), "in line");
        notice(reason("may spend"), "over a limit");
        seen
    }
}
