//! Buckets, places and gates, asked directly.

use std::time::{Duration, Instant};

use bursar::clock::new_id;
use bursar::link::RedisLink;
use bursar::rates::{Ask, Lesson, Limit, ProviderLimits, RateLimits, Rates, Refused, Taken};
use bursar_domain::outcome::RateKind;

use super::limits;
use crate::support::eventually;
use crate::support::redis::TestRedis;

const PATIENCE: Duration = Duration::from_secs(20);

fn ask(tokens: u64, caller: &str) -> Ask {
    let (provider, model, caller) = ("p".to_owned(), "m".to_owned(), caller.to_owned());
    Ask { provider, model, tenant: new_id(), tokens, caller }
}

/// Rates on that Redis, as one process has them.
fn on(redis: &TestRedis, limits: RateLimits) -> Rates {
    Rates::shared(limits, RedisLink::new(&redis.url()).unwrap())
}

/// Asks as ever new callers until one is refused.
async fn drain(rates: &Rates, tokens: u64) -> (Vec<Taken>, Refused) {
    let mut taken = Vec::new();
    loop {
        match rates.ask(&ask(tokens, &format!("caller {}", taken.len()))).await {
            Ok(one) => taken.push(one),
            Err(refused) => return (taken, *refused),
        }
    }
}

