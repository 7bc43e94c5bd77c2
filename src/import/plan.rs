//! What a file would change, compared with what is there; and changing it, line by line, through the engine.

use std::collections::{BTreeMap, BTreeSet};

use bursar_domain::credits::Ucr;
use bursar_domain::id::{TenantId, WalletId};
use bursar_domain::ledger::GrantRequest;
use bursar_domain::time::Timestamp;

use super::{Fault, Row};
use crate::boot;
use crate::clock::new_id;
use crate::engine::{Engine, LedgerError};
use crate::store::StoreError;
use crate::store::read::GrantedView;

/// Where imported credits stand in the order of spending.
const PRIORITY: i16 = 50;
/// References looked up at once.
const LOOKED_UP: usize = 500;
/// Who gives them, as the ledger says it.
const ACTOR: &str = "bursar wallet import";

/// What a file would change.
#[derive(Debug)]
pub struct Plan {
    /// Lines to write, in the order of their dates.
    pub new: Vec<Row>,
    /// How many lines were imported before.
    pub known: usize,
    /// Tenants that do not exist yet.
    pub new_tenants: BTreeSet<String>,
    /// Tenants of all lines.
    pub tenants: usize,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Grants.
    pub grants: usize,
    /// Credits.
    pub amount: Ucr,
}

/// A tenant of the file, as it is in the store.
struct Owner {
    /// The wallet, where there is one.
    wallet: Option<WalletId>,
    /// What it has, with what this file adds.
    balance: i128,
    exists: bool,
}

/// Compares a file with the store. `Ok(Err)` is everything that is wrong; nothing is written either way.
pub async fn plan(engine: &Engine, rows: Vec<Row>) -> Result<Result<Plan, Vec<Fault>>, StoreError> {
    let now = engine.clock().now();
    let mut faults = Vec::new();
    let mut owners: BTreeMap<String, Owner> = BTreeMap::new();
    for row in &rows {
        if owners.contains_key(&row.tenant) {
            continue;
        }
        let owner = owner(engine, &row.tenant, now).await?;
        if owner.is_none() {
            faults.push(Fault::at(row.line, "tenant", format!("there is no tenant {}", row.tenant)));
        }
        owners.insert(row.tenant.clone(), owner.unwrap_or(Owner { wallet: None, balance: 0, exists: false }));
    }
    let granted = granted(engine, &rows, &owners).await?;
    let tenants = owners.len();
    let (mut new, mut known) = (Vec::new(), 0);
    for row in rows {
        let Some(owner) = owners.get_mut(&row.tenant) else { continue };
        let earlier = owner.wallet.and_then(|wallet| granted.get(&(wallet, key(&row))));
        match earlier {
            Some(earlier) if is_same(earlier, &row) => known += 1,
            Some(earlier) => faults.push(other_content(earlier, &row)),
            None => match check(owner, &row, now) {
                Ok(()) => new.push(row),
                Err(fault) => faults.push(fault),
            },
        }
    }
    if !faults.is_empty() {
        faults.sort_by_key(|fault| fault.line);
        return Ok(Err(faults));
    }
    let is_new = |tenant: &&String| owners.get(*tenant).is_some_and(|owner| !owner.exists);
    let new_tenants = new.iter().map(|row| &row.tenant).filter(is_new).cloned().collect();
    Ok(Ok(Plan { new, known, new_tenants, tenants }))
}

/// The tenant that a reference names; `None` when it is an id that nobody has.
async fn owner(engine: &Engine, reference: &str, now: Timestamp) -> Result<Option<Owner>, StoreError> {
    let store = engine.store();
    let tenant = match reference.parse::<TenantId>() {
        Ok(id) if store.has_tenant(id).await? => Some(id),
        Ok(_) => return Ok(None),
        Err(_) => store.tenant_named(reference).await?,
    };
    let wallet = match tenant {
        Some(tenant) => store.wallet_of(tenant, now).await?,
        None => None,
    };
    let balance =
        wallet.as_ref().map_or(0, |wallet| i128::from(wallet.available_ucr.get()) + i128::from(wallet.held_ucr.get()));
    Ok(Some(Owner { wallet: wallet.map(|wallet| wallet.id), balance, exists: tenant.is_some() }))
}

