//! Tests of the ledger by itself: refusals, draw order, and random operations with every invariant after each.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod draw_order;
mod random_ops;
mod refusals;

use crate::credits::Ucr;
use crate::flow::testbed::World;
use crate::flow::testbed::tables::Want;
use crate::id::{GrantId, HoldId};
use crate::ledger::{self, Charge, GrantRequest, HoldRequest, LedgerRefusal, Settled, Subject, Terms};
use crate::record::{GrantKind, HoldOwner, Overrun};
use crate::time::Timestamp;

/// What a grant is made of in these tests.
#[derive(Debug, Clone, Copy)]
struct Gift {
    kind: GrantKind,
    priority: i16,
    amount_ucr: i64,
    expires_at: Option<Timestamp>,
}

const PAID: Gift = Gift { kind: GrantKind::Paid, priority: 50, amount_ucr: 100, expires_at: None };

/// The ledger's operations over a world, each in a transaction of its own; a refusal must change nothing.
impl World {
    fn want_wallet(&self) -> Want {
        Want { wallets: vec![self.wallet], ..Want::default() }
    }

    fn want_hold(&self, id: HoldId) -> Want {
        Want { holds: vec![id], ..self.want_wallet() }
    }

    fn gift(&mut self, gift: Gift, reference: &str) -> Result<GrantId, LedgerRefusal> {
        let request = self.gift_request(gift, reference);
        self.give(&request)
    }

    fn gift_request(&mut self, gift: Gift, reference: &str) -> GrantRequest {
        GrantRequest {
            id: self.id(),
            op_id: self.id(),
            wallet_id: self.wallet,
            kind: gift.kind,
            priority: gift.priority,
            amount: Ucr::new(gift.amount_ucr),
            expires_at: gift.expires_at,
            reason: None,
            cost_basis_uusd: None,
            actor: Some("somebody".to_owned()),
            reference: reference.to_owned(),
        }
    }

    fn give(&mut self, request: &GrantRequest) -> Result<GrantId, LedgerRefusal> {
        let want = Want { op_keys: vec![(request.wallet_id, request.key())], ..self.want_wallet() };
        self.decide_or_nothing(&want, |turn| ledger::grant(turn.set, request, turn.now))
    }

    fn hold_request(&mut self, amount_ucr: i64) -> HoldRequest {
        HoldRequest {
            id: self.id(),
            op_id: self.id(),
            wallet_id: self.wallet,
            owner_kind: HoldOwner::Task,
            owner_id: format!("owner-{}", self.dice.below(u64::MAX)),
            number: 1,
            amount: Ucr::new(amount_ucr),
            expires_at: None,
            subject: Subject::default(),
        }
    }

    fn hold(&mut self, amount_ucr: i64) -> Result<HoldId, LedgerRefusal> {
        let (want, request) = (self.want_wallet(), self.hold_request(amount_ucr));
        self.decide_or_nothing(&want, |turn| ledger::hold(turn.set, &request, turn.now))
    }

    fn top_up(&mut self, id: HoldId, amount_ucr: i64) -> Result<(), LedgerRefusal> {
        let (want, op, amount) = (self.want_hold(id), self.id(), Ucr::new(amount_ucr));
        self.decide_or_nothing(&want, |turn| ledger::top_up(turn.set, id, op, amount, Subject::default(), turn.now))
    }

    fn shrink(&mut self, id: HoldId, keep_ucr: i64) -> Result<Ucr, LedgerRefusal> {
        let (want, op, keep) = (self.want_hold(id), self.id(), Ucr::new(keep_ucr));
        self.decide_or_nothing(&want, |turn| ledger::shrink(turn.set, id, op, keep, Subject::default(), turn.now))
    }

    fn charge(&mut self, id: HoldId, charge: Charge, policy: Overrun) -> Result<Settled, LedgerRefusal> {
        let (want, op) = (self.want_hold(id), self.id());
        let terms = Terms { overrun: Some(policy), ..Terms::default() };
        let wallet = self.wallet;
        self.decide_or_nothing(&want, |turn| ledger::set_terms(turn.set, wallet, &terms)).unwrap();
        self.decide_or_nothing(&want, |turn| ledger::settle(turn.set, id, op, charge, Subject::default(), turn.now))
    }

    fn release(&mut self, id: HoldId) -> Result<Ucr, LedgerRefusal> {
        let (want, op) = (self.want_hold(id), self.id());
        self.decide_or_nothing(&want, |turn| ledger::release(turn.set, id, op, Subject::default(), turn.now))
    }
}