/// The same expectations of both homes.
async fn in_both_homes(limits: RateLimits, check: impl AsyncFn(Rates)) {
    check(Rates::local(limits.clone())).await;
    let redis = TestRedis::start().await;
    let shared = on(&redis, limits);
    check(shared.clone()).await;
    assert!(shared.is_shared());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_together_stay_below_the_limit() {
    let redis = TestRedis::start().await;
    let limits = limits("p", Some(300), None);
    let (one, other) = (on(&redis, limits.clone()), on(&redis, limits));
    let began = Instant::now();
    let (mine, theirs) = tokio::join!(drain(&one, 1), drain(&other, 1));
    let together = (mine.0.len() + theirs.0.len()) as u128;
    let most = 300 + began.elapsed().as_millis() * 300 / 60_000 + 1;
    assert!(together >= 300 && together <= most, "{together} calls, {most} at most");
    assert_eq!(mine.1.kind, RateKind::Provider);
    assert_eq!(mine.1.reason, "waits for the rate limit of provider `p`: 300 requests a minute");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_correction_gives_back_and_takes_more() {
    in_both_homes(limits("p", None, Some(1_000)), async |rates| {
        let first = rates.ask(&ask(600, "first")).await.unwrap();
        rates.ended(&first, true, Some(100), Lesson::Alive).await;
        let left = rates.look().await.levels[0].left;
        assert!((900..=960).contains(&left), "500 came back: {left}");
        let second = rates.ask(&ask(100, "second")).await.unwrap();
        rates.ended(&second, true, Some(1_200), Lesson::Alive).await;
        let left = rates.look().await.levels[0].left;
        assert!((-300..=-150).contains(&left), "1,100 more went: {left}");
        let unsent = rates.ask(&ask(10, "third")).await.unwrap_err().place.unwrap();
        rates.give_up(&unsent).await;
        let again = rates.look().await.levels[0].left;
        assert!(again >= left, "a place that was given up costs nothing: {again}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_was_never_sent_gives_its_request_back() {
    in_both_homes(limits("p", Some(10), None), async |rates| {
        let taken = rates.ask(&ask(1, "one")).await.unwrap();
        assert_eq!(rates.look().await.levels[0].left, 9);
        rates.ended(&taken, false, None, Lesson::Nothing).await;
        assert_eq!(rates.look().await.levels[0].left, 10);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_estimate_larger_than_the_bucket_is_clamped_and_comes_to_its_turn() {
    in_both_homes(limits("p", None, Some(60_000)), async |rates| {
        let huge = rates.ask(&ask(u64::MAX, "huge")).await.expect("a full bucket suffices");
        rates.ended(&huge, true, Some(59_000), Lesson::Alive).await;
        let refused = rates.ask(&ask(u64::MAX, "next")).await.unwrap_err();
        assert!((50_000..=60_000).contains(&refused.wait_ms), "it waits for a full one: {}", refused.wait_ms);
        let after = rates.ask(&ask(1_000, "small")).await.unwrap_err();
        assert!(after.wait_ms > refused.wait_ms, "nobody takes what it waits for: {}", after.wait_ms);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_who_is_refused_has_a_place_of_his_own_and_is_let_in_at_its_time() {
    in_both_homes(limits("p", Some(1_200), None), async |rates| {
        let (taken, first) = drain(&rates, 1).await;
        assert!(taken.len() >= 1_200);
        let second = rates.ask(&ask(1, "second")).await.unwrap_err();
        let third = rates.ask(&ask(1, "third")).await.unwrap_err();
        assert!(first.wait_ms <= 51 && second.wait_ms > 30 && third.wait_ms > second.wait_ms, "50 ms apart");
        let look = || async { rates.ask(&ask(1, "third")).await.ok() };
        eventually("the third is let in", PATIENCE, look).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_buckets_of_a_call_are_taken_or_none() {
    let of_model = Limit { requests: Some(1), tokens: None };
    let of_provider = ProviderLimits {
        all: Limit { requests: Some(100), tokens: None },
        models: [("m".to_owned(), of_model)].into(),
        ..ProviderLimits::default()
    };
    let limits = RateLimits { providers: [("p".to_owned(), of_provider)].into(), ..RateLimits::default() };
    in_both_homes(limits, async |rates| {
        rates.ask(&ask(1, "first")).await.unwrap();
        let refused = rates.ask(&ask(1, "second")).await.unwrap_err();
        assert_eq!(refused.kind, RateKind::Model);
        rates.give_up(&refused.place.unwrap()).await;
        let left: Vec<i64> = rates.look().await.levels.iter().map(|level| level.left).collect();
        assert_eq!(left, [99, 0], "of the provider, of the model");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_is_for_everybody() {
    let redis = TestRedis::start().await;
    let (one, other) = (on(&redis, RateLimits::default()), on(&redis, RateLimits::default()));
    let taken = one.ask(&ask(1, "one")).await.unwrap();
    one.ended(&taken, true, None, Lesson::Pause(30_000)).await;
    for rates in [&one, &other] {
        let refused = rates.ask(&ask(1, "two")).await.unwrap_err();
        assert_eq!(refused.kind, RateKind::Paused);
        assert!((28_000..=30_100).contains(&refused.wait_ms), "{}", refused.wait_ms);
    }
    let paused = other.look().await.gates["p"].paused_ms;
    assert!(paused > 28_000, "{paused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_breaker_opens_for_everybody_and_one_probe_closes_it() {
    let redis = TestRedis::start().await;
    let (one, other) = (on(&redis, RateLimits::default()), on(&redis, RateLimits::default()));
    for _ in 0..5 {
        let taken = one.ask(&ask(1, "one")).await.expect("it is closed");
        one.ended(&taken, true, None, Lesson::Fault).await;
    }
    for rates in [&one, &other] {
        assert_eq!(rates.ask(&ask(1, "two")).await.unwrap_err().kind, RateKind::CircuitOpen);
    }
    assert_eq!(other.look().await.gates["p"].breaker, "open");
    // its time is over
    let mut connection = redis.connection().await.unwrap();
    redis::cmd("HSET").arg("bursar:{rates}:gate:p").arg("open").arg(1).exec_async(&mut connection).await.unwrap();
    assert_eq!(other.look().await.gates["p"].breaker, "half_open");
    let callers: Vec<String> = (0..20).map(|number| format!("caller {number}")).collect();
    let asks = callers.iter().enumerate().map(async |(number, caller)| {
        let rates = if number % 2 == 0 { &one } else { &other };
        (number, rates.ask(&ask(1, caller)).await)
    });
    let answers = futures::future::join_all(asks).await;
    let probes: Vec<_> = answers.iter().filter_map(|(number, answer)| Some((*number, answer.as_ref().ok()?))).collect();
    assert_eq!(probes.len(), 1, "exactly one probe: {answers:?}");
    let (number, probe) = probes[0];
    assert!(probe.is_probe());
    let prober = if number % 2 == 0 { &one } else { &other };
    prober.ended(probe, true, None, Lesson::Alive).await;
    for rates in [&one, &other] {
        rates.ask(&ask(1, "after")).await.expect("it is closed again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_each_takes_its_share_and_returns_by_itself() {
    let mut redis = TestRedis::start().await;
    let limits = limits("p", Some(300), None);
    let (one, other) = (on(&redis, limits.clone()), on(&redis, limits));
    for rates in [&one, &other] {
        rates.share_with(2);
        rates.ask(&ask(1, "warm")).await.unwrap();
    }
    redis.kill();
    let began = Instant::now();
    let (mine, theirs) = (drain(&one, 1).await.0.len(), drain(&other, 1).await.0.len());
    let most = 150 + (began.elapsed().as_millis() * 150 / 60_000) as usize + 1;
    for calls in [mine, theirs] {
        assert!((150..=most).contains(&calls), "{calls} calls, {most} at most");
    }
    assert!(!one.is_shared() && !other.is_shared());
    redis.start_again().await;
    let back = || async { (one.is_shared() && other.is_shared()).then_some(()) };
    eventually("both count together again", PATIENCE, back).await;
    one.ask(&ask(1, "back")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushall_costs_a_burst() {
    let redis = TestRedis::start().await;
    let rates = on(&redis, limits("p", Some(100), None));
    drain(&rates, 1).await;
    redis.flush().await;
    let began = Instant::now();
    let burst = drain(&rates, 1).await.0.len();
    assert!((100..=101 + (began.elapsed().as_millis() / 600) as usize).contains(&burst), "{burst}");
}
