//! Messages to a mission: what a user says steers the run that is under way, or begins the next one. And the reply of a
//! run that succeeded, so that a mission reads as a conversation.
//!
//! A message is heard at certain points only: a task is told what had been said when it first became ready, and an agent
//! step hears of later messages with its next call. Which ones a call heard of is journaled with it, so that another attempt
//! over the same journal hears the same.

use serde_json::{Value, json};

use crate::id::{MessageId, MissionId, PriceBookId, RunId};
use crate::limits::MAX_MESSAGES;
use crate::record::{Message, MessageEffect, MessageRole, Run, Task};
use crate::workflow::Action;

use super::fork::{ForkRequest, RunFrom, begin_run};
use super::rehearsal::{check_room, rehearse};
use super::{Refusal, Turn, node_of};

/// What a user says.
#[derive(Clone, PartialEq)]
pub struct NewMessage {
    /// Its id.
    pub id: MessageId,
    /// To which mission.
    pub mission_id: MissionId,
    /// The run that the caller looked at.
    pub of_run: RunId,
    /// The id of the next run, should it begin one.
    pub next_run_id: RunId,
    /// The prices that a next run pins.
    pub price_book_id: PriceBookId,
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
    /// The input of the latest run, where that is not what the mission was submitted with.
    pub input: Option<Value>,
}

impl std::fmt::Debug for NewMessage {
    /// Names the message; what it says stays out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}", self.id, self.mission_id)
    }
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// The message as it is kept.
    pub message: Message,
    /// Whether it had come before under the same key; nothing was changed.
    pub repeated: bool,
}

/// Why a message is refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageRefusal {
    /// The key was used with another message.
    #[error("the key was used before with another message")]
    KeyReused,
    /// The run is being ended.
    #[error("the mission is {0}: it takes messages again when that is over")]
    Ending(&'static str),
    /// Nothing in the workflow would hear it.
    #[error("no agent of this workflow would hear a message")]
    NobodyListens,
    /// The mission is over and another run would do the same again.
    #[error(
        "the mission is over, and its workflow reads no messages: another run would do the same again. Let a template \
         read `message` or `messages`, or give an agent a `memory`"
    )]
    ChangesNothing,
    /// There are too many messages.
    #[error("a mission has at most {MAX_MESSAGES} messages")]
    TooMany,
    /// The mission has another run by now: look again.
    #[error("the mission began another run")]
    RunChanged,
    /// Something else, the credits for another run for example.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// A user says something. Where the latest run is open the message steers it; where it is over, the next run of the same
/// workflow version begins in this very decision. That needs the mission's input and signals to be loaded.
pub fn say(turn: &mut Turn<'_>, new: &NewMessage) -> Result<Said, MessageRefusal> {
    let known = |row: &&Message| row.mission_id == new.mission_id && new.key.is_some() && row.key == new.key;
    if let Some(row) = turn.set.messages.iter().find(known) {
        let is_same = row.request_hash.as_ref() == Some(&new.request_hash);
        let repeated = Said { message: row.clone(), repeated: true };
        return if is_same { Ok(repeated) } else { Err(MessageRefusal::KeyReused) };
    }
    let mission = turn.mission(new.mission_id)?.clone();
    let run = turn.run(mission.run_id)?.clone();
    if run.id != new.of_run {
        return Err(MessageRefusal::RunChanged);
    }
    if mission.last_message >= MAX_MESSAGES {
        return Err(MessageRefusal::TooMany);
    }
    let definition = turn.definition(run.workflow_id)?;
    if run.state.is_open() {
        if !(definition.has_agents() || definition.is_conversational()) {
            return Err(MessageRefusal::NobodyListens);
        }
        let message = add(turn, user_message(turn, new, (&run, run.id), MessageEffect::Steers))?;
        return Ok(Said { message, repeated: false });
    }
    if !run.state.is_final() {
        return Err(MessageRefusal::Ending(run.state.as_str()));
    }
    if !definition.is_conversational() {
        return Err(MessageRefusal::ChangesNothing);
    }
    let request = ForkRequest {
        mission_id: new.mission_id,
        of_run: run.id,
        run_id: new.next_run_id,
        from: RunFrom::Message(new.id),
        workflow_id: run.workflow_id,
        price_book_id: new.price_book_id,
        input: new.input.clone(),
    };
    let plan = rehearse(turn, new.mission_id, |trial| begin_run(trial, &request, None))?;
    check_room(turn, new.mission_id, plan.hold_needed)?;
    // the run that begins has heard of it
    let message = add(turn, user_message(turn, new, (&run, new.next_run_id), MessageEffect::BeginsRun))?;
    begin_run(turn, &request, None)?;
    Ok(Said { message, repeated: false })
}

