//! Events: the log of a mission as JSON, and followed live as server-sent events.
//!
//! `envelope` is how an event looks everywhere, `catalog` which events there are, `follow` the stream itself.

pub mod catalog;
mod envelope;
pub(super) mod events;
mod follow;
pub(super) mod sse;
pub(super) mod token;
