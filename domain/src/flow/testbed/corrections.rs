//! What operators do to a wallet, and calls from outside any mission: each loads what the engine loads for it.

use crate::credits::Ucr;
use crate::flow;
use crate::id::{HoldId, OpId};
use crate::ledger::{self, Charge, Correction, HoldRequest, LedgerRefusal, Settled, Subject, Terms};
use crate::record::{Hold, HoldOwner, HoldState};

use super::World;
use super::tables::Want;

impl World {
    /// A correction of the wallet under that reference.
    fn correction(&mut self, reference: &str) -> Correction {
        Correction {
            op_id: self.dice.id(),
            grant_id: self.dice.id(),
            wallet_id: self.wallet,
            reference: reference.to_owned(),
            actor: "somebody".to_owned(),
            reason: "for a reason".to_owned(),
        }
    }

    fn want_keys(&self, keys: Vec<String>, holds: Vec<HoldId>) -> Want {
        let op_keys = keys.into_iter().map(|key| (self.wallet, key)).collect();
        Want { wallets: vec![self.wallet], op_keys, holds, ..Want::default() }
    }

    /// Gives part of a charge back and tries whoever waits.
    pub(crate) fn refund(&mut self, reference: &str, hold: HoldId, ucr: i64) -> Result<OpId, LedgerRefusal> {
        let (how, amount) = (self.correction(reference), Ucr::new(ucr));
        let want = self.want_keys(vec![ledger::refund_key(reference), ledger::settle_key(hold)], vec![hold]);
        let grants = self.decide(&want, |turn| ledger::origins(turn.set, how.wallet_id, hold));
        let want = Want { grants, ..want };
        let done = self.decide_or_nothing(&want, |turn| ledger::refund(turn.set, &how, hold, amount, turn.now));
        self.retry_waiters();
        done
    }

    /// Adjusts the balance and tries whoever waits.
    pub(crate) fn adjust(&mut self, reference: &str, ucr: i64) -> Result<OpId, LedgerRefusal> {
        let (how, amount) = (self.correction(reference), Ucr::new(ucr));
        let want = self.want_keys(vec![ledger::adjust_key(reference)], Vec::new());
        let done = self.decide_or_nothing(&want, |turn| ledger::adjust(turn.set, &how, amount, turn.now));
        self.retry_waiters();
        done
    }

    /// Gives up debt and tries whoever waits.
    pub(crate) fn write_off(&mut self, reference: &str, ucr: i64) -> Result<OpId, LedgerRefusal> {
        let (how, amount) = (self.correction(reference), Ucr::new(ucr));
        let want = self.want_keys(vec![ledger::write_off_key(reference)], Vec::new());
        let done = self.decide_or_nothing(&want, |turn| ledger::write_off(turn.set, &how, amount, turn.now));
        self.retry_waiters();
        done
    }

    /// Changes the wallet's terms and tries whoever waits.
    pub(crate) fn set_terms(&mut self, terms: &Terms) {
        let wallet = self.wallet;
        let want = self.want_keys(Vec::new(), Vec::new());
        self.decide_or_nothing(&want, |turn| ledger::set_terms(turn.set, wallet, terms)).unwrap();
        self.retry_waiters();
    }

    /// Freezes or thaws the wallet.
    pub(crate) fn freeze(&mut self, frozen: bool) {
        self.set_terms(&Terms { frozen: Some(frozen), ..Terms::default() });
    }

    /// Holds for a call from outside any mission.
    pub(crate) fn hold_for_call(&mut self, owner: &str, ucr: i64, lasts_ms: i64) -> Result<HoldId, LedgerRefusal> {
        let request = HoldRequest {
            id: self.dice.id(),
            op_id: self.dice.id(),
            wallet_id: self.wallet,
            owner_kind: HoldOwner::Call,
            owner_id: owner.to_owned(),
            number: 1,
            amount: Ucr::new(ucr),
            subject: Subject::default(),
            expires_at: Some(self.now.plus_ms(lasts_ms)),
        };
        let want = self.want_keys(vec![request.key()], Vec::new());
        self.decide_or_nothing(&want, |turn| ledger::hold(turn.set, &request, turn.now))
    }

    /// Charges a hold, late or not, for the first time or again.
    pub(crate) fn charge_call(&mut self, hold: HoldId, charge: Charge) -> Result<Settled, LedgerRefusal> {
        let op = self.dice.id();
        let want = self.want_keys(vec![ledger::settle_key(hold)], vec![hold]);
        let settle =
            |turn: &mut flow::Turn<'_>| ledger::settle(turn.set, hold, op, charge, Subject::default(), turn.now);
        let settled = self.decide_or_nothing(&want, settle);
        self.retry_waiters();
        settled
    }

    /// Gives back every hold whose own deadline passed, as is done before each decision.
    pub(crate) fn give_back_overdue(&mut self) {
        let is_over =
            |hold: &&Hold| hold.state == HoldState::Open && hold.expires_at.is_some_and(|end| end <= self.now);
        let holds: Vec<_> = self.tables.holds.values().filter(is_over).map(|hold| hold.id).collect();
        if !holds.is_empty() {
            let want = self.want_keys(Vec::new(), holds);
            self.decide_now(&want, flow::expire_holds);
        }
    }
}
