//! The engine's transactions by hand: store and domain without engine, queue and workers, time and chance held.
//!
//! What the conformance suite drives both stores with: the same seed gives the same ids, so that the rows of two
//! engines can be compared one by one.

use std::sync::Arc;

use bursar::store::read::WorkflowView;
use bursar::store::{Claim, Claimed, Store, StoreError, Want};
use bursar_domain::credits::Ucr;
use bursar_domain::flow::{self, Chance, Facts, Refusal, SettleRequest, Settlement, Submission, Turn};
use bursar_domain::id::{Id, Kind, MissionId, PriceBookId, TaskId, TenantId, WalletId, WorkerId, WorkflowId};
use bursar_domain::ledger::{self, GrantRequest};
use bursar_domain::outcome::Outcome;
use bursar_domain::record::GrantKind;
use bursar_domain::time::Timestamp;
use bursar_domain::workflow::{self, Definition, Syntax};
use bursar_domain::working_set::WorkingSet;
use serde_json::{Value, json};
use uuid::Uuid;

use super::default_prices;
use super::stores::{Place, Storage};

/// Chance from a seed: ids ascend as those of the engine do, random numbers come from `SplitMix64`.
#[derive(Debug, Clone)]
pub(crate) struct SeededChance {
    state: u64,
    ids: u64,
}

impl SeededChance {
    /// The same seed gives the same ids and numbers.
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed, ids: 0 }
    }

    /// Leaves out so many ids: for those who draw ids beside each other.
    pub(crate) fn skip_ids(&mut self, count: u64) {
        self.ids += count;
    }

    /// A number below `most`.
    pub(crate) fn below(&mut self, most: usize) -> usize {
        (self.random() % most as u64) as usize
    }
}

impl Chance for SeededChance {
    fn uuid(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u128((u128::from(self.ids) << 80) | (0x7000 << 64) | (0x8000 << 48))
    }

    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A store with a tenant, a wallet and prices, and the hand that moves it.
#[derive(Debug)]
pub(crate) struct Hand {
    /// The store.
    pub(crate) store: Arc<dyn Store>,
    /// Where the store lives.
    pub(crate) place: Place,
    /// The time; only the test moves it.
    pub(crate) now: Timestamp,
    /// Ids and random numbers.
    pub(crate) chance: SeededChance,
    /// Workflows and prices.
    pub(crate) facts: Facts,
    /// The first tenant.
    pub(crate) tenant: TenantId,
    /// Its wallet.
    pub(crate) wallet: WalletId,
    /// The active prices.
    pub(crate) prices: PriceBookId,
}

impl Hand {
    /// A fresh store with a tenant and an empty wallet.
    pub(crate) async fn new(storage: Storage) -> Self {
        let place = Place::migrated(storage).await;
        let store = place.open(16).await;
        let mut chance = SeededChance::new(1);
        let (tenant, wallet) = (Id::from_uuid(chance.uuid()), Id::from_uuid(chance.uuid()));
        let prices = Id::from_uuid(chance.uuid());
        let mut hand = Self {
            store,
            place,
            now: Timestamp::from_ms(1_800_000_000_000),
            chance,
            facts: Facts::default(),
            tenant,
            wallet,
            prices,
        };
        let book = default_prices();
        let content = book.to_value();
        hand.store.activate_prices(prices, book.name(), &book.content_hash(), &content, hand.now).await.unwrap();
        hand.facts.prices.insert(prices, Arc::new(book));
        hand.open_wallet(tenant, wallet, "first").await;
        hand
    }

    /// A fresh id.
    pub(crate) fn id<K: Kind>(&mut self) -> Id<K> {
        Id::from_uuid(self.chance.uuid())
    }

    /// Adds a tenant with an empty wallet.
    pub(crate) async fn open_wallet(&mut self, tenant: TenantId, wallet: WalletId, name: &str) {
        self.store.add_tenant(tenant, name, self.now).await.unwrap();
        self.decide(&Want::default(), |turn| ledger::open_wallet(turn.set, wallet, tenant, turn.now)).await.unwrap();
    }

