//! Price books as they are stored, and the recorded calls that another book can price again.

use bursar_domain::credits::Ucr;
use bursar_domain::id::{CallId, PriceBookId, TenantId};
use bursar_domain::time::Timestamp;
use bursar_domain::usage::Usage;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{all, first};
use crate::store::{Arg, Store, StoreError};

/// A stored price book.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceBookView {
    /// Its id.
    pub id: PriceBookId,
    /// Its name. Books of different content may share one.
    pub name: String,
    /// SHA-256 of its canonical content, unique.
    pub content_hash: String,
    /// When it was stored.
    pub created_at: Timestamp,
    /// When it was activated last; the latest of all books is the active one.
    pub activated_at: Option<Timestamp>,
    /// Its canonical content; absent in lists.
    #[serde(default)]
    pub content: Option<Value>,
}

/// A call whose usage is known.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct UsedCall {
    /// Its id.
    pub id: CallId,
    /// The model that was asked.
    pub model: String,
    /// What it was priced at.
    pub cost_ucr: Ucr,
    /// Whether the tenant pays.
    pub billable: bool,
    /// What it used.
    pub usage: Usage,
    /// When it was recorded.
    pub created_at: Timestamp,
}

impl dyn Store {
    /// Price books, newest first, those before `before`, without their content.
    pub async fn price_book_list(
        &self,
        before: Option<PriceBookId>,
        limit: i64,
    ) -> Result<Vec<PriceBookView>, StoreError> {
        let sql = "
            select id, name, content_hash, created_at, activated_at from price_books
            where $1 is null or id < $1
            order by id desc limit $2";
        let before = Arg::Text(before.map(|id| id.to_string()));
        all(self.rows(sql, &[before, limit.into()]).await?)
    }

    /// A price book with its content.
    pub async fn price_book(&self, id: PriceBookId) -> Result<Option<PriceBookView>, StoreError> {
        let sql = "
            select id, name, content_hash, created_at, activated_at, content from price_books
            where id = $1";
        first(self.rows(sql, &[id.into()]).await?)
    }

    /// The price book with this content.
    pub async fn price_book_by_hash(&self, content_hash: &str) -> Result<Option<PriceBookView>, StoreError> {
        let sql = "
            select id, name, content_hash, created_at, activated_at from price_books
            where content_hash = $1";
        first(self.rows(sql, &[content_hash.into()]).await?)
    }

    /// A tenant's calls with known usage since `since`, oldest first, those after the one at `after`.
    pub async fn used_calls(
        &self,
        tenant: TenantId,
        since: Timestamp,
        after: Option<(Timestamp, CallId)>,
        limit: i64,
    ) -> Result<Vec<UsedCall>, StoreError> {
        let sql = "
            select id, model, cost_ucr, billable, usage, created_at from usage_calls
            where tenant_id = $1 and created_at >= $2 and (created_at > $2 or id > $3) and usage is not null
            order by created_at, id limit $4";
        let (since, after) = after.map_or_else(|| (since, String::new()), |(at, id)| (at, id.to_string()));
        all(self.rows(sql, &[tenant.into(), since.into(), after.as_str().into(), limit.into()]).await?)
    }

    /// All tenants' calls with known usage since `since`, in the order of their ids, those after `after`.
    pub async fn all_used_calls(
        &self,
        since: Timestamp,
        after: CallId,
        limit: i64,
    ) -> Result<Vec<UsedCall>, StoreError> {
        let sql = "
            select id, model, cost_ucr, billable, usage, created_at from usage_calls
            where id > $1 and created_at >= $2 and usage is not null
            order by id limit $3";
        all(self.rows(sql, &[after.into(), since.into(), limit.into()]).await?)
    }
}
