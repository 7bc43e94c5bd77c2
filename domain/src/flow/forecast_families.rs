//! What all tasks of one node would cost together: how often a map, a repetition or a review has its step done.
//!
//! The items of a map are counted where the input tells them, bounded where the schema of the list does, and otherwise
//! taken to be as many as may be under way at once, at most as many as a map may have.

use serde_json::{Value, json};

use crate::credits::Ucr;
use crate::limits::MAX_ITEMS;
use crate::pricing::PricingError;
use crate::workflow::{Action, Definition, Layer, Map, Node, spread};

use super::estimate::{Basis, template_bytes};
use super::forecast::{NodeForecast, Told, foretell, longest_answer};

/// How often something is done: at least, probably, at most.
type Times = (i64, i64, i64);

/// The node's figures for all of its tasks together, of those for one execution. Never more than its own budget.
pub(super) fn altogether(
    basis: &Basis<'_>,
    definition: &Definition,
    node: &Node,
    (told, input): (Told, &Value),
    one: NodeForecast,
) -> Result<NodeForecast, PricingError> {
    let mut all = one;
    for layer in node.layers.iter().rev() {
        let times = match layer {
            Layer::Map(map) => items(definition, node, map, input),
            Layer::Repeat(repeat) => rounds(repeat.max),
            Layer::Review(review) => {
                let draft = longest_answer(node, told);
                let told = Told {
                    bytes: told.bytes.saturating_add(template_bytes(&review.judge)),
                    upstream: told.upstream.saturating_add(draft),
                };
                let judge = foretell(basis, &review.judge, told)?;
                all.low = all.low.saturating_add(judge.low);
                all.expected = all.expected.saturating_add(judge.expected);
                all.high = all.high.saturating_add(judge.high);
                rounds(review.max)
            }
        };
        all.low = so_often(all.low, times.0);
        all.expected = so_often(all.expected, times.1);
        all.high = so_often(all.high, times.2);
    }
    if node.is_spread() {
        // its items are held for when they begin
        all.hold = Ucr::ZERO;
    }
    if let Some(budget) = node.budget {
        all.low = all.low.min(budget.credits);
        all.expected = all.expected.min(budget.credits);
        all.high = all.high.min(budget.credits);
    }
    Ok(all)
}

fn so_often(amount: Ucr, times: i64) -> Ucr {
    Ucr::new(amount.get().saturating_mul(times))
}

fn rounds(max: u32) -> Times {
    let max = i64::from(max);
    (1, max.saturating_add(1).div_euclid(2), max)
}

fn items(definition: &Definition, node: &Node, map: &Map, input: &Value) -> Times {
    let many = i64::try_from(MAX_ITEMS).unwrap_or(i64::MAX);
    if node.spread.nodes.is_empty()
        && let Ok(items) = spread(map, &json!({"inputs": input, "nodes": {}}))
    {
        let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
        return (count, count, count);
    }
    let (least, most) = bounds(definition, &map.over).unwrap_or((None, None));
    let least = least.unwrap_or(0).min(many);
    let most = most.map(|most| most.clamp(least, many));
    let usual =
        most.map_or(i64::from(map.max_parallel).max(least), |most| least.saturating_add(most).div_euclid(2).max(1));
    (least, usual, most.unwrap_or(many))
}

/// The least and the most items of the list that an expression such as `nodes.plan.output.files` names, as the schema of
/// that output says. `None` for any other expression.
fn bounds(definition: &Definition, over: &str) -> Option<(Option<i64>, Option<i64>)> {
    let mut path = over.trim().strip_prefix("nodes.")?.split('.');
    let (key, output) = (path.next()?, path.next()?);
    let Action::Agent(step) = &definition.node_by_key(key)?.action else { return None };
    let mut schema = &step.output.as_ref().filter(|_| output == "output")?.schema;
    for field in path {
        schema = schema.get("properties")?.get(field)?;
    }
    let bound = |name: &str| schema.get(name).and_then(Value::as_i64);
    Some((bound("minItems"), bound("maxItems")))
}
