//! A world in memory: tables as maps, a clock held in the hand, chance from a seed.
//!
//! Every decision gets a fresh working set with what a real store would load for it, and its changes go back into
//! the maps under the schema's checks. Nothing here decides anything itself.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod checks;
mod corrections;
mod renewals;
mod steps;
pub(crate) mod tables;
pub(crate) mod verify;
mod worker;

use std::sync::Arc;

use serde_json::json;
use uuid::Uuid;

use crate::credits::Ucr;
use crate::id::{Id, Kind, PriceBookId, TaskId, TenantId, WalletId, WorkerId, WorkflowId};
use crate::ledger::{self, GrantRequest, LedgerRefusal};
use crate::pricing::PriceBook;
use crate::record::GrantKind;
use crate::state::TaskState;
use crate::time::Timestamp;
use crate::workflow::{self, Syntax};

use super::{Chance, Facts, Turn};
use tables::{Tables, Want};
pub(crate) use worker::{Lease, answer, request};

/// What a token of input costs, in µcr; one of output costs twice as much, one `step` a credit.
pub(crate) const INPUT_UCR: i64 = 100;
/// What a token of output costs, in µcr.
pub(crate) const OUTPUT_UCR: i64 = 200;
/// When worlds begin.
pub(crate) const DAWN: Timestamp = Timestamp::from_ms(1_700_000_000_000);

/// Splitmix64: small, seeded, good enough to play dice with.
#[derive(Debug, Clone)]
pub(crate) struct Dice {
    state: u64,
    made: u64,
}

impl Dice {
    /// Dice that always fall the same for the same seed.
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: seed, made: 0 }
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.random() % end.max(1)
    }

    /// Whether something happens that happens so many times in a hundred.
    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// A new id; later ones are larger.
    pub(crate) fn id<K: Kind>(&mut self) -> Id<K> {
        Id::from_uuid(self.uuid())
    }
}

impl Chance for Dice {
    fn uuid(&mut self) -> Uuid {
        self.made += 1;
        Uuid::from_u128(u128::from(self.made) << 64 | u128::from(self.random()))
    }

    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Everything there is.
#[derive(Clone)]
pub(crate) struct World {
    pub tables: Tables,
    pub facts: Facts,
    pub now: Timestamp,
    pub dice: Dice,
    pub tenant: TenantId,
    pub wallet: WalletId,
    pub book: PriceBookId,
    pub worker: WorkerId,
    /// Tasks that became ready, as the queue would be told after the commit.
    pub outbox: Vec<TaskId>,
    /// How many nodes beyond a task's own dependents are loaded with it at most.
    pub sight: usize,
    grants: u64,
}

fn prices() -> PriceBook {
    let book = json!({
        "name": "test",
        "sell": {"usd_per_credit": "0.01", "flat_fee": "0"},
        "model": [{
            "provider": "test", "name": "m", "tokenizer": "o200k_base", "context_tokens": "1000000",
            "max_output_tokens": "100000", "source": "made up", "rates": {"input": "1", "output": "2"},
        }, {
            "provider": "test", "name": "dear", "tokenizer": "o200k_base", "context_tokens": "1000000",
            "max_output_tokens": "100000", "source": "made up", "rates": {"input": "3", "output": "6"},
        }],
        "unit": [{"name": "step", "price": "0.01", "source": "made up"}],
    });
    PriceBook::from_value(book).unwrap()
}

impl World {
    /// A world with one tenant and an empty wallet.
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let (tenant, wallet, book, worker) = (dice.id(), dice.id(), dice.id(), dice.id());
        let mut facts = Facts::default();
        facts.prices.insert(book, Arc::new(prices()));
        let tables = Tables::default();
        let outbox = Vec::new();
        let mut world = Self {
            tables,
            facts,
            now: DAWN,
            dice,
            tenant,
            wallet,
            book,
            worker,
            outbox,
            sight: usize::MAX >> 1,
            grants: 0,
        };
        world.decide(&Want::default(), |turn| ledger::open_wallet(turn.set, wallet, tenant, turn.now));
        world
    }

