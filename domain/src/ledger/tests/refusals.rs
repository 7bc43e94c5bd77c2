//! Every refusal, in the order of the checks: a request in which everything is wrong is put right step by step.

use super::{Gift, PAID};
use crate::credits::Ucr;
use crate::flow::testbed::World;
use crate::ledger::{Charge, LedgerRefusal, Settled};
use crate::record::GrantKind;
use crate::record::Overrun;

#[test]
fn a_grant_is_refused_in_the_order_of_the_checks() {
    let mut world = World::new(1);
    let stranger = World::new(2).wallet;
    let mut request = world.gift_request(Gift { amount_ucr: 0, ..PAID }, "ref");
    request.wallet_id = stranger;
    assert_eq!(world.give(&request), Err(LedgerRefusal::UnknownWallet(stranger)));
    request.wallet_id = world.wallet;
    assert_eq!(world.give(&request), Err(LedgerRefusal::AmountNotPositive(Ucr::ZERO)));
    request.amount = Ucr::new(-1);
    assert_eq!(world.give(&request), Err(LedgerRefusal::AmountNotPositive(Ucr::new(-1))));
    world.gift(PAID, "ref").unwrap();
    request.amount = Ucr::MAX;
    assert_eq!(world.give(&request), Err(LedgerRefusal::KeyReused("grant:ref".to_owned())));
    request.reference = "another".to_owned();
    assert_eq!(world.give(&request), Err(LedgerRefusal::AmountOverflow));
    request.amount = Ucr::new(i64::MAX - 100);
    assert_eq!(world.give(&request), Ok(request.id));
    assert_eq!(world.purse(), (i64::MAX, 0, 0));
}

#[test]
fn a_hold_is_refused_in_the_order_of_the_checks() {
    let mut world = World::new(1);
    let stranger = World::new(2).wallet;
    let mut request = world.hold_request(0);
    request.wallet_id = stranger;
    let want = world.want_wallet();
    let ask = |world: &mut World, request: &crate::ledger::HoldRequest| {
        world.decide_or_nothing(&want, |turn| crate::ledger::hold(turn.set, request, turn.now))
    };
    assert_eq!(ask(&mut world, &request), Err(LedgerRefusal::UnknownWallet(stranger)));
    request.wallet_id = world.wallet;
    world.gift(PAID, "first").unwrap();
    let hold = world.hold(100).unwrap();
    world.charge(hold, Charge::Usage(Ucr::new(150)), Overrun::Debt).unwrap();
    world.freeze(true);
    assert_eq!(ask(&mut world, &request), Err(LedgerRefusal::AmountNotPositive(Ucr::ZERO)));
    request.amount = Ucr::new(100);
    assert_eq!(ask(&mut world, &request), Err(LedgerRefusal::WalletFrozen));
    world.freeze(false);
    assert_eq!(ask(&mut world, &request), Err(LedgerRefusal::InDebt(Ucr::new(50))));
    world.gift(PAID, "second").unwrap();
    let short = LedgerRefusal::Insufficient { required: Ucr::new(100), available: Ucr::new(50) };
    assert_eq!(ask(&mut world, &request), Err(short));
    request.amount = Ucr::new(50);
    assert_eq!(ask(&mut world, &request), Ok(request.id));
    assert_eq!(world.purse(), (0, 50, 0));
}

#[test]
fn what_changes_a_hold_is_refused_in_the_order_of_the_checks() {
    let mut world = World::new(1);
    world.gift(PAID, "first").unwrap();
    let unknown = world.id();
    let gone = LedgerRefusal::UnknownHold(unknown);
    assert_eq!(world.top_up(unknown, 0), Err(gone.clone()));
    assert_eq!(world.shrink(unknown, 0), Err(gone.clone()));
    assert_eq!(world.release(unknown), Err(gone.clone()));
    assert_eq!(world.charge(unknown, Charge::Usage(Ucr::ZERO), Overrun::Debt), Err(gone));

    let hold = world.hold(60).unwrap();
    assert_eq!(world.top_up(hold, 0), Err(LedgerRefusal::AmountNotPositive(Ucr::ZERO)));
    world.freeze(true);
    assert_eq!(world.top_up(hold, 1), Err(LedgerRefusal::WalletFrozen));
    world.freeze(false);
    let short = LedgerRefusal::Insufficient { required: Ucr::new(41), available: Ucr::new(40) };
    assert_eq!(world.top_up(hold, 41), Err(short));
    world.top_up(hold, 40).unwrap();
    assert_eq!(world.purse(), (0, 100, 0));
    assert_eq!(world.shrink(hold, 100), Ok(Ucr::ZERO));
    assert_eq!(world.shrink(hold, 70), Ok(Ucr::new(30)));

    assert_eq!(world.release(hold), Ok(Ucr::new(70)));
    let closed = LedgerRefusal::HoldClosed(hold);
    assert_eq!(world.top_up(hold, 0), Err(closed.clone()));
    assert_eq!(world.shrink(hold, 0), Err(closed.clone()));
    assert_eq!(world.release(hold), Err(closed.clone()));
    assert_eq!(world.charge(hold, Charge::Fee(Ucr::ZERO), Overrun::Debt), Err(closed));
    assert_eq!(world.purse(), (100, 0, 0));
}