    /// One transaction, as the engine makes it. The decision starts over with the same chance when it is repeated.
    pub(crate) async fn decide<T: Send>(
        &mut self,
        want: &Want,
        decide: impl FnMut(&mut Turn<'_>) -> T + Send,
    ) -> Result<T, StoreError> {
        decide_with(&*self.store, &self.facts, self.now, &mut self.chance, want, decide).await
    }

    /// Puts a workflow of the first tenant.
    pub(crate) async fn put(&mut self, yaml: &str) -> WorkflowId {
        let definition = definition(yaml);
        let id = self.id();
        let (name, hash) = (definition.name.clone(), definition.content_hash());
        let source = definition.source.clone();
        self.store.add_workflow(&version(id, self.tenant, &name, 1, &hash, &source, self.now)).await.unwrap();
        self.facts.workflows.insert(id, Arc::new(definition));
        id
    }

    /// Gives credits to the first wallet.
    pub(crate) async fn grant(&mut self, credits: i64) {
        let request = self.grant_request(Ucr::from_credits(credits), None);
        let want = Want::wallets([self.wallet]);
        self.decide(&want, |turn| ledger::grant(turn.set, &request, turn.now)).await.unwrap().unwrap();
    }

    /// A grant to the first wallet, under a reference of its own.
    pub(crate) fn grant_request(&mut self, amount: Ucr, expires_at: Option<Timestamp>) -> GrantRequest {
        let id = self.id();
        GrantRequest {
            id,
            op_id: self.id(),
            wallet_id: self.wallet,
            kind: GrantKind::Paid,
            priority: 50,
            amount,
            expires_at,
            reason: Some("for tests".to_owned()),
            cost_basis_uusd: None,
            actor: None,
            reference: id.to_string(),
        }
    }

    /// A mission of the first tenant that is not submitted yet.
    pub(crate) fn submission(&mut self, workflow: WorkflowId) -> Submission {
        Submission {
            mission_id: self.id(),
            run_id: self.id(),
            tenant_id: self.tenant,
            wallet_id: self.wallet,
            workflow_id: workflow,
            price_book_id: self.prices,
            input: json!({}),
            metadata: None,
            tags: Vec::new(),
            idempotency_key: None,
            request_hash: "hash".to_owned(),
            priority: 0,
            budget_ucr: None,
            on_exhausted: None,
            dedupe: None,
            project_id: None,
        }
    }

    /// Submits; the tasks that are ready.
    pub(crate) async fn submit(&mut self, submission: &Submission) -> Result<Result<Vec<TaskId>, Refusal>, StoreError> {
        let want = Want::wallets([submission.wallet_id]);
        self.decide(&want, |turn| flow::submit(turn, submission)).await
    }

    /// Submits a mission of a workflow; its id and its ready tasks.
    pub(crate) async fn start(&mut self, workflow: WorkflowId) -> (MissionId, Vec<TaskId>) {
        let submission = self.submission(workflow);
        let ready = self.submit(&submission).await.unwrap().unwrap();
        (submission.mission_id, ready)
    }

    /// A claim by a worker of its own, with a token of its own and a lease of 15 s.
    pub(crate) fn claim_of(&mut self, tasks: &[TaskId]) -> Claim {
        let worker_id: WorkerId = self.id();
        Claim { tasks: tasks.to_vec(), worker_id, token: worker_id.to_string(), lease_ms: 15_000, now: self.now }
    }

    /// Claims tasks; what was granted, with the token.
    pub(crate) async fn claim(&mut self, tasks: &[TaskId]) -> (Vec<Claimed>, String) {
        let claim = self.claim_of(tasks);
        let mut claimed = self.store.claim(&claim).await.unwrap();
        claimed.sort_by_key(|task| task.id);
        (claimed, claim.token)
    }

    /// What a settle of that task must load.
    pub(crate) fn settle_want(&self, task: &Claimed) -> Want {
        let definition: &Definition = &self.facts.workflows[&task.workflow_id];
        let reach = task.reach(definition);
        let mut want = Want { tasks: vec![task.id], missions: vec![task.mission_id], ..Want::default() };
        want.reach(task.mission_id, task.run_id, task.base, &reach);
        want.family(task.ancestors.as_deref(), task.followers());
        want
    }

    /// Settles an attempt.
    pub(crate) async fn settle(
        &mut self,
        task: &Claimed,
        token: &str,
        outcome: Outcome,
    ) -> Result<Settlement, Refusal> {
        let want = self.settle_want(task);
        let request = SettleRequest { guard: task.guard(token), outcome, handoff: None, cache: None, prompt: None };
        self.decide(&want, |turn| flow::settle(turn, &request)).await.unwrap()
    }

    /// All rows of a table, in the order of its first columns, as the store has them.
    pub(crate) async fn table(&self, name: &str, order: &str) -> Vec<Value> {
        self.store.rows(&format!("select * from {name} order by {order}"), &[]).await.unwrap()
    }

    /// How many rows a query counts.
    pub(crate) async fn count(&self, sql: &str) -> i64 {
        let rows = self.store.rows(&format!("select count(*) as n from {sql}"), &[]).await.unwrap();
        rows[0]["n"].as_i64().unwrap()
    }
}

/// One transaction of whoever has that store, time and chance.
pub(crate) async fn decide_with<T: Send>(
    store: &dyn Store,
    facts: &Facts,
    now: Timestamp,
    chance: &mut SeededChance,
    want: &Want,
    mut decide: impl FnMut(&mut Turn<'_>) -> T + Send,
) -> Result<T, StoreError> {
    let before = chance.clone();
    let mut answer = None;
    let mut step = |set: &mut WorkingSet| {
        *chance = before.clone();
        answer = Some(decide(&mut Turn { set, facts, now, chance }));
    };
    store.transact(want, &mut step).await?;
    Ok(answer.expect("a transaction decides"))
}

/// A workflow version as a row.
pub(crate) fn version(
    id: WorkflowId,
    tenant: TenantId,
    name: &str,
    version: i64,
    hash: &str,
    source: &Value,
    now: Timestamp,
) -> WorkflowView {
    WorkflowView {
        id,
        tenant_id: tenant,
        name: name.to_owned(),
        version,
        content_hash: hash.to_owned(),
        definition: Some(source.clone()),
        created_at: now,
    }
}

/// A workflow from its YAML.
pub(crate) fn definition(yaml: &str) -> Definition {
    workflow::parse(yaml, Syntax::Yaml).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// A success with that output and no calls.
pub(crate) fn succeeded(output: Value) -> Outcome {
    Outcome::Succeeded { output, calls: Vec::new() }
}

/// Four transform nodes that cost one `step` each: one, two beside each other, one. No flat fee.
pub(crate) const DIAMOND: &str = r#"
workflow: diamond
flat_fee: 0
nodes:
  a: { transform: { a: "1" }, units: { step: 1 } }
  b: { needs: [a], transform: { b: "{{ nodes.a.output.a }}" }, units: { step: 1 } }
  c: { needs: [a], transform: { c: "{{ nodes.a.output.a }}" }, units: { step: 1 } }
  d: { needs: [b, c], transform: { d: "{{ nodes.b.output.b }}{{ nodes.c.output.c }}" }, units: { step: 1 } }
"#;

/// One free transform.
pub(crate) const SINGLE: &str = r#"
workflow: single
flat_fee: 0
nodes:
  only: { transform: { done: "yes" } }
"#;
