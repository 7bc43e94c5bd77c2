//! What is true in Bursar, as pure values and functions.
//!
//! State machines, graph logic, pricing and ledger arithmetic: `(state, event, now) -> Result<change, refusal>`.
//! Nothing in here waits, reads a clock, draws a random number or touches I/O; time, ids and chance are arguments.

pub mod agent;
pub mod credits;
pub mod estimate;
pub mod fingerprint;
pub mod flow;
pub mod id;
pub mod ledger;
pub mod limits;
pub mod merge_patch;
pub mod outcome;
pub mod pricing;
pub mod record;
pub mod retry;
pub mod state;
pub mod time;
pub mod usage;
pub mod waiting;
pub mod workflow;
pub mod working_set;
