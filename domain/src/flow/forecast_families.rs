//! What all tasks of one node would cost together: how often a map, a repetition or a review has its step done.
//!
//! The items of a map are counted where the input tells them, bounded where the schema of the list does, and otherwise
//! taken to be as many as may be under way at once, at most as many as a map may have.

use serde_json::{Value, json};

use crate::credits::Ucr;
use crate::limits::MAX_ITEMS;
use crate::pricing::PricingError;
use crate::workflow::{Action, Definition, Layer, Map, Nested, Node, ParentClose, Plan, spread};

use super::estimate::{Basis, template_bytes};
use super::forecast::{ForecastRequest, NodeForecast, Told, forecast, foretell, longest_answer};

/// How often something is done: at least, probably, at most.
type Times = (i64, i64, i64);

const ONCE: Times = (1, 1, 1);

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
            Layer::Plan(plan) => {
                add_steps(basis, plan, told, &mut all)?;
                ONCE
            }
            Layer::Workflow(nested) => {
                add_nested(basis, nested, &mut all)?;
                ONCE
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

/// Adds the steps of a plan: at least one of the cheapest agent, at most as many as may be of the dearest.
fn add_steps(basis: &Basis<'_>, plan: &Plan, told: Told, all: &mut NodeForecast) -> Result<(), PricingError> {
    let mut staff = Vec::with_capacity(plan.staff.len());
    for node in &plan.staff {
        staff.push(foretell(basis, node, told)?);
    }
    let most = i64::from(plan.form.max_nodes).saturating_pow(plan.form.depth);
    let of = |pick: fn(&NodeForecast) -> Ucr| staff.iter().map(pick);
    let usual = of(|step| step.expected).max().unwrap_or_default();
    all.low = all.low.saturating_add(of(|step| step.low).min().unwrap_or_default());
    all.expected = all.expected.saturating_add(so_often(usual, most.saturating_add(1).div_euclid(2)));
    all.high = all.high.saturating_add(so_often(of(|step| step.high).max().unwrap_or_default(), most));
    Ok(())
}

/// Adds what the nodes of another workflow would cost, whose input is not known yet.
fn add_nested(basis: &Basis<'_>, nested: &Nested, all: &mut NodeForecast) -> Result<(), PricingError> {
    // a mission of its own has its own forecast
    let Some((_, definition)) = nested.of.as_ref().filter(|_| nested.parent_close == ParentClose::Cancel) else {
        return Ok(());
    };
    let request = ForecastRequest {
        definition,
        prices: basis.prices,
        price_book_id: basis.price_book_id,
        tenant_id: basis.tenant_id,
        input: &Value::Null,
    };
    for node in forecast(basis.learned, &request)?.nodes {
        all.low = all.low.saturating_add(node.low);
        all.expected = all.expected.saturating_add(node.expected);
        all.high = all.high.saturating_add(node.high);
    }
    Ok(())
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
