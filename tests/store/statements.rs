//! What owners are shown of their money: transactions that follow the balance, statements that add up to the entries.

use bursar::store::read::{MovementKind, OpFilter, StatementView, TransactionView};
use bursar_domain::credits::Ucr;
use bursar_domain::ledger;
use bursar_domain::time::Timestamp;
use serde_json::{Value, json};

use crate::support::hand::{DIAMOND, Hand, succeeded};
use crate::support::stores::{Storage, on_both_stores};

on_both_stores!(a_ledger_of_every_kind:
    a_statement_is_what_the_entries_say,
    statements_follow_one_another_without_a_gap,
    transactions_are_what_the_owner_gained_and_lost,
    with_holds_the_available_credits_can_be_followed,
    operations_are_filtered_and_paged,
    a_grant_is_found_by_its_reference,
);

const DAY_MS: i64 = 86_400_000;

/// Posts an operation as it stands, beside the ledger's own rules: its amounts leave no trace on the wallet's row.
async fn post(hand: &mut Hand, kind: &str, legs: Value, available_after: i64) {
    let id: bursar_domain::id::OpId = hand.id();
    let sql = "
        insert into ops (id, wallet_id, tenant_id, kind, key, request_hash, legs, actor, reason, available_after_ucr, created_at)
        values ($1, $2, $3, $4, $5, '', {json:6}, 'key_x', 'by hand', $7, $8)";
    let args = [
        id.into(),
        hand.wallet.into(),
        hand.tenant.into(),
        kind.into(),
        format!("{kind}:{id}").into(),
        legs.into(),
        available_after.into(),
        hand.now.into(),
    ];
    hand.store.execute(sql, &args).await.unwrap();
}

/// Day 1: a grant of 10 and one that expires. Day 2: a diamond of which two nodes settle. Day 3: the grant expires.
/// Day 4: a refund, corrections both ways, a debt and its end.
async fn a_ledger_of_every_kind(storage: Storage) -> Hand {
    let mut hand = Hand::new(storage).await;
    hand.grant(10).await;
    let short = hand.grant_request(Ucr::from_credits(3), Some(hand.now.plus_ms(2 * DAY_MS)));
    let want = bursar::store::Want::wallets([hand.wallet]);
    hand.decide(&want, |turn| ledger::grant(turn.set, &short, turn.now)).await.unwrap().unwrap();

    hand.now = hand.now.plus_ms(DAY_MS);
    let workflow = hand.put(DIAMOND).await;
    let (_, ready) = hand.start(workflow).await;
    let (claimed, token) = hand.claim(&ready).await;
    let settled = hand.settle(&claimed[0], &token, succeeded(json!({"a": 1}))).await.unwrap();
    let (claimed, token) = hand.claim(&settled.ready).await;
    hand.settle(&claimed[0], &token, succeeded(json!({"b": 1}))).await.unwrap();

    hand.now = hand.now.plus_ms(DAY_MS);
    let want = bursar::store::Want { grants: vec![short.id], ..want };
    hand.decide(&want, |turn| ledger::expire(turn.set, short.id, op_of(&short), turn.now)).await.unwrap().unwrap();

    hand.now = hand.now.plus_ms(DAY_MS);
    let wallet = hand.store.wallet(None, hand.wallet, hand.now).await.unwrap().unwrap();
    let grant = format!("grant:{}", hand.store.grants(hand.wallet, None, 10).await.unwrap().last().unwrap().id);
    let mut available = wallet.available_ucr.get();
    for (kind, legs, change) in [
        ("refund", json!([["usage", grant, 400], ["fee", grant, 100]]), 500),
        ("adjust", json!([["adjust", grant, 30]]), 30),
        ("adjust", json!([[grant, "adjust", 7]]), -7),
        ("settle", json!([["debt", "usage", 11]]), 0),
        ("write_off", json!([["writeoff", "debt", 11]]), 0),
    ] {
        available += change;
        post(&mut hand, kind, legs, available).await;
    }
    hand
}

