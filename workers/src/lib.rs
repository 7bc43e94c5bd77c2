//! What Bursar's jobs do.
//!
//! The engine hands a [`Job`] (a node's action, its template context, a timeout) and a [`Context`] (what the
//! step may ask of the engine) to [`run`]; `run` finds the node kind in its one list and performs it under
//! the attempt's timeout and its cancellation signal. An agent step renders its messages, counts them
//! ([`tokens`]), asks the context to reserve the call, and only with a permit in hand sends it to a provider
//! ([`providers`]): an OpenAI-compatible endpoint or the built-in simulated model. The answer streams to
//! watchers while it arrives; at the end stands an [`Outcome`](bursar_domain::outcome::Outcome) that carries
//! the result and every call with its usage, reported or counted, also when the step failed.
//!
//! This package knows the domain and the outside world. It never touches storage, queues, leases or prices,
//! reads no environment and no clock but a monotonic one, and never retries: another attempt is the engine's
//! decision.

mod agent;
mod cache;
pub mod context;
pub mod exec;
pub mod http;
pub mod job;
mod limits;
pub mod mcp;
mod outbound;
pub mod providers;
mod run;
mod stop;
pub mod tokens;
pub mod tools;
mod transform;

pub use context::{CallEnd, Context};
pub use job::{Job, Reuse};
pub use providers::Providers;
pub use run::run;
