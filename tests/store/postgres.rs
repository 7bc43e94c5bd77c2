//! What only Postgres can do to us: cancelled waits, broken connections, transactions it wants repeated.

use std::time::Duration;

use bursar::store::{Beat, StoreError, Want};
use bursar_domain::id::{Id, MissionId};
use bursar_domain::ledger;
use serde_json::json;
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, Connection, Executor};

use crate::support::eventually;
use crate::support::hand::{DIAMOND, Hand, succeeded};
use crate::support::proxy::CountingProxy;
use crate::support::stores::Storage;

const PATIENCE: Duration = Duration::from_secs(20);

/// Another client of the same database.
async fn observer(hand: &Hand) -> PgPool {
    PgPool::connect(&hand.place.url()).await.unwrap()
}

/// The processes of our own sessions that fulfil a condition.
async fn sessions(observer: &PgPool, condition: &str) -> Vec<i32> {
    let sql = format!(
        "select pid from pg_stat_activity
         where datname = current_database() and application_name = 'bursar' and {condition}"
    );
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(observer).await.unwrap()
}

async fn waiting_for_a_lock(observer: &PgPool) -> i32 {
    let look = || async { sessions(observer, "wait_event_type = 'Lock'").await.first().copied() };
    eventually("a session waits for a lock", PATIENCE, look).await
}

/// A store with two connections and a mission.
async fn small_store() -> (Hand, MissionId) {
    let mut hand = Hand::new(Storage::Postgres).await;
    hand.grant(10).await;
    let workflow = hand.put(DIAMOND).await;
    let (mission, _) = hand.start(workflow).await;
    hand.store.close().await;
    hand.store = hand.place.open(2).await;
    (hand, mission)
}

fn of(mission: MissionId) -> Want {
    Want { missions: vec![mission], ..Want::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_was_cancelled_in_its_wait_leaves_no_broken_connection() {
    let (mut hand, mission) = small_store().await;
    let observer = observer(&hand).await;
    let mut holder = observer.acquire().await.unwrap();
    let mut lock = holder.begin().await.unwrap();
    lock.execute("select 1 from missions for update").await.unwrap();
    for _ in 0..2 {
        let store = hand.store.clone();
        let waiter = tokio::spawn(async move { store.transact(&of(mission), &mut |_| {}).await });
        let process = waiting_for_a_lock(&observer).await;
        sqlx::query("select pg_cancel_backend($1)").bind(process).execute(&observer).await.unwrap();
        let refused = waiter.await.unwrap();
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "it may be tried again: {refused:?}");
    }
    lock.rollback().await.unwrap();
    for _ in 0..6 {
        hand.decide(&of(mission), |turn| assert_eq!(turn.set.missions.len(), 1)).await.unwrap();
    }
    assert!(sessions(&observer, "state like 'idle in transaction%'").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_whose_caller_went_away_holds_no_lock() {
    let (mut hand, mission) = small_store().await;
    let observer = observer(&hand).await;
    let mut holder = observer.acquire().await.unwrap();
    let mut lock = holder.begin().await.unwrap();
    lock.execute("select 1 from missions for update").await.unwrap();
    let store = hand.store.clone();
    let waiter = tokio::spawn(async move { store.transact(&of(mission), &mut |_| {}).await });
    waiting_for_a_lock(&observer).await;
    waiter.abort();
    assert!(waiter.await.unwrap_err().is_cancelled());
    lock.rollback().await.unwrap();
    let quiet = || async {
        let idle = sessions(&observer, "state like 'idle in transaction%'").await;
        let busy = sessions(&observer, "state = 'active'").await;
        (idle.is_empty() && busy.is_empty()).then_some(())
    };
    eventually("no session keeps a transaction open", PATIENCE, quiet).await;
    hand.decide(&of(mission), |turn| assert_eq!(turn.set.missions.len(), 1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_connections_are_replaced() {
    let (mut hand, mission) = small_store().await;
    let observer = observer(&hand).await;
    for _ in 0..2 {
        hand.decide(&of(mission), |_| {}).await.unwrap();
        for process in sessions(&observer, "true").await {
            sqlx::query("select pg_terminate_backend($1)").bind(process).execute(&observer).await.unwrap();
        }
        let mut refusals = 0;
        while let Err(error) = hand.decide(&of(mission), |_| {}).await {
            assert!(error.is_transient(), "{error:?}");
            refusals += 1;
            assert!(refusals <= 2, "each broken connection is noticed once");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_must_be_repeated_happens_once() {
    let (mut hand, _) = small_store().await;
    // the first two inserts of a wallet fail as if they had met others; a sequence remembers across rollbacks
    let trouble = "
        create sequence tries;
        create function trouble() returns trigger language plpgsql as $$
        begin
          if nextval('tries') <= 2 then raise exception 'met others' using errcode = 'serialization_failure'; end if;
          return new;
        end $$;
        create trigger trouble before insert on wallets for each row execute function trouble()";
    observer(&hand).await.execute(trouble).await.unwrap();
    let (tenant, mut calls) = (hand.tenant, 0);
    let wallet = hand
        .decide(&Want::default(), |turn| {
            calls += 1;
            let wallet = Id::from_uuid(turn.chance.uuid());
            ledger::open_wallet(turn.set, wallet, tenant, turn.now);
            wallet
        })
        .await
        .unwrap();
    assert_eq!((calls, hand.store.counters().retries), (3, 2));
    assert_eq!(hand.count(&format!("wallets where id = '{wallet}'")).await, 1);
    assert_eq!(hand.count("wallets").await, 2);
}

/// Counted on the wire. Statements are prepared when a connection meets them first, so that the first of their kind
/// takes longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_takes_at_most_five_round_trips_on_the_wire() {
    let mut hand = Hand::new(Storage::Postgres).await;
    let proxy = CountingProxy::before(&hand.place.url()).await;
    hand.store.close().await;
    hand.store = bursar::store::open(&proxy.url(&hand.place.url()), 2).await.unwrap();
    hand.grant(100).await;
    let workflow = hand.put(DIAMOND).await;
    let mut fewest = [u64::MAX; 5];
    for _ in 0..12 {
        let start = proxy.round_trips();
        let (mission, ready) = hand.start(workflow).await;
        let submitted = proxy.round_trips();
        let (claimed, token) = hand.claim(&ready).await;
        let has_claimed = proxy.round_trips();
        hand.store
            .beat(&Beat { leases: vec![claimed[0].guard(&token)], lease_until: hand.now, now: hand.now })
            .await
            .unwrap();
        let beaten = proxy.round_trips();
        let counted = hand.store.counters();
        hand.settle(&claimed[0], &token, succeeded(json!({"a": 1}))).await.unwrap();
        let settled = proxy.round_trips();
        assert_eq!(hand.store.counters().commits - counted.commits, 1);
        let believed = hand.store.counters().round_trips - counted.round_trips;
        hand.decide(&of(mission), |_| {}).await.unwrap();
        let looked = proxy.round_trips();
        let trips =
            [submitted - start, has_claimed - submitted, beaten - has_claimed, settled - beaten, looked - settled];
        fewest.iter_mut().zip(trips).for_each(|(fewest, trips)| *fewest = trips.min(*fewest));
        assert_eq!(believed, 5, "the counters say what the wire says");
    }
    // as soon as a connection knows them all
    assert_eq!(fewest, [4, 1, 1, 5, 4], "submit, claim, heartbeat, settle, a look that changes nothing");
}
