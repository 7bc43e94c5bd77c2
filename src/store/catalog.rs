//! Small writes beside the life of a job: tenants, API keys, workflow versions, price books, workers, stored answers.
//!
//! Portable SQL on top of the engines' `execute` and `rows`.

use bursar_domain::flow::Guard;
use bursar_domain::id::{KeyId, PriceBookId, TaskId, TenantId, WorkerId};
use bursar_domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::read::WorkflowView;
use super::{Conflict, Store, StoreError};

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Its own tenant's missions, workflows and wallet.
    User,
    /// Everything, of all tenants.
    Admin,
    /// The worker protocol.
    Worker,
}

impl Role {
    /// The word in tables and API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
            Self::Worker => "worker",
        }
    }
}

/// An API key as it is shown: never its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id.
    pub id: KeyId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// What people call it.
    pub name: String,
    /// The first characters of the secret.
    pub prefix: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// A worker process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRow {
    /// Its id.
    pub id: WorkerId,
    /// Its machine.
    pub host: String,
    /// Its process id there.
    pub pid: i64,
    /// Slots by pool.
    pub pools: Value,
    /// Tasks it runs now.
    pub running: i64,
    /// Which version of the program it is.
    pub version: String,
    /// Whether it takes no new tasks.
    pub draining: bool,
    /// When it started.
    pub started_at: Timestamp,
    /// When it was last heard of.
    pub seen_at: Timestamp,
}

