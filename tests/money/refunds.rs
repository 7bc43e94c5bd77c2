//! Refunds: what was really taken is unwound in reverse, once, and never more than was charged.

use bursar_domain::credits::Ucr;
use bursar_domain::id::HoldId;
use bursar_domain::ledger::LedgerRefusal;
use bursar_domain::record::GrantKind;
use bursar_domain::state::RunState;

use super::desk::{CREDIT, Desk, priced};
use crate::support::stores::on_both_stores;

on_both_stores!(Desk::open:
    a_charge_is_refunded_in_part_and_then_the_rest_and_never_more,
    the_same_refund_again_gives_nothing_and_another_body_is_refused,
    a_fee_is_refunded_from_the_fees,
    what_is_open_released_or_somebody_elses_is_not_refunded,
    a_missions_spending_stays_what_was_charged,
    a_refund_names_who_and_why,
);

mod poor {
    use super::*;

    on_both_stores!(Desk::empty:
        a_refund_goes_home_in_the_reverse_of_the_order_of_spending,
        a_refund_into_an_expired_grant_becomes_a_new_refund_grant,
        a_refund_of_an_overrun_finds_the_grant_that_it_emptied,
        a_refund_of_debt_that_is_still_owed_lessens_the_debt,
        a_refund_of_debt_that_was_repaid_meanwhile_is_a_new_refund_grant,
        a_refund_repays_what_the_wallet_owes_by_then,
        a_late_charge_is_refunded_like_any_other,
    );
}

/// A closed hold that was charged so much.
async fn charged(desk: &mut Desk, owner: &str, held: i64, charge: i64) -> HoldId {
    let hold = desk.hold_for_call(owner, held, 3_600_000).await.unwrap();
    desk.charge(hold, charge).await.unwrap();
    hold
}

async fn a_charge_is_refunded_in_part_and_then_the_rest_and_never_more(mut desk: Desk) {
    let hold = charged(&mut desk, "call", 10 * CREDIT, 7 * CREDIT).await;
    assert_eq!(desk.purse().await, (93 * CREDIT, 0, 0));
    desk.refund("first", hold, 2 * CREDIT).await.unwrap();
    assert_eq!((desk.purse().await, desk.hold(hold).await[4]), ((95 * CREDIT, 0, 0), 2 * CREDIT));
    desk.clean().await;
    let too_much = desk.refund("second", hold, 5 * CREDIT + 1).await;
    let (charged, wanted) = (Ucr::from_credits(5), Ucr::new(5 * CREDIT + 1));
    assert_eq!(too_much, Err(LedgerRefusal::NotRefundable { charged, wanted }));
    desk.refund("second", hold, 5 * CREDIT).await.unwrap();
    assert_eq!((desk.purse().await, desk.hold(hold).await[4]), ((100 * CREDIT, 0, 0), 7 * CREDIT));
    let nothing_left = desk.refund("third", hold, 1).await;
    assert_eq!(nothing_left, Err(LedgerRefusal::NotRefundable { charged: Ucr::ZERO, wanted: Ucr::new(1) }));
    for amount in [0, -1] {
        let refused = desk.refund("fourth", hold, amount).await;
        assert_eq!(refused, Err(LedgerRefusal::AmountNotPositive(Ucr::new(amount))));
    }
    assert_eq!(desk.purse().await, (100 * CREDIT, 0, 0));
    desk.clean().await;
}

async fn the_same_refund_again_gives_nothing_and_another_body_is_refused(mut desk: Desk) {
    let hold = charged(&mut desk, "call", 10 * CREDIT, 7 * CREDIT).await;
    let other = charged(&mut desk, "other", 10 * CREDIT, 7 * CREDIT).await;
    let first = desk.refund("key", hold, 7 * CREDIT).await.unwrap();
    let purse = desk.purse().await;
    assert_eq!(desk.refund("key", hold, 7 * CREDIT).await, Ok(first), "the first time's operation");
    let reused = Err(LedgerRefusal::KeyReused("refund:key".to_owned()));
    assert_eq!(desk.refund("key", hold, 6 * CREDIT).await, reused);
    assert_eq!(desk.refund("key", other, 7 * CREDIT).await, reused);
    assert_eq!((desk.purse().await, desk.hold(other).await[4]), (purse, 0));
    desk.clean().await;
}

