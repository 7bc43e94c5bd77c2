//! The rows that a decision reads and writes, as plain values.
//!
//! Field names are the column names of both stores. Only functions of this package change rows of a
//! [`crate::working_set::WorkingSet`]; everyone else reads them.

mod decision;
mod dedupe;
mod family;
mod kept;
mod message;
mod money;
mod queue;
mod schedule;
mod signal;
mod tools;
mod work;

pub use decision::{Decision, Verdict};
pub use dedupe::DedupeKey;
pub use family::{Bound, BoundOutput, Fan, PlannedWorkflow, Scope};
pub use kept::KeptOutput;
pub use message::{Message, MessageEffect, MessageRole};
pub use money::{
    Account, CallState, ChargeFailed, Grant, GrantKind, Hold, HoldOwner, HoldState, Leg, Op, OpKind, Overrun, Slice,
    UsageCall, Wallet,
};
pub use queue::TenantQueue;
pub use schedule::{CatchUp, Overlap, Schedule};
pub use signal::Signal;
pub use tools::{ToolCallState, ToolRun};
pub use work::{Attempt, Event, Mission, PRUNED_DETAILS, PRUNED_MISSION, PRUNED_OUTPUTS, Run, Task};
