//! Tenants' settings are changed: how much of the workers each gets, and how many missions it may have.
//!
//! Weights are kept in memory, at most a sweep old: they travel with every ready task.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bursar_domain::id::TenantId;

use super::Engine;
use super::sweep::ready_task;
use crate::queue::ReadyTask;
use crate::store::read::ReadyRow;
use crate::store::{StoreError, Tenant, TenantChange};

/// Tenants with another weight than 1 that are looked for: few are ever set by hand.
const MOST_WEIGHTED: i64 = 10_000;

/// The tenants whose weight is not 1.
#[derive(Debug, Default)]
pub(super) struct Weights(Mutex<Arc<BTreeMap<TenantId, u16>>>);

impl Weights {
    fn all(&self) -> Arc<BTreeMap<TenantId, u16>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn of(&self, tenant: TenantId) -> u16 {
        self.all().get(&tenant).copied().unwrap_or(1)
    }
}

impl Engine {
    /// Looks for weights that changed and tells the queue of them: tenants whose work waits push nothing.
    pub(super) async fn learn_weights(&self) -> Result<(), StoreError> {
        let tenants = self.store().weighted_tenants(MOST_WEIGHTED).await?;
        let now: BTreeMap<TenantId, u16> = tenants.into_iter().map(|tenant| (tenant.id, tenant.weight)).collect();
        let before = self.parts.weights.all();
        if *before == now {
            return Ok(());
        }
        let mut changed: Vec<(TenantId, u16)> = now
            .iter()
            .filter(|(id, weight)| before.get(id) != Some(weight))
            .map(|(id, weight)| (*id, *weight))
            .collect();
        changed.extend(before.keys().filter(|id| !now.contains_key(id)).map(|id| (*id, 1)));
        *self.parts.weights.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(now);
        for (pool, _) in self.store().ready_counts(self.clock().now()).await? {
            if let Err(error) = self.queue().weigh(&pool, &changed).await {
                tracing::debug!(%error, "weights are left to the next push");
            }
        }
        Ok(())
    }

    /// What the queue knows of a ready task.
    pub(super) fn ready_task(&self, row: ReadyRow) -> ReadyTask {
        let weight = self.parts.weights.of(row.tenant_id);
        ReadyTask { weight, ..ready_task(row) }
    }

    /// Changes a tenant's settings; `None` when there is no such tenant. Values must be within their limits.
    pub async fn change_tenant(&self, id: TenantId, change: TenantChange) -> Result<Option<Tenant>, StoreError> {
        if change != TenantChange::default() && !self.store().change_tenant(id, change).await? {
            return Ok(None);
        }
        self.learn_weights().await?;
        self.store().tenant(id).await
    }
}
