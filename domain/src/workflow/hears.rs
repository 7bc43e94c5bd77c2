//! Which messages of its mission a node's templates read.

use super::scan::Mention;
use super::{Definition, Node};

/// What a node's templates read of the conversation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hears {
    /// `message`: what the user said last before the run began.
    pub message: bool,
    /// `messages`: all that was said until the task began.
    pub messages: bool,
}

impl Hears {
    pub(super) fn of(mentions: &[(Mention<'_>, String)]) -> Self {
        let reads = |root: &str| mentions.iter().any(|(mention, _)| mention.root == root);
        Self { message: reads("message"), messages: reads("messages") }
    }
}

impl Node {
    /// Whether what users said until the task began is told to it from the start. Otherwise it is told what was said since
    /// the run began, when it makes a call.
    pub fn knows_messages(&self) -> bool {
        self.hears.messages
    }
}

impl Definition {
    /// Whether another run over the same input may differ because of what was said.
    pub fn is_conversational(&self) -> bool {
        self.nodes.iter().any(|node| node.hears.message || node.knows_messages())
    }
}