#[test]
fn the_same_grant_again_gives_nothing_and_returns_the_first() {
    let mut world = World::new(1);
    let first = world.gift(PAID, "ref").unwrap();
    let before = world.tables.clone();
    assert_eq!(world.gift(PAID, "ref"), Ok(first));
    assert!(world.tables == before);
    let reused = Err(LedgerRefusal::KeyReused("grant:ref".to_owned()));
    let later = Some(world.now.plus_ms(1));
    let others = [
        Gift { amount_ucr: 101, ..PAID },
        Gift { priority: 51, ..PAID },
        Gift { kind: GrantKind::Promo, ..PAID },
        Gift { expires_at: later, ..PAID },
    ];
    for other in others {
        assert_eq!(world.gift(other, "ref"), reused, "{other:?}");
    }
    assert!(world.tables == before);
}

#[test]
fn the_same_grant_twice_in_one_transaction_is_given_once() {
    let mut world = World::new(1);
    let (first, second) = (world.gift_request(PAID, "ref"), world.gift_request(PAID, "ref"));
    let want = world.want_wallet();
    let given =
        world.decide(&want, |turn| [&first, &second].map(|request| crate::ledger::grant(turn.set, request, turn.now)));
    assert_eq!((given, world.purse()), ([Ok(first.id), Ok(first.id)], (100, 0, 0)));
}

#[test]
fn a_settle_takes_the_hold_first_then_other_grants_then_debt() {
    let settled = |captured, returned, overrun, debt| Settled {
        captured: Ucr::new(captured),
        returned: Ucr::new(returned),
        overrun: Ucr::new(overrun),
        debt: Ucr::new(debt),
    };
    let cases = [
        (0, Overrun::Debt, settled(0, 60, 0, 0), (100, 0, 0)),
        (25, Overrun::Debt, settled(25, 35, 0, 0), (75, 0, 0)),
        (60, Overrun::Debt, settled(60, 0, 0, 0), (40, 0, 0)),
        (90, Overrun::Debt, settled(60, 0, 30, 0), (10, 0, 0)),
        (130, Overrun::Debt, settled(60, 0, 40, 30), (0, 0, 30)),
        (130, Overrun::Absorb, settled(60, 0, 0, 0), (40, 0, 0)),
    ];
    for (amount, policy, expected, purse) in cases {
        let mut world = World::new(1);
        world.gift(PAID, "ref").unwrap();
        let hold = world.hold(60).unwrap();
        let done = world.charge(hold, Charge::Usage(Ucr::new(amount)), policy).unwrap();
        assert_eq!((done, world.purse()), (expected, purse), "{amount}");
        assert_eq!(done.charged().get(), expected.captured.get() + expected.overrun.get() + expected.debt.get());
        assert_eq!(crate::flow::testbed::verify::ledger(&world.tables), Vec::<String>::new());
    }
}

#[test]
fn what_comes_back_goes_to_the_grants_it_came_from_the_last_drawn_first() {
    let mut world = World::new(1);
    let grants: Vec<_> =
        (0..3_i16).map(|priority| world.gift(Gift { priority, ..PAID }, &format!("{priority}")).unwrap()).collect();
    let left = |world: &World| grants.iter().map(|id| world.tables.grants[id].remaining_ucr.get()).collect::<Vec<_>>();
    let hold = world.hold(250).unwrap();
    assert_eq!(left(&world), [0, 0, 50]);
    world.shrink(hold, 120).unwrap();
    assert_eq!(left(&world), [0, 80, 100]);
    world.charge(hold, Charge::Usage(Ucr::new(30)), Overrun::Debt).unwrap();
    assert_eq!(left(&world), [70, 100, 100], "charged from the first drawn");
}
