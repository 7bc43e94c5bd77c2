//! What a mission would cost, node by node, before it is submitted. Decides nothing and promises nothing.
//!
//! A node that was learned is told by its experience. Of another one only its limits are known: it costs at least its
//! prompt without an answer, at most a prompt with the longest answers of the nodes before it and the longest answer of
//! its own, and half of those answers is as good a guess as any.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::credits::Ucr;
use crate::estimate::Learned;
use crate::id::{PriceBookId, TenantId};
use crate::limits::EXEC_OUTPUT_BYTES;
use crate::pricing::{PriceBook, PricingError};
use crate::workflow::{Action, Definition, Node};

use super::begin::first_nodes;
use super::estimate::{BYTES_PER_TOKEN, Basis, is_priced, template_bytes};
use super::forecast_families::altogether;

/// What a node's figures are made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Its own latest executions.
    Experience,
    /// Sizes and caps.
    Limits,
    /// It makes no calls: its price is fixed.
    Fixed,
}

/// What a node would cost: one execution, or all that a map, a repetition or a review makes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeForecast {
    /// The node's key.
    pub node: String,
    /// The kind of node.
    pub kind: &'static str,
    /// At the least.
    pub low: Ucr,
    /// Probably.
    pub expected: Ucr,
    /// At the most; by experience, in 19 of 20 cases.
    pub high: Ucr,
    /// What the hold of its first task is made with; zero for nodes that are not priced, and for maps.
    pub hold: Ucr,
    /// Where the figures come from.
    pub source: Source,
    /// Whether it begins at submit, so that its hold is needed then.
    pub is_first: bool,
}

/// What a mission would cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forecast {
    /// The flat fee of a success.
    pub fee: Ucr,
    /// Its nodes, in the order of the workflow.
    pub nodes: Vec<NodeForecast>,
    /// One execution of each node, in the same order.
    pub each: Vec<NodeForecast>,
    /// What a submit holds at once: the fee and the holds of the first tasks.
    pub hold_needed: Ucr,
    /// What a mission may spend unless it says otherwise.
    pub budget: Option<Ucr>,
}

/// What a forecast is asked for.
#[derive(Debug, Clone, Copy)]
pub struct ForecastRequest<'a> {
    /// The workflow version.
    pub definition: &'a Definition,
    /// The prices that a run would pin.
    pub prices: &'a PriceBook,
    /// Their id.
    pub price_book_id: PriceBookId,
    /// Who asks.
    pub tenant_id: TenantId,
    /// The input.
    pub input: &'a Value,
}

/// Foretells the cost of every node. Refuses models and units without a price, as a submit does.
pub fn forecast(learned: &Learned, request: &ForecastRequest<'_>) -> Result<Forecast, PricingError> {
    let ForecastRequest { definition, prices, price_book_id, tenant_id, input } = *request;
    let input_bytes = i64::try_from(input.to_string().len()).unwrap_or(i64::MAX);
    let first = first_nodes(definition, input);
    let basis = Basis { learned, prices, price_book_id, tenant_id, workflow: &definition.name };
    let fee = definition.flat_fee.unwrap_or_else(|| prices.flat_fee(&definition.name));
    let mut answers = BTreeMap::new();
    let mut nodes = Vec::with_capacity(definition.nodes.len());
    let mut each = Vec::with_capacity(definition.nodes.len());
    let mut hold_needed = fee;
    for node in &definition.nodes {
        let told = Told {
            bytes: template_bytes(node).saturating_add(input_bytes),
            upstream: upstream(definition, node, &answers),
        };
        answers.insert(node.index, longest_answer(node, told));
        let one = foretell(&basis, node, told)?;
        each.push(one.clone());
        let all = altogether(&basis, definition, node, (told, input), one)?;
        let mut one = NodeForecast { is_first: first.contains(&node.index), ..all };
        if node.stands_in_for.is_some() {
            // it runs only when another node fails
            (one.low, one.expected) = (Ucr::ZERO, Ucr::ZERO);
        }
        if one.is_first {
            hold_needed = hold_needed.saturating_add(one.hold);
        }
        nodes.push(one);
    }
    let budget = definition.budget.as_ref().map(|budget| budget.credits);
    Ok(Forecast { fee, nodes, each, hold_needed, budget })
}

/// What a node is told: text that is known, and the most that the nodes before it can answer.
#[derive(Clone, Copy)]
pub(super) struct Told {
    pub(super) bytes: i64,
    pub(super) upstream: u64,
}

impl Told {
    fn known_tokens(self) -> u64 {
        u64::try_from(self.bytes).unwrap_or(0).div_ceil(BYTES_PER_TOKEN)
    }
}

/// The longest answers of the nodes that a node needs, in tokens; those come before it in the workflow. Who stands in for
/// one of them answers in its place.
fn upstream(definition: &Definition, node: &Node, answers: &BTreeMap<u32, u64>) -> u64 {
    let is_told_before = |need: &&u32| {
        let origin = definition.node(**need).and_then(|need| need.stands_in_for);
        origin.is_some_and(|origin| node.needs.contains(&origin))
    };
    let longest = |need: &u32| {
        let line = std::iter::once(*need).chain(definition.stand_ins(*need));
        line.filter_map(|index| answers.get(&index)).max().copied()
    };
    // what it stands in for has answered nothing
    let answered = node.needs.iter().filter(|need| node.stands_in_for != Some(**need) && !is_told_before(need));
    let known = answered.filter_map(longest);
    known.fold(0, u64::saturating_add)
}

/// The longest text a node hands on, in tokens: an agent's cap, or what a transform was told.
pub(super) fn longest_answer(node: &Node, told: Told) -> u64 {
    match &node.action {
        Action::Agent(step) => step.max_output_tokens,
        Action::Transform(_) => told.upstream.saturating_add(told.known_tokens()),
        Action::Http(step) => step.max_bytes.div_ceil(BYTES_PER_TOKEN),
        Action::Exec(_) => EXEC_OUTPUT_BYTES.saturating_mul(2).div_ceil(BYTES_PER_TOKEN),
        Action::Wait(_) => 0,
    }
}

pub(super) fn foretell(basis: &Basis<'_>, node: &Node, told: Told) -> Result<NodeForecast, PricingError> {
    let hold = if is_priced(node) { basis.usual(node, told.bytes)? } else { Ucr::ZERO };
    let units = basis.prices.units_cost(&node.units)?;
    let (low, expected, high, source) = match (&node.action, basis.experience(node)) {
        (Action::Agent(_), Some(range)) => {
            let with_units = |amount: Ucr| units.saturating_add(amount);
            (with_units(range.low), with_units(range.expected), with_units(range.high), Source::Experience)
        }
        (Action::Agent(step), None) => {
            let sized = |of: fn(u64) -> u64| {
                let input = told.known_tokens().saturating_add(of(told.upstream));
                basis.sized(node, input, of(step.max_output_tokens))
            };
            (sized(|_| 0)?, sized(|most| most.div_ceil(2))?, sized(|most| most)?, Source::Limits)
        }
        (Action::Transform(_) | Action::Http(_) | Action::Exec(_) | Action::Wait(_), _) => {
            (units, units, units, Source::Fixed)
        }
    };
    let kind = node.kind();
    Ok(NodeForecast { node: node.key.clone(), kind, low, expected, high, hold, source, is_first: false })
}
