//! The parts of the published schema that make many tasks of a node.

use serde_json::{Value, json};

use super::{described, identifier, text, whole, with_call};
use crate::limits::{MAX_NAME_BYTES, MAX_PARALLEL_ITEMS, MAX_PLAN_DEPTH, MAX_PLAN_NODES, MAX_REPAIRS, MAX_ROUNDS};

pub(super) fn map() -> Value {
    json!({
        "description": "The node is done once for each item of a list, and hands on the list of what came of them.",
        "type": "object",
        "required": ["over"],
        "additionalProperties": false,
        "properties": {
            "over": described(text(), "The expression that gives the items, e.g. nodes.plan.output.files."),
            "as": described(json!({"type": "string", "pattern": identifier()}), "What an item is called; by default `item`."),
            "key": described(text(), "The template of an item's key; by default its number."),
            "after": described(text(), "The expression that gives the keys of the items that must be over before one begins."),
            "max_parallel": described(whole(1, MAX_PARALLEL_ITEMS), "How many items may be under way at once; by default 16."),
            "on_item_error": {
                "description": "What becomes of the node when an item fails for good; by default it fails as well.",
                "enum": ["fail_fast", "skip", "continue"],
            },
        },
    })
}

fn on_max() -> Value {
    json!({
        "description": "What happens after the last round; by default what was made last is taken.",
        "enum": ["accept", "fail"],
    })
}

pub(super) fn repeat() -> Value {
    json!({
        "description": "The node is done again until an expression over its output holds.",
        "type": "object",
        "required": ["until", "max"],
        "additionalProperties": false,
        "properties": {
            "until": described(text(), "The expression; it sees `output` and `repeat.iteration`."),
            "max": described(whole(1, MAX_ROUNDS), "The most iterations."),
            "on_max": on_max(),
        },
    })
}

pub(super) fn review() -> Value {
    json!({
        "description": "Another agent judges what the node made, which is made again until it is accepted.",
        "type": "object",
        "required": ["agent", "accept", "max"],
        "additionalProperties": false,
        "properties": with_call(json!({
            "agent": described(text(), "The agent that reviews."),
            "prompt": described(text(), "A template: what to ask the reviewer. It sees `review.draft`."),
            "accept": described(text(), "The expression over the reviewer's answer, whose fields are variables."),
            "max": described(whole(1, MAX_ROUNDS), "The most rounds of a draft and its review."),
            "on_max": on_max(),
        })),
    })
}

pub(super) fn workflow_ref() -> Value {
    let name = json!({"type": "string", "pattern": format!("^[a-z0-9-]{{1,{MAX_NAME_BYTES}}}(@[1-9][0-9]*)?$")});
    let whole = json!({
        "type": "object",
        "required": ["name"],
        "additionalProperties": false,
        "properties": {
            "name": described(name.clone(), "Which one: its name, or name@version."),
            "inputs": described(json!({"type": "object"}), "What it is given; texts in it are templates."),
            "parent_close": {
                "description": "`abandon` makes it a mission of its own that the node does not wait for.",
                "enum": ["cancel", "abandon"],
            },
        },
    });
    json!({"description": "Runs another workflow in place of the node.", "anyOf": [name, whole]})
}

pub(super) fn plan() -> Value {
    json!({
        "description": "An agent breaks the task down into steps that other agents do.",
        "type": "object",
        "required": ["agent", "agents"],
        "additionalProperties": false,
        "properties": {
            "agent": described(text(), "The agent that plans."),
            "agents": {
                "description": "The agents that its steps may name.",
                "type": "array",
                "minItems": 1,
                "uniqueItems": true,
                "items": {"type": "string"},
            },
            "max_nodes": described(whole(1, MAX_PLAN_NODES), "The most steps."),
            "depth": described(whole(1, MAX_PLAN_DEPTH), "How many levels of plans there may be."),
            "repair": described(whole(0, MAX_REPAIRS), "How often a plan may be sent back to be mended."),
        },
    })
}
