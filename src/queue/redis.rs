//! The queue in Redis: per pool a ring of tenants and per tenant a sorted set of unique ids.
//!
//! All keys of a pool share a hash tag, so that the scripts work on a cluster. Blocking pops have a connection of
//! their own; everything else shares one that reconnects by itself. No error of Redis ends anything: callers
//! fall back to the store and come back.

mod look;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bursar_domain::id::{TaskId, TenantId};
use redis::Script;
use redis::aio::MultiplexedConnection;
use tokio::sync::Mutex;

use super::{LOOK, POPPED_MS, Question, Queue, QueueError, QueueLook, ReadyTask, Running, TURN_STEP};
use crate::clock::Clock;
use crate::link::{LinkError, RedisLink};

/// Beginnings and ends that one pop tells of, and that wait in this process at most: what is dropped counts until its
/// lease ends.
const MOST_TOLD: usize = 1_024;
/// How long a set of running tasks is kept that nobody adds to.
const RUNNING_KEPT_MS: i64 = 600_000;

/// A beginning or an end that others have not heard of: tenant, task, until when in ms (0: it ended).
type News = (TenantId, TaskId, i64);

impl From<LinkError> for QueueError {
    fn from(error: LinkError) -> Self {
        Self(error.0)
    }
}

impl From<redis::RedisError> for QueueError {
    fn from(error: redis::RedisError) -> Self {
        Self(error.to_string())
    }
}

/// Ready tasks in Redis.
pub struct RedisQueue {
    link: RedisLink,
    clock: Arc<Clock>,
    push: Script,
    pop: Script,
    /// A connection per pool for blocking pops.
    blocking: Mutex<HashMap<String, MultiplexedConnection>>,
    /// What began and ended here since the last pop, by pool.
    news: std::sync::Mutex<HashMap<String, Vec<News>>>,
}

impl std::fmt::Debug for RedisQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RedisQueue")
    }
}

struct Keys {
    ring: String,
    wake: String,
    epoch: String,
    popped: String,
    homes: String,
    turn: String,
    tenants: String,
    running: String,
    weights: String,
}

impl Keys {
    fn of(pool: &str) -> Self {
        let key = |name: &str| format!("bursar:{{{pool}}}:{name}");
        Self {
            ring: key("ring"),
            wake: key("wake"),
            epoch: key("epoch"),
            popped: key("popped"),
            homes: key("homes"),
            turn: key("turn"),
            tenants: key("tenant:"),
            running: key("running:"),
            weights: key("weights"),
        }
    }
}

impl RedisQueue {
    /// A queue on that server.
    pub fn new(link: RedisLink, clock: Arc<Clock>) -> Self {
        Self {
            link,
            clock,
            push: Script::new(include_str!("push.lua")),
            pop: Script::new(include_str!("pop.lua")),
            blocking: Mutex::default(),
            news: std::sync::Mutex::default(),
        }
    }

    fn note(&self, pool: &str, news: News) {
        let mut pools = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = pools.entry(pool.to_owned()).or_default();
        if waiting.len() < MOST_TOLD {
            waiting.push(news);
        }
    }

    fn news(&self, pool: &str) -> Vec<News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).remove(pool).unwrap_or_default()
    }

    async fn take(&self, pool: &str, keys: &Keys, most: usize) -> Result<Vec<TaskId>, QueueError> {
        let mut connection = self.link.connection().await?;
        let mut call = self.pop.prepare_invoke();
        call.key(&keys.ring)
            .key(&keys.popped)
            .key(&keys.homes)
            .key(&keys.turn)
            .key(&keys.tenants)
            .key(&keys.running)
            .key(&keys.weights)
            .arg(self.clock.now().ms())
            .arg(most)
            .arg(POPPED_MS)
            .arg(LOOK)
            .arg(TURN_STEP);
        // what does not arrive counts until its lease ends
        for (tenant, task, until) in self.news(pool) {
            call.arg(tenant.to_string()).arg(task.to_string()).arg(until);
        }
        let ids: Vec<String> = call.invoke_async(&mut connection).await?;
        // an id that is none was not put there by us: the store would not know it either
        Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// Waits until something is pushed, at most `wait`.
    async fn wait(&self, keys: &Keys, wait: Duration) -> Result<bool, QueueError> {
        let own = self.blocking.lock().await.remove(&keys.wake);
        let mut connection = match own {
            Some(connection) => connection,
            None => self.link.blocking_connection(Duration::from_secs(1)).await?,
        };
        let answer: Option<(String, String)> =
            redis::cmd("BLPOP").arg(&keys.wake).arg(wait.as_secs_f64()).query_async(&mut connection).await?;
        self.blocking.lock().await.insert(keys.wake.clone(), connection);
        Ok(answer.is_some())
    }
}

#[async_trait]
impl Queue for RedisQueue {
    async fn push(&self, tasks: &[ReadyTask]) -> Result<(), QueueError> {
        let mut pools: Vec<&str> = tasks.iter().map(|task| task.pool.as_str()).collect();
        pools.sort_unstable();
        pools.dedup();
        let mut connection = self.link.connection().await?;
        for pool in pools {
            let keys = Keys::of(pool);
            let of_pool: Vec<&ReadyTask> = tasks.iter().filter(|task| task.pool == pool).collect();
            for chunk in of_pool.chunks(256) {
                let mut call = self.push.prepare_invoke();
                call.key(&keys.ring).key(&keys.wake).key(&keys.epoch).key(&keys.turn).key(&keys.tenants);
                call.key(&keys.weights).arg(self.clock.now().ms()).arg(TURN_STEP);
                for task in chunk {
                    call.arg(task.tenant_id.to_string()).arg(task.task_id.to_string());
                    call.arg(task.score()).arg(task.weight.max(1));
                }
                let _: i64 = call.invoke_async(&mut connection).await?;
            }
        }
        Ok(())
    }

