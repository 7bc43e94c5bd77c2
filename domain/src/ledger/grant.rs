//! Credits come in (and expire): wallets are opened, grants given, expired rests written off.

use crate::credits::Ucr;
use crate::id::{GrantId, OpId, TenantId, WalletId};
use crate::record::{Account, ChargeFailed, Grant, GrantKind, Leg, OpKind, Overrun, Wallet};
use crate::time::Timestamp;
use crate::working_set::WorkingSet;

use super::{LedgerRefusal, Posting, Subject, check_total, post, posted};

/// What a grant needs.
#[derive(Debug, Clone)]
pub struct GrantRequest {
    /// The new grant's id.
    pub id: GrantId,
    /// The operation's id.
    pub op_id: OpId,
    /// Who receives it.
    pub wallet_id: WalletId,
    /// Where it comes from.
    pub kind: GrantKind,
    /// 0–100, 0 is spent first.
    pub priority: i16,
    /// How much, greater than zero.
    pub amount: Ucr,
    /// From when it can no longer be spent.
    pub expires_at: Option<Timestamp>,
    /// Why.
    pub reason: Option<String>,
    /// What was paid for all of it, in millionths of a USD.
    pub cost_basis_uusd: Option<i64>,
    /// Who gives it.
    pub actor: Option<String>,
    /// The natural key without its prefix: the external reference, or the grant's own id.
    pub reference: String,
}

impl GrantRequest {
    /// The ledger key of the operation.
    pub fn key(&self) -> String {
        format!("grant:{}", self.reference)
    }

    fn hash(&self) -> String {
        let expiry = self.expires_at.map_or(-1, Timestamp::ms);
        format!("{:?}/{}/{}/{expiry}", self.kind, self.priority, self.amount.get())
    }
}

/// Adds an empty wallet.
pub fn open_wallet(set: &mut WorkingSet, id: WalletId, tenant_id: TenantId, now: Timestamp) {
    let wallet = Wallet {
        id,
        tenant_id,
        available_ucr: Ucr::ZERO,
        held_ucr: Ucr::ZERO,
        debt_ucr: Ucr::ZERO,
        frozen: false,
        created_at: now,
        overrun: Overrun::default(),
        charge_failed: ChargeFailed::default(),
        day_limit_ucr: None,
        month_limit_ucr: None,
        mission_limit_ucr: None,
        day: 0,
        day_spent_ucr: Ucr::ZERO,
        month: 0,
        month_spent_ucr: Ucr::ZERO,
        queue_from: None,
        queue_until: None,
    };
    set.wallets.add(id, wallet);
}

/// Gives credits; debt is repaid from them first. Returns the grant's id: on a replay that of the first time.
pub fn grant(set: &mut WorkingSet, request: &GrantRequest, now: Timestamp) -> Result<GrantId, LedgerRefusal> {
    let wallet = set.wallets.get(request.wallet_id).ok_or(LedgerRefusal::UnknownWallet(request.wallet_id))?;
    if !request.amount.is_positive() {
        return Err(LedgerRefusal::AmountNotPositive(request.amount));
    }
    let tenant_id = wallet.tenant_id;
    let key = request.key();
    if let Some(op) = posted(set, request.wallet_id, &key, &request.hash())? {
        return match op.legs.first() {
            Some(Leg(_, Account::Grant(id), _)) => Ok(*id),
            _ => Err(LedgerRefusal::KeyReused(key)),
        };
    }
    // asked after the replay: who repeats a grant whose answer got lost may come after its deadline
    if request.expires_at.is_some_and(|deadline| deadline <= now) {
        return Err(LedgerRefusal::ExpiredAlready);
    }
    check_total(set, request.wallet_id, request.amount)?;

    set.add_grant(Grant {
        id: request.id,
        wallet_id: request.wallet_id,
        tenant_id,
        kind: request.kind,
        priority: request.priority,
        amount_ucr: request.amount,
        remaining_ucr: request.amount,
        expires_at: request.expires_at,
        expired: false,
        reason: request.reason.clone(),
        created_at: now,
        cost_basis_uusd: request.cost_basis_uusd,
    });
    if let Some(wallet) = set.wallets.change(request.wallet_id) {
        wallet.available_ucr = wallet.available_ucr.saturating_add(request.amount);
    }
    let mut legs = vec![Leg(Account::Issue, Account::Grant(request.id), request.amount)];
    legs.extend(repay_debt(set, request.wallet_id, request.id));
    let posting = Posting {
        id: request.op_id,
        wallet_id: request.wallet_id,
        kind: OpKind::Grant,
        key,
        request_hash: request.hash(),
        legs,
        subject: Subject::default(),
        actor: request.actor.clone(),
        reason: request.reason.clone(),
        now,
    };
    post(set, posting);
    Ok(request.id)
}

/// Pays what the wallet owes from a grant, as far as it goes. The leg that says so, where there is one.
pub(super) fn repay_debt(set: &mut WorkingSet, wallet: WalletId, grant: GrantId) -> Option<Leg> {
    let owed = set.wallets.get(wallet)?.debt_ucr;
    let paid = owed.min(set.grants.get(grant)?.remaining_ucr);
    if !paid.is_positive() {
        return None;
    }
    if let Some(grant) = set.grants.change(grant) {
        grant.remaining_ucr = grant.remaining_ucr.minus_or_zero(paid);
    }
    if let Some(wallet) = set.wallets.change(wallet) {
        wallet.debt_ucr = wallet.debt_ucr.minus_or_zero(paid);
        wallet.available_ucr = wallet.available_ucr.minus_or_zero(paid);
    }
    Some(Leg(Account::Grant(grant), Account::Debt, paid))
}

/// Puts credits back into the grant that they came from. False, and nothing changed, when it is over.
pub(super) fn revive(set: &mut WorkingSet, wallet: WalletId, grant: GrantId, amount: Ucr, now: Timestamp) -> bool {
    let lives = |grant: &Grant| !grant.expired && grant.expires_at.is_none_or(|deadline| deadline > now);
    if !set.grants.get(grant).is_some_and(lives) {
        return false;
    }
    if let Some(grant) = set.grants.change(grant) {
        grant.remaining_ucr = grant.remaining_ucr.saturating_add(amount);
    }
    if let Some(wallet) = set.wallets.change(wallet) {
        wallet.available_ucr = wallet.available_ucr.saturating_add(amount);
    }
    true
}

/// Writes off what is left of a grant whose deadline passed. Returns what was written off; nothing twice.
pub fn expire(set: &mut WorkingSet, id: GrantId, op_id: OpId, now: Timestamp) -> Option<Ucr> {
    let is_over = |grant: &Grant| !grant.expired && grant.expires_at.is_some_and(|deadline| deadline <= now);
    set.grants.get(id).filter(|grant| is_over(grant))?;
    let grant = set.grants.change(id)?;
    let rest = grant.remaining_ucr;
    grant.remaining_ucr = Ucr::ZERO;
    grant.expired = true;
    let wallet_id = grant.wallet_id;
    if let Some(wallet) = set.wallets.change(wallet_id) {
        wallet.available_ucr = wallet.available_ucr.minus_or_zero(rest);
    }
    if rest.is_positive() {
        let posting = Posting {
            id: op_id,
            wallet_id,
            kind: OpKind::Expire,
            key: format!("expire:{id}"),
            request_hash: String::new(),
            legs: vec![Leg(Account::Grant(id), Account::Breakage, rest)],
            subject: Subject::default(),
            actor: None,
            reason: None,
            now,
        };
        post(set, posting);
    }
    Some(rest)
}
