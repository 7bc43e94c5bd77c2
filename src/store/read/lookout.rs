//! What the engine looks for: inputs of claimed tasks, ready tasks, waits that are over, leases that ran out.
//!
//! All of it runs on partial indexes: the cost grows with what waits, never with what is done.

use bursar_domain::id::{GrantId, HoldId, MissionId, RunId, TaskId, TenantId, WalletId, WorkflowId};
use bursar_domain::record::{Bound, Fan, Task};
use bursar_domain::time::Timestamp;
use bursar_domain::workflow::Place;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::schema::input_sql;
use super::super::{Store, StoreError};
use super::all;

/// The output of one node of a run.
#[derive(Debug, Clone, Deserialize)]
pub struct NodeOutput {
    /// The run.
    pub run_id: RunId,
    /// The node's index.
    pub node_index: i32,
    /// Its output; null for skipped nodes.
    pub output: Option<Value>,
}

/// The output of one of many.
#[derive(Debug, Clone, Deserialize)]
pub struct ItemOutput {
    /// The task it was made of.
    pub parent_id: TaskId,
    /// Its number.
    pub item: i32,
    /// Its output.
    pub output: Option<Value>,
}

/// A ready task, as the queue wants to know it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ReadyRow {
    /// The task.
    pub id: TaskId,
    /// Its owner.
    pub tenant_id: TenantId,
    /// Its pool.
    pub pool: String,
    /// Higher goes first.
    pub priority: i16,
    /// Since when.
    pub ready_at: Timestamp,
}

/// A task that something must be done about.
#[derive(Debug, Clone, Deserialize)]
pub struct Due {
    /// The task.
    pub id: TaskId,
    /// Its mission, which is locked first.
    pub mission_id: MissionId,
    /// Its run.
    pub run_id: RunId,
    /// Its workflow.
    pub workflow_id: WorkflowId,
    /// Its kind.
    pub kind: String,
    /// Its number in the run.
    pub node_index: i32,
    /// Its node.
    pub node_at: i32,
    /// The number in the run of its workflow's first node.
    pub base: i32,
    /// How many of its node's layers are around it.
    pub layer: i32,
    /// Its number in the innermost of these.
    pub item: i32,
    /// The tasks above it, the nearest first.
    pub ancestors: Option<Vec<TaskId>>,
    /// What it sees besides what its node sees.
    pub bound: Option<Bound>,
    /// The tasks that were made of it.
    pub fan: Option<Fan>,
}

/// What the nodes of a workflow see as `inputs`.
#[derive(Debug, Clone, Deserialize)]
pub struct WorkflowInput {
    /// The mission.
    pub mission_id: MissionId,
    /// The number in its latest run of the workflow's first node.
    pub base: i32,
    /// The input.
    pub input: Value,
}

impl From<&Task> for Due {
    fn from(task: &Task) -> Self {
        Self {
            id: task.id,
            mission_id: task.mission_id,
            run_id: task.run_id,
            workflow_id: task.workflow_id,
            kind: task.kind.clone(),
            node_index: task.node_index,
            node_at: task.node_at,
            base: task.base,
            layer: task.layer,
            item: task.item,
            ancestors: task.ancestors.clone(),
            bound: task.bound.clone(),
            fan: task.fan.clone(),
        }
    }
}

impl Due {
    /// Whether items of a map are still to be made.
    pub fn is_to_be_spread(&self) -> bool {
        let is_open = |fan: &Fan| fan.error.is_none() && !fan.is_complete();
        self.kind == "map" && self.fan.as_ref().is_some_and(is_open)
    }

    /// Which task of its node it is.
    pub fn place(&self) -> Place {
        let unsigned = |number: i32| u32::try_from(number).unwrap_or(u32::MAX);
        Place { index: unsigned(self.node_at), layer: unsigned(self.layer), item: unsigned(self.item) }
    }
}

/// The columns of a [`Due`].
const COLUMNS: &str =
    "id, mission_id, run_id, workflow_id, kind, node_index, node_at, base, layer, item, ancestors, bound, fan";

impl dyn Store {
    /// Outputs of nodes.
    pub async fn outputs(&self, nodes: &[(RunId, u32)]) -> Result<Vec<NodeOutput>, StoreError> {
        let sql = "
            select t.run_id, t.node_index, {output:t} as output
            from {pairs:1} n
            join tasks t on t.run_id = n.a and t.node_index = cast(n.b as integer)";
        all(self.rows(sql, &[json!(nodes).into()]).await?)
    }

