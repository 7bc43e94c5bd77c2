//! The queue's promises, asked of both implementations, and what only a Redis can do.

mod shares;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bursar::clock::Clock;
use bursar::link::RedisLink;
use bursar::queue::{MemoryQueue, Queue, ReadyTask, RedisQueue};
use bursar_domain::id::{TaskId, TenantId};
use bursar_domain::time::Timestamp;
use uuid::Uuid;

use crate::support::eventually;
use crate::support::redis::TestRedis;

const POOL: &str = "agent";
const NO_WAIT: Duration = Duration::ZERO;
const PATIENCE: Duration = Duration::from_secs(15);

fn task(tenant: u128, number: u128) -> ReadyTask {
    ReadyTask {
        task_id: TaskId::from_uuid(Uuid::from_u128(number)),
        tenant_id: TenantId::from_uuid(Uuid::from_u128(tenant)),
        pool: POOL.to_owned(),
        weight: 1,
        priority: 0,
        ready_at: Timestamp::from_ms(1_800_000_000_000 + number as i64),
    }
}

fn numbers(tasks: &[TaskId]) -> Vec<u128> {
    tasks.iter().map(|id| id.uuid().as_u128()).collect()
}

fn ids(numbers: &[u128]) -> Vec<TaskId> {
    numbers.iter().map(|number| TaskId::from_uuid(Uuid::from_u128(*number))).collect()
}

/// A queue, and the server it stands on where there is one.
struct Fixture {
    queue: Arc<dyn Queue>,
    redis: Option<TestRedis>,
}

async fn in_redis() -> Fixture {
    let redis = TestRedis::start().await;
    Fixture { queue: queue_on(&redis), redis: Some(redis) }
}

async fn in_memory() -> Fixture {
    Fixture { queue: Arc::new(MemoryQueue::default()), redis: None }
}

fn queue_on(redis: &TestRedis) -> Arc<dyn Queue> {
    Arc::new(RedisQueue::new(RedisLink::new(&redis.url()).unwrap(), Arc::new(Clock::new())))
}

async fn pop(queue: &Arc<dyn Queue>, most: usize) -> Vec<u128> {
    numbers(&queue.pop(POOL, most, NO_WAIT).await.unwrap())
}

/// One test function, two named tests: `…::memory::name` and `…::redis::name`.
macro_rules! on_both_queues {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::in_memory().await).await;
            })*
        }
        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::in_redis().await).await;
            })*
        }
    };
}

on_both_queues!(
    a_flood_of_one_tenant_does_not_delay_another,
    a_tenant_that_comes_again_and_again_does_not_starve_one_that_waits,
    within_a_tenant_priority_goes_before_age,
    pushing_twice_is_harmless,
    pools_are_apart,
    a_pop_takes_no_more_than_it_may,
    a_push_wakes_who_waits,
    an_empty_queue_answers_after_the_wait,
    many_takers_get_each_task_once,
);

async fn a_flood_of_one_tenant_does_not_delay_another(fixture: Fixture) {
    let queue = &fixture.queue;
    let flood: Vec<ReadyTask> = (1..=1_000).map(|number| task(1, number)).collect();
    queue.push(&flood).await.unwrap();
    assert_eq!(pop(queue, 4).await, [1, 2, 3, 4]);
    queue.push(&[task(2, 5_000), task(2, 5_001), task(3, 6_000)]).await.unwrap();
    let taken = pop(queue, 6).await;
    assert!([5_000, 5_001, 6_000].iter().all(|number| taken.contains(number)), "{taken:?}");
    assert_eq!(taken.len(), 6, "what the others leave, the flood gets");
}

async fn a_tenant_that_comes_again_and_again_does_not_starve_one_that_waits(fixture: Fixture) {
    let queue = &fixture.queue;
    let backlog: Vec<ReadyTask> = (1..=20).map(|number| task(1, number)).collect();
    queue.push(&backlog).await.unwrap();
    // a chain of steps: the next becomes ready when the last one was taken
    queue.push(&[task(2, 1_000)]).await.unwrap();
    let mut of_backlog = 0;
    for round in 1..=20 {
        for number in pop(queue, 1).await {
            if number < 1_000 {
                of_backlog += 1;
            } else {
                queue.push(&[task(2, 1_000 + round)]).await.unwrap();
            }
        }
    }
    assert!((8..=12).contains(&of_backlog), "{of_backlog} of 20 turns");
}