fn parse<T: serde::de::DeserializeOwned>(row: Value) -> Result<T, StoreError> {
    serde_json::from_value(row).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn first<T: serde::de::DeserializeOwned>(rows: Vec<Value>) -> Result<Option<T>, StoreError> {
    rows.into_iter().next().map(parse).transpose()
}

impl dyn Store {
    /// Adds a tenant; the name must be new.
    pub async fn add_tenant(&self, id: TenantId, name: &str, now: Timestamp) -> Result<(), StoreError> {
        let sql = "insert into tenants (id, name, created_at) values ($1, $2, $3)";
        self.execute(sql, &[id.into(), name.into(), now.into()]).await.map(drop)
    }

    /// The tenant of that name.
    pub async fn tenant_named(&self, name: &str) -> Result<Option<TenantId>, StoreError> {
        let rows = self.rows("select id from tenants where name = $1", &[name.into()]).await?;
        first(rows.into_iter().map(|mut row| row["id"].take()).collect())
    }

    /// Adds an API key by the hash of its secret.
    pub async fn add_key(&self, key: &ApiKey, secret_hash: &str) -> Result<(), StoreError> {
        let sql = "
            insert into api_keys (id, tenant_id, name, prefix, secret_hash, role, created_at)
            values ($1, $2, $3, $4, $5, $6, $7)";
        let args = [
            key.id.into(),
            key.tenant_id.into(),
            key.name.as_str().into(),
            key.prefix.as_str().into(),
            secret_hash.into(),
            key.role.as_str().into(),
            key.created_at.into(),
        ];
        self.execute(sql, &args).await.map(drop)
    }

    /// The live key whose secret has this hash.
    pub async fn key_by_hash(&self, secret_hash: &str) -> Result<Option<ApiKey>, StoreError> {
        let sql = "
            select id, tenant_id, name, prefix, role, created_at, revoked_at from api_keys
            where secret_hash = $1 and revoked_at is null";
        first(self.rows(sql, &[secret_hash.into()]).await?)
    }

    /// A tenant's key by its id, if it is live.
    pub async fn live_key(&self, tenant: TenantId, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        let sql = "
            select id, tenant_id, name, prefix, role, created_at, revoked_at from api_keys
            where tenant_id = $1 and id = $2 and revoked_at is null";
        first(self.rows(sql, &[tenant.into(), id.into()]).await?)
    }

    /// A tenant's keys, newest first, at most 100.
    pub async fn keys_of(&self, tenant: TenantId) -> Result<Vec<ApiKey>, StoreError> {
        let sql = "
            select id, tenant_id, name, prefix, role, created_at, revoked_at from api_keys
            where tenant_id = $1 order by id desc limit 100";
        self.rows(sql, &[tenant.into()]).await?.into_iter().map(parse).collect()
    }

    /// Revokes a key; whether there was one to revoke.
    pub async fn revoke_key(&self, tenant: TenantId, id: KeyId, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "update api_keys set revoked_at = $3 where tenant_id = $1 and id = $2 and revoked_at is null";
        Ok(self.execute(sql, &[tenant.into(), id.into(), now.into()]).await? > 0)
    }

    /// Adds a workflow version. The number must be the next one; two writers at once get a conflict.
    pub async fn add_workflow(&self, workflow: &WorkflowView) -> Result<(), StoreError> {
        let sql = "
            insert into workflows (id, tenant_id, name, version, content_hash, definition, created_at)
            values ($1, $2, $3, $4, $5, {json:6}, $7)";
        let args = [
            workflow.id.into(),
            workflow.tenant_id.into(),
            workflow.name.as_str().into(),
            workflow.version.into(),
            workflow.content_hash.as_str().into(),
            workflow.definition.clone().unwrap_or_default().into(),
            workflow.created_at.into(),
        ];
        match self.execute(sql, &args).await {
            Err(StoreError::Conflict(_)) => Err(StoreError::Conflict(Conflict::WorkflowVersion)),
            other => other.map(drop),
        }
    }

    /// Adds a price book and makes it the one that new runs pin.
    pub async fn activate_prices(
        &self,
        id: PriceBookId,
        name: &str,
        content_hash: &str,
        content: &Value,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = "
            insert into price_books (id, name, content_hash, content, created_at, activated_at)
            values ($1, $2, $3, {json:4}, $5, $5)
            on conflict (content_hash) do update set activated_at = excluded.activated_at";
        let args = [id.into(), name.into(), content_hash.into(), content.clone().into(), now.into()];
        self.execute(sql, &args).await.map(drop)
    }

    /// Adds a price book that nothing uses yet. The same content again adds nothing.
    pub async fn add_prices(
        &self,
        id: PriceBookId,
        name: &str,
        content_hash: &str,
        content: &Value,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "
            insert into price_books (id, name, content_hash, content, created_at)
            values ($1, $2, $3, {json:4}, $5)
            on conflict (content_hash) do nothing";
        let args = [id.into(), name.into(), content_hash.into(), content.clone().into(), now.into()];
        Ok(self.execute(sql, &args).await? > 0)
    }

    /// Makes a stored price book the one that new runs pin; whether it exists. It becomes the latest even if the
    /// clock did not move since another was activated.
    pub async fn activate_price_book(&self, id: PriceBookId, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "
            update price_books
            set activated_at = case
              when $2 > coalesce((select max(b.activated_at) from price_books b), 0) then $2
              else (select max(b.activated_at) from price_books b) + 1
            end
            where id = $1";
        Ok(self.execute(sql, &[id.into(), now.into()]).await? > 0)
    }

    /// Adds a worker or renews its entry.
    pub async fn note_worker(&self, worker: &WorkerRow) -> Result<(), StoreError> {
        let sql = "
            insert into workers (id, host, pid, pools, running, version, draining, started_at, seen_at)
            values ($1, $2, $3, {json:4}, $5, $6, $7 = 1, $8, $9)
            on conflict (id) do update
            set running = excluded.running, draining = excluded.draining, seen_at = excluded.seen_at";
        let args = [
            worker.id.into(),
            worker.host.as_str().into(),
            worker.pid.into(),
            worker.pools.clone().into(),
            worker.running.into(),
            worker.version.as_str().into(),
            i64::from(worker.draining).into(),
            worker.started_at.into(),
            worker.seen_at.into(),
        ];
        self.execute(sql, &args).await.map(drop)
    }

    /// Removes a worker that ended in order.
    pub async fn forget_worker(&self, id: WorkerId) -> Result<(), StoreError> {
        self.execute("delete from workers where id = $1", &[id.into()]).await.map(drop)
    }

    /// Makes ready again what a claim took whose answer never came, known by its secret. Nothing was begun: no attempt is
    /// used up, no loss counted; the sweep puts the tasks into the queue again. Returns how many it were.
    pub async fn disown(&self, tasks: &[TaskId], token: &str) -> Result<u64, StoreError> {
        let sql = "
            update tasks
            set state = 'ready', status_reason = null, lease_token = null, lease_until = null, worker_id = null
            where id in {list:1} and lease_token = $2 and state || '' = 'running'";
        self.execute(sql, &[json!(tasks).into(), token.into()]).await
    }

    /// Gives claimed tasks back that this program can't even decide about, since it can't read their workflow (a newer
    /// version wrote it). Nothing was begun: no attempt is used up, no loss counted. Says so where people look. The sweep
    /// puts them into the queue again, from `until` on, so that those who wait behind are not held up. Returns how many were still held under these leases.
    pub async fn hand_back_unread(&self, lease: &Guard, reason: &str, until: Timestamp) -> Result<u64, StoreError> {
        let sql = "
            update tasks
            set state = 'ready', status_reason = $4, ready_at = $5, lease_token = null, lease_until = null, worker_id = null
            where id = $1 and fence = $2 and lease_token = $3 and state = 'running'";
        let args = [lease.task_id.into(), lease.fence.into(), lease.token.as_str().into(), reason.into(), until.into()];
        self.execute(sql, &args).await
    }
}
