//! Bursar: a durable job queue for AI-agent workflows that bills every token exactly.
//!
//! `http` takes missions in, `engine` moves them, `queue` and `store` carry them, `stream` tells about them;
//! `domain` decides and `workers` do. ARCHITECTURE.md tells the story.

pub mod boot;
pub mod calendar;
pub mod cli;
pub mod clock;
pub mod config;
pub mod cron;
pub mod dashboard;
pub mod digest;
pub mod engine;
pub mod http;
pub mod import;
pub mod link;
pub mod queue;
pub mod rates;
pub mod reconcile;
pub mod store;
pub mod stream;
pub mod verify;
