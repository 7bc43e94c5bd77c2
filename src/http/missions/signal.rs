//! A signal for a mission comes in.

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::{HeaderMap, Response, StatusCode};
use bursar_domain::flow::SignalRefusal;
use bursar_domain::id::{MissionId, MissionKind};
use bursar_domain::limits::MAX_SIGNAL_BYTES;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::conditional::{self, idempotency_key, replayed};
use super::super::json::{is_json, media_type, read, read_body};
use super::super::params::{Query, parse_id};
use super::super::problem::{Code, Problem};
use super::super::state::Site;
use super::super::types::{ShownMission, ShownSignal, ShownTask, Time};
use super::one::find;
use super::submit::key_reused;
use crate::digest::sha256_hex;
use crate::engine::{SignalError, SignalWish};

/// A signal that came in.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Signal {
    /// Its id.
    id: ShownSignal,
    /// Its mission.
    mission_id: ShownMission,
    /// What it is called.
    name: String,
    /// The task that took it; null while it waits for one.
    task_id: Option<ShownTask>,
    /// When it came.
    received_at: Time,
    /// When the task took it.
    delivered_at: Option<Time>,
}

/// A payload: any JSON value; none at all, and null, is an empty object.
#[derive(Debug)]
pub(in crate::http) struct Payload(Value);

impl<S: Send + Sync> FromRequest<S> for Payload {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let is_json = is_json(media_type(request.headers()));
        let bytes: Bytes = read_body(request).await?;
        if bytes.is_empty() {
            return Ok(Self(json!({})));
        }
        if !is_json {
            return Err(Problem::new(Code::UnsupportedMediaType, "the body must be Content-Type: application/json"));
        }
        let value = read(&bytes)?;
        Ok(Self(if value.is_null() { json!({}) } else { value }))
    }
}

/// Send a signal to a mission
///
/// The body, any JSON value, becomes the output of the node that waits for a signal of this name, of several the one that
/// has waited longest. A signal that nobody waits for yet is kept until somebody does. With an `Idempotency-Key`, kept
/// for ever, a repeated request is answered with the signal of the first one, as it is now.
#[utoipa::path(
    post, path = "/v1/missions/{id}/signals/{name}", operation_id = "missions.signal", tag = "missions",
    params(
        ("id" = ShownMission, Path, description = "The mission"),
        ("name" = String, Path, description = "The signal's name, as the workflow has it"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters", max_length = 255),
    ),
    request_body(content = Option<Value>, content_type = "application/json", description = "The payload, at most 32 KiB"),
    responses((status = 202, description = "The signal", body = Signal, headers(("Idempotent-Replayed" = Option<String>)))),
)]
pub(in crate::http) async fn post(
    State(site): State<Site>,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
    query: Query,
    headers: HeaderMap,
    Payload(payload): Payload,
) -> Result<Response<Body>, Problem> {
    let Path((id, name)) = path.map_err(|_| Problem::not_found("address"))?;
    let mission_id: MissionId = parse_id::<MissionKind>(&id)?;
    query.done()?;
    let key = idempotency_key(&headers)?;
    find(&site, &caller, mission_id).await?;
    let text = payload.to_string();
    if text.len() > MAX_SIGNAL_BYTES {
        let words = format!("a signal has at most {MAX_SIGNAL_BYTES} bytes as JSON");
        return Err(Problem::invalid("", "too_long", &words));
    }
    let mut sorted = payload.clone();
    sorted.sort_all_objects();
    let request_hash = sha256_hex(&format!("{name} {sorted}"));
    let wish = SignalWish { mission_id, name, key, request_hash, payload };
    let received = site.engine().receive_signal(&wish).await.map_err(refused)?;
    let signal = received.signal;
    let shown = Signal {
        id: signal.id.into(),
        mission_id: mission_id.into(),
        name: signal.name,
        task_id: signal.task_id.map(Into::into),
        received_at: signal.received_at.into(),
        delivered_at: signal.delivered_at.map(Time),
    };
    let response = conditional::json(StatusCode::ACCEPTED, &shown);
    Ok(if received.repeated { replayed(response) } else { response })
}

fn refused(error: SignalError) -> Problem {
    match error {
        SignalError::Unknown(_) => {
            Problem::new(Code::NotFound, "no node of the mission's workflow waits for a signal of this name")
        }
        SignalError::Refused(SignalRefusal::KeyReused) => key_reused(),
        SignalError::Refused(refusal @ SignalRefusal::TooMany) => {
            Problem::new(Code::TooManySignals, refusal.to_string())
        }
        SignalError::Refused(refusal) => Problem::new(Code::IllegalState, refusal.to_string()),
        SignalError::Store(error) => error.into(),
    }
}
