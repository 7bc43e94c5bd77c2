//! The workers against real HTTP servers and a recording context. One binary, one module for each subject.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod agent;
mod cache;
mod exec;
mod fallback;
mod http;
mod mcp;
#[path = "../../tests/support/mcp/mod.rs"]
mod mcp_server;
mod openai_faults;
mod openai_streams;
mod registry;
mod simulated;
mod structured;
mod support;
mod tools;