    /// Outputs of items, by their parent and number.
    pub async fn item_outputs(&self, items: &[(TaskId, i32)]) -> Result<Vec<ItemOutput>, StoreError> {
        let sql = "
            select t.parent_id, t.item, {output:t} as output
            from {pairs:1} n
            join tasks t on t.parent_id = n.a and t.item = cast(n.b as integer) and t.layer > 0";
        all(self.rows(sql, &[json!(items).into()]).await?)
    }

    /// What the nodes of workflows see as `inputs`, by mission and the number in its latest run of the workflow's first
    /// node; 0 is the run's own input.
    pub async fn inputs(&self, of: &[(MissionId, i32)]) -> Result<Vec<WorkflowInput>, StoreError> {
        let sql = format!(
            "select m.id as mission_id, cast(n.b as integer) as base, {} as input
             from {{pairs:1}} n
             join missions m on m.id = n.a
             join runs r on r.id = m.run_id",
            input_sql("cast(n.b as integer)")
        );
        all(self.rows(&sql, &[json!(of).into()]).await?)
    }

    /// Pools that have ready tasks, with how many, at most 256 pools.
    pub async fn ready_counts(&self, now: Timestamp) -> Result<Vec<(String, i64)>, StoreError> {
        #[derive(Deserialize)]
        struct Row {
            pool: String,
            ready: i64,
        }
        let sql = "
            select pool, count(*) as ready from tasks
            where state = 'ready' and held_since is null and ready_at <= $1 group by pool order by pool limit 256";
        Ok(all::<Row>(self.rows(sql, &[now.into()]).await?)?.into_iter().map(|row| (row.pool, row.ready)).collect())
    }

    /// Tenants that have ready tasks in a pool, at most 256, found by hopping over the index.
    pub async fn ready_tenants(&self, pool: &str) -> Result<Vec<TenantId>, StoreError> {
        let sql = "
            with recursive hop (tenant_id, n) as (
              select (select min(tenant_id) from tasks where state = 'ready' and held_since is null and pool = $1), 1
              union all
              select (select min(tenant_id) from tasks
                      where state = 'ready' and held_since is null and pool = $1 and tenant_id > hop.tenant_id), n + 1
              from hop where hop.tenant_id is not null and n < 256
            )
            select tenant_id from hop where tenant_id is not null";
        let rows = self.rows(sql, &[pool.into()]).await?;
        all(rows.into_iter().map(|mut row| row["tenant_id"].take()).collect())
    }

    /// Ready tasks of a pool, the same number from each tenant, each tenant's most urgent first; at most about `limit`.
    /// Those that were put off are left out until their time comes.
    pub async fn ready_tasks(&self, pool: &str, now: Timestamp, limit: i64) -> Result<Vec<ReadyRow>, StoreError> {
        let tenants = self.ready_tenants(pool).await?;
        let share = limit.checked_div(tenants.len() as i64).unwrap_or(limit).max(1);
        let mut rows = Vec::new();
        for tenant in tenants {
            let sql = "
                select id, tenant_id, pool, priority, ready_at from tasks
                where state = 'ready' and held_since is null and pool = $1 and tenant_id = $2 and ready_at <= $3
                order by ready_at - priority * 60000 limit $4";
            rows.extend(all::<ReadyRow>(
                self.rows(sql, &[pool.into(), tenant.into(), now.into(), share.into()]).await?,
            )?);
        }
        Ok(rows)
    }

    /// How many tasks of a pool each tenant has running; grows with slots, not with what waits.
    pub async fn running_by_tenant(&self, pool: &str, now: Timestamp) -> Result<Vec<(TenantId, u64)>, StoreError> {
        #[derive(serde::Deserialize)]
        struct Count {
            tenant_id: TenantId,
            n: u64,
        }
        let sql = "
            select tenant_id, count(*) as n from tasks
            where state = 'running' and lease_until > $2 and pool = $1 group by tenant_id";
        let rows = all::<Count>(self.rows(sql, &[pool.into(), now.into()]).await?)?;
        Ok(rows.into_iter().map(|count| (count.tenant_id, count.n)).collect())
    }

    /// What the queue must know about tasks that just became ready.
    pub async fn ready_by_id(&self, tasks: &[TaskId]) -> Result<Vec<ReadyRow>, StoreError> {
        let sql = "
            select id, tenant_id, pool, priority, ready_at from tasks
            where id in {list:1} and state = 'ready'";
        all(self.rows(sql, &[json!(tasks).into()]).await?)
    }

