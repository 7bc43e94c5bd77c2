//! What tasks that do not run wait for, counted when somebody asks: places in lines and who stands before them.
//!
//! Every line has a partial index of its own, and no count goes beyond [`MOST_COUNTED`]: the cost of an answer does not
//! grow with the backlog. What is counted is true for one moment; nothing is decided by it.

use bursar_domain::credits::Ucr;
use bursar_domain::id::{MissionId, RunId, TaskId, TenantId, WalletId, WorkflowId};
use bursar_domain::state::{TaskState, WaitCause};
use bursar_domain::time::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::super::{Store, StoreError};
use super::{all, first};

/// The most that is counted of a line; a count that reaches it means "this many or more".
pub const MOST_COUNTED: i64 = 10_000;
/// Tasks of a run that are looked at for what its mission waits for.
const MOST_OF_RUN: i64 = 10_000;
/// Tasks that are named as what a task waits for.
const MOST_NAMED: i64 = 5;

/// What a task's row says beyond what is shown, by which its line is found.
#[derive(Debug, Clone, Deserialize)]
pub struct WaiterRow {
    /// Its workflow.
    pub workflow_id: WorkflowId,
    /// Who pays.
    pub wallet_id: WalletId,
    /// Its node in the workflow.
    pub node_at: u32,
    /// The number in the run of its workflow's first node.
    pub base: i64,
    /// How many of its node's layers are around it.
    pub layer: i64,
    /// Higher goes first.
    pub priority: i64,
    /// What it shares with tasks that must not all run at once.
    pub concurrency_key: Option<String>,
}

/// A place in a line, as counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct LinePlace {
    /// How many stand before it.
    pub ahead: i64,
    /// How many stand in the line, itself included.
    pub total: i64,
}

/// A task that another one waits for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct BlockerRow {
    /// The task.
    pub id: TaskId,
    /// Its node.
    pub node: String,
    /// Where it stands.
    pub state: TaskState,
    /// How many there are in all.
    pub total: i64,
}

/// Tasks of a run that stand alike, and the one of them that stands so for longest.
#[derive(Debug, Clone, Deserialize)]
pub struct StandingRow {
    /// The one that stands so for longest.
    pub id: TaskId,
    /// Where they stand.
    pub state: TaskState,
    /// What they wait for.
    pub wait: Option<WaitCause>,
    /// How many they are.
    pub tasks: i64,
}

/// What a wallet has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct PurseRow {
    /// Credits available.
    pub available_ucr: Ucr,
    /// Credits owed.
    pub debt_ucr: Ucr,
    /// Whether nothing new may start.
    pub frozen: bool,
}

impl dyn Store {
    /// By what a task's line is found.
    pub async fn waiter(&self, task: TaskId) -> Result<Option<WaiterRow>, StoreError> {
        let sql = "
            select t.workflow_id, m.wallet_id, t.node_at, t.base, t.layer, t.priority, t.concurrency_key
            from tasks t
            join missions m on m.id = t.mission_id
            where t.id = $1";
        first(self.rows(sql, &[task.into()]).await?)
    }

    /// The place of a task among its tenant's ready tasks of its pool.
    pub async fn place_among_ready(
        &self,
        tenant: TenantId,
        pool: &str,
        (priority, ready_at, id): (i64, Timestamp, TaskId),
    ) -> Result<LinePlace, StoreError> {
        let sql = "
            select
              (select count(*) from (
                select 1 as one from tasks
                where state = 'ready' and held_since is null and pool = $1 and tenant_id = $2
                  and (priority > $3 or (priority = $3 and (ready_at, id) < ($4, $5)))
                limit $6) a) as ahead,
              (select count(*) from (
                select 1 as one from tasks
                where state = 'ready' and held_since is null and pool = $1 and tenant_id = $2
                limit $6) b) as total";
        let args = [pool.into(), tenant.into(), priority.into(), ready_at.into(), id.into(), MOST_COUNTED.into()];
        self.place(sql, &args).await
    }

    /// The place of a task among those of its wallet that wait for credits.
    pub async fn place_for_credits(
        &self,
        wallet: WalletId,
        (ready_at, id): (Timestamp, TaskId),
    ) -> Result<LinePlace, StoreError> {
        let line = "
            from tasks t
            join missions m on m.id = t.mission_id
            where t.state = 'waiting' and t.wait = 'credits' and m.wallet_id = $1";
        let sql = format!(
            "select
              (select count(*) from (select 1 as one {line} and (t.ready_at, t.id) < ($2, $3) limit $4) a) as ahead,
              (select count(*) from (select 1 as one {line} limit $4) b) as total"
        );
        self.place(&sql, &[wallet.into(), ready_at.into(), id.into(), MOST_COUNTED.into()]).await
    }

