//! Random operations, one after another, against a model of two numbers; every invariant holds after each.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::Gift;
use crate::credits::Ucr;
use crate::flow::testbed::{World, verify};
use crate::id::HoldId;
use crate::ledger::{Charge, LedgerRefusal};
use crate::record::Overrun;
use crate::record::{Account, GrantKind, HoldState};
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
}

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
        3 => (0_i64..20).prop_map(Step::Pass),
        1 => Just(Step::Sweep),
        1 => any::<bool>().prop_map(Step::Freeze),
    ]
}

/// What is expected, kept in a few numbers.
#[derive(Default)]
struct Model {
    issued: i64,
    charged: i64,
    given: BTreeMap<String, (i64, i16, bool, Option<i64>)>,
    holds: Vec<HoldId>,
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
    fn may_hold(world: &World, amount: i64) -> bool {
        let wallet = &world.tables.wallets[&world.wallet];
        amount > 0 && !wallet.frozen && wallet.debt_ucr.is_zero() && amount <= spendable(world)
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
        let settled = world.charge(hold, charge, policy);
        if row.state != HoldState::Open {
            assert_eq!(settled, Err(LedgerRefusal::HoldClosed(hold)));
            return;
        }
        // an open hold always settles, whatever it is charged
        let settled = settled.unwrap();
        let captured = amount.min(row.amount_ucr.get());
        let beyond = if policy == Overrun::Debt { amount - captured } else { 0 };
        let overrun = beyond.min(room);
        let parts = [settled.captured, settled.returned, settled.overrun, settled.debt].map(Ucr::get);
        assert_eq!(parts, [captured, row.amount_ucr.get() - captured, overrun, beyond - overrun]);
        self.charged += settled.charged().get();
    }

    fn apply(&mut self, world: &mut World, step: &Step) {
        match step.clone() {
            Step::Grant { amount, priority, paid, expires_in_ms, reference } => {
                let kind = if paid { GrantKind::Paid } else { GrantKind::Promo };
                let expires_at = expires_in_ms.map(|ms| world.now.plus_ms(ms));
                self.grant(world, Gift { kind, priority, amount_ucr: amount, expires_at }, reference.to_string());
            }
            Step::Hold(amount) => {
                let may = Self::may_hold(world, amount);
                let held = world.hold(amount);
                assert_eq!(held.is_ok(), may, "{held:?}");
                self.holds.extend(held);
            }
            Step::TopUp(at, amount) => {
                let Some(hold) = self.pick(at) else { return };
                let may = Self::is_open(world, hold) && Self::may_hold(world, amount);
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
        }
    }

    fn check(&self, world: &World) {
        assert_eq!(verify::ledger(&world.tables), Vec::<String>::new());
        let at = |account| world.tables.balances.of(world.wallet, account);
        assert_eq!(-at(Account::Issue), self.issued);
        assert_eq!(at(Account::Usage) + at(Account::Fee), self.charged);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_invariant_holds_after_every_operation(steps in proptest::collection::vec(step(), 1..60)) {
        let (mut world, mut model) = (World::new(1), Model::default());
        for step in &steps {
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
        prop_assert_eq!(model.issued, available - debt + model.charged + breakage);
    }
}