async fn a_refund_goes_home_in_the_reverse_of_the_order_of_spending(mut desk: Desk) {
    let first = desk.give_as(CREDIT, GrantKind::Promo, 0, None).await;
    let second = desk.give_as(2 * CREDIT, GrantKind::Included, 10, None).await;
    let third = desk.give(4 * CREDIT).await;
    // three held of the first two; one more from the third; and two that nobody has
    let hold = charged(&mut desk, "call", 3 * CREDIT, 9 * CREDIT).await;
    assert_eq!(desk.purse().await, (0, 0, 2 * CREDIT));
    let left = async |desk: &Desk| {
        let mut left = Vec::new();
        for grant in [first, second, third] {
            left.push(desk.grant(grant).await.remaining_ucr.get());
        }
        left
    };
    for (reference, amount, debt, expected) in [
        ("debt", 2 * CREDIT, 0, [0, 0, 0]),
        ("overrun", 4 * CREDIT, 0, [0, 0, 4 * CREDIT]),
        ("last slice", CREDIT / 2, 0, [0, CREDIT / 2, 4 * CREDIT]),
        ("rest", 5 * CREDIT / 2, 0, [CREDIT, 2 * CREDIT, 4 * CREDIT]),
    ] {
        desk.refund(reference, hold, amount).await.unwrap();
        assert_eq!((left(&desk).await, desk.purse().await.2), (expected.to_vec(), debt), "{reference}");
        desk.clean().await;
    }
    assert_eq!(desk.legs("refund:debt").await, ["usage debt 2000000"]);
    assert_eq!(desk.legs("refund:rest").await, ["usage grant 1500000", "usage grant 1000000"]);
}

async fn a_refund_into_an_expired_grant_becomes_a_new_refund_grant(mut desk: Desk) {
    let gift = desk.give_as(5 * CREDIT, GrantKind::Promo, 0, Some(60_000)).await;
    let paid = desk.give(5 * CREDIT).await;
    let hold = charged(&mut desk, "call", 7 * CREDIT, 7 * CREDIT).await;
    desk.refund("paid part", hold, 2 * CREDIT).await.unwrap();
    assert_eq!(desk.grant(paid).await.remaining_ucr, Ucr::from_credits(5));
    desk.pass_ms(60_000);
    // the deadline is exact, whether a sweep came or not
    for (reference, is_swept) in [("exact", false), ("swept", true)] {
        if is_swept {
            desk.sweep().await;
        }
        let how = desk.correction(reference);
        desk.refund_as(&how, hold, 2 * CREDIT).await.unwrap();
        let fresh = desk.grant(how.grant_id).await;
        assert_eq!(
            (fresh.kind.as_str(), fresh.remaining_ucr, fresh.expires_at),
            ("refund", Ucr::from_credits(2), None)
        );
        assert_eq!(fresh.reason.as_deref(), Some("for a reason"));
        assert_eq!(desk.grant(gift).await.remaining_ucr, Ucr::ZERO);
        assert_eq!(desk.legs(&format!("refund:{reference}")).await, ["usage grant 2000000"]);
        desk.clean().await;
    }
    assert_eq!(desk.purse().await, (9 * CREDIT, 0, 0));
}

async fn a_refund_of_an_overrun_finds_the_grant_that_it_emptied(mut desk: Desk) {
    desk.give_as(CREDIT, GrantKind::Promo, 0, None).await;
    let gift = desk.give_as(2 * CREDIT, GrantKind::Promo, 10, Some(60_000)).await;
    let hold = charged(&mut desk, "call", CREDIT, 3 * CREDIT).await;
    assert_eq!(desk.grant(gift).await.remaining_ucr, Ucr::ZERO);
    desk.refund("key", hold, CREDIT).await.unwrap();
    let gift = desk.grant(gift).await;
    assert_eq!(gift.remaining_ucr, Ucr::from_credits(1), "it goes home, where it will expire");
    assert_eq!(desk.hand.store.grants(desk.hand.wallet, None, 10).await.unwrap().len(), 2, "no new grant");
    desk.clean().await;
    desk.pass_ms(60_000);
    desk.sweep().await;
    assert_eq!(desk.purse().await, (0, 0, 0));
    desk.clean().await;
}

async fn a_refund_of_debt_that_is_still_owed_lessens_the_debt(mut desk: Desk) {
    desk.give(CREDIT).await;
    let hold = charged(&mut desk, "call", CREDIT, 4 * CREDIT).await;
    assert_eq!(desk.purse().await, (0, 0, 3 * CREDIT));
    desk.refund("part", hold, 2 * CREDIT).await.unwrap();
    assert_eq!(desk.purse().await, (0, 0, CREDIT));
    desk.refund("rest", hold, 2 * CREDIT).await.unwrap();
    assert_eq!(desk.purse().await, (CREDIT, 0, 0), "the debt is gone and the held credit is home");
    assert_eq!(desk.legs("refund:rest").await, ["usage debt 1000000", "usage grant 1000000"]);
    desk.clean().await;
}

async fn a_refund_of_debt_that_was_repaid_meanwhile_is_a_new_refund_grant(mut desk: Desk) {
    desk.give(CREDIT).await;
    let hold = charged(&mut desk, "call", CREDIT, 4 * CREDIT).await;
    desk.give(2 * CREDIT).await;
    assert_eq!(desk.purse().await, (0, 0, CREDIT), "two of the three were repaid");
    let how = desk.correction("key");
    desk.refund_as(&how, hold, 3 * CREDIT).await.unwrap();
    assert_eq!(desk.purse().await, (2 * CREDIT, 0, 0), "one was owed still, two had been paid");
    let fresh = desk.grant(how.grant_id).await;
    assert_eq!((fresh.kind.as_str(), fresh.remaining_ucr), ("refund", Ucr::from_credits(2)));
    assert_eq!(desk.legs("refund:key").await, ["usage debt 1000000", "usage grant 2000000"]);
    desk.clean().await;
}

