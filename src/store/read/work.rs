//! Missions, tasks, events and workflows as they are shown.

use bursar_domain::credits::Ucr;
use bursar_domain::id::{
    CallId, MissionId, PriceBookId, ProjectId, RunId, TaskId, TenantId, WalletId, WorkerId, WorkflowId,
};
use bursar_domain::outcome::StepError;
use bursar_domain::record::{Bound, Fan};
use bursar_domain::state::{RunState, TaskState, WaitCause};
use bursar_domain::time::Timestamp;
use bursar_domain::usage::Usage;
use bursar_domain::workflow::OnExhausted;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::{Arg, Store, StoreError};
use super::{all, first};

/// A mission with its latest run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MissionView {
    /// Its id.
    pub id: MissionId,
    /// Its owner.
    pub tenant_id: TenantId,
    /// Who pays.
    pub wallet_id: WalletId,
    /// The workflow version.
    pub workflow_id: WorkflowId,
    /// The workflow's name.
    pub workflow_name: String,
    /// The workflow's version.
    pub workflow_version: i64,
    /// The latest run.
    pub run_id: RunId,
    /// Its pinned prices.
    pub price_book_id: PriceBookId,
    /// The run's number.
    pub run_number: i64,
    /// How often it was retried.
    pub retries: i64,
    /// The run's state, which is the mission's.
    pub state: RunState,
    /// Why it is in that state.
    pub status_reason: Option<String>,
    /// The run's error.
    pub error: Option<Value>,
    /// The input (only when one mission is read).
    pub input: Option<Value>,
    /// The client's own data.
    pub metadata: Option<Value>,
    /// The client's words by which usage is reported.
    pub tags: Option<Vec<String>>,
    /// The client's idempotency key.
    pub idempotency_key: Option<String>,
    /// The hash of the submitted body.
    pub request_hash: String,
    /// −100 to 100.
    pub priority: i64,
    /// The budget.
    pub budget_ucr: Option<Ucr>,
    /// What happens when it is used up.
    pub on_exhausted: OnExhausted,
    /// The flat fee of the run.
    pub fee_ucr: Ucr,
    /// The last event's number.
    pub last_seq: i64,
    /// Tasks.
    pub tasks_total: i64,
    /// Tasks in a final state.
    pub tasks_done: i64,
    /// Credits held.
    pub held_ucr: Ucr,
    /// Credits charged.
    pub spent_ucr: Ucr,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When its first task was claimed.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// When it fails if not over.
    pub deadline_at: Option<Timestamp>,
    /// How far its latest run was pruned.
    pub pruned: i16,
    /// Up to which number its events were pruned.
    pub pruned_seq: i64,
    /// The project that it was submitted into.
    pub project_id: Option<ProjectId>,
}

pub(super) const MISSION: &str = "
select m.id, m.tenant_id, m.wallet_id, m.workflow_id, w.name as workflow_name, w.version as workflow_version,
  m.run_id, r.price_book_id, r.number as run_number, r.retries, r.state, r.status_reason, r.error, m.metadata, m.tags,
  m.idempotency_key, m.request_hash, m.priority, m.budget_ucr, m.on_exhausted, r.fee_ucr, m.last_seq,
  m.project_id, m.tasks_total, m.tasks_done, m.held_ucr, m.spent_ucr, m.created_at, m.updated_at, r.started_at, r.ended_at,
  r.deadline_at, r.pruned, m.pruned_seq";
/// As [`MISSION`] for any of its runs: the counters of the latest one stand on the mission, those of others are counted.
const RUN: &str = "
select m.id, m.tenant_id, m.wallet_id, r.workflow_id, w.name as workflow_name, w.version as workflow_version,
  r.id as run_id, r.price_book_id, r.number as run_number, r.retries, r.state, r.status_reason, r.error, m.metadata,
  m.tags, m.idempotency_key, m.request_hash, m.priority, m.budget_ucr, m.on_exhausted, r.fee_ucr, m.last_seq,
  case when r.id = m.run_id then m.tasks_total else (select count(*) from tasks t where t.run_id = r.id) end as tasks_total,
  case when r.id = m.run_id then m.tasks_done
    else (select count(*) from tasks t where t.run_id = r.id and t.ended_at is not null) end as tasks_done,
  m.held_ucr, m.spent_ucr, m.created_at, m.updated_at, r.started_at, r.ended_at, r.deadline_at, r.pruned, m.pruned_seq,
  m.project_id";
