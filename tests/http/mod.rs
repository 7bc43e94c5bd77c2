//! The public API, spoken to over TCP: a whole server in this process, on an embedded store.

mod budgets;
mod corrections;
mod isolation;
mod keys;
mod listener;
mod missions;
mod ops;
mod refusals;
mod server;
mod stream;
mod submit;
mod waiting;
mod wallet;
mod workflows;
