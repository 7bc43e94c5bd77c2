//! A mission's conversation: what users say to it, and what its runs and agents answer.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use bursar_domain::flow::MessageRefusal;
use bursar_domain::id::MissionKind;
use bursar_domain::limits::MAX_MESSAGE_BYTES;
use bursar_domain::record::{MessageEffect, MessageRole};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::conditional::{self, idempotency_key, replayed};
use super::super::json::Json;
use super::super::limits::MAX_METADATA_BYTES;
use super::super::page::Page;
use super::super::params::{PathId, Query};
use super::super::problem::{Code, Problem};
use super::super::state::Site;
use super::super::types::{ShownMessage, ShownMission, ShownRun, ShownTask, Time};
use super::one::find;
use super::submit::{key_reused, refused_by_rule};
use crate::digest::sha256_hex;
use crate::engine::{MessageError, MessageWish, Spoken};
use crate::store::read::MessageFilter;

/// What a user says.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct SayMessage {
    /// The text, at most 32 KiB; not empty.
    #[schema(min_length = 1)]
    content: String,
    /// The client's own data, at most 16 KiB.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Role {
    /// A person, or a program on somebody's behalf.
    User,
    /// A run, or an agent of it.
    Assistant,
    /// The operator.
    System,
}

/// What a user's message did.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Effect {
    /// It is told to the agents of the run that was under way.
    Steers,
    /// It began the mission's next run.
    BeginsRun,
}

/// A message of a mission.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Message {
    /// Its id.
    id: ShownMessage,
    /// Its mission.
    mission_id: ShownMission,
    /// The run that it steers or begins, or that answered.
    run_id: ShownRun,
    /// 1, 2, 3… in the mission.
    number: i64,
    /// Who speaks.
    role: Role,
    /// Who said it: the id of an API key, the name of an agent, or the workflow's.
    author: String,
    /// The task of the agent that said it; null for users and for the reply of a run.
    task_id: Option<ShownTask>,
    /// The text; null where it was pruned.
    content: Option<String>,
    /// The client's own data.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
    /// What a user's message did when it came; null for answers.
    effect: Option<Effect>,
    /// When it came.
    created_at: Time,
}

impl From<Spoken> for Message {
    fn from(Spoken { message, text }: Spoken) -> Self {
        Self {
            id: message.id.into(),
            mission_id: message.mission_id.into(),
            run_id: message.run_id.into(),
            number: message.number,
            role: Role::from(message.role),
            author: message.author,
            task_id: message.task_id.map(Into::into),
            content: text,
            metadata: message.metadata,
            effect: message.effect.map(Effect::from),
            created_at: message.created_at.into(),
        }
    }
}

impl From<MessageRole> for Role {
    fn from(role: MessageRole) -> Self {
        match role {
            MessageRole::User => Self::User,
            MessageRole::Assistant => Self::Assistant,
            MessageRole::System => Self::System,
        }
    }
}

impl From<MessageEffect> for Effect {
    fn from(effect: MessageEffect) -> Self {
        match effect {
            MessageEffect::Steers => Self::Steers,
            MessageEffect::BeginsRun => Self::BeginsRun,
        }
    }
}

