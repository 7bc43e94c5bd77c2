//! Natural keys: each kind of operation has one that is used once for ever. The same again changes nothing and is
//! answered with what the first time did; another body under the same key is refused by name.

use bursar::store::{Conflict, StoreError, Want};
use bursar_domain::credits::Ucr;
use bursar_domain::id::HoldId;
use bursar_domain::ledger::{self, LedgerRefusal, Subject};
use serde_json::Value;

use super::desk::{CREDIT, Desk, priced};
use crate::support::stores::on_both_stores;

on_both_stores!(Desk::open:
    a_grants_key_is_its_reference,
    a_grant_that_is_repeated_after_its_deadline_is_the_first_and_a_new_one_is_refused,
    a_holds_key_is_its_owner_and_number,
    a_settles_key_is_its_hold_and_a_release_has_the_same,
    an_adjustments_and_a_write_offs_key_is_their_reference,
    each_resize_of_a_hold_has_a_key_of_its_own,
    an_expiry_happens_once,
    a_key_is_used_once_per_wallet_whatever_was_loaded,
);

fn reused<T>(key: &str) -> Result<T, LedgerRefusal> {
    Err(LedgerRefusal::KeyReused(key.to_owned()))
}

async fn keys(desk: &Desk) -> Vec<String> {
    let text = |row: &Value| row["key"].as_str().unwrap().to_owned();
    desk.hand.table("ops", "created_at, id").await.iter().map(text).collect()
}

async fn a_grants_key_is_its_reference(mut desk: Desk) {
    let mut request = desk.hand.grant_request(Ucr::from_credits(5), None);
    "invoice-7".clone_into(&mut request.reference);
    let mut post = async |request: &ledger::GrantRequest| {
        let want = Want { op_keys: vec![(request.wallet_id, request.key())], ..Want::wallets([request.wallet_id]) };
        desk.decide(want, |turn| ledger::grant(turn.set, request, turn.now)).await.unwrap()
    };
    let first = post(&request).await.unwrap();
    let again = ledger::GrantRequest { id: bursar::clock::new_id(), op_id: bursar::clock::new_id(), ..request.clone() };
    assert_eq!(post(&again).await, Ok(first));
    for other in [
        ledger::GrantRequest { amount: Ucr::new(1), ..again.clone() },
        ledger::GrantRequest { priority: 1, ..again.clone() },
        ledger::GrantRequest { kind: bursar_domain::record::GrantKind::Promo, ..again.clone() },
        ledger::GrantRequest { expires_at: Some(bursar_domain::time::Timestamp::from_ms(i64::MAX)), ..again },
    ] {
        assert_eq!(post(&other).await, reused("grant:invoice-7"));
    }
    assert_eq!(desk.purse().await, (105 * CREDIT, 0, 0));
    desk.clean().await;
}

async fn a_grant_that_is_repeated_after_its_deadline_is_the_first_and_a_new_one_is_refused(mut desk: Desk) {
    let deadline = desk.hand.now.plus_ms(500);
    let request = desk.hand.grant_request(Ucr::from_credits(5), Some(deadline));
    let another = desk.hand.grant_request(Ucr::from_credits(5), Some(deadline));
    let post = async |desk: &mut Desk, request: &ledger::GrantRequest| {
        let want = Want { op_keys: vec![(request.wallet_id, request.key())], ..Want::wallets([request.wallet_id]) };
        desk.decide(want, |turn| ledger::grant(turn.set, request, turn.now)).await.unwrap()
    };
    let first = post(&mut desk, &request).await.unwrap();
    desk.pass_ms(500);
    assert_eq!(post(&mut desk, &request).await, Ok(first), "its answer got lost");
    assert_eq!(post(&mut desk, &another).await, Err(LedgerRefusal::ExpiredAlready));
    desk.sweep().await;
    assert_eq!(post(&mut desk, &request).await, Ok(first));
    assert_eq!(desk.purse().await, (100 * CREDIT, 0, 0));
    desk.clean().await;
}

async fn a_holds_key_is_its_owner_and_number(mut desk: Desk) {
    let first = desk.hold_for_call("call", CREDIT, 1_000).await.unwrap();
    assert_eq!(desk.hold_for_call("call", CREDIT, 1_000).await, Ok(first));
    assert_eq!(desk.hold_for_call("call", CREDIT + 1, 1_000).await, reused("hold:call:1"));
    assert_eq!(desk.purse().await, (99 * CREDIT, CREDIT, 0));
    desk.clean().await;
}

async fn release(desk: &mut Desk, hold: HoldId) -> Result<Ucr, LedgerRefusal> {
    let op = desk.hand.id();
    let op_keys = vec![(desk.hand.wallet, ledger::settle_key(hold))];
    let want = Want { holds: vec![hold], op_keys, ..Want::wallets([desk.hand.wallet]) };
    desk.decide(want, |turn| ledger::release(turn.set, hold, op, Subject::default(), turn.now)).await.unwrap()
}