async fn within_a_tenant_priority_goes_before_age(fixture: Fixture) {
    let mut tasks = [task(1, 10), task(1, 11), task(1, 9), task(1, 12)];
    tasks[1].priority = 200;
    tasks[3].priority = -200;
    fixture.queue.push(&tasks).await.unwrap();
    assert_eq!(pop(&fixture.queue, 10).await, [11, 9, 10, 12]);
}

async fn pushing_twice_is_harmless(fixture: Fixture) {
    let queue = &fixture.queue;
    queue.push(&[task(1, 1), task(1, 1)]).await.unwrap();
    queue.push(&[task(1, 1), task(1, 2)]).await.unwrap();
    assert_eq!(queue.depth(POOL).await.unwrap(), 2);
    assert_eq!(pop(queue, 10).await, [1, 2]);
    queue.confirm(POOL, &ids(&[1, 2]), &[]).await.unwrap();
    assert_eq!((pop(queue, 10).await.len(), queue.depth(POOL).await.unwrap()), (0, 0));
    queue.push(&[]).await.unwrap();
    queue.confirm(POOL, &[], &[]).await.unwrap();
}

async fn pools_are_apart(fixture: Fixture) {
    let queue = &fixture.queue;
    let other = ReadyTask { pool: "default".to_owned(), ..task(1, 2) };
    queue.push(&[task(1, 1), other]).await.unwrap();
    assert_eq!((queue.depth(POOL).await.unwrap(), queue.depth("default").await.unwrap()), (1, 1));
    assert_eq!(numbers(&queue.pop("default", 10, NO_WAIT).await.unwrap()), [2]);
    assert_eq!(pop(queue, 10).await, [1]);
    assert_eq!(queue.depth("unheard-of").await.unwrap(), 0);
}

async fn a_pop_takes_no_more_than_it_may(fixture: Fixture) {
    let queue = &fixture.queue;
    let tasks: Vec<ReadyTask> = (1..=30).map(|number| task(number % 7, number)).collect();
    queue.push(&tasks).await.unwrap();
    let mut seen = BTreeSet::new();
    for most in [1, 2, 5, 10, 0, 12] {
        let taken = pop(queue, most).await;
        assert_eq!(taken.len(), most);
        seen.extend(taken);
    }
    assert_eq!(seen.len(), 30);
}

async fn a_push_wakes_who_waits(fixture: Fixture) {
    let queue = fixture.queue.clone();
    let waiter = tokio::spawn(async move { queue.pop(POOL, 4, PATIENCE).await.unwrap() });
    // pushed again and again until the waiter has one, however late it began to wait
    let woken = eventually("who waits is woken", Duration::from_secs(5), || async {
        fixture.queue.push(&[task(1, 1)]).await.unwrap();
        waiter.is_finished().then_some(())
    });
    woken.await;
    assert_eq!(numbers(&waiter.await.unwrap()), [1]);
}

async fn an_empty_queue_answers_after_the_wait(fixture: Fixture) {
    // wake-ups of tasks that somebody took meanwhile do not cut the wait short
    fixture.queue.push(&[task(1, 1), task(1, 2), task(2, 3)]).await.unwrap();
    let taken = fixture.queue.pop(POOL, 10, NO_WAIT).await.unwrap();
    fixture.queue.confirm(POOL, &taken, &[]).await.unwrap();
    let start = Instant::now();
    let wait = Duration::from_millis(300);
    assert!(fixture.queue.pop(POOL, 4, wait).await.unwrap().is_empty());
    let waited = start.elapsed();
    assert!(waited >= wait && waited < wait * 4, "{waited:?}");
}

