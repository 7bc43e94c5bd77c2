//! Shares: who is next, by what runs and by weights; asked of both queues, and of one against the other.

use std::collections::BTreeMap;

use bursar::queue::Running;

use super::*;

macro_rules! shares {
    ($open:ident: $($name:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            super::$name(super::super::$open().await).await;
        })*
    };
}
macro_rules! all_shares {
    ($open:ident) => {
        shares!($open:
            weights_share_slots_by_what_runs,
            weights_count_on_a_single_slot_too,
            what_runs_counts_until_its_lease_ends,
            a_new_weight_counts_for_what_waits,
            a_task_is_passed_only_by_what_came_within_its_priority,
        );
    };
}
mod memory {
    all_shares!(in_memory);
}
mod redis {
    all_shares!(in_redis);
}

const LEASE_MS: i64 = 60_000;

fn runs(tenant: u128, task: TaskId, lease_ms: i64) -> Running {
    Running { task_id: task, tenant_id: TenantId::from_uuid(Uuid::from_u128(tenant)), pool: POOL.to_owned(), lease_ms }
}

/// Tasks of tenant 1 are numbered below 10,000, those of tenant 2 from there on, and so forth.
fn owner(number: u128) -> u128 {
    number / 10_000 + 1
}

fn backlog(tenant: u128, count: u128, weight: u16) -> Vec<ReadyTask> {
    (0..count).map(|number| ReadyTask { weight, ..task(tenant, (tenant - 1) * 10_000 + number + 1) }).collect()
}

async fn claim(queue: &Arc<dyn Queue>, most: usize, lease_ms: i64) -> Vec<u128> {
    let taken = queue.pop(POOL, most, NO_WAIT).await.unwrap();
    let granted: Vec<Running> = taken.iter().map(|id| runs(owner(id.uuid().as_u128()), *id, lease_ms)).collect();
    queue.confirm(POOL, &taken, &granted).await.unwrap();
    numbers(&taken)
}

fn end(queue: &Arc<dyn Queue>, number: u128) {
    let task = TaskId::from_uuid(Uuid::from_u128(number));
    queue.end(POOL, TenantId::from_uuid(Uuid::from_u128(owner(number))), task);
}

async fn weights_share_slots_by_what_runs(fixture: Fixture) {
    let queue = &fixture.queue;
    queue.push(&backlog(1, 2_000, 3)).await.unwrap();
    queue.push(&backlog(2, 2_000, 1)).await.unwrap();
    // 16 slots; tasks of the first tenant last five rounds, those of the second one
    let mut running: Vec<(u128, u32)> = Vec::new();
    let (mut first, mut all) = (0_usize, 0_usize);
    for round in 0..120 {
        running.retain_mut(|(number, left)| {
            *left -= 1;
            if *left == 0 {
                end(queue, *number);
            }
            *left > 0
        });
        for number in claim(queue, 16 - running.len(), LEASE_MS).await {
            running.push((number, if owner(number) == 1 { 5 } else { 1 }));
        }
        if round >= 20 {
            first += running.iter().filter(|(number, _)| owner(*number) == 1).count();
            all += running.len();
        }
    }
    assert_eq!(all, 1_600, "no slot is left free");
    assert!((1_120..=1_280).contains(&first), "{first} of 1,600 slots, 1,200 are due");
}

async fn weights_count_on_a_single_slot_too(fixture: Fixture) {
    let queue = &fixture.queue;
    queue.push(&backlog(1, 400, 3)).await.unwrap();
    queue.push(&backlog(2, 400, 1)).await.unwrap();
    let mut first = 0;
    for _ in 0..200 {
        let taken = claim(queue, 1, LEASE_MS).await;
        first += usize::from(owner(taken[0]) == 1);
        end(queue, taken[0]);
    }
    assert!((145..=155).contains(&first), "{first} of 200");
}

