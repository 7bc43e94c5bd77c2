//! What an agent remembers when it begins: its own earlier exchanges, or all that was said in the mission.
//!
//! What there is to remember is kept only where somebody may: the definition knows whose exchanges those are.

use std::collections::BTreeSet;

use super::reader::Fields;
use super::{Action, Definition, Layer, Node};
use crate::limits::MAX_MEMORY_TOKENS;

/// Tokens of memory unless the definition says otherwise: some pages.
const DEFAULT_TOKENS: u64 = 4_000;

/// The words for what is remembered.
pub(super) const KINDS: [(&str, Option<MemoryKind>); 3] =
    [("none", None), ("agent", Some(MemoryKind::Agent)), ("mission", Some(MemoryKind::Mission))];

/// What is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryKind {
    /// What the agent was asked and answered before, in all runs of the mission.
    Agent,
    /// All messages of the mission, and what all of its agents said.
    Mission,
}

/// What an agent remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Of what.
    pub kind: MemoryKind,
    /// The most that it may be, in tokens of the model; the oldest is left out first.
    pub tokens: u64,
}

/// Reads `memory`: a word, or `{ kind, tokens }`. `Some(None)` says that nothing is remembered.
#[expect(clippy::option_option, reason = "`none` on a node takes an agent's memory away; nothing said leaves it")]
pub(super) fn read(fields: &mut Fields<'_, '_>) -> Option<Option<Memory>> {
    let with = |kind: Option<MemoryKind>, tokens: u64| kind.map(|kind| Memory { kind, tokens });
    if fields.value("memory")?.is_string() {
        return fields.choice("memory", &KINDS).map(|kind| with(kind, DEFAULT_TOKENS));
    }
    let mut section = fields.section("memory")?;
    if !section.has_any(&["kind"]) {
        section.missing("kind", "it says what is remembered: none, agent or mission");
    }
    let kind = section.choice("kind", &KINDS);
    let tokens = section.whole("tokens", 1..=MAX_MEMORY_TOKENS).map(i64::unsigned_abs);
    section.close(&[]);
    kind.map(|kind| with(kind, tokens.unwrap_or(DEFAULT_TOKENS)))
}

/// Whose exchanges are kept to be remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// Agents that remember themselves somewhere.
    agents: BTreeSet<String>,
    /// Whether somebody remembers all that was said.
    everything: bool,
}

impl Kept {
    pub(super) fn of(nodes: &[Node]) -> Self {
        let mut kept = Self::default();
        let judges = nodes.iter().flat_map(|node| node.layers.iter().flat_map(Layer::others));
        for node in nodes.iter().chain(judges) {
            let Action::Agent(step) = &node.action else { continue };
            match step.memory.map(|memory| memory.kind) {
                Some(MemoryKind::Agent) => drop(kept.agents.insert(step.agent.clone())),
                Some(MemoryKind::Mission) => kept.everything = true,
                None => {}
            }
        }
        kept
    }
}

impl Node {
    /// What it remembers when it begins.
    pub fn memory(&self) -> Option<Memory> {
        match &self.action {
            Action::Agent(step) => step.memory,
            _ => None,
        }
    }
}

impl Definition {
    /// Whether what the agent says is kept to be remembered.
    pub fn keeps_answers_of(&self, agent: &str) -> bool {
        self.kept.everything || self.keeps_prompts_of(agent)
    }

    /// Whether what the agent is asked is kept as well.
    pub fn keeps_prompts_of(&self, agent: &str) -> bool {
        self.kept.agents.contains(agent)
    }

    /// Whether anything is remembered.
    pub(super) fn has_memory(&self) -> bool {
        self.kept != Kept::default()
    }
}
