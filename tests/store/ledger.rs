//! The ledger's rows: append-only by the database's own will, and shown as entries that balance.

use bursar::store::StoreError;
use serde_json::json;

use crate::support::hand::{DIAMOND, Hand, succeeded};
use crate::support::stores::{Storage, on_both_stores};

on_both_stores!(ledger_with_operations:
    the_database_refuses_to_change_an_operation,
    entries_are_the_legs_of_all_operations,
    a_wallet_shows_its_operations_newest_first,
);

/// A grant of 10, a diamond that ran its first node: holds, a settle.
async fn ledger_with_operations(storage: Storage) -> Hand {
    let mut hand = Hand::new(storage).await;
    hand.grant(10).await;
    let workflow = hand.put(DIAMOND).await;
    let (_, ready) = hand.start(workflow).await;
    let (claimed, token) = hand.claim(&ready).await;
    hand.settle(&claimed[0], &token, succeeded(json!({"a": 1}))).await.unwrap();
    hand
}

async fn the_database_refuses_to_change_an_operation(hand: Hand) {
    let before = hand.table("ops", "wallet_id, key").await;
    assert_eq!(before.len(), 5);
    let mut attempts = vec![
        "update ops set actor = 'somebody'",
        "update ops set legs = legs where kind = 'grant'",
        "delete from ops",
        "delete from ops where kind = 'settle'",
    ];
    if hand.store.dialect() == bursar::store::Dialect::Postgres {
        attempts.push("truncate ops");
        attempts.push("truncate ops, holds cascade");
    }
    for attempt in attempts {
        let refused = hand.store.execute(attempt, &[]).await;
        let Err(StoreError::Refused(reason)) = refused else { panic!("{attempt}: {refused:?}") };
        assert!(reason.contains("append-only"), "{attempt}: {reason}");
    }
    assert_eq!(hand.table("ops", "wallet_id, key").await, before);
}

async fn entries_are_the_legs_of_all_operations(hand: Hand) {
    let rows = hand.table("entries", "op_id, source, destination").await;
    // grant; hold of a; its settle (all of it captured: 1 leg); holds of b and c
    assert_eq!(rows.len(), 5);
    let sum = |column: &str, prefix: &str| -> i64 {
        rows.iter()
            .filter(|row| row[column].as_str().unwrap().starts_with(prefix))
            .map(|row| row["amount_ucr"].as_i64().unwrap())
            .sum()
    };
    let wallet = hand.store.wallet(None, hand.wallet, hand.now).await.unwrap().unwrap();
    assert_eq!(sum("source", "issue"), 10_000_000);
    assert_eq!(sum("destination", "grant:") - sum("source", "grant:"), wallet.available_ucr.get());
    assert_eq!(sum("destination", "hold:") - sum("source", "hold:"), wallet.held_ucr.get());
    assert_eq!(
        10_000_000,
        wallet.available_ucr.get() + wallet.held_ucr.get() + sum("destination", "usage"),
        "what was issued is available, held or used"
    );
}

async fn a_wallet_shows_its_operations_newest_first(hand: Hand) {
    let all = hand.store.entries(hand.wallet, None, 100).await.unwrap();
    let kinds: Vec<&str> = all.iter().map(|op| op.kind.as_str()).collect();
    assert_eq!(kinds, ["hold", "hold", "settle", "hold", "grant"]);
    let mut pages = Vec::new();
    let mut before = None;
    loop {
        let page = hand.store.entries(hand.wallet, before, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        pages.extend(page);
    }
    assert_eq!(pages, all, "pages neither repeat nor leave out");
    assert_eq!(
        all[0].available_after_ucr,
        hand.store.wallet(None, hand.wallet, hand.now).await.unwrap().unwrap().available_ucr
    );
    let holds = hand.store.open_holds(hand.wallet, None, 10).await.unwrap();
    assert_eq!(holds.len(), 2);
    assert!(holds[0].id > holds[1].id);
    assert_eq!(hand.store.open_holds(hand.wallet, Some(holds[0].id), 10).await.unwrap(), holds[1..]);
    let grants = hand.store.grants(hand.wallet, None, 10).await.unwrap();
    assert_eq!((grants.len(), grants[0].kind.as_str()), (1, "paid"));
}
