//! Corrections by hand: adjustments up and down, debt that is given up, and the largest balance there can be.

use bursar_domain::credits::Ucr;
use bursar_domain::ledger::LedgerRefusal;
use bursar_domain::record::GrantKind;

use super::desk::{CREDIT, Desk, priced};
use crate::support::stores::on_both_stores;

on_both_stores!(Desk::empty:
    an_adjustment_up_is_a_grant_and_repays_debt_first,
    an_adjustment_down_takes_in_draw_order_and_never_below_zero,
    an_adjustment_down_takes_nothing_that_is_held_or_expired,
    debt_is_written_off_in_part_and_whole_and_never_more,
    credits_that_came_up_wake_whoever_waits,
    a_balance_that_would_not_fit_is_refused_and_what_is_held_counts,
);

async fn an_adjustment_up_is_a_grant_and_repays_debt_first(mut desk: Desk) {
    desk.give(CREDIT).await;
    let hold = desk.hold_for_call("call", CREDIT, 1_000).await.unwrap();
    desk.charge(hold, 3 * CREDIT).await.unwrap();
    desk.adjust("up", 5 * CREDIT).await.unwrap();
    assert_eq!(desk.purse().await, (3 * CREDIT, 0, 0));
    assert_eq!(desk.legs("adjust:up").await, ["adjust grant 5000000", "grant debt 2000000"]);
    let grants = desk.hand.store.grants(desk.hand.wallet, None, 10).await.unwrap();
    let made = grants.iter().find(|grant| grant.kind == "adjust").unwrap();
    assert_eq!((made.amount_ucr, made.remaining_ucr), (Ucr::from_credits(5), Ucr::from_credits(3)));
    assert_eq!(desk.adjust("zero", 0).await, Err(LedgerRefusal::AmountNotPositive(Ucr::ZERO)));
    desk.clean().await;
}

async fn an_adjustment_down_takes_in_draw_order_and_never_below_zero(mut desk: Desk) {
    let gift = desk.give_as(2 * CREDIT, GrantKind::Promo, 0, None).await;
    let paid = desk.give(5 * CREDIT).await;
    desk.adjust("down", -3 * CREDIT).await.unwrap();
    assert_eq!(
        (desk.grant(gift).await.remaining_ucr, desk.grant(paid).await.remaining_ucr),
        (Ucr::ZERO, Ucr::from_credits(4))
    );
    assert_eq!(desk.legs("adjust:down").await, ["grant adjust 2000000", "grant adjust 1000000"]);
    let (required, available) = (Ucr::new(4 * CREDIT + 1), Ucr::from_credits(4));
    assert_eq!(desk.adjust("more", -4 * CREDIT - 1).await, Err(LedgerRefusal::Insufficient { required, available }));
    assert_eq!(desk.adjust("most", i64::MIN).await, Err(LedgerRefusal::AmountOverflow));
    desk.adjust("rest", -4 * CREDIT).await.unwrap();
    assert_eq!(desk.purse().await, (0, 0, 0));
    desk.clean().await;
}

async fn an_adjustment_down_takes_nothing_that_is_held_or_expired(mut desk: Desk) {
    desk.give_as(2 * CREDIT, GrantKind::Promo, 0, Some(1_000)).await;
    desk.give(5 * CREDIT).await;
    desk.start(&priced("flat_fee: 0,", &[300])).await;
    desk.pass_ms(1_000);
    // two of the gift and one of the others are held; four are left
    let available = Ucr::from_credits(4);
    let refused = desk.adjust("key", -5 * CREDIT).await;
    assert_eq!(refused, Err(LedgerRefusal::Insufficient { required: Ucr::from_credits(5), available }));
    desk.adjust("key", -4 * CREDIT).await.unwrap();
    assert_eq!(desk.purse().await, (0, 3 * CREDIT, 0));
    desk.clean().await;
}

async fn debt_is_written_off_in_part_and_whole_and_never_more(mut desk: Desk) {
    desk.give(CREDIT).await;
    let hold = desk.hold_for_call("call", CREDIT, 1_000).await.unwrap();
    desk.charge(hold, 4 * CREDIT).await.unwrap();
    let first = desk.write_off("part", CREDIT).await.unwrap();
    assert_eq!(desk.purse().await, (0, 0, 2 * CREDIT));
    assert_eq!(desk.legs("writeoff:part").await, ["writeoff debt 1000000"]);
    desk.clean().await;
    let (debt, wanted) = (Ucr::from_credits(2), Ucr::new(2 * CREDIT + 1));
    assert_eq!(desk.write_off("more", 2 * CREDIT + 1).await, Err(LedgerRefusal::NotOwed { debt, wanted }));
    for amount in [0, -1] {
        let refused = desk.write_off("nothing", amount).await;
        assert_eq!(refused, Err(LedgerRefusal::AmountNotPositive(Ucr::new(amount))));
    }
    desk.write_off("rest", 2 * CREDIT).await.unwrap();
    assert_eq!((desk.write_off("part", CREDIT).await, desk.purse().await), (Ok(first), (0, 0, 0)));
    assert_eq!(desk.write_off("part", 1).await, Err(LedgerRefusal::KeyReused("writeoff:part".to_owned())));
    desk.give(CREDIT).await;
    desk.start(&priced("flat_fee: 0,", &[100])).await;
    desk.clean().await;
}

async fn credits_that_came_up_wake_whoever_waits(mut desk: Desk) {
    desk.give(CREDIT).await;
    let mission = desk.start(&priced("flat_fee: 0,", &[100, 200])).await;
    desk.do_node(mission, "n0").await;
    desk.adjust("up", 2 * CREDIT).await.unwrap();
    desk.retry_waiters().await;
    desk.do_node(mission, "n1").await;
    assert_eq!(desk.purse().await, (0, 0, 0));
    desk.clean().await;
}

async fn a_balance_that_would_not_fit_is_refused_and_what_is_held_counts(mut desk: Desk) {
    desk.give(CREDIT).await;
    let hold = desk.hold_for_call("call", CREDIT, 1_000).await.unwrap();
    assert_eq!(desk.adjust("too much", i64::MAX).await, Err(LedgerRefusal::AmountOverflow));
    assert_eq!(desk.adjust("too much", i64::MAX - CREDIT + 1).await, Err(LedgerRefusal::AmountOverflow));
    desk.adjust("most", i64::MAX - CREDIT).await.unwrap();
    desk.charge(hold, 0).await.unwrap();
    assert_eq!(desk.purse().await, (i64::MAX, 0, 0), "what was held came back and still fits");
    desk.adjust("down", -CREDIT).await.unwrap();
    let hold = desk.hold_for_call("another", CREDIT, 1_000).await.unwrap();
    desk.charge(hold, CREDIT).await.unwrap();
    desk.adjust("up", 2 * CREDIT).await.unwrap();
    assert_eq!(desk.purse().await.0, i64::MAX);
    assert_eq!(desk.refund("key", hold, 1).await, Err(LedgerRefusal::AmountOverflow));
    desk.adjust("room", -CREDIT).await.unwrap();
    desk.refund("key", hold, CREDIT).await.unwrap();
    assert_eq!(desk.purse().await.0, i64::MAX);
}
