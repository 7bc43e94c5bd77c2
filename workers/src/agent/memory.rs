//! What the agent remembers, told between its instructions and its prompt; and what is to be remembered of this step.
//!
//! The window is counted with the tokenizer of the step's first model: the same in every attempt.

use bursar_domain::agent::Message;
use bursar_domain::limits::MAX_KEPT_PROMPT_BYTES;

use super::Performance;
use crate::tokens::Counter;

impl Performance<'_> {
    /// What fits into the window, the oldest left out first.
    pub(super) async fn memory(&self) -> Vec<Message> {
        let Some(window) = self.step.memory else { return Vec::new() };
        let counter = Counter::for_model(&self.step.model, self.context.tokenizer(&self.step.model));
        let (mut told, mut tokens) = (Vec::new(), 0_u64);
        for exchange in self.job.memory.iter().rev() {
            let contents: Vec<&str> = exchange.iter().map(Message::content).collect();
            tokens = tokens.saturating_add(counter.count_messages(&contents).await);
            if tokens > window.tokens {
                break;
            }
            told.push(exchange);
        }
        told.into_iter().rev().flatten().cloned().collect()
    }

    /// Has kept what was asked: the prompt, and what users said while the step worked.
    pub(super) fn keep_prompt(&self, prompt: &str) {
        if !self.job.keeps_prompt {
            return;
        }
        let mut asked = prompt.to_owned();
        for said in &self.told {
            asked.push_str("\n\n");
            asked.push_str(said);
        }
        if asked.len() > MAX_KEPT_PROMPT_BYTES {
            asked.truncate(asked.floor_char_boundary(MAX_KEPT_PROMPT_BYTES));
            asked.push_str("\n[the rest is cut off]");
        }
        self.context.remember(asked);
    }
}