async fn what_runs_counts_until_its_lease_ends(fixture: Fixture) {
    let queue = &fixture.queue;
    queue.push(&backlog(1, 10_000 - 1, 1)).await.unwrap();
    assert_eq!(claim(queue, 16, 700).await.len(), 16);
    // a worker that was killed tells nobody; until then the newcomer catches up
    queue.push(&backlog(2, 100, 1)).await.unwrap();
    assert!(claim(queue, 8, LEASE_MS).await.into_iter().all(|number| owner(number) == 2));
    eventually("leases of the dead to end", PATIENCE, || async {
        let taken = claim(queue, 1, LEASE_MS).await;
        end(queue, taken[0]);
        (owner(taken[0]) == 1).then_some(())
    })
    .await;
}

async fn a_new_weight_counts_for_what_waits(fixture: Fixture) {
    let queue = &fixture.queue;
    queue.push(&backlog(1, 100, 1)).await.unwrap();
    queue.push(&backlog(2, 100, 1)).await.unwrap();
    queue.weigh(POOL, &[(TenantId::from_uuid(Uuid::from_u128(1)), 3)]).await.unwrap();
    let taken = claim(queue, 40, LEASE_MS).await;
    assert_eq!(taken.iter().filter(|number| owner(**number) == 1).count(), 30);
}

async fn a_task_is_passed_only_by_what_came_within_its_priority(fixture: Fixture) {
    let at = |number: u128, priority: i16, minutes: i64| {
        let old = task(1, number);
        ReadyTask { priority, ready_at: Timestamp::from_ms(1_800_000_000_000 + minutes * 60_000), ..old }
    };
    let tasks = [at(1, -100, 0), at(2, 100, 199), at(3, 100, 202), at(4, 0, 99), at(5, 0, 101), at(6, 5, 104)];
    fixture.queue.push(&tasks).await.unwrap();
    assert_eq!(pop(&fixture.queue, 6).await, [2, 4, 6, 1, 5, 3]);
}

/// A generator of our own with a seed, so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_queues_give_the_same_order() {
    for seed in 1..=6_u64 {
        let (redis, memory) = (in_redis().await, in_memory().await);
        let mut dice = Dice(seed);
        let mut running: BTreeMap<u128, u128> = BTreeMap::new();
        let mut next = [0_u128; 6];
        for step in 0..400 {
            match dice.roll(4) {
                0 | 1 => {
                    let tenant = dice.roll(6) as usize;
                    let number = tenant as u128 * 10_000 + next[tenant] + 1;
                    next[tenant] += 1;
                    let mut one = task(tenant as u128 + 1, number);
                    one.weight = [1, 1, 2, 3, 7, 1_000][tenant];
                    one.priority = dice.roll(5) as i16 - 2;
                    for queue in [&redis.queue, &memory.queue] {
                        queue.push(std::slice::from_ref(&one)).await.unwrap();
                    }
                }
                2 => {
                    let most = dice.roll(5) as usize + 1;
                    let (left, right) =
                        (claim(&redis.queue, most, LEASE_MS).await, claim(&memory.queue, most, LEASE_MS).await);
                    assert_eq!(left, right, "seed {seed}, step {step}");
                    running.extend(left.into_iter().map(|number| (number, owner(number))));
                }
                _ => {
                    let many = running.len() as u64;
                    let Some(number) = running.keys().nth(dice.roll(many.max(1)) as usize).copied() else { continue };
                    running.remove(&number);
                    end(&redis.queue, number);
                    end(&memory.queue, number);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushall_in_the_middle_costs_order_only() {
    let Fixture { queue, redis } = in_redis().await;
    queue.push(&backlog(1, 100, 3)).await.unwrap();
    let before = claim(&queue, 10, LEASE_MS).await;
    let redis = redis.unwrap();
    redis.flush().await;
    for number in &before {
        end(&queue, *number);
    }
    queue.push(&backlog(1, 100, 3)).await.unwrap();
    let mut seen = BTreeSet::new();
    while seen.len() < 100 {
        let taken = claim(&queue, 16, LEASE_MS).await;
        assert!(!taken.is_empty(), "{} of 100", seen.len());
        seen.extend(taken);
    }
}
