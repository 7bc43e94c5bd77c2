//! Estimates that learn: what calls and nodes turned out to need corrects what they are expected to need.
//!
//! A [`Factor`] learns how many input tokens a provider reports for a token that we count, a [`NodeCost`] what a
//! node's calls cost. Both are sums that merge in any order, so that many processes learn together, and both fade:
//! only about the latest [`limits::ESTIMATE_WINDOW_SAMPLES`] samples count. [`Learned`] is what decisions see of
//! them. Whole numbers only. Estimates size holds and cover missing usage; they never replace what was reported.
//!
//! [`limits::ESTIMATE_WINDOW_SAMPLES`]: crate::limits::ESTIMATE_WINDOW_SAMPLES

mod factor;
mod node_cost;
mod sketch;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use factor::{Factor, ONE_PPM, scaled};
pub use node_cost::{CostRange, NodeCost};
pub use sketch::Sketch;

use crate::id::{PriceBookId, TenantId};

/// Which node's costs: a node of a tenant's workflow, whatever its version, at the prices of one book.
///
/// The book belongs to it because costs at other prices say nothing about a run that is pinned to these.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeKey {
    /// Whose workflow. Tenants learn nothing from each other.
    pub tenant_id: TenantId,
    /// The prices.
    pub price_book_id: PriceBookId,
    /// The workflow's name.
    pub workflow: String,
    /// The node's key.
    pub node: String,
}

type Workflows = BTreeMap<String, BTreeMap<String, CostRange>>;

/// What is known by experience, as far as there is enough of it to be used. Part of the facts of a decision: the same
/// decision with the same snapshot comes out the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Learned {
    /// Model → provider → factor in ppm.
    factors: BTreeMap<String, BTreeMap<String, u32>>,
    nodes: BTreeMap<(TenantId, PriceBookId), Workflows>,
}

impl Learned {
    /// Takes a model's factor over, if it has enough samples.
    pub fn know_factor(&mut self, provider: &str, model: &str, factor: &Factor) {
        if let Some(ppm) = factor.ppm() {
            self.factors.entry(model.to_owned()).or_default().insert(provider.to_owned(), ppm);
        }
    }

    /// Takes a node's costs over, if they have enough samples.
    pub fn know_node(&mut self, key: &NodeKey, cost: &NodeCost) {
        if let Some(range) = cost.range() {
            let workflows = self.nodes.entry((key.tenant_id, key.price_book_id)).or_default();
            workflows.entry(key.workflow.clone()).or_default().insert(key.node.clone(), range);
        }
    }

    /// How many nodes are known.
    pub fn nodes_known(&self) -> usize {
        let workflows = self.nodes.values().flat_map(BTreeMap::values);
        workflows.fold(0, |sum: usize, nodes| sum.saturating_add(nodes.len()))
    }

    /// How many input tokens the provider reports per million that are counted for the model; one million where
    /// nothing is known.
    pub fn factor_ppm(&self, provider: &str, model: &str) -> u32 {
        let known = self.factors.get(model).and_then(|providers| providers.get(provider));
        known.copied().unwrap_or(ONE_PPM)
    }

    /// The same where it is not decided yet who will be asked: the largest of the model's factors.
    pub fn largest_factor_ppm(&self, model: &str) -> u32 {
        let providers = self.factors.get(model).into_iter().flat_map(BTreeMap::values);
        providers.copied().max().unwrap_or(ONE_PPM)
    }

    /// What one execution of the node costs in calls; `None` where too little is known.
    pub fn node(&self, tenant: TenantId, prices: PriceBookId, workflow: &str, node: &str) -> Option<CostRange> {
        self.nodes.get(&(tenant, prices))?.get(workflow)?.get(node).copied()
    }
}
