//! Rounds: what a loop makes next, and whether it is over. A plan and the input of a workflow are made by a first round.

use serde_json::{Value, json};

use crate::id::TaskId;
use crate::outcome::{ErrorClass, StepError};
use crate::record::{Bound, BoundOutput, Task};
use crate::workflow::{Definition, Layer, Node, OnMax, condition};

use super::begin::{broken, context};
use super::estimate::template_bytes;
use super::family::{add_child, layer_of, start};
use super::{Refusal, Turn, node_of};

/// Makes the next task of a loop and lets it begin: a repetition, a draft, or the review of a draft.
pub(super) fn next_round(turn: &mut Turn<'_>, id: TaskId, ready: &mut Vec<TaskId>) -> Result<(), Refusal> {
    let task = turn.task(id)?.clone();
    let definition = turn.definition(task.workflow_id)?;
    let node = node_of(&definition, &task)?;
    let fan = task.fan.clone().unwrap_or_default();
    let mut bound = Bound { followers: Vec::new(), ..task.bound.clone().unwrap_or_default() };
    let sees = |name: &str, field: &str, item: i32| BoundOutput {
        name: name.to_owned(),
        field: field.to_owned(),
        parent_id: id,
        item,
    };
    let mut bytes = task.input_bytes;
    match layer_of(node, &task) {
        Some(Layer::Repeat(_)) => {
            bound.set("repeat", "iteration", json!(fan.made.saturating_add(1)));
            bound.set("repeat", "previous", Value::Null);
            if let Some(last) = fan.made.checked_sub(1).filter(|last| *last >= 0) {
                bound.outputs.push(sees("repeat", "previous", last));
            }
        }
        Some(Layer::Review(review)) => {
            let (round, is_judged) = (fan.made / 2, fan.made % 2 == 1);
            bound.set("review", "round", json!(round.saturating_add(1)));
            bound.set("review", "draft", Value::Null);
            bound.set("review", "answer", Value::Null);
            if is_judged {
                bound.outputs.push(sees("review", "draft", fan.made.saturating_sub(1)));
                bytes = bytes.saturating_add(template_bytes(&review.judge));
            } else if fan.made > 0 {
                bound.outputs.push(sees("review", "draft", fan.made.saturating_sub(2)));
                bound.outputs.push(sees("review", "answer", fan.made.saturating_sub(1)));
            }
            bytes = bytes.saturating_add(fan.bytes);
        }
        Some(Layer::Plan(_) | Layer::Workflow(_)) => {}
        Some(Layer::Map(_)) | None => return Ok(()),
    }
    let child = add_child(turn, id, bound, bytes, 0)?;
    let reason = round_reason(node, &task, fan.made);
    if let Some(row) = turn.set.tasks.change(id) {
        row.status_reason = Some(reason);
    }
    start(turn, child, ready).map(drop)
}

fn round_reason(node: &Node, task: &Task, made: i32) -> String {
    match layer_of(node, task) {
        Some(Layer::Review(review)) => {
            let what = if made % 2 == 1 { "review" } else { "draft" };
            format!("waits for {what} {} of at most {}", (made / 2).saturating_add(1), review.max)
        }
        Some(Layer::Repeat(repeat)) => {
            format!("waits for iteration {} of at most {}", made.saturating_add(1), repeat.max)
        }
        Some(Layer::Plan(_)) => "waits for its plan".to_owned(),
        Some(Layer::Workflow(nested)) => format!("waits for the input of workflow `{}`", nested.name),
        Some(Layer::Map(_)) | None => String::new(),
    }
}

/// What comes after a round.
pub(super) enum Verdict {
    /// The loop is over, with the output of that item.
    Over(i32),
    Again,
    /// Something that it takes to tell was not loaded.
    Unknown,
}

pub(super) fn verdict(
    turn: &Turn<'_>,
    definition: &Definition,
    node: &Node,
    task: &Task,
    layer: &Layer,
) -> Result<Verdict, StepError> {
    let fan = task.fan.clone().unwrap_or_default();
    let last = fan.made.saturating_sub(1);
    let (expression, of, max, on_max, rounds, good) = match layer {
        Layer::Repeat(repeat) => (&repeat.until, "until", repeat.max, repeat.on_max, fan.made, last),
        Layer::Review(_) if last % 2 == 0 => return Ok(Verdict::Again),
        Layer::Review(review) => {
            (&review.accept, "accept", review.max, review.on_max, fan.made / 2, last.saturating_sub(1))
        }
        Layer::Map(_) | Layer::Plan(_) | Layer::Workflow(_) => return Ok(Verdict::Unknown),
    };
    let Some(view) = view(turn, definition, node, task, last) else { return Ok(Verdict::Unknown) };
    let holds = condition::holds(expression, &view).map_err(|error| broken(of, &error))?;
    let is_last = rounds >= i32::try_from(max).unwrap_or(i32::MAX);
    match (holds, is_last, on_max) {
        (true, _, _) | (false, true, OnMax::Accept) => Ok(Verdict::Over(good)),
        (false, false, _) => Ok(Verdict::Again),
        (false, true, OnMax::Fail) => {
            let message = format!("`{of}` does not hold after {max} rounds, which is the most");
            Err(StepError::new(ErrorClass::Permanent, "rounds_exhausted", message))
        }
    }
}

/// What decides whether a loop is over: what conditions see, what the task sees, and the output of its last child.
fn view(turn: &Turn<'_>, definition: &Definition, node: &Node, task: &Task, last: i32) -> Option<Value> {
    let input = if node.verdict.input { turn.set.input_of(task.mission_id, task.base)? } else { &Value::Null };
    let output_of = |index: u32| turn.set.result_of(task.run_id, task.neighbour(index));
    let output = turn.set.item_result(task.id, last)?;
    let mut seen = task.bound.clone().unwrap_or_default();
    match task.kind.as_str() {
        "review" => {
            seen.set("review", "round", json!((last / 2).saturating_add(1)));
            if let Value::Object(fields) = output {
                seen.values.extend(fields.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
        }
        _ => seen.set("repeat", "iteration", json!(last.saturating_add(1))),
    }
    seen.values.insert("output".to_owned(), output.clone());
    seen.values.insert("inputs".to_owned(), input.clone());
    seen.values.insert("nodes".to_owned(), context(definition, &node.verdict, output_of)?);
    Some(Value::Object(seen.values))
}
