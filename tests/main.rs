//! The one integration binary: what holds for the system as a whole, and for the tree it is built from.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod dashboard;
mod engine;
mod faults;
mod http;
mod money;
mod queue;
mod rates;
mod reconcile;
mod store;
mod support;
mod tidy;
mod verify;
mod wallet;
