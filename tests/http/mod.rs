//! The public API, spoken to over TCP: a whole server in this process, on an embedded store.

mod approvals;
mod budgets;
mod bulk_actions;
mod corrections;
mod dead_letters;
mod estimates;
mod isolation;
mod keys;
mod links;
mod listener;
mod messages;
mod missions;
mod ops;
mod prices;
mod projects;
mod refusals;
mod retention;
mod schedules;
pub(crate) mod server;
mod signals;
mod statements;
mod stream;
mod submit;
mod usage;
mod waiting;
mod wallet;
mod workflows;
