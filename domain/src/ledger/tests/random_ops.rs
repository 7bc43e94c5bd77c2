//! Random operations, one after another, against a model of two numbers; every invariant holds after each.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::Gift;
use crate::credits::Ucr;
use crate::flow::testbed::{World, verify};
use crate::id::HoldId;
use crate::ledger::{Charge, LedgerRefusal, Settled, Terms};
use crate::record::{Account, GrantKind, HoldState, Overrun};
use crate::time::Timestamp;

#[derive(Debug, Clone)]
enum Step {
    Grant { amount: i64, priority: i16, paid: bool, expires_in_ms: Option<i64>, reference: u8 },
    Hold(i64),
    TopUp(usize, i64),
    Shrink(usize, i64),
    Charge { hold: usize, amount: i64, is_fee: bool, absorbs: bool },
    Release(usize),
    Pass(i64),
    Sweep,
    Freeze(bool),
    HoldForCall { amount: i64, lasts_ms: i64 },
    Refund { hold: usize, amount: i64, reference: u8 },
    Adjust { amount: i64, reference: u8 },
    WriteOff { amount: i64, reference: u8 },
    Limit { day: Option<i64>, month: Option<i64> },
}

const DAY_MS: i64 = 86_400_000;

fn step() -> impl Strategy<Value = Step> {
    let amount = || prop_oneof![4 => 1_i64..100, 1 => Just(0_i64), 1 => 100_i64..100_000];
    prop_oneof![
        3 => (amount(), 0_i16..3, any::<bool>(), proptest::option::of(1_i64..50), any::<u8>()).prop_map(
            |(amount, priority, paid, expires_in_ms, reference)| {
                Step::Grant { amount, priority, paid, expires_in_ms, reference }
            }
        ),
        4 => amount().prop_map(Step::Hold),
        3 => (any::<usize>(), amount()).prop_map(|(hold, amount)| Step::TopUp(hold, amount)),
        2 => (any::<usize>(), amount()).prop_map(|(hold, keep)| Step::Shrink(hold, keep)),
        4 => (any::<usize>(), amount(), any::<bool>(), proptest::bool::weighted(0.2)).prop_map(
            |(hold, amount, is_fee, absorbs)| Step::Charge { hold, amount, is_fee, absorbs }
        ),
        2 => any::<usize>().prop_map(Step::Release),
        3 => prop_oneof![9 => 0_i64..20, 1 => Just(DAY_MS)].prop_map(Step::Pass),
        1 => Just(Step::Sweep),
        1 => any::<bool>().prop_map(Step::Freeze),
        2 => (amount(), 0_i64..20).prop_map(|(amount, lasts_ms)| Step::HoldForCall { amount, lasts_ms }),
        4 => (any::<usize>(), amount(), 0_u8..20).prop_map(
            |(hold, amount, reference)| Step::Refund { hold, amount, reference }
        ),
        2 => (amount(), any::<bool>(), 0_u8..10).prop_map(|(amount, is_up, reference)| {
            Step::Adjust { amount: if is_up { amount } else { -amount }, reference }
        }),
        2 => (amount(), 0_u8..10).prop_map(|(amount, reference)| Step::WriteOff { amount, reference }),
        1 => (proptest::option::of(0_i64..200_000), proptest::option::of(0_i64..300_000)).prop_map(
            |(day, month)| Step::Limit { day, month }
        ),
    ]
}

/// What is expected, kept in a few numbers.
#[derive(Default)]
struct Model {
    issued: i64,
    /// Charges less refunds.
    charged: i64,
    adjusted: i64,
    written_off: i64,
    given: BTreeMap<String, (i64, i16, bool, Option<i64>)>,
    holds: Vec<HoldId>,
    /// What each settle was asked and did.
    settled: BTreeMap<HoldId, (i64, Settled)>,
    /// What was refunded of each hold's charge.
    refunded: BTreeMap<HoldId, i64>,
    /// What was asked under each key of a correction.
    asked: BTreeMap<String, (Option<HoldId>, i64)>,
    /// What was charged by day and by month, both since 1970.
    spent: BTreeMap<(bool, i32), i64>,
    limits: [Option<i64>; 2],
}