async fn many_takers_get_each_task_once(fixture: Fixture) {
    let tasks: Vec<ReadyTask> = (1..=500).map(|number| task(number % 11, number)).collect();
    let takers: Vec<_> = (0..8)
        .map(|_| {
            let queue = fixture.queue.clone();
            tokio::spawn(async move {
                let mut all = Vec::new();
                loop {
                    let taken = queue.pop(POOL, 7, Duration::from_millis(400)).await.unwrap();
                    if taken.is_empty() {
                        return all;
                    }
                    queue.confirm(POOL, &taken, &[]).await.unwrap();
                    all.extend(numbers(&taken));
                }
            })
        })
        .collect();
    for chunk in tasks.chunks(50) {
        fixture.queue.push(chunk).await.unwrap();
    }
    let mut all = Vec::new();
    for taker in takers {
        all.extend(taker.await.unwrap());
    }
    // a taker may have given up before the last push
    loop {
        let rest = pop(&fixture.queue, 100).await;
        if rest.is_empty() {
            break;
        }
        all.extend(rest);
    }
    all.sort_unstable();
    assert_eq!(all, (1..=500).collect::<Vec<u128>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_confirmed_comes_back_after_two_seconds() {
    let fixture = in_redis().await;
    let queue = &fixture.queue;
    queue.push(&[task(1, 1), task(1, 2), task(2, 3)]).await.unwrap();
    let start = Instant::now();
    assert_eq!(pop(queue, 10).await.len(), 3);
    assert_eq!(queue.depth(POOL).await.unwrap(), 3, "popped is not gone");
    queue.confirm(POOL, &ids(&[2]), &[]).await.unwrap();
    assert_eq!((queue.depth(POOL).await.unwrap(), pop(queue, 10).await.len()), (2, 0));
    let back: BTreeSet<u128> = eventually("both come back", PATIENCE, || {
        let queue = queue.clone();
        async move { Some(pop(&queue, 10).await).filter(|taken| !taken.is_empty()) }
    })
    .await
    .into_iter()
    .collect();
    assert!(start.elapsed() >= Duration::from_millis(1_990), "{:?}", start.elapsed());
    assert_eq!(back, BTreeSet::from([1, 3]));
    queue.confirm(POOL, &ids(&[1, 3]), &[]).await.unwrap();
    assert_eq!(queue.depth(POOL).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flushed_server_says_that_it_knows_nothing() {
    let fixture = in_redis().await;
    let (queue, redis) = (&fixture.queue, fixture.redis.as_ref().unwrap());
    queue.push(&[task(1, 1), task(2, 2)]).await.unwrap();
    pop(queue, 1).await;
    redis.flush().await;
    assert_eq!(queue.depth(POOL).await.unwrap(), 0);
    assert!(pop(queue, 10).await.is_empty());
    queue.push(&[task(1, 1)]).await.unwrap();
    assert_eq!((queue.depth(POOL).await.unwrap(), pop(queue, 10).await), (1, vec![1]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_died_is_an_error_until_it_is_back() {
    let mut fixture = in_redis().await;
    let (queue, mut redis) = (fixture.queue.clone(), fixture.redis.take().unwrap());
    queue.push(&[task(1, 1)]).await.unwrap();
    redis.kill();
    assert!(queue.ping().await.is_err());
    assert!(queue.push(&[task(1, 2)]).await.is_err());
    assert!(queue.pop(POOL, 1, Duration::from_millis(100)).await.is_err());
    assert!(queue.depth(POOL).await.is_err());
    redis.start_again().await;
    eventually("the queue is back by itself", PATIENCE, || async { queue.ping().await.ok() }).await;
    queue.push(&[task(1, 3)]).await.unwrap();
    assert_eq!(numbers(&queue.pop(POOL, 5, Duration::from_millis(100)).await.unwrap()), [3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_starts_before_its_server_finds_it_later() {
    let mut redis = TestRedis::start().await;
    redis.kill();
    let queue = queue_on(&redis);
    assert!(queue.pop(POOL, 1, NO_WAIT).await.is_err());
    redis.start_again().await;
    eventually("the queue finds its server", PATIENCE, || async { queue.push(&[task(1, 1)]).await.ok() }).await;
    assert_eq!(pop(&queue, 1).await, [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_share_one_queue() {
    let fixture = in_redis().await;
    let other = queue_on(fixture.redis.as_ref().unwrap());
    fixture.queue.push(&[task(1, 1), task(2, 2)]).await.unwrap();
    assert_eq!(other.depth(POOL).await.unwrap(), 2);
    let (a, b) = (pop(&fixture.queue, 1).await, pop(&other, 1).await);
    assert_eq!(BTreeSet::from([a[0], b[0]]), BTreeSet::from([1, 2]));
    let waiter = tokio::spawn(async move { other.pop(POOL, 1, PATIENCE).await.unwrap() });
    let woken = eventually("a push of one process wakes the other", Duration::from_secs(5), || async {
        fixture.queue.push(&[task(1, 9)]).await.unwrap();
        waiter.is_finished().then_some(())
    });
    woken.await;
    assert_eq!(numbers(&waiter.await.unwrap()), [9]);
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_by_name() {
    let refused = RedisLink::new("http://localhost").unwrap_err();
    assert!(refused.to_string().contains("REDIS_URL"), "{refused}");
}
