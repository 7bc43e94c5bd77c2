//! What estimates learned: added to by every process, read back by all of them.
//!
//! One statement adds many rows; it sums and never overwrites, and halves a window that is full, as the domain does.
//! Its own small transactions, beside those that move work and money.

use bursar_domain::estimate::{Factor, NodeCost, NodeKey, Sketch};
use bursar_domain::limits::FACTOR_WINDOW_TOKENS;
use bursar_domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Arg, Store, StoreError};

/// What is known about a model of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnedFactor {
    /// The provider's name as configured.
    pub provider: String,
    /// The model's name.
    pub model: String,
    /// The sums.
    #[serde(flatten)]
    pub factor: Factor,
    /// When somebody last added to it.
    pub updated_at: Timestamp,
}

/// What is known about a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnedNode {
    /// Which node.
    #[serde(flatten)]
    pub key: NodeKey,
    /// The sums.
    #[serde(flatten)]
    pub cost: NodeCost,
    /// When somebody last added to it.
    pub updated_at: Timestamp,
}

const NODE: &str = "
select tenant_id, price_book_id, workflow, node, samples, charged_ucr, estimated_ucr, buckets, updated_at
from node_costs";

fn all<T: serde::de::DeserializeOwned>(rows: Vec<Value>) -> Result<Vec<T>, StoreError> {
    let parse = |row| serde_json::from_value(row).map_err(|error| StoreError::Corrupt(error.to_string()));
    rows.into_iter().map(parse).collect()
}

impl dyn Store {
    /// Adds to what is known about models.
    pub async fn learn_factors(
        &self,
        lessons: impl IntoIterator<Item = (&(String, String), &Factor)>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let rows = lessons.into_iter().map(|((provider, model), factor)| {
            json!({
                "provider": provider, "model": model, "samples": factor.samples, "weight": factor.weight,
                "weighted_ppm": factor.weighted_ppm,
            })
        });
        let rows: Vec<Value> = rows.collect();
        if rows.is_empty() {
            return Ok(());
        }
        let sql = "
            insert into model_factors as known (provider, model, samples, weight, weighted_ppm, updated_at)
            select value ->> 'provider', value ->> 'model', cast(value ->> 'samples' as bigint),
              cast(value ->> 'weight' as bigint), cast(value ->> 'weighted_ppm' as bigint), $2
            from {rows:1} sent
            where true
            on conflict (provider, model) do update
            set samples = known.samples + excluded.samples,
              weight = (known.weight + excluded.weight)
                / case when known.weight + excluded.weight > $3 then 2 else 1 end,
              weighted_ppm = (known.weighted_ppm + excluded.weighted_ppm)
                / case when known.weight + excluded.weight > $3 then 2 else 1 end,
              updated_at = excluded.updated_at";
        self.execute(sql, &[Arg::Json(rows.into()), now.into(), FACTOR_WINDOW_TOKENS.into()]).await.map(drop)
    }

    /// Adds to what is known about nodes.
    pub async fn learn_nodes(
        &self,
        lessons: impl IntoIterator<Item = (&NodeKey, &NodeCost)>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let rows = lessons.into_iter().map(|(key, cost)| {
            json!({
                "tenant_id": key.tenant_id, "price_book_id": key.price_book_id, "workflow": key.workflow,
                "node": key.node, "samples": cost.samples, "weight": cost.buckets.weight(),
                "charged_ucr": cost.charged_ucr, "estimated_ucr": cost.estimated_ucr, "buckets": cost.buckets,
            })
        });
        let rows: Vec<Value> = rows.collect();
        if rows.is_empty() {
            return Ok(());
        }
        let sql = "
            insert into node_costs as known
              (tenant_id, price_book_id, workflow, node, samples, weight, charged_ucr, estimated_ucr, buckets, updated_at)
            select value ->> 'tenant_id', value ->> 'price_book_id', value ->> 'workflow', value ->> 'node',
              cast(value ->> 'samples' as bigint), cast(value ->> 'weight' as bigint),
              cast(value ->> 'charged_ucr' as bigint), cast(value ->> 'estimated_ucr' as bigint),
              value -> 'buckets', $2
            from {rows:1} sent
            where true
            on conflict (tenant_id, price_book_id, workflow, node) do update
            set samples = known.samples + excluded.samples,
              weight = (known.weight + excluded.weight)
                / case when known.weight + excluded.weight > $3 then 2 else 1 end,
              charged_ucr = (known.charged_ucr + excluded.charged_ucr)
                / case when known.weight + excluded.weight > $3 then 2 else 1 end,
              estimated_ucr = (known.estimated_ucr + excluded.estimated_ucr)
                / case when known.weight + excluded.weight > $3 then 2 else 1 end,
              buckets = (
                select {gather:merged.bucket, merged.weight}
                from (
                  select both_sides.bucket, cast(sum(both_sides.weight) as bigint)
                    / case when known.weight + excluded.weight > $3 then 2 else 1 end as weight
                  from (
                    select cast(value ->> 0 as bigint) as bucket, cast(value ->> 1 as bigint) as weight
                    from {each:known.buckets} old
                    union all
                    select cast(value ->> 0 as bigint), cast(value ->> 1 as bigint)
                    from {each:excluded.buckets} new) both_sides
                  group by both_sides.bucket
                  order by both_sides.bucket) merged
                where merged.weight > 0),
              updated_at = excluded.updated_at";
        let most = i64::try_from(Sketch::most_weight()).unwrap_or(i64::MAX);
        self.execute(sql, &[Arg::Json(rows.into()), now.into(), most.into()]).await.map(drop)
    }

    /// Models that somebody added to since `since`, the latest first, at most `limit`.
    pub async fn learned_factors(&self, since: Timestamp, limit: i64) -> Result<Vec<LearnedFactor>, StoreError> {
        let sql = "
            select provider, model, samples, weight, weighted_ppm, updated_at from model_factors
            where updated_at >= $1
            order by updated_at desc, provider, model limit $2";
        all(self.rows(sql, &[since.into(), limit.into()]).await?)
    }

    /// Nodes that somebody added to since `since`, the latest first, at most `limit`.
    pub async fn learned_nodes(&self, since: Timestamp, limit: i64) -> Result<Vec<LearnedNode>, StoreError> {
        let sql = format!(
            "{NODE}
             where updated_at >= $1
             order by updated_at desc, tenant_id, price_book_id, workflow, node limit $2"
        );
        all(self.rows(&sql, &[since.into(), limit.into()]).await?)
    }

    /// Nodes in the order of their keys behind `after`, at most `limit`.
    pub async fn learned_nodes_after(
        &self,
        after: Option<&NodeKey>,
        limit: i64,
    ) -> Result<Vec<LearnedNode>, StoreError> {
        let sql = format!(
            "{NODE}
             where $1 is null or (tenant_id, price_book_id, workflow, node) > ($1, $2, $3, $4)
             order by tenant_id, price_book_id, workflow, node limit $5"
        );
        let text = |of: fn(&NodeKey) -> String| Arg::Text(after.map(of));
        let args = [
            text(|key| key.tenant_id.to_string()),
            text(|key| key.price_book_id.to_string()),
            text(|key| key.workflow.clone()),
            text(|key| key.node.clone()),
            limit.into(),
        ];
        all(self.rows(&sql, &args).await?)
    }
}