/// A world before and after a correction, with what is expected of it.
enum Expected {
    Posted,
    Replayed,
    Reused,
    Refused,
}

/// What can be drawn, by the definition.
fn spendable(world: &World) -> i64 {
    let lives = |end: Option<Timestamp>| end.is_none_or(|end| world.now < end);
    world.tables.grants.values().filter(|grant| lives(grant.expires_at)).map(|grant| grant.remaining_ucr.get()).sum()
}

impl Model {
    fn pick(&self, at: usize) -> Option<HoldId> {
        self.holds.get(at % self.holds.len().max(1)).copied()
    }

    fn is_open(world: &World, hold: HoldId) -> bool {
        world.tables.holds[&hold].state == HoldState::Open
    }

    /// Whether so much may be held now.
    fn may_hold(&self, world: &World, amount: i64) -> bool {
        let wallet = &world.tables.wallets[&world.wallet];
        let [day, month] = [(true, world.now.day()), (false, world.now.month())];
        let spent = |period| self.spent.get(&period).copied().unwrap_or_default();
        let fits = |limit: Option<i64>, period| {
            limit.is_none_or(|limit| spent(period) + wallet.held_ucr.get() + amount <= limit)
        };
        let within = fits(self.limits[0], day) && fits(self.limits[1], month);
        amount > 0 && !wallet.frozen && wallet.debt_ucr.is_zero() && amount <= spendable(world) && within
    }

    /// Whether a correction is posted, which is refused otherwise; `may` says whether the ledger allows it.
    fn expect(&mut self, key: &str, asked: (Option<HoldId>, i64), is_sound: bool, may: bool) -> Expected {
        match self.asked.get(key) {
            _ if !is_sound => Expected::Refused,
            Some(known) if *known == asked => Expected::Replayed,
            Some(_) => Expected::Reused,
            None if may => {
                self.asked.insert(key.to_owned(), asked);
                Expected::Posted
            }
            None => Expected::Refused,
        }
    }

    fn refund(&mut self, world: &mut World, hold: HoldId, amount: i64, reference: &str) {
        let row = &world.tables.holds[&hold];
        let charged = self.settled.get(&hold).map(|(_, settled)| settled.charged().get()).unwrap_or_default();
        let refunded = self.refunded.get(&hold).copied().unwrap_or_default();
        let may = row.state != HoldState::Open && amount <= charged - refunded;
        let expected = self.expect(&format!("refund:{reference}"), (Some(hold), amount), amount > 0, may);
        if matches!(expected, Expected::Posted) {
            *self.refunded.entry(hold).or_default() += amount;
            self.charged -= amount;
        }
        Self::correct(world, &expected, |world| world.refund(reference, hold, amount).map(drop));
    }

    /// Posts a correction and checks that it did what is expected; all but a new one change nothing.
    fn correct(world: &mut World, expected: &Expected, post: impl FnOnce(&mut World) -> Result<(), LedgerRefusal>) {
        let before = world.tables.clone();
        let posted = post(world);
        let is_met = match expected {
            Expected::Posted | Expected::Replayed => posted.is_ok(),
            Expected::Reused => matches!(posted, Err(LedgerRefusal::KeyReused(_))),
            Expected::Refused => posted.is_err(),
        };
        assert!(is_met, "{posted:?}");
        assert!(matches!(expected, Expected::Posted) || world.tables == before, "{posted:?} changed something");
    }

    fn grant(&mut self, world: &mut World, gift: Gift, reference: String) {
        let content =
            (gift.amount_ucr, gift.priority, gift.kind == GrantKind::Paid, gift.expires_at.map(Timestamp::ms));
        let known = self.given.get(&reference).copied();
        let before = world.tables.clone();
        let given = world.gift(gift, &reference);
        match known {
            _ if gift.amount_ucr == 0 => assert_eq!(given, Err(LedgerRefusal::AmountNotPositive(Ucr::ZERO))),
            Some(first) if first == content => assert!(given.is_ok() && world.tables == before, "given twice"),
            Some(_) => assert!(matches!(given, Err(LedgerRefusal::KeyReused(_)))),
            None => {
                assert!(given.is_ok());
                self.given.insert(reference, content);
                self.issued += gift.amount_ucr;
            }
        }
    }

