//! Claims of tasks that take turns: of those with one concurrency key, so many run at once.
//!
//! Whoever claims under a key holds its lock, so that nobody else counts or takes meanwhile, and counts in a statement of
//! its own, which sees everything that was committed before the lock was had. The lock is an advisory one of the
//! transaction: a row for each key would stay behind for ever. Commits wait for the disk: a claim that a crash of the
//! database forgot would let one more task run than may.

use sqlx::Row;

use super::PostgresStore;
use super::leases::read;
use crate::store::{Claim, Claimed, StoreError};

/// The locks of all keys, in the order of their numbers. Keys whose numbers are equal wait for each other without need.
const LOCK: &str = "
select pg_advisory_xact_lock(number)
from (
  select distinct hashtextextended(tenant_id || ' ' || concurrency_key, 0) as number
  from tasks
  where id = any($1) and concurrency_key is not null
  order by number
) as keys";

/// A task's place counts what runs, what was kept back before and is older, and what is asked for and older. Runs and
/// tasks are locked as in every claim; what somebody else has locked is left out.
const CLAIM: &str = "
with asked as materialized (
  select t.id, t.run_id, t.tenant_id, t.concurrency_key as key, t.concurrency_max as most, t.priority, t.ready_at
  from tasks t
  join runs r on r.id = t.run_id
  where t.id = any($1) and t.state || '' = 'ready' and t.concurrency_key is not null and r.state in ('queued', 'running')
),
busy as materialized (
  select k.tenant_id, k.key, count(*) as count
  from (select distinct tenant_id, key from asked) k
  join tasks t on t.tenant_id = k.tenant_id and t.concurrency_key = k.key
  where t.state = 'running' and t.lease_until > $5
  group by k.tenant_id, k.key
),
placed as materialized (
  select a.id, a.key, a.most,
    coalesce(b.count, 0)
    + row_number() over (partition by a.tenant_id, a.key order by a.ready_at - a.priority * 60000, a.id)
    + (
      select count(*) from tasks h
      where h.tenant_id = a.tenant_id and h.concurrency_key = a.key and h.state = 'ready' and h.held_since is not null
        and h.id <> all($1)
        and (h.ready_at - h.priority * 60000, h.id) < (a.ready_at - a.priority * 60000, a.id)
    ) as place
  from asked a
  left join busy b on b.tenant_id = a.tenant_id and b.key = a.key
),
waking as materialized (
  select id from runs where id in (select run_id from asked) and state = 'queued' order by id for update
),
picked as materialized (
  select t.id, r.price_book_id, r.heard as run_heard, p.key, p.most, p.place
  from tasks t
  join placed p on p.id = t.id
  join runs r on r.id = t.run_id
  where (select count(*) from waking) >= 0 and t.state || '' = 'ready' and r.state in ('queued', 'running')
  order by t.id
  for update of t skip locked
),
claimed as (
  update tasks
  set state = 'running', status_reason = 'running', attempt = attempt + 1, fence = fence + 1,
    lease_token = $2, lease_until = $3, worker_id = $4, started_at = $5, held_since = null
  from picked
  where tasks.id = picked.id and picked.place <= picked.most
  returning tasks.id, tenant_id, mission_id, run_id, workflow_id, node_index, node_at, base, layer, item, ancestors, bound,
    pool, attempt, failures, fence, lease_until, ready_at, heard, picked.price_book_id, picked.run_heard
),
kept_back as (
  update tasks
  set held_since = coalesce(tasks.held_since, $5),
    status_reason = 'waits for its turn: place ' || (picked.place - picked.most) || ' in line for concurrency key `'
      || picked.key || '`, of which at most ' || picked.most || ' may run at once'
  from picked
  where tasks.id = picked.id and picked.place > picked.most
),
woken as (
  update runs set state = 'running', status_reason = null, started_at = $5
  where id in (select run_id from claimed) and state = 'queued'
)
select row_to_json(claimed)::text from claimed";

/// Takes as many as may run, and keeps back the others: they stay ready, and are not handed out until their turn.
pub(super) async fn claim(store: &PostgresStore, claim: &Claim, ids: &[String]) -> Result<Vec<Claimed>, StoreError> {
    let mut tx = store.pool.begin().await?;
    sqlx::query(LOCK).bind(ids).execute(&mut *tx).await?;
    let rows = sqlx::query(CLAIM)
        .bind(ids)
        .bind(&claim.token)
        .bind(claim.now.plus_ms(claim.lease_ms).ms())
        .bind(claim.worker_id.to_string())
        .bind(claim.now.ms())
        .fetch_all(&mut *tx)
        .await?;
    tx.commit().await?;
    store.count(1, 4);
    rows.iter().map(|row| read(row.try_get(0)?)).collect()
}
