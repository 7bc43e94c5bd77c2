//! Bulk actions: what is done to many missions, a few each second, with what came of each.
//!
//! An action knows its missions from the beginning, so that a process that takes it over goes on where another stopped.
//! Its figures are counted from their rows, so that they are exact whoever wrote them.

use bursar_domain::id::{BulkActionId, KeyId, MissionId, RunId, TenantId};
use bursar_domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Arg, Store, StoreError};

/// How far an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BulkState {
    /// Missions are left.
    Running,
    /// All missions had their turn.
    Done,
    /// Somebody stopped it.
    Aborted,
}

impl BulkState {
    /// The word in tables and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Aborted => "aborted",
        }
    }
}

/// What came of a mission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BulkOutcome {
    /// It goes on.
    Retried,
    /// A rule forbids it: credits, a limit, its state.
    Refused,
    /// An error of ours.
    Failed,
}

impl BulkOutcome {
    /// The word in tables and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retried => "retried",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// An action.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct BulkAction {
    /// Its id.
    pub id: BulkActionId,
    /// The tenant of the key that ordered it.
    pub owner_id: TenantId,
    /// Whose missions; `None` is those of all tenants.
    pub tenant_id: Option<TenantId>,
    /// What the missions' failures have in common.
    pub fingerprint: String,
    /// How far it is.
    pub state: BulkState,
    /// The key that ordered it.
    pub actor: KeyId,
    /// Missions a second.
    pub per_second: i64,
    /// Missions in all.
    pub total: i64,
    /// Seconds that were taken so far; whoever works on one names it.
    pub step: i64,
    /// When the next missions are due, or whoever works on them is given up; none once it is over.
    pub next_at: Option<Timestamp>,
    /// The client's idempotency key.
    pub idempotency_key: Option<String>,
    /// SHA-256 of what the client asked for.
    pub request_hash: String,
    /// When it was ordered.
    pub created_at: Timestamp,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
}

/// Missions of an action of which the same came.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct BulkCount {
    /// The action.
    pub action_id: BulkActionId,
    /// What came of them.
    pub outcome: BulkOutcome,
    /// Why they were not retried: a stable code.
    pub reason: Option<String>,
    /// How many.
    pub missions: i64,
    /// One of them.
    pub sample_id: MissionId,
}

/// An action's figures, in missions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BulkFigures {
    /// Those that had their turn.
    pub done: i64,
    /// Of these, those that go on.
    pub retried: i64,
    /// Those that a rule kept from it.
    pub refused: i64,
    /// Those that an error of ours kept from it.
    pub failed: i64,
}

impl BulkFigures {
    /// Those of one action among the counts of many.
    pub fn of(action: BulkActionId, counts: &[BulkCount]) -> Self {
        let mut figures = Self::default();
        for count in counts.iter().filter(|count| count.action_id == action) {
            figures.done = figures.done.saturating_add(count.missions);
            let part = match count.outcome {
                BulkOutcome::Retried => &mut figures.retried,
                BulkOutcome::Refused => &mut figures.refused,
                BulkOutcome::Failed => &mut figures.failed,
            };
            *part = part.saturating_add(count.missions);
        }
        figures
    }
}

/// A mission of an action, as it was when that was ordered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct BulkItem {
    /// The mission.
    pub mission_id: MissionId,
    /// The run that had failed.
    pub run_id: RunId,
    /// How often it had been retried.
    pub retries: i32,
}

/// What came of a mission, to be noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkNote {
    /// The mission.
    pub mission_id: MissionId,
    /// What came of it.
    pub outcome: BulkOutcome,
    /// Why it was not retried.
    pub reason: Option<String>,
}

/// Whose actions are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BulkScope {
    /// Those over a tenant's missions.
    Tenant(TenantId),
    /// All: for operators.
    All,
}

impl BulkAction {
    /// When it should be done at its pace, while it runs.
    pub fn eta(&self, done: i64, now: Timestamp) -> Option<Timestamp> {
        let left = self.total.saturating_sub(done).saturating_add(self.per_second.saturating_sub(1));
        let seconds = left.checked_div(self.per_second)?;
        (self.state == BulkState::Running).then(|| now.plus_ms(seconds.saturating_mul(1_000)))
    }
}

impl BulkScope {
    /// That of a tenant, or all.
    pub const fn of(tenant: Option<TenantId>) -> Self {
        match tenant {
            Some(tenant) => Self::Tenant(tenant),
            None => Self::All,
        }
    }

    fn arg(self) -> Arg {
        match self {
            Self::Tenant(tenant) => tenant.into(),
            Self::All => Arg::Text(None),
        }
    }
}