fn key(row: &Row) -> String {
    format!("grant:{}", row.id)
}

/// What was granted before under the ids of the file.
async fn granted(
    engine: &Engine,
    rows: &[Row],
    owners: &BTreeMap<String, Owner>,
) -> Result<BTreeMap<(WalletId, String), GrantedView>, StoreError> {
    let keys = rows.iter().filter_map(|row| Some((owners.get(&row.tenant)?.wallet?, key(row))));
    let keys: Vec<(WalletId, String)> = keys.collect();
    let mut granted = BTreeMap::new();
    for some in keys.chunks(LOOKED_UP) {
        let found = engine.store().granted(some).await?;
        granted.extend(found.into_iter().map(|grant| ((grant.wallet_id, grant.key.clone()), grant)));
    }
    Ok(granted)
}

fn is_same(earlier: &GrantedView, row: &Row) -> bool {
    let kind = bursar_domain::record::GrantKind::from_name(&earlier.kind);
    (kind, earlier.amount_ucr, earlier.expires_at, earlier.priority)
        == (Some(row.kind), row.amount, row.expires_at, PRIORITY)
}

fn other_content(earlier: &GrantedView, row: &Row) -> Fault {
    if earlier.amount_ucr == row.amount {
        let words = format!("`{}` was granted before with another kind, expiry or priority ({})", row.id, earlier.id);
        return Fault::at(row.line, "id", words);
    }
    let words = format!("`{}` was granted before with {} credits ({})", row.id, earlier.amount_ucr, earlier.id);
    Fault::at(row.line, "amount", words)
}

/// What can only be wrong with a line that is not written yet.
fn check(owner: &mut Owner, row: &Row, now: Timestamp) -> Result<(), Fault> {
    if row.expires_at.is_some_and(|deadline| deadline <= now) {
        return Err(Fault::at(row.line, "expires_at", "lies in the past: nothing of it could be spent"));
    }
    owner.balance += i128::from(row.amount.get());
    if owner.balance > i128::from(i64::MAX) {
        return Err(Fault::at(row.line, "amount", "the wallet would have more than 9223372036854.775807 credits"));
    }
    Ok(())
}

impl Plan {
    /// What the new lines give.
    pub fn amount(&self) -> Ucr {
        self.new.iter().map(|row| row.amount).sum()
    }

    /// Gives the credits, oldest first; `told` hears of every line. On an error the lines before it stay written, and
    /// the same file again goes on behind them.
    pub async fn write(&self, engine: &Engine, mut told: impl FnMut()) -> Result<Written, (u64, LedgerError)> {
        let mut wallets: BTreeMap<&str, WalletId> = BTreeMap::new();
        let mut written = Written::default();
        for row in &self.new {
            let wallet = match wallets.get(row.tenant.as_str()) {
                Some(wallet) => *wallet,
                None => wallet_for(engine, &row.tenant).await.map_err(|error| (row.line, error.into()))?,
            };
            wallets.insert(&row.tenant, wallet);
            engine.grant(&request(row, wallet)).await.map_err(|error| (row.line, error))?;
            written.grants += 1;
            written.amount = written.amount.saturating_add(row.amount);
            told();
        }
        Ok(written)
    }
}

/// The tenant's wallet; both are made where they do not exist.
async fn wallet_for(engine: &Engine, reference: &str) -> Result<WalletId, StoreError> {
    let Ok(tenant) = reference.parse::<TenantId>() else {
        return Ok(boot::ensure_tenant(engine, reference).await?.1);
    };
    if let Some(wallet) = engine.store().wallet_of(tenant, engine.clock().now()).await? {
        return Ok(wallet.id);
    }
    let wallet = new_id();
    engine.open_wallet(wallet, tenant).await?;
    Ok(wallet)
}

fn request(row: &Row, wallet_id: WalletId) -> GrantRequest {
    GrantRequest {
        id: new_id(),
        op_id: new_id(),
        wallet_id,
        kind: row.kind,
        priority: PRIORITY,
        amount: row.amount,
        expires_at: row.expires_at,
        reason: Some(row.words()),
        cost_basis_uusd: None,
        actor: Some(ACTOR.to_owned()),
        reference: row.id.clone(),
    }
}