/// An id for a second operation of the same request.
fn op_of(request: &bursar_domain::ledger::GrantRequest) -> bursar_domain::id::OpId {
    bursar_domain::id::Id::from_uuid(uuid::Uuid::from_u128(request.op_id.uuid().as_u128() ^ 1))
}

const BEGIN: Timestamp = Timestamp::from_ms(1_800_000_000_000);

async fn statement(hand: &Hand, from_day: i64, to_day: i64) -> StatementView {
    let (from, to) = (BEGIN.plus_ms(from_day * DAY_MS), BEGIN.plus_ms(to_day * DAY_MS));
    hand.store.statement(hand.wallet, from, to).await.unwrap()
}

fn moved(statement: &StatementView, kind: MovementKind) -> i64 {
    statement.movements.iter().find(|(of, _)| *of == kind).unwrap().1.get()
}

async fn a_statement_is_what_the_entries_say(hand: Hand) {
    let all = statement(&hand, 0, 30).await;
    let entries = hand.table("entries", "op_id").await;
    let sum = |source: &str, destination: &str| -> i64 {
        let of = |row: &&Value, column: &str, prefix: &str| row[column].as_str().unwrap().starts_with(prefix);
        let rows = entries.iter().filter(|row| of(row, "source", source) && of(row, "destination", destination));
        rows.map(|row| row["amount_ucr"].as_i64().unwrap()).sum()
    };
    assert_eq!(all.opening.total_ucr, Ucr::ZERO);
    for (kind, amount) in [
        (MovementKind::Granted, 13_000_000),
        (MovementKind::Refunded, 500),
        (MovementKind::AdjustedUp, 30),
        (MovementKind::AdjustedDown, -7),
        (MovementKind::WrittenOff, 11),
        (MovementKind::Usage, -sum("", "usage")),
        (MovementKind::Fees, -sum("", "fee")),
        (MovementKind::Expired, -sum("", "breakage")),
        (MovementKind::Other, 0),
    ] {
        assert_eq!(moved(&all, kind), amount, "{kind:?}");
    }
    assert!(moved(&all, MovementKind::Usage) < -11 && moved(&all, MovementKind::Expired) < -2_000_000);
    assert_eq!(all.closing.available_ucr.get(), sum("", "grant:") - sum("grant:", ""));
    assert_eq!(all.closing.held_ucr.get(), sum("", "hold:") - sum("hold:", ""));
    assert_eq!(all.closing.debt_ucr.get(), sum("debt", "") - sum("", "debt"));
    let wallet = hand.store.wallet(None, hand.wallet, hand.now).await.unwrap().unwrap();
    // what was posted by hand is in the entries alone: 500 + 30 − 7
    assert_eq!(all.closing.available_ucr.get(), wallet.available_ucr.get() + 523);
    assert_eq!(all.closing.held_ucr, wallet.held_ucr);
    assert!(wallet.held_ucr.is_positive(), "something is held at the end");
}

async fn statements_follow_one_another_without_a_gap(hand: Hand) {
    let mut before = statement(&hand, -1, 0).await.closing;
    assert_eq!(before.total_ucr, Ucr::ZERO);
    for day in 0..5 {
        let of_day = statement(&hand, day, day + 1).await;
        assert_eq!(of_day.opening, before, "day {day} opens with what the day before left");
        let moves: i64 = of_day.movements.iter().map(|(_, amount)| amount.get()).sum();
        assert_eq!(of_day.opening.total_ucr.get() + moves, of_day.closing.total_ucr.get(), "day {day}");
        before = of_day.closing;
    }
    assert_eq!(before, statement(&hand, 0, 30).await.closing);
    assert_eq!(moved(&statement(&hand, 2, 3).await, MovementKind::Granted), 0);
    assert!(moved(&statement(&hand, 2, 3).await, MovementKind::Expired) < 0);
}

