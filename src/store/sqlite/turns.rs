//! Claims of tasks that take turns: of those with one concurrency key, so many run at once.
//!
//! Part of the one writer's transaction, so nobody else counts or takes meanwhile.

use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::leases::read;
use crate::store::want::json_list;
use crate::store::{Claim, Claimed, StoreError};

const ANY: &str = "
select exists (
  select 1 from tasks where id in (select value from json_each($1)) and state = 'ready' and concurrency_key is not null
)";

/// A task's place counts what runs, what was kept back before and is older, and what is asked for and older.
const PLACED: &str = "
with asked as materialized (
  select t.id, t.tenant_id, t.concurrency_key as key, t.concurrency_max as most, t.priority, t.ready_at
  from tasks t
  join runs r on r.id = t.run_id
  where t.id in (select value from json_each($1))
    and t.state = 'ready' and t.concurrency_key is not null and r.state in ('queued', 'running')
),
placed as materialized (
  select a.id, a.key, a.most,
    (
      select count(*) from tasks b
      where b.tenant_id = a.tenant_id and b.concurrency_key = a.key and b.state = 'running' and b.lease_until > $2
    )
    + row_number() over (partition by a.tenant_id, a.key order by a.ready_at - a.priority * 60000, a.id)
    + (
      select count(*) from tasks h
      where h.tenant_id = a.tenant_id and h.concurrency_key = a.key and h.state = 'ready' and h.held_since is not null
        and h.id not in (select value from json_each($1))
        and (h.ready_at - h.priority * 60000, h.id) < (a.ready_at - a.priority * 60000, a.id)
    ) as place
  from asked a
)";

const KEEP_BACK: &str = "
update tasks
set held_since = coalesce(tasks.held_since, $2),
  status_reason = 'waits for its turn: place ' || (placed.place - placed.most) || ' in line for concurrency key `'
    || placed.key || '`, of which at most ' || placed.most || ' may run at once'
from placed
where tasks.id = placed.id and placed.place > placed.most";

/// What was not kept back just now may run.
const TAKE: &str = "
update tasks
set state = 'running', status_reason = 'running', attempt = attempt + 1, fence = fence + 1,
  lease_token = $3, lease_until = $4, worker_id = $5, started_at = $2, held_since = null
from placed
where tasks.id = placed.id and placed.place <= placed.most
returning json_object(
  'id', tasks.id, 'tenant_id', tenant_id, 'mission_id', mission_id, 'run_id', run_id, 'workflow_id', workflow_id,
  'node_index', node_index, 'node_at', node_at, 'base', base, 'layer', layer, 'item', item, 'ancestors', json(ancestors),
  'bound', json(bound), 'pool', pool, 'attempt', attempt, 'failures', failures, 'fence', fence,
  'lease_until', lease_until, 'ready_at', ready_at, 'heard', heard,
  'run_heard', (select r.heard from runs r where r.id = run_id),
  'price_book_id', (select r.price_book_id from runs r where r.id = run_id))";

/// Takes as many as may run, and keeps back the others: they stay ready, and are not handed out until their turn.
pub(super) async fn claim(connection: &mut SqliteConnection, claim: &Claim) -> Result<Vec<Claimed>, StoreError> {
    let ids = json_list(&claim.tasks);
    let any: i64 = sqlx::query(ANY).bind(&ids).fetch_one(&mut *connection).await?.try_get(0)?;
    if any == 0 {
        return Ok(Vec::new());
    }
    let keep_back = format!("{PLACED} {KEEP_BACK}");
    sqlx::query(sqlx::AssertSqlSafe(keep_back)).bind(&ids).bind(claim.now.ms()).execute(&mut *connection).await?;
    let take = format!("{PLACED} {TAKE}");
    let rows = sqlx::query(sqlx::AssertSqlSafe(take))
        .bind(&ids)
        .bind(claim.now.ms())
        .bind(&claim.token)
        .bind(claim.now.plus_ms(claim.lease_ms).ms())
        .bind(claim.worker_id.to_string())
        .fetch_all(connection)
        .await?;
    read(&rows)
}