const ACTION: &str = "
select id, owner_id, tenant_id, fingerprint, state, actor, per_second, total, step, next_at, idempotency_key,
  request_hash, created_at, ended_at
from bulk_actions";

fn all<T: serde::de::DeserializeOwned>(rows: Vec<Value>) -> Result<Vec<T>, StoreError> {
    let parse = |row| serde_json::from_value(row).map_err(|error| StoreError::Corrupt(error.to_string()));
    rows.into_iter().map(parse).collect()
}

impl dyn Store {
    /// Adds an action over the missions that have failed so by now, the oldest first, at most `most`; due at once. Its
    /// `total` is counted here. A second action with its owner's idempotency key is a conflict.
    pub async fn add_bulk_action(&self, action: &BulkAction, most: i64) -> Result<(), StoreError> {
        let add = "
            insert into bulk_actions (
              id, owner_id, tenant_id, kind, fingerprint, state, actor, per_second, total, step, next_at,
              idempotency_key, request_hash, created_at, updated_at)
            values ($1, $2, $3, 'redrive', $4, 'running', $5, $6, 0, 0, $7, $8, $9, $7, $7)";
        let items = format!(
            "insert into bulk_items (action_id, mission_id, run_id, retries)
             select $1, m.id, r.id, r.retries
             {} and r.fingerprint = $2 and ($3 is null or r.tenant_id = $3)
             order by m.id limit $4",
            super::read::DEAD
        );
        let count = "
            update bulk_actions set total = (select count(*) from bulk_items i where i.action_id = $1) where id = $1";
        let tenant = BulkScope::of(action.tenant_id).arg();
        let add_args = [
            action.id.into(),
            action.owner_id.into(),
            tenant.clone(),
            action.fingerprint.as_str().into(),
            action.actor.into(),
            action.per_second.into(),
            action.created_at.into(),
            action.idempotency_key.clone().into(),
            action.request_hash.as_str().into(),
        ];
        let item_args = [action.id.into(), action.fingerprint.as_str().into(), tenant, most.into()];
        let count_args: [Arg; 1] = [action.id.into()];
        self.execute_all(&[(add, &add_args), (&items, &item_args), (count, &count_args)]).await.map(drop)
    }

    /// One action.
    pub async fn bulk_action(&self, scope: BulkScope, id: BulkActionId) -> Result<Option<BulkAction>, StoreError> {
        let sql = format!("{ACTION} where id = $1 and ($2 is null or tenant_id = $2)");
        Ok(all(self.rows(&sql, &[id.into(), scope.arg()]).await?)?.into_iter().next())
    }

    /// The action that a tenant's key ordered under an idempotency key.
    pub async fn bulk_action_by_key(&self, owner: TenantId, key: &str) -> Result<Option<BulkAction>, StoreError> {
        let sql = format!("{ACTION} where owner_id = $1 and idempotency_key = $2");
        Ok(all(self.rows(&sql, &[owner.into(), key.into()]).await?)?.into_iter().next())
    }

    /// Actions, newest first, those older than `before`; of one fingerprint, where one is named.
    pub async fn bulk_actions(
        &self,
        scope: BulkScope,
        fingerprint: Option<&str>,
        before: Option<BulkActionId>,
        limit: i64,
    ) -> Result<Vec<BulkAction>, StoreError> {
        let sql = format!(
            "{ACTION}
             where ($1 is null or tenant_id = $1) and ($2 is null or fingerprint = $2) and ($3 is null or id < $3)
             order by id desc limit $4"
        );
        let text = |text: Option<String>| Arg::Text(text);
        let before = text(before.map(|id| id.to_string()));
        all(self.rows(&sql, &[scope.arg(), text(fingerprint.map(str::to_owned)), before, limit.into()]).await?)
    }

    /// What came of these actions' missions so far.
    pub async fn bulk_counts(&self, actions: &[BulkActionId]) -> Result<Vec<BulkCount>, StoreError> {
        let sql = "
            select action_id, outcome, reason, count(*) as missions, min(mission_id) as sample_id
            from bulk_items
            where action_id in {list:1} and outcome is not null
            group by action_id, outcome, reason
            order by action_id, count(*) desc, reason";
        all(self.rows(sql, &[json!(actions).into()]).await?)
    }

    /// Actions whose next missions are due, or whose worker is given up; the one that waits longest first.
    pub async fn due_bulk_actions(&self, now: Timestamp, limit: i64) -> Result<Vec<BulkAction>, StoreError> {
        let sql = format!("{ACTION} where state = 'running' and next_at <= $1 order by next_at limit $2");
        all(self.rows(&sql, &[now.into(), limit.into()]).await?)
    }