async fn a_refund_repays_what_the_wallet_owes_by_then(mut desk: Desk) {
    desk.give(5 * CREDIT).await;
    let early = charged(&mut desk, "early", CREDIT, CREDIT).await;
    charged(&mut desk, "late", 4 * CREDIT, 7 * CREDIT).await;
    assert_eq!(desk.purse().await, (0, 0, 3 * CREDIT));
    desk.refund("key", early, CREDIT).await.unwrap();
    assert_eq!(desk.purse().await, (0, 0, 2 * CREDIT));
    assert_eq!(desk.legs("refund:key").await, ["usage grant 1000000", "grant debt 1000000"]);
    desk.clean().await;
}

async fn a_late_charge_is_refunded_like_any_other(mut desk: Desk) {
    desk.give(5 * CREDIT).await;
    let hold = desk.hold_for_call("call", 2 * CREDIT, 1_000).await.unwrap();
    desk.pass_ms(1_000);
    desk.sweep().await;
    let refused = desk.refund("early", hold, 1).await;
    assert_eq!(refused, Err(LedgerRefusal::NotRefundable { charged: Ucr::ZERO, wanted: Ucr::new(1) }));
    desk.charge(hold, 3 * CREDIT).await.unwrap();
    assert_eq!((desk.purse().await, desk.hold(hold).await[3]), ((2 * CREDIT, 0, 0), 3 * CREDIT));
    desk.refund("key", hold, 3 * CREDIT).await.unwrap();
    assert_eq!(desk.purse().await, (5 * CREDIT, 0, 0));
    desk.clean().await;
}

async fn a_fee_is_refunded_from_the_fees(mut desk: Desk) {
    let mission = desk.start(&priced("flat_fee: 3,", &[100])).await;
    desk.do_node(mission, "n0").await;
    let sql = "select fee_hold_id as id from runs where mission_id = $1";
    let hold: HoldId = desk.row(sql, mission.to_string()).await["id"].as_str().unwrap().parse().unwrap();
    desk.refund("fee", hold, 3 * CREDIT).await.unwrap();
    assert_eq!(desk.legs("refund:fee").await, ["fee grant 3000000"]);
    assert_eq!(desk.purse().await, (99 * CREDIT, 0, 0));
    desk.clean().await;
}

async fn what_is_open_released_or_somebody_elses_is_not_refunded(mut desk: Desk) {
    let mission = desk.start(&priced("flat_fee: 0,", &[100])).await;
    let hold = desk.hold_of(mission, "n0").await;
    let nothing = Err(LedgerRefusal::NotRefundable { charged: Ucr::ZERO, wanted: Ucr::new(1) });
    assert_eq!(desk.refund("open", hold, 1).await, nothing);
    desk.cancel(mission).await;
    assert_eq!(desk.refund("released", hold, 1).await, nothing);
    let unheard = desk.hand.id();
    assert_eq!(desk.refund("unheard of", unheard, 1).await, Err(LedgerRefusal::UnknownHold(unheard)));

    let charged = charged(&mut desk, "call", CREDIT, CREDIT).await;
    let (tenant, wallet) = (desk.hand.id(), desk.hand.id());
    desk.hand.open_wallet(tenant, wallet, "second").await;
    let theirs = bursar_domain::ledger::Correction { wallet_id: wallet, ..desk.correction("theirs") };
    assert_eq!(desk.refund_as(&theirs, charged, 1).await, Err(LedgerRefusal::UnknownHold(charged)));
    desk.clean().await;
}

async fn a_missions_spending_stays_what_was_charged(mut desk: Desk) {
    let mission = desk.start(&priced("flat_fee: 0,", &[100, 200])).await;
    desk.do_node(mission, "n0").await;
    let hold = desk.hold_of(mission, "n0").await;
    desk.refund("key", hold, CREDIT).await.unwrap();
    desk.do_node(mission, "n1").await;
    assert_eq!(desk.end(mission).await, (RunState::Succeeded, 3 * CREDIT));
    assert_eq!(desk.task(mission, "n0").await.cost_ucr, Ucr::from_credits(1));
    assert_eq!(desk.purse().await, (98 * CREDIT, 0, 0));
    desk.clean().await;
}

async fn a_refund_names_who_and_why(mut desk: Desk) {
    let hold = charged(&mut desk, "call", CREDIT, CREDIT).await;
    for (actor, reason) in [("", "why"), ("who", ""), ("who", " \n")] {
        let how = bursar_domain::ledger::Correction {
            actor: actor.to_owned(),
            reason: reason.to_owned(),
            ..desk.correction("key")
        };
        assert_eq!(desk.refund_as(&how, hold, 1).await, Err(LedgerRefusal::Unexplained), "{actor:?} {reason:?}");
    }
    desk.refund("key", hold, 1).await.unwrap();
    let row = desk.row("select actor, reason from ops where key = $1", "refund:key".to_owned()).await;
    assert_eq!((row["actor"].as_str(), row["reason"].as_str()), (Some("somebody"), Some("for a reason")));
    desk.clean().await;
}