pub(super) const MISSION_FROM: &str = "
from missions m
join runs r on r.id = m.run_id
join workflows w on w.id = m.workflow_id";

/// Which missions to list.
#[derive(Debug, Clone, Default)]
pub struct MissionFilter {
    /// Only of this tenant.
    pub tenant: Option<TenantId>,
    /// Only in these states; empty is all.
    pub states: Vec<RunState>,
    /// Only of this workflow.
    pub workflow: Option<String>,
    /// Only of this project.
    pub project: Option<ProjectId>,
    /// Only older than this one (keyset).
    pub before: Option<MissionId>,
    /// How many at most.
    pub limit: i64,
}

/// A task as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskView {
    /// Its id.
    pub id: TaskId,
    /// Its owner.
    pub tenant_id: TenantId,
    /// Its mission.
    pub mission_id: MissionId,
    /// Its run.
    pub run_id: RunId,
    /// The node's key.
    pub node: String,
    /// Its number in the run: the node's index, for the nodes of the run's own workflow.
    pub node_index: i64,
    /// The task that it was made of, for one of many.
    pub parent_id: Option<TaskId>,
    /// Its number among these.
    pub item: i64,
    /// The tasks that were made of it.
    pub fan: Option<Fan>,
    /// What it sees besides what its node sees.
    pub bound: Option<Bound>,
    /// The kind of node.
    pub kind: String,
    /// The pool.
    pub pool: String,
    /// Where it stands.
    pub state: TaskState,
    /// What it waits for.
    pub wait: Option<WaitCause>,
    /// Why.
    pub status_reason: Option<String>,
    /// How often it was claimed.
    pub attempt: i64,
    /// How often it failed.
    pub failures: i64,
    /// When it became ready.
    pub ready_at: Option<Timestamp>,
    /// When a wait is over.
    pub due_at: Option<Timestamp>,
    /// When it fails if not over.
    pub deadline_at: Option<Timestamp>,
    /// When the attempt began.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// Who works on it.
    pub worker_id: Option<WorkerId>,
    /// The last error.
    pub error: Option<StepError>,
    /// The task that stands in for it since it failed.
    pub stand_in_id: Option<TaskId>,
    /// What it holds.
    pub held_ucr: Ucr,
    /// What its last hold was made with, before calls made it grow; `None` without a hold.
    pub estimate_ucr: Option<Ucr>,
    /// What was charged.
    pub cost_ucr: Ucr,
    /// What its billed calls used.
    pub usage: Option<Usage>,
    /// Its output (only when asked for).
    pub output: Option<Value>,
    /// When it was made.
    pub created_at: Timestamp,
    /// How many of its needs are not over.
    pub remaining_needs: i64,
    /// Since when a claim keeps it back for its concurrency key.
    pub held_since: Option<Timestamp>,
}

impl TaskView {
    /// What was charged for it and for the tasks that were made of it.
    pub fn whole_cost(&self) -> Ucr {
        self.cost_ucr.saturating_add(self.fan.as_ref().map(|fan| fan.spent_ucr).unwrap_or_default())
    }

    /// The key of its item, where it stands for one.
    pub fn item_key(&self) -> Option<&str> {
        self.bound.as_ref()?.values.get("map")?.get("key")?.as_str()
    }
}

/// A row of the event log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventView {
    /// The mission.
    pub mission_id: MissionId,
    /// Its number.
    pub seq: i64,
    /// The run.
    pub run_id: RunId,
    /// The type.
    pub kind: String,
    /// The task.
    pub task_id: Option<TaskId>,
    /// The node.
    pub node: Option<String>,
    /// The attempt.
    pub attempt: Option<i64>,
    /// What it carries.
    pub data: Value,
    /// When it happened.
    pub at: Timestamp,
}

