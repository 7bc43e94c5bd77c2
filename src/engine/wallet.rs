//! Wallets: opened, given credits, corrected, limited. Whatever may give room tries those who wait for it again.

use bursar_domain::credits::Ucr;
use bursar_domain::flow::{self, Refusal};
use bursar_domain::id::{GrantId, HoldId, MissionId, OpId, TenantId, WalletId};
use bursar_domain::ledger::{self, Correction, GrantRequest, LedgerRefusal, Terms};
use bursar_domain::workflow::OnExhausted;

use super::Engine;
use crate::store::{Conflict, StoreError, Want};

/// Why an operation on a wallet is refused. Nothing was posted.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The ledger refuses.
    #[error(transparent)]
    Refused(#[from] LedgerRefusal),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a budget can't be changed.
#[derive(Debug, thiserror::Error)]
pub enum BudgetError {
    /// The mission is over, does not exist or spent more already.
    #[error(transparent)]
    Refused(#[from] Refusal),
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
    pub async fn grant(&self, request: &GrantRequest) -> Result<GrantId, LedgerError> {
        let want = Want { op_keys: vec![(request.wallet_id, request.key())], ..Want::wallets([request.wallet_id]) };
        let id = self.post(&want, &mut |turn| ledger::grant(turn.set, request, turn.now)).await?;
        self.retry_waiters(Some(request.wallet_id)).await;
        Ok(id)
    }

    /// Gives part of a settled charge back. Returns the operation, on a repetition that of the first time.
    pub async fn refund(&self, correction: &Correction, hold: HoldId, amount: Ucr) -> Result<OpId, LedgerError> {
        let wallet = correction.wallet_id;
        let keys = [ledger::refund_key(&correction.reference), ledger::settle_key(hold)];
        let mut want = Want {
            holds: vec![hold],
            op_keys: keys.into_iter().map(|key| (wallet, key)).collect(),
            ..Want::wallets([wallet])
        };
        let op = loop {
            // only the settle says from which other grants it took: they are loaded in a second round
            let is_first = want.grants.is_empty();
            let mut origins = Vec::new();
            let mut decide = |turn: &mut flow::Turn<'_>| {
                origins = ledger::origins(turn.set, wallet, hold);
                let is_known = |grant: &GrantId| turn.set.grants.get(*grant).is_some();
                if is_first && !origins.iter().all(is_known) {
                    return Ok(None);
                }
                ledger::refund(turn.set, correction, hold, amount, turn.now).map(Some)
            };
            match self.post(&want, &mut decide).await? {
                Some(op) => break op,
                None => want.grants = origins,
            }
        };
        self.retry_waiters(Some(wallet)).await;
        Ok(op)
    }

    /// Corrects a balance by hand, up or down.
    pub async fn adjust(&self, correction: &Correction, amount: Ucr) -> Result<OpId, LedgerError> {
        let key = ledger::adjust_key(&correction.reference);
        let wallet = correction.wallet_id;
        let want = Want { op_keys: vec![(wallet, key)], ..Want::wallets([wallet]) };
        let op = self.post(&want, &mut |turn| ledger::adjust(turn.set, correction, amount, turn.now)).await?;
        self.retry_waiters(Some(wallet)).await;
        Ok(op)
    }

    /// Gives up debt.
    pub async fn write_off(&self, correction: &Correction, amount: Ucr) -> Result<OpId, LedgerError> {
        let key = ledger::write_off_key(&correction.reference);
        let wallet = correction.wallet_id;
        let want = Want { op_keys: vec![(wallet, key)], ..Want::wallets([wallet]) };
        let op = self.post(&want, &mut |turn| ledger::write_off(turn.set, correction, amount, turn.now)).await?;
        self.retry_waiters(Some(wallet)).await;
        Ok(op)
    }

    /// Changes the terms of a wallet.
    pub async fn set_terms(&self, wallet: WalletId, terms: &Terms) -> Result<(), LedgerError> {
        self.post(&Want::wallets([wallet]), &mut |turn| ledger::set_terms(turn.set, wallet, terms)).await?;
        self.retry_waiters(Some(wallet)).await;
        Ok(())
    }

    /// Changes a mission's budget; whoever waits for room in it is tried again.
    pub async fn set_budget(
        &self,
        mission: MissionId,
        budget: Option<Option<Ucr>>,
        on_exhausted: Option<OnExhausted>,
    ) -> Result<(), BudgetError> {
        let want = Want { missions: vec![mission], ..Want::default() };
        let wallet = self
            .decide(&want, &mut |turn| {
                flow::set_budget(turn, mission, budget, on_exhausted)?;
                Ok::<_, Refusal>(turn.set.missions.get(mission).map(|mission| mission.wallet_id))
            })
            .await??;
        self.retry_waiters(wallet).await;
        Ok(())
    }

    /// Posts an operation under its natural key. When the same key is posted elsewhere at the same moment, the second
    /// look finds it.
    async fn post<T: Send>(
        &self,
        want: &Want,
        decide: &mut (dyn FnMut(&mut flow::Turn<'_>) -> Result<T, LedgerRefusal> + Send),
    ) -> Result<T, LedgerError> {
        let posted = match self.decide(want, decide).await {
            Err(StoreError::Conflict(Conflict::LedgerKey)) => self.decide(want, decide).await,
            other => other,
        };
        Ok(posted??)
    }
}
