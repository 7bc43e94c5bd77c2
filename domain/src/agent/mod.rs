//! The agent step, decided: which call comes next, what an answer means, when the step is over.
//!
//! [`Machine`] holds a step's conversation and says what to do ([`Next`]): ask the model, run tools, or stop. Whoever
//! performs it (a worker) does exactly that and tells the machine what came back. The machine never waits and never
//! guesses: the same answers in the same order always lead to the same output, which is why an attempt that begins
//! again over journaled answers stands where the one before it stood, having bought nothing twice. It serialises
//! whole, so that it can be set aside between any two calls.
//!
//! It knows no provider, no price and no clock; what a call costs is the business of [`crate::flow`].

mod answer;
mod machine;
mod message;
mod output;

#[cfg(test)]
mod tests;

pub use answer::Answer;
pub use machine::{Machine, Next, ToolResult, ToolWish};
pub use message::{Message, ToolCall};