    /// The place of a task among those that are kept back for its concurrency key.
    pub async fn place_for_key(
        &self,
        tenant: TenantId,
        key: &str,
        (priority, ready_at, id): (i64, Timestamp, TaskId),
    ) -> Result<LinePlace, StoreError> {
        let line = "
            from tasks
            where state = 'ready' and held_since is not null and tenant_id = $1 and concurrency_key = $2";
        let sql = format!(
            "select
              (select count(*) from (
                select 1 as one {line} and (priority > $3 or (priority = $3 and (ready_at, id) < ($4, $5))) limit $6
              ) a) as ahead,
              (select count(*) from (select 1 as one {line} limit $6) b) as total"
        );
        let args = [tenant.into(), key.into(), priority.into(), ready_at.into(), id.into(), MOST_COUNTED.into()];
        self.place(&sql, &args).await
    }

    async fn place(&self, sql: &str, args: &[super::super::Arg]) -> Result<LinePlace, StoreError> {
        let found = first(self.rows(sql, args).await?)?;
        Ok(found.unwrap_or(LinePlace { ahead: 0, total: 0 }))
    }

    /// Running tasks with a concurrency key, the first few of them.
    pub async fn holders_of_key(
        &self,
        tenant: TenantId,
        key: &str,
        now: Timestamp,
    ) -> Result<Vec<BlockerRow>, StoreError> {
        let sql = "
            select id, node, state, count(*) over () as total from tasks
            where tenant_id = $1 and concurrency_key = $2 and state = 'running' and lease_until > $3
            order by id limit $4";
        all(self.rows(sql, &[tenant.into(), key.into(), now.into(), MOST_NAMED.into()]).await?)
    }

    /// Those tasks of a run, by their numbers, that are not over; the first few of them.
    pub async fn open_of_run(&self, run: RunId, numbers: &[i64]) -> Result<Vec<BlockerRow>, StoreError> {
        let pairs: Vec<_> = numbers.iter().map(|number| (run, number)).collect();
        let sql = "
            select t.id, t.node, t.state, count(*) over () as total
            from {pairs:1} n
            join tasks t on t.run_id = n.a and t.node_index = cast(n.b as integer)
            where t.ended_at is null
            order by t.node_index limit $2";
        all(self.rows(sql, &[json!(pairs).into(), MOST_NAMED.into()]).await?)
    }

    /// The tasks that were made of one, have begun and are not over; the first few of them.
    pub async fn open_children(&self, parent: TaskId) -> Result<Vec<BlockerRow>, StoreError> {
        // two indexes: items of a layer, and nodes of a workflow inside
        let sql = "
            select id, node, state, 0 as total
            from (
              select id, node, state, item, node_index from tasks
              where parent_id = $1 and layer > 0 and ended_at is null and state <> 'pending'
              union all
              select id, node, state, item, node_index from tasks
              where parent_id = $1 and layer = 0 and parent_id is not null and ended_at is null and state <> 'pending'
            ) child
            order by item, node_index limit $2";
        all(self.rows(sql, &[parent.into(), MOST_NAMED.into()]).await?)
    }

    /// How many tasks of a pool run now.
    pub async fn running_in_pool(&self, pool: &str) -> Result<i64, StoreError> {
        let sql = "
            select count(*) as tasks from (
              select 1 as one from tasks where state = 'running' and pool = $1 limit $2) t";
        let rows = self.rows(sql, &[pool.into(), MOST_COUNTED.into()]).await?;
        Ok(rows.first().and_then(|row| row["tasks"].as_i64()).unwrap_or_default())
    }

    /// What a wallet has.
    pub async fn purse(&self, wallet: WalletId) -> Result<Option<PurseRow>, StoreError> {
        let sql = "select available_ucr, debt_ucr, frozen from wallets where id = $1";
        first(self.rows(sql, &[wallet.into()]).await?)
    }

    /// How the tasks of a run stand that are not over, those that stand alike together, the longest standing first. Of
    /// a run with more open tasks than `MOST_OF_RUN`, the first of these.
    pub async fn standing(&self, mission: MissionId, run: RunId) -> Result<Vec<StandingRow>, StoreError> {
        let sql = "
            with open as (
              select id, state, wait,
                case when state = 'ready' then pool end as pool,
                case when held_since is not null then 1 else 0 end as kept,
                case when remaining_needs > 0 then 1 else 0 end as needs,
                case when state = 'pending' then created_at else coalesce(held_since, ready_at, created_at) end as since
              from tasks
              where run_id = $2 and mission_id = $1 and ended_at is null
              order by node_index limit $3
            ),
            counted as (
              select id, state, wait, since,
                row_number() over (partition by state, wait, pool, kept, needs order by since, id) as place,
                count(*) over (partition by state, wait, pool, kept, needs) as tasks
              from open
            )
            select id, state, wait, tasks from counted where place = 1 order by since, id";
        all(self.rows(sql, &[mission.into(), run.into(), MOST_OF_RUN.into()]).await?)
    }
}
