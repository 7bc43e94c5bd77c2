//! How large a task's hold is, without rendering anything; what a node's execution is expected to cost.
//!
//! The worker renders and counts after the claim and the hold grows with its first call, so this need not be exact:
//! it must be quick, never zero for a priced node, and the same for the same facts. What experience says comes first;
//! without enough of it stored sizes and the output cap decide, rather too large than too small.

use crate::credits::Ucr;
use crate::estimate::{CostRange, Learned, scaled};
use crate::id::{PriceBookId, TenantId};
use crate::pricing::{PriceBook, PricingError};
use crate::record::Task;
use crate::workflow::{Action, Node};

use super::{Refusal, Turn, node_of};

/// Bytes of text per token, on the careful side (English has about four, code and other scripts fewer).
pub(super) const BYTES_PER_TOKEN: u64 = 3;
/// Tokens for roles and separators of a two-message prompt.
const MESSAGE_OVERHEAD_TOKENS: u64 = 16;

/// What sizes are made from: experience, and the prices that the run pins.
#[derive(Clone, Copy)]
pub(super) struct Basis<'a> {
    pub(super) learned: &'a Learned,
    pub(super) prices: &'a PriceBook,
    pub(super) price_book_id: PriceBookId,
    pub(super) tenant_id: TenantId,
    /// The workflow's name.
    pub(super) workflow: &'a str,
}

/// As many bytes as sizes are made with for so many tokens.
pub(super) fn bytes_of_tokens(tokens: u64) -> i64 {
    i64::try_from(tokens.saturating_mul(BYTES_PER_TOKEN)).unwrap_or(i64::MAX)
}

/// Bytes that a node's own templates bring, before any input.
pub(super) fn template_bytes(node: &Node) -> i64 {
    match &node.action {
        Action::Agent(step) => {
            let schema = step.output.as_ref().map_or(0, |output| output.schema.to_string().len());
            let texts = step.instructions.len().saturating_add(step.prompt.len()).saturating_add(schema);
            // a full window: what will be remembered is not known before it was said
            let window = bytes_of_tokens(step.memory.map_or(0, |memory| memory.tokens));
            i64::try_from(texts).unwrap_or(i64::MAX).saturating_add(window)
        }
        Action::Transform(_) | Action::Http(_) | Action::Exec(_) | Action::Wait(_) => 0,
    }
}

/// Whether the node can cost anything at all.
pub(super) fn is_priced(node: &Node) -> bool {
    matches!(node.action, Action::Agent(_)) || !node.units.is_empty()
}

impl Basis<'_> {
    /// Credits to hold for one execution of the node: what 19 of 20 of its executions cost, else [`Basis::full`].
    ///
    /// A model or unit without a price is refused, whatever was learned about the node.
    pub(super) fn usual(&self, node: &Node, input_bytes: i64) -> Result<Ucr, PricingError> {
        let full = self.full(node, input_bytes)?;
        let Some(range) = self.experience(node) else { return Ok(full) };
        Ok(at_least_one(node, self.prices.units_cost(&node.units)?.saturating_add(range.high)))
    }

    /// Credits for one execution of the node with a call as large as it may become: what a call asks for.
    pub(super) fn full(&self, node: &Node, input_bytes: i64) -> Result<Ucr, PricingError> {
        let bytes = u64::try_from(input_bytes).unwrap_or(0);
        let cap = match &node.action {
            Action::Agent(step) => step.max_output_tokens,
            Action::Transform(_) | Action::Http(_) | Action::Exec(_) | Action::Wait(_) => 0,
        };
        self.sized(node, bytes.div_ceil(BYTES_PER_TOKEN), cap)
    }

    /// Credits for one execution of the node with a call of so many tokens, message overheads left out of the input.
    pub(super) fn sized(&self, node: &Node, input_tokens: u64, output_tokens: u64) -> Result<Ucr, PricingError> {
        let units = self.prices.units_cost(&node.units)?;
        let tokens = match &node.action {
            Action::Agent(step) => {
                let input_tokens = input_tokens.saturating_add(MESSAGE_OVERHEAD_TOKENS);
                let ceiling = |model: &str| {
                    let scaled = scaled(input_tokens, self.learned.largest_factor_ppm(model));
                    self.prices.call_ceiling(model, scaled, output_tokens)
                };
                // whichever of its models answers: the dearest
                let ceilings = step.models().map(ceiling);
                ceilings.reduce(|most, next| Ok(most?.max(next?))).unwrap_or(Ok(Ucr::ZERO))?
            }
            Action::Transform(_) | Action::Http(_) | Action::Exec(_) | Action::Wait(_) => Ucr::ZERO,
        };
        Ok(at_least_one(node, units.saturating_add(tokens)))
    }

    /// What the node's calls cost so far, where enough is known. Nodes without calls cost what their units say.
    pub(super) fn experience(&self, node: &Node) -> Option<CostRange> {
        let has_calls = matches!(node.action, Action::Agent(_));
        let known = self.learned.node(self.tenant_id, self.price_book_id, self.workflow, &node.key);
        known.filter(|_| has_calls)
    }
}

/// Never zero for a priced node, so that "priced and live" and "has a hold" are the same thing.
fn at_least_one(node: &Node, size: Ucr) -> Ucr {
    size.max(Ucr::new(i64::from(is_priced(node))))
}

/// Whether the task is a step of a plan, or of what such a step became.
pub(super) fn is_planned(turn: &Turn<'_>, task: &Task) -> bool {
    let opened =
        |above: &Task| above.fan.as_ref().and_then(|fan| fan.scope).is_some_and(|scope| scope.base == task.base);
    let above = task.ancestors.iter().flatten().filter_map(|id| turn.set.tasks.get(*id));
    task.base > 0 && above.into_iter().find(|above| opened(above)).is_some_and(|above| above.kind == "plan")
}

/// What the next attempt of a task is expected to need altogether. One that waits because a call did not fit needs
/// room for that call, whatever its node usually costs: woken for less, it would be refused again.
pub(super) fn size_of(turn: &Turn<'_>, task: &Task, lacked_credits: bool) -> Result<Ucr, Refusal> {
    let definition = turn.definition(task.workflow_id)?;
    let prices = turn.prices(task.run_id)?;
    let basis = Basis {
        learned: &turn.facts.learned,
        prices: &prices,
        price_book_id: turn.run(task.run_id)?.price_book_id,
        tenant_id: task.tenant_id,
        // nothing is known about the steps of a plan
        workflow: if is_planned(turn, task) { "" } else { &definition.name },
    };
    let node = node_of(&definition, task)?;
    let usual = basis.usual(node, task.input_bytes)?;
    Ok(if lacked_credits { usual.max(basis.full(node, task.input_bytes)?) } else { usual })
}
