//! HTTP: the public API. Reads from the store, writes through the engine, no business rules of its own.
//!
//! `router` has all routes on one page; `problem` all errors in one table; `limits` all limits. A request passes
//! `serve` (deadlines), `request` (its id, the log), `auth` (who asks), `params` and `json` (what is asked).

mod admin;
mod alerts;
mod approvals;
mod auth;
mod balance;
mod bulk_actions;
mod conditional;
mod corrections;
mod csv;
mod dead_letters;
mod description;
mod entries;
mod estimates;
mod json;
mod keys;
mod limits;
mod links;
mod metrics;
mod missions;
mod ops;
mod page;
mod pages;
mod params;
mod prices;
mod problem;
mod projects;
mod rates;
mod reconciliation;
mod request;
mod room;
mod router;
mod runs;
mod schedules;
mod serve;
mod state;
mod statements;
mod stream;
mod tenants;
mod transactions;
mod types;
mod unread;
mod usage;
mod waiting;
mod wallet;
mod workflows;

pub use alerts::{Alert, AlertCode, alerts, share_used};
pub use keys::new_secret;
pub use metrics::metrics_router;
pub use problem::{Code, Entry, FieldError, PROBLEM_JSON, Problem, TABLE};
pub use router::{openapi, router};
pub use serve::{Patience, serve, serve_with};
pub use state::{App, HttpSettings};
pub use stream::catalog::StreamEvent;