fn user_message(turn: &Turn<'_>, new: &NewMessage, (run, run_id): (&Run, RunId), effect: MessageEffect) -> Message {
    Message {
        id: new.id,
        tenant_id: run.tenant_id,
        mission_id: new.mission_id,
        run_id,
        number: 0,
        role: MessageRole::User,
        author: new.author.clone(),
        task_id: None,
        content: Some(new.content.clone()),
        prompt: None,
        metadata: new.metadata.clone(),
        key: new.key.clone(),
        request_hash: Some(new.request_hash.clone()),
        effect: Some(effect),
        created_at: turn.now,
    }
}

/// Adds a message as the mission's next one.
pub(super) fn add(turn: &mut Turn<'_>, message: Message) -> Result<Message, Refusal> {
    let Some(mission) = turn.set.missions.change(message.mission_id) else {
        return Err(Refusal::NotFound(format!("mission {}", message.mission_id)));
    };
    mission.last_message = mission.last_message.saturating_add(1);
    let message = Message { number: mission.last_message, ..message };
    if message.role == MessageRole::User {
        mission.last_said = message.number;
    }
    turn.set.messages.add(message.id, message.clone());
    let data = json!({
        "message_id": message.id,
        "number": message.number,
        "role": message.role,
        "author": message.author,
        "effect": message.effect,
        "run_id": message.run_id,
    });
    turn.emit(message.mission_id, "message.created", message.task_id, data);
    Ok(message)
}

/// What an agent said is kept where somebody may remember it; with what it was asked, where it is the agent itself.
pub(super) fn remember(turn: &mut Turn<'_>, task: &Task, prompt: Option<&str>) -> Result<(), Refusal> {
    let definition = turn.definition(task.workflow_id)?;
    let Action::Agent(step) = &node_of(&definition, task)?.action else { return Ok(()) };
    if !definition.keeps_answers_of(&step.agent) {
        return Ok(());
    }
    let prompt = prompt.filter(|_| definition.keeps_prompts_of(&step.agent)).map(str::to_owned);
    let run = turn.run(task.run_id)?.clone();
    let message = Message { author: step.agent.clone(), task_id: Some(task.id), prompt, ..answer(turn, &run) };
    add(turn, message).map(drop)
}

/// A run that succeeded answers, where the mission is a conversation. What it says are the run's outputs, which are not
/// stored twice.
pub(super) fn reply(turn: &mut Turn<'_>, run: &Run) -> Result<(), Refusal> {
    let definition = turn.definition(run.workflow_id)?;
    let is_conversation = turn.mission(run.mission_id)?.last_message > 0 || definition.is_conversational();
    if !is_conversation {
        return Ok(());
    }
    let message = Message { author: definition.name.clone(), ..answer(turn, run) };
    add(turn, message).map(drop)
}

/// Something that a run, or an agent of it, says. The text is kept where it came from.
fn answer(turn: &mut Turn<'_>, run: &Run) -> Message {
    Message {
        id: turn.id(),
        tenant_id: run.tenant_id,
        mission_id: run.mission_id,
        run_id: run.id,
        number: 0,
        role: MessageRole::Assistant,
        author: String::new(),
        task_id: None,
        content: None,
        prompt: None,
        metadata: None,
        key: None,
        request_hash: None,
        effect: None,
        created_at: turn.now,
    }
}