    fn charge(&mut self, world: &mut World, hold: HoldId, charge: Charge, policy: Overrun) {
        let (Charge::Usage(amount) | Charge::Fee(amount) | Charge::Failure(amount)) = charge;
        let (amount, row) = (amount.get(), world.tables.holds[&hold].clone());
        let room = spendable(world);
        let terms = Terms { overrun: Some(policy), ..Terms::default() };
        world.set_terms(&terms);
        let settled = world.charge_call(hold, charge);
        if let Some((asked, first)) = self.settled.get(&hold) {
            let again = if *asked == amount { Ok(*first) } else { Err(reused(hold)) };
            assert_eq!(settled, again, "the same again is the first time's result, another is refused");
            return;
        }
        if row.state == HoldState::Released {
            assert_eq!(settled, Err(reused(hold)));
            return;
        }
        // an open hold always settles, whatever it is charged; one that expired is charged beyond itself
        let settled = settled.unwrap();
        let held = if row.state == HoldState::Expired { 0 } else { row.amount_ucr.get() };
        let captured = amount.min(held);
        let beyond = if policy == Overrun::Debt { amount - captured } else { 0 };
        let overrun = beyond.min(room);
        let parts = [settled.captured, settled.returned, settled.overrun, settled.debt].map(Ucr::get);
        assert_eq!(parts, [captured, held - captured, overrun, beyond - overrun]);
        self.charged += settled.charged().get();
        self.settled.insert(hold, (amount, settled));
        for period in [(true, world.now.day()), (false, world.now.month())] {
            *self.spent.entry(period).or_default() += settled.charged().get();
        }
    }

    fn apply(&mut self, world: &mut World, step: &Step) {
        match step.clone() {
            Step::Grant { amount, priority, paid, expires_in_ms, reference } => {
                let kind = if paid { GrantKind::Paid } else { GrantKind::Promo };
                let expires_at = expires_in_ms.map(|ms| world.now.plus_ms(ms));
                self.grant(world, Gift { kind, priority, amount_ucr: amount, expires_at }, reference.to_string());
            }
            Step::Hold(amount) => {
                let may = self.may_hold(world, amount);
                let held = world.hold(amount);
                assert_eq!(held.is_ok(), may, "{held:?}");
                self.holds.extend(held);
            }
            Step::TopUp(at, amount) => {
                let Some(hold) = self.pick(at) else { return };
                let may = Self::is_open(world, hold) && self.may_hold(world, amount);
                assert_eq!(world.top_up(hold, amount).is_ok(), may);
            }
            Step::Shrink(at, keep) => {
                let Some(hold) = self.pick(at) else { return };
                let (open, held) = (Self::is_open(world, hold), world.tables.holds[&hold].amount_ucr.get());
                let back = world.shrink(hold, keep);
                assert_eq!(back.map(Ucr::get).ok(), open.then_some((held - keep).max(0)));
            }
            Step::Charge { hold, amount, is_fee, absorbs } => {
                let Some(hold) = self.pick(hold) else { return };
                let charge = if is_fee { Charge::Fee(Ucr::new(amount)) } else { Charge::Usage(Ucr::new(amount)) };
                self.charge(world, hold, charge, if absorbs { Overrun::Absorb } else { Overrun::Debt });
            }
            Step::Release(at) => {
                let Some(hold) = self.pick(at) else { return };
                let (open, held) = (Self::is_open(world, hold), world.tables.holds[&hold].amount_ucr);
                assert_eq!(world.release(hold).ok(), open.then_some(held));
            }
            Step::Pass(ms) => world.pass_ms(ms),
            Step::Sweep => {
                world.expire_grants();
                let over = |grant: &&crate::record::Grant| grant.expires_at.is_some_and(|end| end <= world.now);
                let kept: i64 = world.tables.grants.values().filter(over).map(|grant| grant.remaining_ucr.get()).sum();
                assert_eq!(kept, 0, "an expired grant keeps something");
            }
            Step::Freeze(frozen) => world.freeze(frozen),
            step => self.correction(world, &step),
        }
    }

