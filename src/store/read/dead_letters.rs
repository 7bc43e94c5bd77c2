//! Dead letters: missions that failed or came too late, by what their failures have in common.
//!
//! All of it runs on the partial index of these runs: the cost grows with what failed and was not tried again.

use bursar_domain::id::{MissionId, TenantId};
use bursar_domain::time::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::super::{Arg, Store, StoreError};
use super::{MissionView, all, first};

/// Failed missions with the same fingerprint.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct DeadLetterGroup {
    /// What they have in common.
    pub fingerprint: String,
    /// How many.
    pub missions: i64,
    /// How many tenants they belong to.
    pub tenants: i64,
    /// When the first of them failed.
    pub first_at: Timestamp,
    /// When the last of them failed.
    pub last_at: Timestamp,
    /// The last one's error.
    pub error: Option<Value>,
    /// The last one.
    pub sample_id: MissionId,
    /// The workflow's name.
    pub workflow: String,
}

/// The latest runs of missions that are dead letters.
pub(in crate::store) const DEAD: &str = "
from runs r
join missions m on m.id = r.mission_id and m.run_id = r.id
where r.state in ('failed', 'expired') and r.fingerprint is not null";

const GROUPS: &str = "
select g.fingerprint, g.missions, g.tenants, g.first_at, g.last_at, r.error, r.mission_id as sample_id, w.name as workflow
from (
  select r.fingerprint, count(*) as missions, count(distinct r.tenant_id) as tenants, min(r.ended_at) as first_at,
    max(r.ended_at) as last_at, max(r.id) as sample
  from runs r
  join missions m on m.id = r.mission_id and m.run_id = r.id
  where r.state in ('failed', 'expired') and r.fingerprint is not null
    and ($1 is null or r.tenant_id = $1) and ($2 is null or r.fingerprint = $2)
  group by r.fingerprint
) g
join runs r on r.id = g.sample
join workflows w on w.id = r.workflow_id";

fn tenant_arg(tenant: Option<TenantId>) -> Arg {
    Arg::Text(tenant.map(|id| id.to_string()))
}

impl dyn Store {
    /// Groups of failed missions, the latest failure first, those behind `after` (its time and fingerprint).
    pub async fn dead_letters(
        &self,
        tenant: Option<TenantId>,
        after: Option<(Timestamp, String)>,
        limit: i64,
    ) -> Result<Vec<DeadLetterGroup>, StoreError> {
        let sql = format!(
            "{GROUPS}
             where ($3 is null or g.last_at < $3 or (g.last_at = $3 and g.fingerprint < $4))
             order by g.last_at desc, g.fingerprint desc limit $5"
        );
        let (at, fingerprint) = after.map_or((None, None), |(at, fingerprint)| (Some(at.ms()), Some(fingerprint)));
        let args = [tenant_arg(tenant), Arg::Text(None), at.into(), fingerprint.into(), limit.into()];
        all(self.rows(&sql, &args).await?)
    }

    /// One group of failed missions.
    pub async fn dead_letter_group(
        &self,
        tenant: Option<TenantId>,
        fingerprint: &str,
    ) -> Result<Option<DeadLetterGroup>, StoreError> {
        first(self.rows(GROUPS, &[tenant_arg(tenant), fingerprint.into()]).await?)
    }

    /// The oldest missions of a group, with their tenants.
    pub async fn oldest_dead_letters(
        &self,
        tenant: Option<TenantId>,
        fingerprint: &str,
        limit: i64,
    ) -> Result<Vec<(MissionId, TenantId)>, StoreError> {
        #[derive(Deserialize)]
        struct Row {
            id: MissionId,
            tenant_id: TenantId,
        }
        let sql = format!(
            "select m.id, m.tenant_id {DEAD} and r.fingerprint = $2 and ($1 is null or r.tenant_id = $1)
             order by m.id limit $3"
        );
        let rows: Vec<Row> = all(self.rows(&sql, &[tenant_arg(tenant), fingerprint.into(), limit.into()]).await?)?;
        Ok(rows.into_iter().map(|row| (row.id, row.tenant_id)).collect())
    }

    /// The missions of a group, newest first, those older than `before`.
    pub async fn dead_missions(
        &self,
        tenant: Option<TenantId>,
        fingerprint: &str,
        before: Option<MissionId>,
        limit: i64,
    ) -> Result<Vec<MissionView>, StoreError> {
        let sql = format!(
            "{} {}
             where r.state in ('failed', 'expired') and r.fingerprint = $2
               and ($1 is null or m.tenant_id = $1) and ($3 is null or m.id < $3)
             order by m.id desc limit $4",
            super::work::MISSION,
            super::work::MISSION_FROM
        );
        let before = Arg::Text(before.map(|id| id.to_string()));
        all(self.rows(&sql, &[tenant_arg(tenant), fingerprint.into(), before, limit.into()]).await?)
    }
}
