//! Calls from outside any mission: credits are held before a call is made and settled when its cost is known.
//!
//! The same wish again is answered with what it did the first time: both operations have natural keys.

use crate::credits::Ucr;
use crate::id::{HoldId, WalletId};
use crate::ledger::{self, Charge, HoldRequest, LedgerRefusal, Subject};
use crate::record::{Account, HoldOwner, Op};

use super::Turn;

/// The operation that was posted under a key before, in this transaction or an earlier one.
fn posted<'a>(turn: &'a Turn<'_>, wallet: WalletId, key: &str) -> Option<&'a Op> {
    let same = |op: &&Op| op.wallet_id == wallet && op.key == key;
    turn.set.known_ops.get(&(wallet, key.to_owned())).or_else(|| turn.set.ops.iter().find(same))
}

/// The ledger key of a hold.
pub fn hold_key(request: &HoldRequest) -> String {
    format!("hold:{}:{}", request.owner_id, request.number)
}

/// Holds credits for a call. The operation's key must be among the wanted ones.
pub fn hold_call(turn: &mut Turn<'_>, request: &HoldRequest) -> Result<HoldId, LedgerRefusal> {
    let key = hold_key(request);
    if let Some(op) = posted(turn, request.wallet_id, &key) {
        let held = op.legs.iter().find_map(|leg| if let Account::Hold(id) = leg.1 { Some(id) } else { None });
        let same = op.request_hash == request.amount.get().to_string();
        return held.filter(|_| same).ok_or(LedgerRefusal::KeyReused(key));
    }
    let request = HoldRequest { owner_kind: HoldOwner::Call, ..request.clone() };
    ledger::hold(turn.set, &request, turn.now)
}

/// Settles a call with what it cost, be its hold open or past its deadline. Returns what was charged.
pub fn settle_call(turn: &mut Turn<'_>, wallet: WalletId, hold: HoldId, cost: Ucr) -> Result<Ucr, LedgerRefusal> {
    let row = turn.set.holds.get(hold).filter(|row| row.wallet_id == wallet && row.owner_kind == HoldOwner::Call);
    let row = row.ok_or(LedgerRefusal::UnknownHold(hold))?;
    let charged = row.captured_ucr.saturating_add(row.overrun_ucr);
    let key = format!("settle:{hold}");
    if let Some(op) = posted(turn, wallet, &key) {
        let same = op.request_hash == cost.get().to_string();
        return if same { Ok(charged) } else { Err(LedgerRefusal::KeyReused(key)) };
    }
    let op_id = turn.id();
    let settled = ledger::settle(turn.set, hold, op_id, Charge::Usage(cost), Subject::default(), turn.now)?;
    Ok(settled.charged())
}
