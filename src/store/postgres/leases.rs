//! Claims and heartbeats: guarded batch updates, committed without waiting for the disk.

use sqlx::Row;

use super::{PostgresStore, turns};
use crate::store::{Beat, Claim, Claimed, LeaseFate, StoreError};

/// Queued runs are locked before tasks (the order of all transactions); tasks that somebody else has locked are
/// left out, they are being settled, ended or claimed. States are compared as expressions, so that the search begins
/// at the ids and not at all that is ready.
const CLAIM: &str = "
with named as materialized (
  select id, run_id, concurrency_key from tasks where id = any($1) and state || '' = 'ready'
),
asked as materialized (
  select id, run_id from named where concurrency_key is null
),
waking as materialized (
  select id from runs where id in (select run_id from asked) and state = 'queued' order by id for update
),
picked as materialized (
  select t.id, r.price_book_id, r.heard as run_heard
  from tasks t
  join runs r on r.id = t.run_id
  where (select count(*) from waking) >= 0
    and t.id in (select id from asked)
    and t.state || '' = 'ready'
    and r.state in ('queued', 'running')
  order by t.id
  for update of t skip locked
),
claimed as (
  update tasks
  set state = 'running', status_reason = 'running', attempt = attempt + 1, fence = fence + 1,
    lease_token = $2, lease_until = $3, worker_id = $4, started_at = $5
  from picked
  where tasks.id = picked.id
  returning tasks.id, tenant_id, mission_id, run_id, workflow_id, node_index, node_at, base, layer, item, ancestors, bound,
    pool, attempt, failures, fence, lease_until, ready_at, heard, picked.price_book_id, picked.run_heard
),
woken as (
  update runs set state = 'running', status_reason = null, started_at = $5
  where id in (select run_id from claimed) and state = 'queued'
)
select 'claimed', row_to_json(claimed)::text from claimed
union all
select 'takes_turns', id from named where concurrency_key is not null";

const BEAT: &str = "
with leases as (
  select l.id, l.fence, l.token from unnest($1::text[], $2::bigint[], $3::text[]) as l (id, fence, token)
),
held as materialized (
  select t.id, t.fence, t.lease_token, t.run_id, t.deadline_at
  from tasks t
  join leases l on l.id = t.id and l.fence = t.fence and l.token = t.lease_token
  where t.state = 'running'
  order by t.id
  for update of t
),
extended as (
  update tasks set lease_until = $4 from held where tasks.id = held.id
)
select l.id, h.id is not null as is_held
from leases l
left join held h on h.id = l.id and h.fence = l.fence and h.lease_token = l.token
left join runs r on r.id = h.run_id
where h.id is null or r.state in ('failing', 'cancelling') or h.deadline_at <= $5";

pub(super) async fn claim(store: &PostgresStore, claim: &Claim) -> Result<Vec<Claimed>, StoreError> {
    let ids: Vec<String> = claim.tasks.iter().map(ToString::to_string).collect();
    let rows = sqlx::query(CLAIM)
        .bind(ids)
        .bind(&claim.token)
        .bind(claim.now.plus_ms(claim.lease_ms).ms())
        .bind(claim.worker_id.to_string())
        .bind(claim.now.ms())
        .fetch_all(&store.hasty)
        .await?;
    store.count(1, 1);
    let (mut claimed, mut take_turns) = (Vec::new(), Vec::new());
    for row in &rows {
        match row.try_get(0)? {
            "claimed" => claimed.push(read(row.try_get(1)?)?),
            _ => take_turns.push(row.try_get::<String, _>(1)?),
        }
    }
    if !take_turns.is_empty() {
        claimed.extend(turns::claim(store, claim, &take_turns).await?);
    }
    Ok(claimed)
}

/// A task that was taken, from its JSON.
pub(super) fn read(body: &str) -> Result<Claimed, StoreError> {
    serde_json::from_str(body).map_err(|error| StoreError::Corrupt(error.to_string()))
}

pub(super) async fn beat(store: &PostgresStore, beat: &Beat) -> Result<Vec<LeaseFate>, StoreError> {
    let ids: Vec<String> = beat.leases.iter().map(|lease| lease.task_id.to_string()).collect();
    let fences: Vec<i64> = beat.leases.iter().map(|lease| lease.fence).collect();
    let tokens: Vec<&str> = beat.leases.iter().map(|lease| lease.token.as_str()).collect();
    let rows = sqlx::query(BEAT)
        .bind(ids)
        .bind(fences)
        .bind(tokens)
        .bind(beat.lease_until.ms())
        .bind(beat.now.ms())
        .fetch_all(&store.hasty)
        .await?;
    store.count(1, 1);
    rows.iter()
        .map(|row| {
            let (id, is_held): (&str, bool) = (row.try_get(0)?, row.try_get(1)?);
            let task = id.parse().map_err(|error| StoreError::Corrupt(format!("{error}")))?;
            Ok(if is_held { LeaseFate::Stop(task) } else { LeaseFate::Lost(task) })
        })
        .collect()
}