    async fn pop(&self, pool: &str, most: usize, wait: Duration) -> Result<Vec<TaskId>, QueueError> {
        let keys = Keys::of(pool);
        let deadline = Instant::now() + wait;
        loop {
            let tasks = self.take(pool, &keys, most).await?;
            // less than a millisecond counts as none: to Redis zero is for ever
            let left = deadline.saturating_duration_since(Instant::now());
            if !tasks.is_empty() || left < Duration::from_millis(1) {
                return Ok(tasks);
            }
            // a wake-up may be of a task that somebody else took: then there is still time left
            if !self.wait(&keys, left).await? {
                return Ok(Vec::new());
            }
        }
    }

    async fn confirm(&self, pool: &str, tasks: &[TaskId], granted: &[Running]) -> Result<(), QueueError> {
        if tasks.is_empty() {
            return Ok(());
        }
        let keys = Keys::of(pool);
        let ids: Vec<String> = tasks.iter().map(ToString::to_string).collect();
        let mut connection = self.link.connection().await?;
        let mut pipe = redis::pipe();
        pipe.zrem(&keys.popped, &ids).ignore().hdel(&keys.homes, &ids).ignore();
        let now = self.clock.now();
        // what was not granted counts no longer than it would have stayed popped
        let mut by_tenant: BTreeMap<TenantId, Vec<(i64, String)>> = BTreeMap::new();
        for one in granted {
            let entry = (now.plus_ms(one.lease_ms).ms(), one.task_id.to_string());
            by_tenant.entry(one.tenant_id).or_default().push(entry);
        }
        for (tenant, entries) in by_tenant {
            let key = format!("{}{tenant}", keys.running);
            pipe.zadd_multiple(&key, &entries).ignore().pexpire(&key, RUNNING_KEPT_MS).ignore();
        }
        pipe.query_async::<()>(&mut connection).await?;
        Ok(())
    }

    fn begin(&self, running: Running) {
        let until = self.clock.now().plus_ms(running.lease_ms).ms();
        self.note(&running.pool, (running.tenant_id, running.task_id, until));
    }

    fn end(&self, pool: &str, tenant: TenantId, task: TaskId) {
        self.note(pool, (tenant, task, 0));
    }

    async fn renew(&self, running: &[Running]) -> Result<(), QueueError> {
        let now = self.clock.now();
        // a pool without free slots pops nothing, and what was handed over there would not be heard of for long
        let news = std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner));
        let mut connection = self.link.connection().await?;
        for (pool, news) in news {
            let prefix = Keys::of(&pool).running;
            let mut pipe = redis::pipe();
            for (tenant, task, until) in news {
                let key = format!("{prefix}{tenant}");
                if until == 0 {
                    pipe.zrem(&key, task.to_string()).ignore();
                } else {
                    pipe.zadd(&key, task.to_string(), until).ignore().pexpire(&key, RUNNING_KEPT_MS).ignore();
                }
            }
            pipe.query_async::<()>(&mut connection).await?;
        }
        for chunk in running.chunks(256) {
            let mut pipe = redis::pipe();
            for one in chunk {
                let key = format!("{}{}", Keys::of(&one.pool).running, one.tenant_id);
                let until = now.plus_ms(one.lease_ms).ms();
                pipe.cmd("ZADD").arg(&key).arg("XX").arg(until).arg(one.task_id.to_string()).ignore();
                pipe.pexpire(&key, RUNNING_KEPT_MS).ignore();
            }
            pipe.query_async::<()>(&mut connection).await?;
        }
        Ok(())
    }

    async fn weigh(&self, pool: &str, weights: &[(TenantId, u16)]) -> Result<(), QueueError> {
        if weights.is_empty() {
            return Ok(());
        }
        let keys = Keys::of(pool);
        let mut connection = self.link.connection().await?;
        let mut pipe = redis::pipe();
        for (tenant, weight) in weights {
            match weight {
                0 | 1 => pipe.hdel(&keys.weights, tenant.to_string()).ignore(),
                weight => pipe.hset(&keys.weights, tenant.to_string(), weight).ignore(),
            };
        }
        pipe.query_async::<()>(&mut connection).await?;
        Ok(())
    }

    async fn depth(&self, pool: &str) -> Result<u64, QueueError> {
        let keys = Keys::of(pool);
        let mut connection = self.link.connection().await?;
        let epoch: Option<String> = redis::cmd("GET").arg(&keys.epoch).query_async(&mut connection).await?;
        if epoch.is_none() {
            return Ok(0);
        }
        let tenants: Vec<String> =
            redis::cmd("ZRANGE").arg(&keys.ring).arg(0).arg(255).query_async(&mut connection).await?;
        let mut pipe = redis::pipe();
        pipe.zcard(&keys.popped);
        for tenant in tenants {
            pipe.zcard(format!("{}{tenant}", keys.tenants));
        }
        let counts: Vec<u64> = pipe.query_async(&mut connection).await?;
        Ok(counts.into_iter().sum())
    }

    async fn look(&self, pool: &str, question: &Question<'_>) -> Result<QueueLook, QueueError> {
        let mut connection = self.link.connection().await?;
        look::look(&mut connection, &Keys::of(pool), self.clock.now().ms(), question).await
    }

    async fn ping(&self) -> Result<(), QueueError> {
        let mut connection = self.link.connection().await?;
        redis::cmd("PING").query_async::<()>(&mut connection).await?;
        Ok(())
    }

    fn name(&self) -> &'static str {
        "redis"
    }
}
