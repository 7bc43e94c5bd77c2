//! Claims and heartbeats: guarded batch updates. Nothing outside depends on them, so they do not wait for the disk
//! (`synchronous = normal`); a power cut forgets at most the last of them.

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Row};

use super::{SqliteStore, turns};
use crate::store::want::json_list;
use crate::store::{Beat, Claim, Claimed, LeaseFate, StoreError};

const CLAIM: &str = "
update tasks
set state = 'running', status_reason = 'running', attempt = attempt + 1, fence = fence + 1,
  lease_token = $2, lease_until = $3, worker_id = $4, started_at = $5
where id in (select value from json_each($1))
  and state = 'ready'
  and concurrency_key is null
  and exists (select 1 from runs where runs.id = tasks.run_id and runs.state in ('queued', 'running'))
returning json_object(
  'id', id, 'tenant_id', tenant_id, 'mission_id', mission_id, 'run_id', run_id, 'workflow_id', workflow_id,
  'node_index', node_index, 'node_at', node_at, 'base', base, 'layer', layer, 'item', item, 'ancestors', json(ancestors),
  'bound', json(bound), 'pool', pool, 'attempt', attempt, 'failures', failures, 'fence', fence,
  'lease_until', lease_until, 'ready_at', ready_at, 'heard', heard,
  'run_heard', (select r.heard from runs r where r.id = run_id),
  'price_book_id', (select r.price_book_id from runs r where r.id = run_id))";

const WAKE: &str = "
update runs set state = 'running', status_reason = null, started_at = $2
where id in (select value from json_each($1)) and state = 'queued'";

const BEAT: &str = "
update tasks set lease_until = $4
where id = $1 and fence = $2 and lease_token = $3 and state = 'running'
returning coalesce(deadline_at <= $5, 0)
  or (select r.state in ('failing', 'cancelling') from runs r where r.id = run_id)";

/// Runs `work` in one transaction whose commit does not wait for the disk.
async fn hastily<T>(
    store: &SqliteStore,
    work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut writer = store.writer.acquire().await?;
    sqlx::query("pragma synchronous = normal").execute(&mut *writer).await?;
    let result = async {
        let mut tx = writer.begin_with("begin immediate").await?;
        let value = work(&mut tx).await?;
        tx.commit().await?;
        Ok(value)
    }
    .await;
    // a connection that could not be set back must not serve durable writes: it is closed, the pool opens another
    if sqlx::query("pragma synchronous = full").execute(&mut *writer).await.is_err() {
        writer.close().await?;
    }
    store.count(1, 3);
    result
}

pub(super) async fn claim(store: &SqliteStore, claim: &Claim) -> Result<Vec<Claimed>, StoreError> {
    hastily(store, async |connection| {
        let rows = sqlx::query(CLAIM)
            .bind(json_list(&claim.tasks))
            .bind(&claim.token)
            .bind(claim.now.plus_ms(claim.lease_ms).ms())
            .bind(claim.worker_id.to_string())
            .bind(claim.now.ms())
            .fetch_all(&mut *connection)
            .await?;
        let mut claimed = read(&rows)?;
        claimed.extend(turns::claim(connection, claim).await?);
        let runs: Vec<_> = claimed.iter().map(|task| task.run_id).collect();
        sqlx::query(WAKE).bind(json_list(&runs)).bind(claim.now.ms()).execute(connection).await?;
        Ok(claimed)
    })
    .await
}

/// Tasks that were taken, from their JSON.
pub(super) fn read(rows: &[sqlx::sqlite::SqliteRow]) -> Result<Vec<Claimed>, StoreError> {
    let read = |row: &sqlx::sqlite::SqliteRow| {
        serde_json::from_str(row.try_get(0)?).map_err(|error| StoreError::Corrupt(error.to_string()))
    };
    rows.iter().map(read).collect()
}

pub(super) async fn beat(store: &SqliteStore, beat: &Beat) -> Result<Vec<LeaseFate>, StoreError> {
    hastily(store, async |connection| {
        let mut fates = Vec::new();
        for lease in &beat.leases {
            let row = sqlx::query(BEAT)
                .bind(lease.task_id.to_string())
                .bind(lease.fence)
                .bind(&lease.token)
                .bind(beat.lease_until.ms())
                .bind(beat.now.ms())
                .fetch_optional(&mut *connection)
                .await?;
            match row {
                None => fates.push(LeaseFate::Lost(lease.task_id)),
                Some(row) if row.try_get::<i64, _>(0)? != 0 => fates.push(LeaseFate::Stop(lease.task_id)),
                Some(_) => {}
            }
        }
        Ok(fates)
    })
    .await
}
