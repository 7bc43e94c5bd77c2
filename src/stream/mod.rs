//! Streams: what leaves the engine after a commit, on its way to whoever watches.
//!
//! Frames are hints, like everything outside the store: a watcher that misses one reads the event log. `hub` fans
//! out inside a process, `relay` carries frames between processes through one Redis subscription each.

mod frame;
mod hub;
mod relay;

pub use frame::{Frame, FrameBody};
pub use hub::{Hub, Snapshot, Watch};
pub use relay::Relay;
