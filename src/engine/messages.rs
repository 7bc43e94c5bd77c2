//! A user says something to a mission. No worker is needed: the message and what it begins are one transaction.

use bursar_domain::flow::{self, MessageRefusal, NewMessage, Said};
use bursar_domain::id::MissionId;
use serde_json::Value;

use super::Engine;
use crate::clock::new_id;
use crate::store::{StoreError, Want};

/// How often a message is tried again because the mission began another run meanwhile.
const MAX_TRIES: u32 = 3;

/// What somebody wants to say.
#[derive(Clone)]
pub struct MessageWish {
    /// To which mission.
    pub mission_id: MissionId,
    /// Who says it.
    pub author: String,
    /// The text.
    pub content: String,
    /// The sender's own data.
    pub metadata: Option<Value>,
    /// The sender's idempotency key.
    pub key: Option<String>,
    /// SHA-256 of text and data.
    pub request_hash: String,
}

impl std::fmt::Debug for MessageWish {
    /// Names the mission; what is said stays out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "message to {}", self.mission_id)
    }
}

/// Why a message is not taken.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// There is no such mission.
    #[error("there is no such mission")]
    NoMission,
    /// No price book is active.
    #[error("no price book is active")]
    NoPrices,
    /// The workflow would not hear it, the credits do not suffice, …
    #[error(transparent)]
    Refused(#[from] MessageRefusal),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Engine {
    /// Says something to a mission of which the caller knows that it may. With a key, the second one is the first. A crash
    /// after the commit leaves the message, and the next run with its first tasks ready.
    pub async fn say(&self, wish: &MessageWish) -> Result<Said, MessageError> {
        for _ in 0..MAX_TRIES {
            let mission = self.store().mission(None, wish.mission_id).await?.ok_or(MessageError::NoMission)?;
            // what a next run pins is known before the decision asks for it
            let (price_book_id, _) = self.active_prices().await?.ok_or(MessageError::NoPrices)?;
            self.parts.facts.workflow(&self.parts.store, mission.workflow_id).await?;
            self.parts.facts.prices(&self.parts.store, price_book_id).await?;
            let mut want = Want { missions: vec![wish.mission_id], begins: true, ..Want::default() };
            want.inputs.insert((wish.mission_id, 0));
            want.signals.insert(wish.mission_id);
            want.message_keys.extend(wish.key.clone().map(|key| (wish.mission_id, key)));
            let new = NewMessage {
                id: new_id(),
                mission_id: wish.mission_id,
                of_run: mission.run_id,
                next_run_id: new_id(),
                price_book_id,
                author: wish.author.clone(),
                content: wish.content.clone(),
                metadata: wish.metadata.clone(),
                key: wish.key.clone(),
                request_hash: wish.request_hash.clone(),
                // a run whose input is the mission's own needs none of its own
                input: mission.input.filter(|_| mission.run_number > 1),
            };
            match self.decide(&want, &mut |turn| flow::say(turn, &new)).await? {
                Err(MessageRefusal::RunChanged) => {}
                answer => return Ok(answer?),
            }
        }
        Err(StoreError::Contention(MAX_TRIES).into())
    }
}
