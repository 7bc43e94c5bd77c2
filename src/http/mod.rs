//! HTTP: the public API. Reads from the store, writes through the engine, no business rules of its own.

mod state;

pub use state::{App, HttpSettings};
