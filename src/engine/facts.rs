//! Facts, kept in memory: workflow versions and price books, which never change, and the latest snapshot of estimates.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bursar_domain::estimate::Learned;
use bursar_domain::flow::Facts;
use bursar_domain::id::{PriceBookId, TenantId, WorkflowId};
use bursar_domain::pricing::PriceBook;
use bursar_domain::workflow::{self, Definition, WorkflowRef};
use bursar_domain::working_set::WorkingSet;

use crate::store::{Store, StoreError};

/// Workflow versions by the name and version by which another one names them.
pub(super) type Inside = BTreeMap<(String, Option<i64>), (WorkflowId, Arc<Definition>)>;

/// Workflow versions kept at once; the one fetched first leaves first.
const MOST_WORKFLOWS: usize = 1_000;

/// Facts that a working set refers to and that are not known yet.
#[derive(Debug, Default)]
pub(super) struct Missing {
    workflows: BTreeSet<WorkflowId>,
    prices: BTreeSet<PriceBookId>,
}

impl Missing {
    /// What the loaded runs and tasks refer to beyond `facts`.
    pub(super) fn of(set: &WorkingSet, facts: &Facts) -> Self {
        let runs = set.runs.iter().map(|run| run.workflow_id);
        let tasks = set.tasks.iter().map(|task| task.workflow_id);
        let scopes = set.tasks.iter().filter_map(|task| Some(task.fan.as_ref()?.scope?.workflow_id));
        Self {
            workflows: runs.chain(tasks).chain(scopes).filter(|id| !facts.workflows.contains_key(id)).collect(),
            prices: set.runs.iter().map(|run| run.price_book_id).filter(|id| !facts.prices.contains_key(id)).collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.workflows.is_empty() && self.prices.is_empty()
    }
}

/// Facts that were fetched for one decision.
#[derive(Debug, Clone, Default)]
pub(super) struct Fetched {
    workflows: Vec<(WorkflowId, Arc<Definition>)>,
    prices: Vec<(PriceBookId, Arc<PriceBook>)>,
}

impl Fetched {
    pub(super) fn add(&mut self, more: Self) {
        self.workflows.extend(more.workflows);
        self.prices.extend(more.prices);
    }

    /// These beside those that are known.
    pub(super) fn beside(&self, mut known: Arc<Facts>) -> Arc<Facts> {
        let is_there = self.workflows.iter().all(|(id, _)| known.workflows.contains_key(id));
        if !is_there {
            let facts = Arc::make_mut(&mut known);
            facts.workflows.extend(self.workflows.iter().cloned());
            facts.prices.extend(self.prices.iter().cloned());
        }
        known
    }
}

#[derive(Debug, Default)]
pub(super) struct FactsCache {
    facts: Mutex<(Arc<Facts>, VecDeque<WorkflowId>)>,
}

impl FactsCache {
    /// The facts known now.
    pub(super) fn snapshot(&self) -> Arc<Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Decisions from now on see these estimates.
    pub(super) fn learn(&self, learned: Arc<Learned>) {
        let mut guard = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut guard.0).learned = learned;
    }

    /// A workflow version, fetched when it is not known.
    pub(super) async fn workflow(
        &self,
        store: &Arc<dyn Store>,
        id: WorkflowId,
    ) -> Result<Option<Arc<Definition>>, StoreError> {
        if let Some(known) = self.snapshot().workflows.get(&id) {
            return Ok(Some(known.clone()));
        }
        self.fetch(store, &Missing { workflows: BTreeSet::from([id]), ..Missing::default() }).await?;
        Ok(self.snapshot().workflows.get(&id).cloned())
    }

    /// A price book, fetched when it is not known.
    pub(super) async fn prices(
        &self,
        store: &Arc<dyn Store>,
        id: PriceBookId,
    ) -> Result<Option<Arc<PriceBook>>, StoreError> {
        if let Some(known) = self.snapshot().prices.get(&id) {
            return Ok(Some(known.clone()));
        }
        self.fetch(store, &Missing { prices: BTreeSet::from([id]), ..Missing::default() }).await?;
        Ok(self.snapshot().prices.get(&id).cloned())
    }

    /// Fetches facts. One that does not exist is an error: a run refers to it.
    pub(super) async fn fetch(&self, store: &Arc<dyn Store>, missing: &Missing) -> Result<Fetched, StoreError> {
        let mut workflows = Vec::new();
        let wanted: Vec<_> = missing.workflows.iter().copied().collect();
        for row in store.workflows_by_id(&wanted).await? {
            let mut definition = workflow::parse_value(&row.definition.unwrap_or_default()).map_err(|problems| {
                let first = problems.first().map(ToString::to_string).unwrap_or_default();
                StoreError::Corrupt(format!("workflow {} is not valid any more: {first}", row.id))
            })?;
            let inside = Box::pin(self.inside(store, row.tenant_id, &definition)).await?;
            definition.link(|name, version| inside.get(&(name.to_owned(), version)).cloned());
            workflows.push((row.id, Arc::new(definition)));
        }
        let mut prices = Vec::new();
        let wanted: Vec<_> = missing.prices.iter().copied().collect();
        for (id, content) in store.price_books(&wanted).await? {
            let book = PriceBook::from_value(content).map_err(|problems| {
                let first = problems.first().map(ToString::to_string).unwrap_or_default();
                StoreError::Corrupt(format!("price book {id} is not valid any more: {first}"))
            })?;
            prices.push((id, Arc::new(book)));
        }
        let found = workflows.len().saturating_add(prices.len());
        if found < missing.workflows.len().saturating_add(missing.prices.len()) {
            return Err(StoreError::Corrupt(format!("a run refers to facts that do not exist: {missing:?}")));
        }
        let fetched = Fetched { workflows, prices };
        self.add(fetched.clone());
        Ok(fetched)
    }

    /// The workflows that run inside of a definition, by name and version; those that there are.
    pub(super) async fn inside(
        &self,
        store: &Arc<dyn Store>,
        tenant: TenantId,
        definition: &Definition,
    ) -> Result<Inside, StoreError> {
        let mut inside = Inside::new();
        let named: Vec<WorkflowRef> = definition.nested().collect();
        for named in named {
            let Some(id) = store.workflow_id(tenant, &named.name, named.version).await? else { continue };
            if let Some(definition) = self.workflow(store, id).await? {
                inside.insert((named.name, named.version), (id, definition));
            }
        }
        Ok(inside)
    }

    fn add(&self, Fetched { workflows, prices }: Fetched) {
        let mut guard = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        let (facts, order) = &mut *guard;
        let facts = Arc::make_mut(facts);
        for (id, definition) in workflows {
            if facts.workflows.insert(id, definition).is_none() {
                order.push_back(id);
            }
        }
        while order.len() > MOST_WORKFLOWS {
            if let Some(oldest) = order.pop_front() {
                facts.workflows.remove(&oldest);
            }
        }
        facts.prices.extend(prices);
    }
}