/// A workflow version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkflowView {
    /// Its id.
    pub id: WorkflowId,
    /// Its owner.
    pub tenant_id: TenantId,
    /// Its name.
    pub name: String,
    /// 1, 2, 3…
    pub version: i64,
    /// SHA-256 of its canonical JSON.
    pub content_hash: String,
    /// The canonical JSON (only when one is read).
    pub definition: Option<Value>,
    /// When it was put.
    pub created_at: Timestamp,
}

/// A usage call as it is shown: never the answer itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallView {
    /// Its id.
    pub id: CallId,
    /// Its task.
    pub task_id: TaskId,
    /// The attempt that bought it.
    pub attempt: i64,
    /// Its number in the attempt.
    pub number: i64,
    /// Who answered.
    pub provider: String,
    /// With which model.
    pub model: String,
    /// `sent`, `done`, `failed`, `rejected` or `lost`.
    pub state: String,
    /// What it costs.
    pub cost_ucr: Ucr,
    /// Whether the tenant pays.
    pub billable: bool,
    /// Whether the usage is an estimate.
    pub estimated: bool,
    /// What it used.
    pub usage: Option<Usage>,
    /// How long it took.
    pub duration_ms: Option<i64>,
    /// How long to the first token.
    pub first_token_ms: Option<i64>,
    /// When it was recorded.
    pub created_at: Timestamp,
}

// the operation that made a task's last hold is found by its key: its legs are what was drawn at first
const TASK: &str = "
select t.id, t.tenant_id, t.mission_id, t.run_id, t.node, t.node_index, t.parent_id, t.item, t.fan, t.bound, t.kind, t.pool, t.state, t.wait,
  t.status_reason, t.attempt, t.failures, t.ready_at, t.due_at, t.deadline_at, t.started_at, t.ended_at, t.worker_id,
  t.error, t.stand_in_id, t.created_at, t.remaining_needs, t.held_since, coalesce(h.amount_ucr, 0) as held_ucr, t.cost_ucr, t.usage,
  (select cast(sum(cast(leg.value ->> 2 as bigint)) as bigint)
   from missions m
   join ops o on o.wallet_id = m.wallet_id and o.key = 'hold:' || t.id || ':' || t.holds
   join {each:o.legs} leg on true
   where m.id = t.mission_id) as estimate_ucr";
const TASK_FROM: &str = "
from tasks t
left join holds h on h.id = t.hold_id";

fn tenant_arg(tenant: Option<TenantId>) -> Arg {
    Arg::Text(tenant.map(|id| id.to_string()))
}

impl dyn Store {
    /// One mission with its input.
    pub async fn mission(&self, tenant: Option<TenantId>, id: MissionId) -> Result<Option<MissionView>, StoreError> {
        let sql = format!(
            "{MISSION}, coalesce(r.input, m.input) as input {MISSION_FROM} where m.id = $1 and ($2 is null or m.tenant_id = $2)"
        );
        first(self.rows(&sql, &[id.into(), tenant_arg(tenant)]).await?)
    }

    /// The mission that was submitted under an idempotency key.
    pub async fn mission_by_key(&self, tenant: TenantId, key: &str) -> Result<Option<MissionView>, StoreError> {
        let sql = format!("{MISSION} {MISSION_FROM} where m.tenant_id = $1 and m.idempotency_key = $2");
        first(self.rows(&sql, &[tenant.into(), key.into()]).await?)
    }

    /// The mission of a run, with that run in the place of its latest one.
    pub async fn mission_of_run(
        &self,
        tenant: Option<TenantId>,
        run: RunId,
    ) -> Result<Option<MissionView>, StoreError> {
        let sql = format!(
            "{RUN}, coalesce(r.input, m.input) as input
             from runs r
             join missions m on m.id = r.mission_id
             join workflows w on w.id = r.workflow_id
             where r.id = $1 and ($2 is null or r.tenant_id = $2)"
        );
        first(self.rows(&sql, &[run.into(), tenant_arg(tenant)]).await?)
    }