    /// A world whose wallet has so many credits.
    pub(crate) fn with_credits(credits: i64) -> Self {
        let mut world = Self::new(7);
        world.grant(credits);
        world
    }

    /// One transaction: loads what is wanted, decides, writes everything. What is overdue by then is given back first.
    pub(crate) fn decide<T>(&mut self, want: &Want, decide: impl FnOnce(&mut Turn<'_>) -> T) -> T {
        self.give_back_overdue();
        self.decide_now(want, decide)
    }

    fn decide_now<T>(&mut self, want: &Want, decide: impl FnOnce(&mut Turn<'_>) -> T) -> T {
        let mut set = self.tables.load(want);
        let mut turn = Turn { set: &mut set, facts: &self.facts, now: self.now, chance: &mut self.dice };
        let answer = decide(&mut turn);
        if let Err(broken) = self.tables.apply(&set) {
            panic!("a store would refuse the write:\n{}", broken.join("\n"));
        }
        for row in &set.planned {
            let definition = workflow::parse_value(&row.definition).unwrap();
            self.facts.workflows.insert(row.id, Arc::new(definition));
        }
        let rows = set.tasks.added().chain(set.tasks.changed());
        self.outbox.extend(rows.filter(|task| task.state == TaskState::Ready).map(|task| task.id));
        answer
    }

    /// As [`World::decide`], for decisions that may refuse: a refusal must leave nothing behind.
    pub(crate) fn decide_or_nothing<T, E: std::fmt::Debug>(
        &mut self,
        want: &Want,
        decide: impl FnOnce(&mut Turn<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.decide(want, |turn| {
            let answer = decide(turn);
            if let Err(refusal) = &answer {
                assert!(turn.set.is_unchanged(), "{refusal:?} changed {:?}", turn.set);
            }
            answer
        })
    }

    /// Lets time pass.
    pub(crate) fn pass_ms(&mut self, ms: i64) {
        self.now = self.now.plus_ms(ms);
    }

    /// Makes a workflow known.
    pub(crate) fn define(&mut self, yaml: &str) -> WorkflowId {
        let mut definition = match workflow::parse(yaml, Syntax::Yaml) {
            Ok(definition) => definition,
            Err(problems) => panic!("{problems:?} in\n{yaml}"),
        };
        let id = self.dice.id();
        let known = self.facts.workflows.clone();
        definition
            .link(|name, _| known.iter().find(|(_, known)| known.name == name).map(|(id, known)| (*id, known.clone())));
        self.facts.workflows.insert(id, Arc::new(definition));
        id
    }

    /// Gives whole credits and, as the engine does, tries whoever waits for them.
    pub(crate) fn grant(&mut self, credits: i64) {
        self.grant_ucr(Ucr::from_credits(credits), None).unwrap();
    }

    /// Gives credits that may expire and tries whoever waits for them.
    pub(crate) fn grant_ucr(&mut self, amount: Ucr, expires_at: Option<Timestamp>) -> Result<(), LedgerRefusal> {
        self.grants += 1;
        let request = GrantRequest {
            id: self.dice.id(),
            op_id: self.dice.id(),
            wallet_id: self.wallet,
            kind: GrantKind::Paid,
            priority: 50,
            amount,
            expires_at,
            reason: None,
            cost_basis_uusd: None,
            actor: None,
            reference: format!("test-{}", self.grants),
        };
        let want = Want { op_keys: vec![(self.wallet, request.key())], wallets: vec![self.wallet], ..Want::default() };
        self.decide_or_nothing(&want, |turn| ledger::grant(turn.set, &request, turn.now))?;
        self.retry_waiters();
        Ok(())
    }

    /// Fails when anything at all is wrong.
    pub(crate) fn verify(&self) {
        let mut broken = verify::ledger(&self.tables);
        broken.extend(verify::work(&self.tables, &self.facts));
        assert!(broken.is_empty(), "{}", broken.join("\n"));
    }

    /// The available, held and owed credits of the wallet, in µcr.
    pub(crate) fn purse(&self) -> (i64, i64, i64) {
        let wallet = &self.tables.wallets[&self.wallet];
        (wallet.available_ucr.get(), wallet.held_ucr.get(), wallet.debt_ucr.get())
    }
}