/// Say something to a mission
///
/// While the mission runs or is paused, the message **steers** it: agents hear of it with the next call that they make,
/// also those that begin later. When it is over, the message **begins the next run** of the same workflow version over the
/// same input, in which templates read it as `message`, and the whole conversation as `messages`: that costs what a run
/// costs, and is refused with 402 where the credits do not suffice. 409 `messages-unread` where nothing in the workflow
/// would hear it. With an `Idempotency-Key`, kept for ever, a repeated request is answered with the message of the first
/// one.
#[utoipa::path(
    post, path = "/v1/missions/{id}/messages", operation_id = "missions.say", tag = "missions",
    params(
        ("id" = ShownMission, Path, description = "The mission"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters", max_length = 255),
    ),
    request_body(content = SayMessage, content_type = "application/json"),
    responses(
        (status = 202, description = "The message, with what it did", body = Message, headers(("Idempotent-Replayed" = Option<String>))),
        (status = 402, description = "The credits do not suffice; nothing was changed", body = crate::http::problem::ProblemBody,
            content_type = "application/problem+json"),
    ),
)]
pub(in crate::http) async fn post(
    State(site): State<Site>,
    caller: Caller,
    PathId(mission_id): PathId<MissionKind>,
    query: Query,
    headers: HeaderMap,
    Json { body, mut value }: Json<SayMessage>,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let key = idempotency_key(&headers)?;
    find(&site, &caller, mission_id).await?;
    if body.content.trim().is_empty() {
        return Err(Problem::invalid("/content", "empty", "must say something"));
    }
    if body.content.len() > MAX_MESSAGE_BYTES {
        let words = format!("must have at most {MAX_MESSAGE_BYTES} bytes");
        return Err(Problem::invalid("/content", "too_long", &words));
    }
    let metadata = body.metadata.map(Value::Object);
    if metadata.as_ref().is_some_and(|metadata| metadata.to_string().len() > MAX_METADATA_BYTES) {
        let words = format!("must have at most {MAX_METADATA_BYTES} bytes as JSON");
        return Err(Problem::invalid("/metadata", "too_long", &words));
    }
    value.sort_all_objects();
    let wish = MessageWish {
        mission_id,
        author: caller.key_id.to_string(),
        content: body.content,
        metadata,
        key,
        request_hash: sha256_hex(&format!("say {value}")),
    };
    let said = site.engine().say(&wish).await.map_err(|error| refused(&site, error))?;
    let message = said.message;
    let shown = Message {
        id: message.id.into(),
        mission_id: mission_id.into(),
        run_id: message.run_id.into(),
        number: message.number,
        role: message.role.into(),
        author: message.author,
        task_id: None,
        content: message.content,
        metadata: message.metadata,
        effect: message.effect.map(Into::into),
        created_at: message.created_at.into(),
    };
    let response = conditional::json(StatusCode::ACCEPTED, &shown);
    Ok(if said.repeated { replayed(response) } else { response })
}

/// List a mission's messages
///
/// The conversation over all runs of the mission, in its order: what users said, what agents said whose workflow keeps it,
/// and one reply of each run that succeeded. A reply is the workflow's output called `reply`, else its only output, else
/// all of them as JSON.
#[utoipa::path(
    get, path = "/v1/missions/{id}/messages", operation_id = "missions.messages", tag = "missions",
    params(
        ("id" = ShownMission, Path, description = "The mission"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the previous page"),
        ("limit" = Option<u32>, Query, description = "Rows per page, 20 by default", minimum = 1, maximum = 100),
    ),
    responses((status = 200, description = "A page of messages", body = Page<Message>)),
)]
pub(in crate::http) async fn get(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<MissionKind>,
    mut query: Query,
) -> Result<Response<Body>, Problem> {
    let list = format!("{}/missions/{id}/messages", caller.tenant_id);
    let after = query.cursor(&list)?.map(|text| text.parse::<i64>()).transpose();
    let after = after.map_err(|_| Problem::new(Code::BadCursor, "the cursor is not one of this list"))?;
    let limit = query.limit()?;
    query.done()?;
    find(&site, &caller, id).await?;
    let filter = MessageFilter {
        mission: id,
        tenant: Some(caller.tenant_id),
        after: after.unwrap_or(0),
        upto: i64::MAX,
        latest: false,
        limit: limit + 1,
    };
    let rows = site.engine().conversation(&filter).await?;
    let page = Page::cut(rows, limit, &list, |row| row.message.number.to_string(), Message::from);
    Ok(conditional::json(StatusCode::OK, &page))
}

/// Why a message is refused; nothing was changed.
fn refused(site: &Site, error: MessageError) -> Problem {
    match error {
        MessageError::NoMission => Problem::not_found("mission"),
        MessageError::NoPrices => Problem::new(Code::NoPrices, "no price book is active"),
        MessageError::Refused(MessageRefusal::KeyReused) => key_reused(),
        MessageError::Refused(refusal @ (MessageRefusal::NobodyListens | MessageRefusal::ChangesNothing)) => {
            Problem::new(Code::MessagesUnread, refusal.to_string())
        }
        MessageError::Refused(refusal @ MessageRefusal::TooMany) => {
            Problem::new(Code::TooManyMessages, refusal.to_string())
        }
        MessageError::Refused(MessageRefusal::Refused(refusal @ bursar_domain::flow::Refusal::IllegalMove { .. })) => {
            Problem::new(Code::IllegalState, refusal.to_string())
        }
        MessageError::Refused(MessageRefusal::Refused(refusal)) => refused_by_rule(site, refusal),
        MessageError::Refused(refusal) => Problem::new(Code::IllegalState, refusal.to_string()),
        MessageError::Store(error) => error.into(),
    }
}
