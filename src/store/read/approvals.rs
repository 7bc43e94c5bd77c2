//! Approvals as they are shown: tasks that wait, or waited, for a person's decision.

use bursar_domain::id::{MissionId, RunId, TaskId, TenantId, WorkflowId};
use bursar_domain::record::Decision;
use bursar_domain::state::{TaskState, WaitCause};
use bursar_domain::time::Timestamp;
use serde::Deserialize;

use super::super::{Arg, Store, StoreError};
use super::{all, first};

/// A decision that somebody was asked for.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ApprovalView {
    /// The task.
    pub id: TaskId,
    /// Its owner.
    pub tenant_id: TenantId,
    /// Its mission.
    pub mission_id: MissionId,
    /// Its run.
    pub run_id: RunId,
    /// Its workflow version.
    pub workflow_id: WorkflowId,
    /// The workflow's name.
    pub workflow_name: String,
    /// The node's key.
    pub node: String,
    /// Its number in the run.
    pub node_index: i32,
    /// The node's index.
    pub node_at: i32,
    /// The number in the run of its workflow's first node.
    pub base: i32,
    /// The tasks above it, the nearest first.
    pub ancestors: Option<Vec<TaskId>>,
    /// Where the task stands.
    pub state: TaskState,
    /// What it waits for.
    pub wait: Option<WaitCause>,
    /// What whoever decides is shown (only when asked for).
    pub shown: Option<String>,
    /// What became of it.
    pub decision: Option<Decision>,
    /// When it was asked for.
    pub ready_at: Option<Timestamp>,
    /// Until when it may be decided.
    pub due_at: Option<Timestamp>,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
}

const APPROVAL: &str = "
select t.id, t.tenant_id, t.mission_id, t.run_id, t.workflow_id, w.name as workflow_name, t.node, t.node_index, t.node_at, t.base, t.ancestors, t.state,
  t.wait, t.decision, t.ready_at, t.due_at, t.ended_at";
const APPROVAL_FROM: &str = "
from tasks t
join workflows w on w.id = t.workflow_id";

/// Which open approvals to list.
#[derive(Debug, Clone, Default)]
pub struct ApprovalFilter {
    /// Only of this tenant.
    pub tenant: Option<TenantId>,
    /// Only of this mission.
    pub mission: Option<MissionId>,
    /// Only behind this one (keyset).
    pub after: Option<TaskId>,
    /// Whether what is shown is read.
    pub with_shown: bool,
    /// How many at most.
    pub limit: i64,
}

impl dyn Store {
    /// Decisions that somebody is asked for now, oldest missions first.
    pub async fn open_approvals(&self, filter: &ApprovalFilter) -> Result<Vec<ApprovalView>, StoreError> {
        let shown = if filter.with_shown { "t.shown" } else { "null as shown" };
        let sql = format!(
            "{APPROVAL}, {shown} {APPROVAL_FROM}
             where t.state = 'waiting' and t.wait = 'approval'
               and ($1 is null or t.tenant_id = $1)
               and ($2 is null or t.mission_id = $2)
               and ($3 is null or t.id > $3)
             order by t.id limit $4"
        );
        let args = [
            Arg::Text(filter.tenant.map(|id| id.to_string())),
            Arg::Text(filter.mission.map(|id| id.to_string())),
            Arg::Text(filter.after.map(|id| id.to_string())),
            filter.limit.into(),
        ];
        all(self.rows(&sql, &args).await?)
    }

    /// How many decisions somebody is asked for now; counts no further than `most`.
    pub async fn count_open_approvals(&self, tenant: Option<TenantId>, most: i64) -> Result<i64, StoreError> {
        let sql = "
            select count(*) as open from (
              select 1 as one from tasks
              where state = 'waiting' and wait = 'approval' and ($1 is null or tenant_id = $1)
              limit $2
            ) counted";
        let rows = self.rows(sql, &[Arg::Text(tenant.map(|id| id.to_string())), most.into()]).await?;
        Ok(rows.first().and_then(|row| row["open"].as_i64()).unwrap_or_default())
    }

    /// A decision that somebody is or was asked for, with what they are shown.
    pub async fn approval(&self, tenant: Option<TenantId>, id: TaskId) -> Result<Option<ApprovalView>, StoreError> {
        let sql = format!(
            "{APPROVAL}, t.shown {APPROVAL_FROM}
             where t.id = $1 and t.shown is not null and ($2 is null or t.tenant_id = $2)"
        );
        first(self.rows(&sql, &[id.into(), Arg::Text(tenant.map(|id| id.to_string()))]).await?)
    }
}