    /// The latest output of the tenant that was made from what has this hash and may still be used.
    pub async fn kept_output(&self, tenant: TenantId, hash: &str, now: Timestamp) -> Result<Option<Value>, StoreError> {
        let sql = "
            select t.output from kept_outputs k
            join tasks t on t.id = k.task_id
            where k.tenant_id = $1 and k.hash = $2 and k.expires_at > $3 and t.state = 'succeeded' and t.output is not null
            order by k.expires_at desc limit 1";
        let rows = self.rows(sql, &[tenant.into(), hash.into(), now.into()]).await?;
        Ok(rows.into_iter().next().map(|mut row| row["output"].take()))
    }

    /// Forgets outputs that may not be used any more.
    pub async fn forget_outputs(&self, now: Timestamp, limit: i64) -> Result<u64, StoreError> {
        let sql = "
            delete from kept_outputs
            where task_id in (select task_id from kept_outputs where expires_at <= $1 order by expires_at limit $2)";
        self.execute(sql, &[now.into(), limit.into()]).await
    }

    /// Tasks that were kept back and whose turn has come: the first of each key, as many as it has room for; of one key,
    /// or of all. Nothing is counted as taken, so that a task which nobody claims does not keep the others back.
    pub async fn tasks_at_turn(
        &self,
        now: Timestamp,
        key: Option<(TenantId, &str)>,
        limit: i64,
    ) -> Result<Vec<TaskId>, StoreError> {
        let sql = "
            with waiting as (
              select id, tenant_id, concurrency_key, concurrency_max,
                row_number() over (partition by tenant_id, concurrency_key order by ready_at - priority * 60000, id) as place
              from tasks
              where state = 'ready' and held_since is not null
                and ($2 is null or (tenant_id = $2 and concurrency_key = $3))
            )
            select w.id from waiting w
            where w.place <= w.concurrency_max - (
              select count(*) from tasks b
              where b.tenant_id = w.tenant_id and b.concurrency_key = w.concurrency_key
                and b.state = 'running' and b.lease_until > $1
            )
            order by w.id limit $4";
        let (tenant, key) = key.map(|(tenant, key)| (tenant.to_string(), key.to_owned())).unzip();
        let rows = self.rows(sql, &[now.into(), tenant.into(), key.into(), limit.into()]).await?;
        all(rows.into_iter().map(|mut row| row["id"].take()).collect())
    }

    /// Hands tasks out again that were kept back. What somebody else did meanwhile is left alone.
    pub async fn let_go(&self, tasks: &[TaskId]) -> Result<(), StoreError> {
        let sql = "
            update tasks set held_since = null, status_reason = 'ready, its turn has come'
            where id in {list:1} and state = 'ready' and held_since is not null";
        self.execute(sql, &[json!(tasks).into()]).await.map(drop)
    }