    /// Takes the next second of an action as it was looked at, until `lease_until`; whether nobody else has.
    pub async fn take_bulk_step(&self, seen: &BulkAction, lease_until: Timestamp) -> Result<bool, StoreError> {
        let sql = "
            update bulk_actions set step = step + 1, next_at = $4
            where id = $1 and state = 'running' and step = $2 and next_at = $3";
        let seen_at = Arg::Int(seen.next_at.map(Timestamp::ms));
        Ok(self.execute(sql, &[seen.id.into(), seen.step.into(), seen_at, lease_until.into()]).await? > 0)
    }

    /// Whether an action still runs and this second of it is the last that was taken.
    pub async fn holds_bulk_step(&self, id: BulkActionId, step: i64) -> Result<bool, StoreError> {
        let sql = "select 1 as one from bulk_actions where id = $1 and step = $2 and state = 'running'";
        Ok(!self.rows(sql, &[id.into(), step.into()]).await?.is_empty())
    }

    /// Leaves an action to whoever looks first after `next_at`; nothing when somebody else took it.
    pub async fn leave_bulk_step(&self, id: BulkActionId, step: i64, next_at: Timestamp) -> Result<(), StoreError> {
        let sql = "update bulk_actions set next_at = $3 where id = $1 and step = $2 and state = 'running'";
        self.execute(sql, &[id.into(), step.into(), next_at.into()]).await.map(drop)
    }

    /// The next missions of an action, oldest first.
    pub async fn bulk_items(&self, id: BulkActionId, limit: i64) -> Result<Vec<BulkItem>, StoreError> {
        let sql = "
            select mission_id, run_id, retries from bulk_items
            where action_id = $1 and outcome is null
            order by mission_id limit $2";
        all(self.rows(sql, &[id.into(), limit.into()]).await?)
    }

    /// Notes what came of missions; what is noted already stays. How many were noted.
    pub async fn note_bulk_items(
        &self,
        id: BulkActionId,
        notes: &[BulkNote],
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let item = "
            update bulk_items set outcome = $3, reason = $4
            where action_id = $1 and mission_id = $2 and outcome is null";
        let action = "update bulk_actions set updated_at = $2 where id = $1";
        let args: Vec<[Arg; 4]> = notes
            .iter()
            .map(|note| [id.into(), note.mission_id.into(), note.outcome.as_str().into(), note.reason.clone().into()])
            .collect();
        let action_args: [Arg; 2] = [id.into(), now.into()];
        let mut statements: Vec<(&str, &[Arg])> = args.iter().map(|args| (item, args.as_slice())).collect();
        // last: whoever dies before keeps nobody from taking the action over
        statements.push((action, &action_args));
        let touched = self.execute_all(&statements).await?;
        Ok(touched.iter().take(notes.len()).sum())
    }

    /// Ends an action all of whose missions had their turn; whether it did.
    pub async fn finish_bulk_action(&self, id: BulkActionId, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "
            update bulk_actions set state = 'done', ended_at = $2, updated_at = $2, next_at = null
            where id = $1 and state = 'running'
              and not exists (select 1 from bulk_items i where i.action_id = $1 and i.outcome is null)";
        Ok(self.execute(sql, &[id.into(), now.into()]).await? > 0)
    }

    /// Stops an action that runs; whether it did.
    pub async fn abort_bulk_action(&self, id: BulkActionId, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "
            update bulk_actions set state = 'aborted', ended_at = $2, updated_at = $2, next_at = null
            where id = $1 and state = 'running'";
        Ok(self.execute(sql, &[id.into(), now.into()]).await? > 0)
    }

    /// Forgets actions that were over before `cutoff`, with their missions' outcomes, at most `limit`. How many.
    pub async fn prune_bulk_actions(&self, cutoff: Timestamp, limit: i64) -> Result<u64, StoreError> {
        let old = format!("{ACTION} where ended_at is not null and ended_at <= $1 order by ended_at limit $2");
        let old: Vec<BulkAction> = all(self.rows(&old, &[cutoff.into(), limit.into()]).await?)?;
        if old.is_empty() {
            return Ok(0);
        }
        let ids: Vec<BulkActionId> = old.iter().map(|action| action.id).collect();
        let args: [Arg; 1] = [json!(ids).into()];
        let items = "delete from bulk_items where action_id in {list:1}";
        let actions = "delete from bulk_actions where id in {list:1}";
        let touched = self.execute_all(&[(items, &args), (actions, &args)]).await?;
        Ok(touched.get(1).copied().unwrap_or(0))
    }
}
