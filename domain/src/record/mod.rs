//! The rows that a decision reads and writes, as plain values.
//!
//! Field names are the column names of both stores. Only functions of this package change rows of a
//! [`crate::working_set::WorkingSet`]; everyone else reads them.

mod decision;
mod dedupe;
mod money;
mod tools;
mod work;

pub use decision::{Decision, Verdict};
pub use dedupe::DedupeKey;
pub use money::{
    Account, CallState, ChargeFailed, Grant, GrantKind, Hold, HoldOwner, HoldState, Leg, Op, OpKind, Overrun, Slice,
    UsageCall, Wallet,
};
pub use tools::{ToolCallState, ToolRun};
pub use work::{Attempt, Event, Mission, Run, Task};