    /// Tasks whose timer, retry or rate limit is over.
    pub async fn due_tasks(&self, now: Timestamp, limit: i64) -> Result<Vec<Due>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from tasks where state in ('retrying', 'waiting') and due_at is not null and due_at <= $1
             order by due_at limit $2"
        );
        all(self.rows(&sql, &[now.into(), limit.into()]).await?)
    }

    /// Tasks of a run that wait for signals, those that waited longest first.
    pub async fn signal_waiters(&self, run: RunId, limit: i64) -> Result<Vec<Due>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from tasks where run_id = $1 and state = 'waiting' and wait = 'signal'
             order by ready_at, node_index limit $2"
        );
        all(self.rows(&sql, &[run.into(), limit.into()]).await?)
    }

    /// Tasks whose own deadline passed and that are not over.
    pub async fn overdue_tasks(&self, now: Timestamp, limit: i64) -> Result<Vec<Due>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from tasks
             where deadline_at is not null and ended_at is null and deadline_at <= $1 and state <> 'pending'
               and exists (select 1 from runs r where r.id = run_id and r.state in ('queued', 'running', 'paused'))
             order by tasks.deadline_at limit $2"
        );
        all(self.rows(&sql, &[now.into(), limit.into()]).await?)
    }

    /// When the next timer, retry or rate limit is over.
    pub async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let sql = "
            select min(due_at) as due_at from tasks where state in ('retrying', 'waiting') and due_at is not null";
        let rows = self.rows(sql, &[]).await?;
        Ok(rows.first().and_then(|row| row["due_at"].as_i64()).map(Timestamp::from_ms))
    }

    /// Running tasks whose lease is over.
    pub async fn lost_leases(&self, now: Timestamp, limit: i64) -> Result<Vec<Due>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from tasks where state = 'running' and lease_until <= $1 order by lease_until limit $2"
        );
        all(self.rows(&sql, &[now.into(), limit.into()]).await?)
    }

    /// Tasks that wait for credits: the oldest of each wallet first, then the second of each, and so on; of one
    /// wallet, or of all; those whose run goes on. So a wallet with many waiters does not keep those of another from being tried.
    pub async fn credit_waiters(&self, wallet: Option<WalletId>, limit: i64) -> Result<Vec<Due>, StoreError> {
        let sql = format!(
            "select {COLUMNS}
            from (
              select t.*, row_number() over (partition by m.wallet_id order by t.ready_at, t.id) as place
              from tasks t
              join missions m on m.id = t.mission_id
              join runs r on r.id = t.run_id
              where t.state = 'waiting' and t.wait = 'credits' and ($1 is null or m.wallet_id = $1)
                and r.state in ('queued', 'running')
            ) w
            order by place, ready_at, id limit $2"
        );
        let wallet = super::super::Arg::Text(wallet.map(|id| id.to_string()));
        all(self.rows(&sql, &[wallet, limit.into()]).await?)
    }

    /// Runs that are failing or being cancelled.
    pub async fn ending_runs(&self, limit: i64) -> Result<Vec<(RunId, MissionId)>, StoreError> {
        #[derive(Deserialize)]
        struct Row {
            id: RunId,
            mission_id: MissionId,
        }
        let sql = "select id, mission_id from runs where state in ('failing', 'cancelling') order by id limit $1";
        Ok(all::<Row>(self.rows(sql, &[limit.into()]).await?)?
            .into_iter()
            .map(|row| (row.id, row.mission_id))
            .collect())
    }

    /// Tasks of a run that an ending run must end now: nobody works on them, or whoever did vanished.
    ///
    /// Those that were made last come first; a parent comes when its children are over.
    pub async fn tasks_to_end(&self, run: RunId, now: Timestamp, limit: i64) -> Result<Vec<Due>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from tasks
             where run_id = $1
               and (state in ('pending', 'ready', 'retrying', 'waiting') or (state = 'running' and lease_until <= $2))
               and not (state = 'waiting' and wait = 'children' and exists (
                 select 1 from tasks child where child.parent_id = tasks.id and child.layer > 0 and child.ended_at is null))
               and not (state = 'waiting' and wait = 'children' and exists (
                 select 1 from tasks child where child.parent_id = tasks.id and child.layer = 0 and child.ended_at is null))
             order by node_index desc limit $3"
        );
        all(self.rows(&sql, &[run.into(), now.into(), limit.into()]).await?)
    }

    /// Live and paused runs whose deadline passed.
    pub async fn overdue_runs(&self, now: Timestamp, limit: i64) -> Result<Vec<(RunId, MissionId)>, StoreError> {
        #[derive(Deserialize)]
        struct Row {
            id: RunId,
            mission_id: MissionId,
        }
        let sql = "
            select id, mission_id from runs
            where deadline_at is not null and state in ('queued', 'running', 'paused') and deadline_at <= $1
            order by deadline_at limit $2";
        let rows = self.rows(sql, &[now.into(), limit.into()]).await?;
        Ok(all::<Row>(rows)?.into_iter().map(|row| (row.id, row.mission_id)).collect())
    }

    /// Grants whose deadline passed and whose rest was not written off yet.
    pub async fn overdue_grants(&self, now: Timestamp, limit: i64) -> Result<Vec<(GrantId, WalletId)>, StoreError> {
        #[derive(Deserialize)]
        struct Row {
            id: GrantId,
            wallet_id: WalletId,
        }
        let sql = "
            select id, wallet_id from grants
            where expires_at is not null and not expired and expires_at <= $1
            order by expires_at limit $2";
        let rows = self.rows(sql, &[now.into(), limit.into()]).await?;
        Ok(all::<Row>(rows)?.into_iter().map(|row| (row.id, row.wallet_id)).collect())
    }

    /// Open holds whose own deadline passed.
    pub async fn overdue_holds(&self, now: Timestamp, limit: i64) -> Result<Vec<(HoldId, WalletId)>, StoreError> {
        #[derive(Deserialize)]
        struct Row {
            id: HoldId,
            wallet_id: WalletId,
        }
        let sql = "
            select id, wallet_id from holds
            where state = 'open' and expires_at is not null and expires_at <= $1
            order by expires_at limit $2";
        let rows = self.rows(sql, &[now.into(), limit.into()]).await?;
        Ok(all::<Row>(rows)?.into_iter().map(|row| (row.id, row.wallet_id)).collect())
    }
}
