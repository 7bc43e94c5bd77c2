//! Which messages of its mission a node hears of, and when.

use super::memory::MemoryKind;
use super::nested::ParentClose;
use super::scan::Mention;
use super::{Action, Definition, Node};

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
    /// The number of the last message that a task's conversation begins with, or need not hear of: later ones are told with
    /// its calls. `task` and `run` are the numbers of the mission's last messages when task and run began.
    pub fn heard_from(&self, task: i64, run: i64) -> i64 {
        let kind = self.memory().map(|memory| memory.kind);
        match kind {
            _ if self.hears.messages => task,
            Some(MemoryKind::Mission) => task,
            // one who remembers what was asked before, and does not ask for it, is told what the run began with
            Some(MemoryKind::Agent) if !self.hears.message => run.saturating_sub(1).max(0),
            _ => run,
        }
    }
}

impl Definition {
    /// Whether another run over the same input may differ because of what was said.
    pub fn is_conversational(&self) -> bool {
        self.has_memory()
            || self.nodes.iter().any(|node| node.hears.message || node.hears.messages)
            || self.within().any(Self::is_conversational)
    }

    /// Whether some agent of its runs can be told something while it works.
    pub fn has_agents(&self) -> bool {
        self.nodes.iter().any(|node| matches!(node.action, Action::Agent(_))) || self.within().any(Self::has_agents)
    }

    /// The workflows inside of it that belong to the same mission.
    fn within(&self) -> impl Iterator<Item = &Self> {
        // one that is a mission of its own hears what is said to that
        let nested = self.nodes.iter().filter_map(Node::nested).filter(|it| it.parent_close == ParentClose::Cancel);
        nested.filter_map(|nested| nested.of.as_ref()).map(|(_, inner)| &**inner)
    }
}
