//! Workflow versions come in, and facts that others ask the engine for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bursar_domain::id::{PriceBookId, TenantId, WorkflowId};
use bursar_domain::limits::{MAX_NODES_INSIDE, MAX_WORKFLOW_DEPTH};
use bursar_domain::pricing::PriceBook;
use bursar_domain::workflow::{self, Definition, Problem, WorkflowRef};
use serde_json::{Map, Value};

use super::Engine;
use crate::clock::new_id;
use crate::store::read::WorkflowView;
use crate::store::{Conflict, StoreError};

/// Why a workflow was not put.
#[derive(Debug, thiserror::Error)]
pub enum PutWorkflowError {
    /// Every price that its nodes need and that the active price book lacks.
    #[error("{} prices are missing", .0.len())]
    NotPriced(Vec<Problem>),
    /// Nodes that this installation does not run.
    #[error("{} nodes are not allowed here", .0.len())]
    NotAllowed(Vec<Problem>),
    /// Workflows that it names and that there are not.
    #[error("{} workflows are unknown", .0.len())]
    Unresolved(Vec<Problem>),
    /// No price book is active.
    #[error("no price book is active: run `bursar migrate`")]
    NoPrices,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a put did.
#[derive(Debug, Clone)]
pub struct WorkflowPut {
    /// The version that holds the definition now.
    pub workflow: WorkflowView,
    /// Whether it is new; the same content again is not.
    pub created: bool,
}

impl Engine {
    /// Puts a definition: a new version, unless the newest has the same content. Names without a price are refused.
    pub async fn put_workflow(
        &self,
        tenant: TenantId,
        definition: &Definition,
    ) -> Result<WorkflowPut, PutWorkflowError> {
        let definition = &self.pinned(tenant, definition).await??;
        let problems = self.not_allowed(definition);
        if !problems.is_empty() {
            return Err(PutWorkflowError::NotAllowed(problems));
        }
        let (_, prices) = self.active_prices().await?.ok_or(PutWorkflowError::NoPrices)?;
        let problems = unpriced(definition, &prices);
        if !problems.is_empty() {
            return Err(PutWorkflowError::NotPriced(problems));
        }
        let hash = definition.content_hash();
        loop {
            let newest = self.store().workflow(tenant, &definition.name, None).await?;
            if let Some(newest) = newest.as_ref().filter(|newest| newest.content_hash == hash) {
                return Ok(WorkflowPut { workflow: newest.clone(), created: false });
            }
            let workflow = WorkflowView {
                id: new_id(),
                tenant_id: tenant,
                name: definition.name.clone(),
                version: newest.map_or(0, |newest| newest.version).saturating_add(1),
                content_hash: hash.clone(),
                definition: Some(definition.source.clone()),
                created_at: self.clock().now(),
            };
            match self.store().add_workflow(&workflow).await {
                // somebody else put a version at the same moment: look again
                Err(StoreError::Conflict(Conflict::WorkflowVersion)) => {}
                Err(error) => return Err(error.into()),
                Ok(()) => return Ok(WorkflowPut { workflow, created: true }),
            }
        }
    }

    /// The definition with the versions of the workflows that it names, and linked with these: what runs inside of it
    /// does not change any more. Errors: those that there are not, or that are too deep inside of each other.
    pub async fn pinned(
        &self,
        tenant: TenantId,
        definition: &Definition,
    ) -> Result<Result<Definition, PutWorkflowError>, StoreError> {
        let (mut versions, mut problems) = (Map::new(), Vec::new());
        let named: Vec<WorkflowRef> = definition.nested().collect();
        if named.is_empty() {
            return Ok(Ok(definition.clone()));
        }
        for named in named {
            match self.store().workflow(tenant, &named.name, named.version).await? {
                Some(found) => drop(versions.insert(named.node, found.version.into())),
                None => problems.push(unknown_workflow(named)),
            }
        }
        if !problems.is_empty() {
            return Ok(Err(PutWorkflowError::Unresolved(problems)));
        }
        let mut pinned = match workflow::parse_value(&definition.pinned_source(&versions)) {
            Ok(pinned) => pinned,
            Err(problems) => return Ok(Err(PutWorkflowError::Unresolved(problems))),
        };
        let inside = self.parts.facts.inside(&self.parts.store, tenant, &pinned).await?;
        pinned.link(|name, version| inside.get(&(name.to_owned(), version)).cloned());
        let message = if pinned.depth > MAX_WORKFLOW_DEPTH {
            format!("at most {MAX_WORKFLOW_DEPTH} workflows run inside of each other, these are {}", pinned.depth)
        } else if pinned.size > MAX_NODES_INSIDE {
            format!("it has {} nodes with those of the workflows inside, and may have {MAX_NODES_INSIDE}", pinned.size)
        } else {
            return Ok(Ok(pinned));
        };
        let problem = Problem { pointer: "/nodes".to_owned(), code: "too_many", message, hint: None };
        Ok(Err(PutWorkflowError::Unresolved(vec![problem])))
    }

