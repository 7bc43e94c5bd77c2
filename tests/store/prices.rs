//! Price books and the calls that they can price again: pages neither repeat nor leave out.

use bursar::clock::new_id;
use bursar::store::Arg;
use bursar_domain::credits::Ucr;
use bursar_domain::id::{CallId, Id, PriceBookId, TenantId};
use bursar_domain::time::Timestamp;
use bursar_domain::usage::Usage;
use serde_json::json;

use crate::support::hand::Hand;
use crate::support::stores::on_both_stores;

on_both_stores!(Hand::new:
    a_book_is_added_once_and_active_when_it_was_activated_last,
    books_come_newest_first_page_by_page,
    used_calls_come_page_by_page_of_one_tenant_or_of_all,
);

/// An id of a moment.
fn id_at(ms: u64, number: u8) -> CallId {
    Id::from_uuid(uuid::Builder::from_unix_timestamp_millis(ms, &[number; 10]).into_uuid())
}

async fn add_book(hand: &mut Hand, hash: &str) -> PriceBookId {
    let id = new_id();
    let content = json!({"name": hash});
    assert!(hand.store.add_prices(id, hash, hash, &content, hand.now).await.unwrap());
    id
}

async fn a_book_is_added_once_and_active_when_it_was_activated_last(mut hand: Hand) {
    let first = hand.prices;
    let second = add_book(&mut hand, "second").await;
    let (store, now) = (hand.store.clone(), hand.now);
    assert!(!store.add_prices(new_id(), "another", "second", &json!({}), now).await.unwrap(), "the content is known");
    assert_eq!(store.price_book_by_hash("second").await.unwrap().unwrap().id, second);
    assert_eq!(store.active_prices().await.unwrap(), Some(first), "nothing becomes active by itself");
    // three times in one millisecond, and once by a clock that runs behind
    for (id, at) in [(second, now), (first, now), (second, now), (first, now.plus_ms(-60_000))] {
        assert!(store.activate_price_book(id, at).await.unwrap());
        assert_eq!(store.active_prices().await.unwrap(), Some(id));
    }
    assert!(!store.activate_price_book(new_id(), now).await.unwrap());
    let view = store.price_book(second).await.unwrap().unwrap();
    assert_eq!((view.name.as_str(), view.content), ("second", Some(json!({"name": "second"}))));
    assert_eq!(store.price_book(new_id()).await.unwrap(), None);
}

async fn books_come_newest_first_page_by_page(mut hand: Hand) {
    let mut all = vec![hand.prices];
    for number in 0..4 {
        all.push(add_book(&mut hand, &format!("book-{number}")).await);
    }
    all.sort_unstable();
    all.reverse();
    let mut found = Vec::new();
    loop {
        let page = hand.store.price_book_list(found.last().copied(), 2).await.unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 2 && page.iter().all(|book| book.content.is_none()));
        found.extend(page.iter().map(|book| book.id));
    }
    assert_eq!(found, all);
}

async fn add_call(hand: &Hand, id: CallId, tenant: TenantId, at: i64, is_known: bool) {
    let sql = "
        insert into usage_calls (id, tenant_id, mission_id, run_id, task_id, attempt, number, request_hash, provider,
          model, state, reserved_ucr, cost_ucr, billable, estimated, usage, created_at, ended_at)
        values ($1, $2, 'm', 'r', 't', 1, 1, 'h', 'p', 'model', 'done', 0, 5, 1 = 1, 1 = 0, {json:3}, $4, $4)";
    let usage = if is_known {
        json!({"input_tokens": 7, "cache_write_tokens": 3, "cache_write_1h_tokens": 2})
    } else {
        json!(null)
    };
    let args: [Arg; 4] = [id.into(), tenant.into(), usage.into(), Timestamp::from_ms(at).into()];
    hand.store.execute(sql, &args).await.unwrap();
    if !is_known {
        hand.store.execute("update usage_calls set usage = null where id = $1", &[id.into()]).await.unwrap();
    }
}

async fn used_calls_come_page_by_page_of_one_tenant_or_of_all(hand: Hand) {
    let other: TenantId = new_id();
    let since = 1_000_000_i64;
    let mut ours = Vec::new();
    for number in 0..7_u8 {
        // several in one millisecond, and ids out of the order of time
        let (id, at) = (id_at(2_000_000 - u64::from(number), number), since + i64::from(number / 3));
        add_call(&hand, id, hand.tenant, at, true).await;
        ours.push((at, id));
    }
    add_call(&hand, id_at(1_500_000, 100), hand.tenant, since - 1, true).await;
    add_call(&hand, id_at(1_500_000, 101), hand.tenant, since + 9, false).await;
    let theirs = id_at(1_500_000, 102);
    add_call(&hand, theirs, other, since + 1, true).await;

    let (since, mut after, mut found) = (Timestamp::from_ms(since), None, Vec::new());
    loop {
        let page = hand.store.used_calls(hand.tenant, since, after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.created_at, last.id));
        found.extend(page.iter().map(|call| (call.created_at.ms(), call.id)));
    }
    ours.sort_unstable();
    assert_eq!(found, ours);

    let (mut after, mut found) = (id_at(0, 0), Vec::new());
    loop {
        let page = hand.store.all_used_calls(since, after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.id;
        found.extend(page.iter().map(|call| call.id));
        let usage = Usage { input_tokens: 7, cache_write_tokens: 3, cache_write_1h_tokens: 2, ..Usage::default() };
        assert!(page.iter().all(|call| call.usage == usage && call.cost_ucr == Ucr::new(5) && call.billable));
    }
    let mut all = ours.iter().map(|(_, id)| *id).chain([theirs]).collect::<Vec<_>>();
    all.sort_unstable();
    assert_eq!(found, all);
}