    fn correction(&mut self, world: &mut World, step: &Step) {
        let wallet = world.tables.wallets[&world.wallet].clone();
        match *step {
            Step::HoldForCall { amount, lasts_ms } => {
                let (may, owner) = (self.may_hold(world, amount), format!("call-{}", self.holds.len()));
                let held = world.hold_for_call(&owner, amount, lasts_ms);
                assert_eq!(held.is_ok(), may, "{held:?}");
                self.holds.extend(held);
            }
            Step::Refund { hold, amount, reference } => {
                let Some(hold) = self.pick(hold) else { return };
                self.refund(world, hold, amount, &reference.to_string());
            }
            Step::Adjust { amount, reference } => {
                let may = -amount <= spendable(world);
                let expected = self.expect(&format!("adjust:{reference}"), (None, amount), amount != 0, may);
                if matches!(expected, Expected::Posted) {
                    self.adjusted += amount;
                }
                Self::correct(world, &expected, |world| world.adjust(&reference.to_string(), amount).map(drop));
            }
            Step::WriteOff { amount, reference } => {
                let may = amount <= wallet.debt_ucr.get();
                let expected = self.expect(&format!("writeoff:{reference}"), (None, amount), amount > 0, may);
                if matches!(expected, Expected::Posted) {
                    self.written_off += amount;
                }
                Self::correct(world, &expected, |world| world.write_off(&reference.to_string(), amount).map(drop));
            }
            Step::Limit { day, month } => {
                self.limits = [day, month];
                let [day, month] = self.limits.map(|limit| Some(limit.map(Ucr::new)));
                world.set_terms(&Terms { day_limit: day, month_limit: month, ..Terms::default() });
            }
            _ => {}
        }
    }

    fn check(&self, world: &World) {
        assert_eq!(verify::ledger(&world.tables), Vec::<String>::new());
        let at = |account| world.tables.balances.of(world.wallet, account);
        assert_eq!(-at(Account::Issue), self.issued);
        assert_eq!(at(Account::Usage) + at(Account::Fee), self.charged);
        assert_eq!((-at(Account::Adjust), -at(Account::Writeoff)), (self.adjusted, self.written_off));
    }
}

fn reused(hold: HoldId) -> LedgerRefusal {
    LedgerRefusal::KeyReused(format!("settle:{hold}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_invariant_holds_after_every_operation(steps in proptest::collection::vec(step(), 1..60)) {
        let (mut world, mut model) = (World::new(1), Model::default());
        for step in &steps {
            world.give_back_overdue();
            let before = world.tables.grants.clone();
            model.apply(&mut world, step);
            model.check(&world);
            for grant in world.tables.grants.values().filter(|grant| grant.expires_at.is_some_and(|end| end <= world.now)) {
                let was = before.get(&grant.id).map(|grant| grant.remaining_ucr);
                prop_assert!(was >= Some(grant.remaining_ucr), "credits came back to {:?}", grant);
            }
        }
        // in the end everything that was given is accounted for: open holds go home, and what expires is breakage
        world.freeze(false);
        world.give_back_overdue();
        for hold in model.holds.clone() {
            if Model::is_open(&world, hold) {
                world.release(hold).unwrap();
            }
        }
        world.pass_ms(1_000);
        world.expire_grants();
        model.check(&world);
        let (available, held, debt) = world.purse();
        prop_assert_eq!(held, 0);
        let breakage = world.tables.balances.of(world.wallet, Account::Breakage);
        let given = model.issued + model.adjusted + model.written_off;
        prop_assert_eq!(given, available - debt + model.charged + breakage);
    }
}