    /// Missions, newest first.
    pub async fn missions(&self, filter: &MissionFilter) -> Result<Vec<MissionView>, StoreError> {
        let states: Vec<&str> = filter.states.iter().map(|state| state.as_str()).collect();
        let sql = format!(
            "{MISSION} {MISSION_FROM}
             where ($1 is null or m.tenant_id = $1)
               and ($2 is null or m.id < $2)
               and r.pruned < 3
               and ($3 = 1 or r.state in {{list:4}})
               and ($5 is null or w.name = $5)
               and ($6 is null or m.project_id = $6)
             order by m.id desc limit $7"
        );
        let args = [
            tenant_arg(filter.tenant),
            Arg::Text(filter.before.map(|id| id.to_string())),
            i64::from(states.is_empty()).into(),
            json!(states).into(),
            filter.workflow.clone().into(),
            Arg::Text(filter.project.map(|id| id.to_string())),
            filter.limit.into(),
        ];
        all(self.rows(&sql, &args).await?)
    }

    /// The tasks of a run in the order of the workflow, at most `limit`.
    pub async fn tasks_of_run(&self, run: RunId, with_output: bool, limit: i64) -> Result<Vec<TaskView>, StoreError> {
        let output = if with_output { "{output:t} as output" } else { "null as output" };
        let sql = format!(
            "{TASK}, {output} {TASK_FROM}
             where t.run_id = $1
             order by t.node_index limit $2"
        );
        all(self.rows(&sql, &[run.into(), limit.into()]).await?)
    }

    /// The tasks of a run behind the one of number `after`, in the order of their numbers, without their outputs; of all,
    /// or of those that were made of one.
    pub async fn tasks_after(
        &self,
        run: RunId,
        parent: Option<TaskId>,
        after: i64,
        limit: i64,
    ) -> Result<Vec<TaskView>, StoreError> {
        let sql = format!(
            "{TASK}, null as output {TASK_FROM}
             where t.run_id = $1 and t.node_index > $2 and ($4 is null or t.parent_id = $4)
             order by t.node_index limit $3"
        );
        let parent = Arg::Text(parent.map(|id| id.to_string()));
        all(self.rows(&sql, &[run.into(), after.into(), limit.into(), parent]).await?)
    }

    /// One task with its output.
    pub async fn task(&self, tenant: Option<TenantId>, id: TaskId) -> Result<Option<TaskView>, StoreError> {
        let sql = format!(
            "{TASK}, {{output:t}} as output {TASK_FROM}
             where t.id = $1 and ($2 is null or t.tenant_id = $2)"
        );
        first(self.rows(&sql, &[id.into(), tenant_arg(tenant)]).await?)
    }

    /// The usage calls of a run's tasks, oldest first, at most `limit`.
    pub async fn calls_of_run(&self, run: RunId, limit: i64) -> Result<Vec<CallView>, StoreError> {
        let sql = "
            select c.id, c.task_id, c.attempt, c.number, c.provider, c.model, c.state, c.cost_ucr, c.billable,
              c.estimated, c.usage, c.duration_ms, c.first_token_ms, c.created_at
            from tasks t
            join usage_calls c on c.task_id = t.id
            where t.run_id = $1
            order by c.id limit $2";
        all(self.rows(sql, &[run.into(), limit.into()]).await?)
    }

    /// Whether an earlier attempt of the task bought one of the calls with these hashes.
    pub async fn has_answer(&self, task: TaskId, hashes: &[String]) -> Result<bool, StoreError> {
        let sql = "
            select 1 as found from usage_calls c
            where c.task_id = $1 and c.state = 'done' and c.request_hash in ({list:2})
            limit 1";
        let hashes = Arg::from(serde_json::json!(hashes));
        Ok(!self.rows(sql, &[task.into(), hashes]).await?.is_empty())
    }

