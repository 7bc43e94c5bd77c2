//! Credits for calls from outside any mission, held and settled in batches: many of them on one wallet cost one
//! transaction.

use bursar_domain::credits::Ucr;
use bursar_domain::flow;
use bursar_domain::id::{HoldId, WalletId};
use bursar_domain::ledger::{HoldRequest, LedgerRefusal};

use super::Engine;
use super::batcher::Process;
use crate::store::{StoreError, Want};

/// What to do with a wallet.
#[derive(Debug, Clone)]
pub(super) enum Meter {
    Hold(HoldRequest),
    Settle { wallet_id: WalletId, hold_id: HoldId, cost: Ucr },
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Metered {
    Held(HoldId),
    Charged(Ucr),
}

/// Why credits are neither held nor charged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MeterError {
    /// The ledger refuses.
    #[error(transparent)]
    Refused(#[from] LedgerRefusal),
    /// The store did not answer; the same wish may be repeated.
    #[error("{0}")]
    Unavailable(String),
}

impl Engine {
    /// Holds credits for a call. The same owner, number and amount again holds nothing more.
    pub async fn hold_call(&self, request: HoldRequest) -> Result<HoldId, MeterError> {
        match self.meter(Meter::Hold(request)).await? {
            Metered::Held(hold) => Ok(hold),
            Metered::Charged(_) => Err(MeterError::Unavailable("a hold was answered with a charge".to_owned())),
        }
    }

    /// Settles a call with what it cost. The same again charges nothing more. Returns what was charged.
    pub async fn settle_call(&self, wallet_id: WalletId, hold_id: HoldId, cost: Ucr) -> Result<Ucr, MeterError> {
        match self.meter(Meter::Settle { wallet_id, hold_id, cost }).await? {
            Metered::Charged(charged) => Ok(charged),
            Metered::Held(_) => Err(MeterError::Unavailable("a charge was answered with a hold".to_owned())),
        }
    }

    async fn meter(&self, meter: Meter) -> Result<Metered, MeterError> {
        let answer = self.parts.meters.call(meter).await;
        answer.unwrap_or_else(|| Err(MeterError::Unavailable("the engine is stopping".to_owned())))
    }
}

/// Does a batch in one transaction.
#[derive(Clone)]
pub(super) struct MeterBatch;

impl Process<Meter, Result<Metered, MeterError>> for MeterBatch {
    async fn process(
        &self,
        engine: &Engine,
        items: Vec<Meter>,
    ) -> Result<Vec<Result<Metered, MeterError>>, StoreError> {
        let mut want = Want::wallets(items.iter().map(|item| match item {
            Meter::Hold(request) => request.wallet_id,
            Meter::Settle { wallet_id, .. } => *wallet_id,
        }));
        for item in &items {
            match item {
                Meter::Hold(request) => want.op_keys.push((request.wallet_id, flow::hold_key(request))),
                Meter::Settle { wallet_id, hold_id, .. } => {
                    want.holds.push(*hold_id);
                    want.op_keys.push((*wallet_id, format!("settle:{hold_id}")));
                }
            }
        }
        let mut decide = |turn: &mut flow::Turn<'_>| {
            let one = |item: &Meter| {
                Ok(match item {
                    Meter::Hold(request) => Metered::Held(flow::hold_call(turn, request)?),
                    Meter::Settle { wallet_id, hold_id, cost } => {
                        Metered::Charged(flow::settle_call(turn, *wallet_id, *hold_id, *cost)?)
                    }
                })
            };
            items.iter().map(one).collect::<Vec<_>>()
        };
        engine.decide(&want, &mut decide).await
    }

    fn refuse(&self, error: &StoreError) -> Result<Metered, MeterError> {
        Err(MeterError::Unavailable(error.to_string()))
    }
}