    /// Nodes of the definition that this installation does not run, each as a problem.
    pub fn not_allowed(&self, definition: &Definition) -> Vec<Problem> {
        let mut problems = self.unknown_mcp_tools(definition);
        let mut seen = BTreeSet::new();
        for node in &definition.nodes {
            let Some((id, inner)) = node.nested().and_then(|nested| nested.of.as_ref()) else { continue };
            if seen.insert(*id) {
                let pointer = format!("/nodes/{}/workflow", node.key);
                let inside = self.not_allowed(inner).into_iter();
                problems.extend(inside.map(|problem| Problem { pointer: pointer.clone(), ..problem }));
            }
        }
        if self.parts.exec_allowed.load(Ordering::Relaxed) {
            return problems;
        }
        let programs = definition.nodes.iter().filter(|node| matches!(node.action, workflow::Action::Exec(_)));
        let problem = |node: &workflow::Node| Problem {
            pointer: format!("/nodes/{}/exec", node.key),
            code: "exec_off",
            message: "this server runs no programs: `exec` nodes are off".to_owned(),
            hint: Some("its operator enables them with `exec.enabled = true` in the configuration".to_owned()),
        };
        problems.extend(programs.map(problem));
        problems
    }

    /// A workflow version that a run refers to.
    pub async fn definition(&self, id: WorkflowId) -> Result<Option<Arc<Definition>>, StoreError> {
        self.parts.facts.workflow(&self.parts.store, id).await
    }

    /// The price book that new runs pin.
    pub async fn active_prices(&self) -> Result<Option<(PriceBookId, Arc<PriceBook>)>, StoreError> {
        let Some(id) = self.store().active_prices().await? else { return Ok(None) };
        Ok(self.parts.facts.prices(&self.parts.store, id).await?.map(|prices| (id, prices)))
    }

    /// Stores a price book and makes it the one that new runs pin. The same content again changes nothing.
    pub async fn activate_prices(&self, book: &PriceBook) -> Result<(), StoreError> {
        let content: Value = book.to_value();
        self.store().activate_prices(new_id(), book.name(), &book.content_hash(), &content, self.clock().now()).await
    }

    /// The tokenizer that a run's price book names for a model, with its factor in parts per million.
    pub(super) fn tokenizer(&self, prices: PriceBookId, model: &str) -> (Option<String>, u32) {
        let facts = self.parts.facts.snapshot();
        match facts.prices.get(&prices).and_then(|book| book.price_of(model)) {
            Some(price) => (Some(price.tokenizer().to_owned()), price.tokenizer_factor_ppm()),
            None => (None, 1_000_000),
        }
    }
}

fn unknown_workflow(named: WorkflowRef) -> Problem {
    let version = named.version.map(|version| format!(" in version {version}")).unwrap_or_default();
    Problem {
        pointer: named.pointer,
        code: "unknown_workflow",
        message: format!("there is no workflow `{}`{version}", named.name),
        hint: Some("put it before this one".to_owned()),
    }
}

/// Models and units of the definition that have no price.
fn unpriced(definition: &Definition, prices: &PriceBook) -> Vec<Problem> {
    let mut problems = Vec::new();
    for node in definition.nodes.iter().flat_map(workflow::Node::all_work) {
        let models = match &node.action {
            workflow::Action::Agent(step) => step.models().collect(),
            _ => Vec::new(),
        };
        for model in models.into_iter().filter(|model| prices.price_of(model).is_none()) {
            problems.push(Problem {
                pointer: format!("/nodes/{}", node.key),
                code: "model_not_priced",
                message: format!("model `{model}` has no price in the price book `{}`", prices.name()),
                hint: Some("use a model of the price book, or add its price".to_owned()),
            });
        }
        for unit in node.units.keys().filter(|unit| prices.unit(unit).is_none()) {
            problems.push(Problem {
                pointer: format!("/nodes/{}/units/{unit}", node.key),
                code: "unit_not_priced",
                message: format!("unit `{unit}` has no price in the price book `{}`", prices.name()),
                hint: None,
            });
        }
    }
    problems
}