    /// The usage calls of a run's tasks that came after `after`, oldest first.
    pub async fn calls_after(
        &self,
        run: RunId,
        after: Option<CallId>,
        limit: i64,
    ) -> Result<Vec<CallView>, StoreError> {
        let sql = "
            select c.id, c.task_id, c.attempt, c.number, c.provider, c.model, c.state, c.cost_ucr, c.billable,
              c.estimated, c.usage, c.duration_ms, c.first_token_ms, c.created_at
            from tasks t
            join usage_calls c on c.task_id = t.id
            where t.run_id = $1 and ($2 is null or c.id > $2)
            order by c.id limit $3";
        let after = Arg::Text(after.map(|id| id.to_string()));
        all(self.rows(sql, &[run.into(), after, limit.into()]).await?)
    }

    /// A mission's events after `seq`, in order, at most `limit`. The tenant was checked with the mission.
    pub async fn events(&self, mission: MissionId, after: i64, limit: i64) -> Result<Vec<EventView>, StoreError> {
        let sql = "
            select mission_id, seq, run_id, kind, task_id, node, attempt, data, at from events
            where mission_id = $1 and seq > $2
            order by seq limit $3";
        all(self.rows(sql, &[mission.into(), after.into(), limit.into()]).await?)
    }

    /// A workflow version with its definition; the newest where no version is named.
    pub async fn workflow(
        &self,
        tenant: TenantId,
        name: &str,
        version: Option<i64>,
    ) -> Result<Option<WorkflowView>, StoreError> {
        let sql = "
            select id, tenant_id, name, version, content_hash, definition, created_at from workflows
            where tenant_id = $1 and name = $2 and ($3 is null or version = $3) and planned_by is null
            order by version desc limit 1";
        first(self.rows(sql, &[tenant.into(), name.into(), version.into()]).await?)
    }

    /// The id of a workflow version; of the newest where no version is named.
    pub async fn workflow_id(
        &self,
        tenant: TenantId,
        name: &str,
        version: Option<i64>,
    ) -> Result<Option<WorkflowId>, StoreError> {
        let sql = "
            select id from workflows
            where tenant_id = $1 and name = $2 and ($3 is null or version = $3) and planned_by is null
            order by version desc limit 1";
        let rows = self.rows(sql, &[tenant.into(), name.into(), version.into()]).await?;
        first(rows.into_iter().map(|mut row| row["id"].take()).collect())
    }

    /// Workflow versions by id, with their definitions.
    pub async fn workflows_by_id(&self, ids: &[WorkflowId]) -> Result<Vec<WorkflowView>, StoreError> {
        let sql = "
            select id, tenant_id, name, version, content_hash, definition, created_at from workflows
            where id in {list:1}";
        all(self.rows(sql, &[json!(ids).into()]).await?)
    }

    /// The newest version of each of a tenant's workflows, by name, after `after`.
    pub async fn workflows(
        &self,
        tenant: TenantId,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<WorkflowView>, StoreError> {
        let sql = "
            select w.id, w.tenant_id, w.name, w.version, w.content_hash, w.created_at
            from workflows w
            where w.tenant_id = $1 and ($2 is null or w.name > $2) and w.planned_by is null
              and w.version = (
                select max(n.version) from workflows n where n.tenant_id = w.tenant_id and n.name = w.name)
            order by w.name limit $3";
        let after = Arg::Text(after.map(str::to_owned));
        all(self.rows(sql, &[tenant.into(), after, limit.into()]).await?)
    }

    /// Price books by id: their canonical content.
    pub async fn price_books(&self, ids: &[PriceBookId]) -> Result<Vec<(PriceBookId, Value)>, StoreError> {
        #[derive(Deserialize)]
        struct Book {
            id: PriceBookId,
            content: Value,
        }
        let rows = self.rows("select id, content from price_books where id in {list:1}", &[json!(ids).into()]).await?;
        Ok(all::<Book>(rows)?.into_iter().map(|book| (book.id, book.content)).collect())
    }

    /// The price book that new runs pin.
    pub async fn active_prices(&self) -> Result<Option<PriceBookId>, StoreError> {
        let sql =
            "select id from price_books where activated_at is not null order by activated_at desc, id desc limit 1";
        first(self.rows(sql, &[]).await?.into_iter().map(|mut row| row["id"].take()).collect())
    }
}
