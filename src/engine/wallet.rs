//! Credits come in: wallets are opened, grants given; whoever waits for credits is tried again.

use bursar_domain::id::{GrantId, TenantId, WalletId};
use bursar_domain::ledger::{self, GrantRequest, LedgerRefusal};

use super::Engine;
use crate::store::{Conflict, StoreError, Want};

/// Why a grant is refused. Nothing was posted.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// The ledger refuses.
    #[error(transparent)]
    Refused(#[from] LedgerRefusal),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Engine {
    /// Opens an empty wallet for a tenant.
    pub async fn open_wallet(&self, id: WalletId, tenant: TenantId) -> Result<(), StoreError> {
        self.decide(&Want::default(), &mut |turn| ledger::open_wallet(turn.set, id, tenant, turn.now)).await
    }

    /// Gives credits. The same reference and content again gives nothing and returns the first grant.
    pub async fn grant(&self, request: &GrantRequest) -> Result<GrantId, GrantError> {
        let want = Want { op_keys: vec![(request.wallet_id, request.key())], ..Want::wallets([request.wallet_id]) };
        let give = || async { self.decide(&want, &mut |turn| ledger::grant(turn.set, request, turn.now)).await };
        let granted = match give().await {
            // the same grant was posted at the same moment: now it is known
            Err(StoreError::Conflict(Conflict::LedgerKey)) => give().await,
            other => other,
        };
        let id = granted??;
        self.retry_waiters(Some(request.wallet_id)).await;
        Ok(id)
    }
}