async fn transactions_are_what_the_owner_gained_and_lost(hand: Hand) {
    let filter = OpFilter { only_transactions: true, ..OpFilter::of(hand.wallet, 100) };
    let rows = hand.store.transactions(&filter).await.unwrap();
    let kinds: Vec<&str> = rows.iter().rev().map(TransactionView::kind).collect();
    let expected =
        ["grant", "grant", "charge", "charge", "expire", "refund", "adjust", "adjust", "charge", "write_off"];
    let mut sorted = (kinds, expected.to_vec());
    sorted.0.sort_unstable();
    sorted.1.sort_unstable();
    assert_eq!(sorted.0, sorted.1);
    for row in &rows {
        let is_loss = matches!(row.kind(), "charge" | "expire") || row.amount_ucr == Ucr::new(-7);
        assert_eq!(row.amount_ucr < Ucr::ZERO, is_loss, "{row:?}");
        assert!(!row.amount_ucr.is_zero() && row.op.key.ends_with(row.reference()), "{row:?}");
    }
    let total: i64 = rows.iter().map(|row| row.amount_ucr.get()).sum();
    assert_eq!(total, statement(&hand, 0, 30).await.closing.total_ucr.get());
}

async fn with_holds_the_available_credits_can_be_followed(hand: Hand) {
    let rows = hand.store.transactions(&OpFilter::of(hand.wallet, 100)).await.unwrap();
    assert!(rows.iter().any(|row| row.kind() == "hold" && row.amount_ucr.is_zero()));
    let (newest, oldest) = (rows.first().unwrap(), rows.last().unwrap());
    let changes: i64 = rows.iter().map(|row| row.available_change_ucr.get()).sum();
    assert_eq!(oldest.op.available_after_ucr, oldest.available_change_ucr);
    assert_eq!(changes, statement(&hand, 0, 30).await.closing.available_ucr.get());
    assert!(rows.iter().any(|row| row.op.id == newest.op.id));
}

async fn operations_are_filtered_and_paged(hand: Hand) {
    let filter = OpFilter { only_transactions: true, ..OpFilter::of(hand.wallet, 100) };
    let all = hand.store.transactions(&filter).await.unwrap();
    let mut paged = Vec::new();
    let mut page = OpFilter { limit: 3, ..filter.clone() };
    loop {
        let rows = hand.store.transactions(&page).await.unwrap();
        let Some(last) = rows.last() else { break };
        page.before = Some(last.op.id);
        paged.extend(rows);
    }
    assert_eq!(paged, all, "pages neither repeat nor leave out");

    let count = async |filter: OpFilter| hand.store.ops(&filter).await.unwrap().len();
    let of = || OpFilter::of(hand.wallet, 100);
    assert_eq!(count(OpFilter { kinds: vec!["grant".to_owned(), "refund".to_owned()], ..of() }).await, 3);
    let day = |day: i64| Some(BEGIN.plus_ms(day * DAY_MS));
    assert_eq!(count(OpFilter { from: day(2), to: day(3), ..of() }).await, 1, "the expiry");
    let mission = all.iter().find_map(|row| row.op.mission_id).unwrap();
    let task = all.iter().find_map(|row| row.op.task_id).unwrap();
    assert_eq!(count(OpFilter { mission: Some(mission), ..of() }).await, 5, "three holds, two settles; the last waits");
    assert_eq!(count(OpFilter { task: Some(task), ..of() }).await, 2, "its hold and its settle");
}

async fn a_grant_is_found_by_its_reference(mut hand: Hand) {
    let request = hand.grant_request(Ucr::new(5), Some(hand.now.plus_ms(1)));
    let want = bursar::store::Want::wallets([hand.wallet]);
    hand.decide(&want, |turn| ledger::grant(turn.set, &request, turn.now)).await.unwrap().unwrap();
    let keys = [(hand.wallet, request.key()), (hand.wallet, "grant:nothing".to_owned())];
    let found = hand.store.granted(&keys).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].id, found[0].amount_ucr, found[0].expires_at), (request.id, Ucr::new(5), request.expires_at));
    assert_eq!((found[0].key.as_str(), found[0].kind.as_str()), (request.key().as_str(), "paid"));
}
