//! What is true in Bursar, as pure values and functions.
//!
//! State machines, graph logic, pricing and ledger arithmetic: `(state, event, now) -> Result<change, refusal>`.
//! Nothing in here waits, reads a clock, draws a random number or touches I/O; time, ids and chance are arguments.

pub mod credits;
pub mod id;
pub mod outcome;
pub mod time;
pub mod usage;
pub mod workflow;
