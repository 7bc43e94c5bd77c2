//! The conformance suite of the stores: one set of test functions, each run on both engines.
//!
//! It asks the `Store` trait and the portable reads, never an engine's own ways; what only Postgres can do wrong
//! (broken connections, retries) is in `postgres`.

mod checks;
mod claims;
mod estimates;
mod ledger;
mod links;
mod lists;
mod lookouts;
mod postgres;
mod prices;
mod random;
mod schema;
mod statements;
mod transact;
mod turns;
mod usage;
mod values;
