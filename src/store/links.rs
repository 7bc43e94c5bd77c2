//! Callback links: kept by the hash of their secret, never changed. What was decided with one stands where decisions
//! stand, so a link that was used and one that was not are the same row.

use bursar_domain::id::{KeyId, LinkId, MissionId, TaskId, TenantId};
use bursar_domain::time::Timestamp;
use serde::Deserialize;

use super::read::first;
use super::{Arg, Store, StoreError};

/// How long a link is kept after its time, so that whoever comes late is told that it is over.
const KEPT_MS: i64 = 7 * 86_400_000;

/// A link, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CallbackLink {
    /// Its id.
    pub id: LinkId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// The mission.
    pub mission_id: MissionId,
    /// The approval; `None` for a signal.
    pub task_id: Option<TaskId>,
    /// When that approval was asked for: asked again after a retry, it is another question.
    pub asked_at: Option<Timestamp>,
    /// The signal's name; `None` for an approval.
    pub signal: Option<String>,
    /// What may be decided: `approved`, `rejected`, or both with a comma.
    pub decisions: String,
    /// The key that made it.
    pub created_by: KeyId,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it can be used.
    pub expires_at: Timestamp,
}

impl dyn Store {
    /// Adds a link by the hash of its secret.
    pub async fn add_link(&self, link: &CallbackLink, secret_hash: &str) -> Result<(), StoreError> {
        let sql = "
            insert into callback_links (id, tenant_id, mission_id, task_id, asked_at, signal, decisions, secret_hash,
              created_by, created_at, expires_at)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
        let args = [
            link.id.into(),
            link.tenant_id.into(),
            link.mission_id.into(),
            Arg::Text(link.task_id.map(|id| id.to_string())),
            Arg::Int(link.asked_at.map(Timestamp::ms)),
            Arg::Text(link.signal.clone()),
            link.decisions.as_str().into(),
            secret_hash.into(),
            link.created_by.into(),
            link.created_at.into(),
            link.expires_at.into(),
        ];
        self.execute(sql, &args).await.map(drop)
    }

    /// The link whose secret has this hash, over or not.
    pub async fn link_by_hash(&self, secret_hash: &str) -> Result<Option<CallbackLink>, StoreError> {
        let sql = "
            select id, tenant_id, mission_id, task_id, asked_at, signal, decisions, created_by, created_at, expires_at
            from callback_links
            where secret_hash = $1";
        first(self.rows(sql, &[secret_hash.into()]).await?)
    }

    /// Whether the mission got a signal under that key.
    pub async fn has_signal(&self, mission: MissionId, key: &str) -> Result<bool, StoreError> {
        let sql = "select 1 as one from signals where mission_id = $1 and key = $2";
        Ok(!self.rows(sql, &[mission.into(), key.into()]).await?.is_empty())
    }

    /// Forgets links that were over a week ago.
    pub async fn forget_links(&self, now: Timestamp, limit: i64) -> Result<u64, StoreError> {
        let sql = "
            delete from callback_links
            where id in (select id from callback_links where expires_at <= $1 order by expires_at limit $2)";
        self.execute(sql, &[now.plus_ms(-KEPT_MS).into(), limit.into()]).await
    }
}