async fn a_settles_key_is_its_hold_and_a_release_has_the_same(mut desk: Desk) {
    let settled = desk.hold_for_call("settled", 4 * CREDIT, 60_000).await.unwrap();
    let first = desk.charge(settled, 3 * CREDIT).await.unwrap();
    assert_eq!((first.captured.get(), first.returned.get()), (3 * CREDIT, CREDIT));
    assert_eq!(desk.charge(settled, 3 * CREDIT).await, Ok(first));
    let key = ledger::settle_key(settled);
    assert_eq!(desk.charge(settled, CREDIT).await, reused(&key));
    assert_eq!(release(&mut desk, settled).await, reused(&key));
    let released = desk.hold_for_call("released", 4 * CREDIT, 60_000).await.unwrap();
    assert_eq!(release(&mut desk, released).await, Ok(Ucr::from_credits(4)));
    assert_eq!(release(&mut desk, released).await, Ok(Ucr::from_credits(4)));
    assert_eq!(desk.charge(released, 0).await, reused(&ledger::settle_key(released)));
    assert_eq!(desk.purse().await, (97 * CREDIT, 0, 0));
    desk.clean().await;

    // beyond every hold and grant: the repetition says so too
    let beyond = desk.hold_for_call("beyond", CREDIT, 60_000).await.unwrap();
    let first = desk.charge(beyond, 100 * CREDIT).await.unwrap();
    assert_eq!(
        [first.captured, first.returned, first.overrun, first.debt].map(Ucr::get),
        [1, 0, 96, 3].map(|n| n * CREDIT)
    );
    assert_eq!(desk.charge(beyond, 100 * CREDIT).await, Ok(first));
    desk.clean().await;
}

async fn an_adjustments_and_a_write_offs_key_is_their_reference(mut desk: Desk) {
    let up = desk.adjust("up", CREDIT).await.unwrap();
    let down = desk.adjust("down", -CREDIT).await.unwrap();
    assert_eq!((desk.adjust("up", CREDIT).await, desk.adjust("down", -CREDIT).await), (Ok(up), Ok(down)));
    assert_eq!(desk.adjust("up", -CREDIT).await, reused("adjust:up"));
    assert_eq!(desk.purse().await, (100 * CREDIT, 0, 0));
    // a reference belongs to its kind: nobody's refund is in the way of an adjustment
    let hold = desk.hold_for_call("call", CREDIT, 1_000).await.unwrap();
    desk.charge(hold, 102 * CREDIT).await.unwrap();
    desk.write_off("up", CREDIT).await.unwrap();
    desk.refund("up", hold, CREDIT).await.unwrap();
    assert_eq!(desk.write_off("up", CREDIT / 2).await, reused("writeoff:up"));
    assert_eq!(desk.purse().await.2, 0);
    desk.clean().await;
}

async fn each_resize_of_a_hold_has_a_key_of_its_own(mut desk: Desk) {
    let hold = desk.hold_for_call("call", CREDIT, 60_000).await.unwrap();
    for keep in [2, 1, 3, 2] {
        let op = desk.hand.id();
        let want = Want { holds: vec![hold], ..Want::wallets([desk.hand.wallet]) };
        let held = desk.hold(hold).await[0];
        let more = keep * CREDIT - held;
        let resize = |turn: &mut bursar_domain::flow::Turn<'_>| {
            if more > 0 {
                ledger::top_up(turn.set, hold, op, Ucr::new(more), Subject::default(), turn.now)
            } else {
                ledger::shrink(turn.set, hold, op, Ucr::new(keep * CREDIT), Subject::default(), turn.now).map(drop)
            }
        };
        desk.decide(want, resize).await.unwrap().unwrap();
        desk.clean().await;
    }
    let resizes: Vec<_> = keys(&desk).await.into_iter().filter(|key| key.contains(&hold.to_string())).collect();
    let expected = [("topup", 1), ("shrink", 2), ("topup", 3), ("shrink", 4)];
    assert_eq!(resizes, expected.map(|(kind, number)| format!("{kind}:{hold}:{number}")));
    assert_eq!(desk.purse().await, (98 * CREDIT, 2 * CREDIT, 0));
}

async fn an_expiry_happens_once(mut desk: Desk) {
    let grant = desk.give_as(CREDIT, bursar_domain::record::GrantKind::Promo, 99, Some(1_000)).await;
    let hold = desk.hold_for_call("call", CREDIT, 1_000).await.unwrap();
    desk.pass_ms(1_000);
    for _ in 0..3 {
        desk.sweep().await;
    }
    let wanted = [format!("expire:{grant}"), format!("expire:{hold}")];
    let mut expiries: Vec<_> = keys(&desk).await.into_iter().filter(|key| key.starts_with("expire:")).collect();
    expiries.sort();
    assert_eq!(expiries, wanted);
    assert_eq!(desk.purse().await, (100 * CREDIT, 0, 0));
    desk.clean().await;
}

async fn a_key_is_used_once_per_wallet_whatever_was_loaded(mut desk: Desk) {
    // who does not look first is told by the store, and nothing of it is written
    desk.adjust("key", CREDIT).await.unwrap();
    let how = desk.correction("key");
    let blind = Want::wallets([how.wallet_id]);
    let refused = desk.decide(blind, |turn| ledger::adjust(turn.set, &how, Ucr::new(CREDIT), turn.now)).await;
    assert!(matches!(refused, Err(StoreError::Conflict(Conflict::LedgerKey))), "{refused:?}");
    assert_eq!(desk.purse().await, (101 * CREDIT, 0, 0));
    // another wallet's keys are its own
    let (tenant, wallet) = (desk.hand.id(), desk.hand.id());
    desk.hand.open_wallet(tenant, wallet, "second").await;
    let theirs = ledger::Correction { wallet_id: wallet, ..desk.correction("key") };
    let want = Want { op_keys: vec![(wallet, ledger::adjust_key("key"))], ..Want::wallets([wallet]) };
    let posted = desk.decide(want, |turn| ledger::adjust(turn.set, &theirs, Ucr::new(7), turn.now)).await.unwrap();
    assert_eq!(posted, Ok(theirs.op_id));
    desk.start(&priced("flat_fee: 0,", &[1])).await;
    desk.clean().await;
}
