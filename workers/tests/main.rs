//! The workers against real HTTP servers and a recording context. One binary, one module for each subject.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod agent;
mod exec;
mod fallback;
mod http;
mod openai_faults;
mod openai_streams;
mod registry;
mod simulated;
mod structured;
mod support;
mod tools;
