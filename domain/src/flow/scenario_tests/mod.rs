//! Stories of missions, told step by step in a world in memory. After each, every invariant is checked.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod approvals;
mod calls;
mod conditions;
mod credits;
mod deadlines;
mod dedupe;
mod ends;
mod estimates;
mod failures;
mod fallbacks;
mod families;
mod leases;
mod memories;
mod messages;
mod money;
mod pauses;
mod redrives;
mod renewals;
mod reuse;
mod schedules;
mod scopes;
mod signals;
mod stand_ins;
mod time;
mod turns;
mod waits;

use crate::flow::testbed::World;
use crate::record::{CallState, HoldState, OpKind, UsageCall};

/// A workflow with one agent `a` whose answers have at most 100 tokens, and the nodes given as YAML.
fn workflow(head: &str, nodes: &str) -> String {
    let agents = "agents: { a: { instructions: i, model: m, max_output_tokens: 100 } }";
    format!("workflow: w\n{head}\n{agents}\nnodes:\n{nodes}\n")
}

/// An agent's node with no needs.
const ONE: &str = "  one: { agent: a, prompt: p }";

/// What a node such as [`ONE`] holds while it is ready: 18 tokens in and 100 out.
const ONE_HOLD_UCR: i64 = 18 * 100 + 100 * 200;

/// How many open holds there are.
fn open_holds(world: &World) -> usize {
    world.tables.holds.values().filter(|hold| hold.state == HoldState::Open).count()
}

/// How many operations of that kind were posted.
fn ops(world: &World, kind: OpKind) -> usize {
    world.tables.ops.values().filter(|op| op.kind == kind).count()
}

/// The states of all calls, in the order in which they were made.
fn call_states(world: &World) -> Vec<CallState> {
    world.tables.calls.values().map(|call| call.state).collect()
}

/// The only call there is.
fn only_call(world: &World) -> &UsageCall {
    assert_eq!(world.tables.calls.len(), 1);
    world.tables.calls.values().next().unwrap()
}
