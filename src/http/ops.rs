//! For whoever runs the service: whether it lives, is ready, has started; its version, limits and description.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode, header};
use bursar_domain::limits as domain_limits;
use serde::Serialize;
use utoipa::ToSchema;

use super::conditional::{json, with_header};
use super::limits;
use super::problem::{Code, Problem};
use super::request::Drain;
use super::state::Site;
use super::types::Time;

/// How long a part may take to answer before it counts as away.
const PATIENCE: Duration = Duration::from_secs(2);

/// How a process is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok` or `degraded`.
    status: &'static str,
    /// Why, where it is not `ok`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

const OK: Health = Health { status: "ok", reason: None };

fn answer(health: &Health) -> Response<Body> {
    with_header(json(StatusCode::OK, health), header::CACHE_CONTROL, "no-store")
}

/// Is the process alive?
#[utoipa::path(
    get, path = "/livez", operation_id = "ops.livez", tag = "ops",
    responses((status = 200, description = "It answers", body = Health)), security(()),
)]
pub(super) async fn livez() -> Response<Body> {
    answer(&OK)
}

/// Is the process ready for requests?
///
/// Without the queue it is: the store serves, a little slower. Without the store, or while it stops, it is not.
#[utoipa::path(
    get, path = "/readyz", operation_id = "ops.readyz", tag = "ops",
    responses((status = 200, description = "Send requests", body = Health)), security(()),
)]
pub(super) async fn readyz(State(site): State<Site>, drain: Drain) -> Result<Response<Body>, Problem> {
    if drain.0.is_cancelled() {
        return Err(Problem::new(Code::Overloaded, "the server is stopping"));
    }
    let late = |_| Problem::new(Code::StoreUnavailable, "the database does not answer in time");
    tokio::time::timeout(PATIENCE, site.store().time()).await.map_err(late)??;
    let queue = tokio::time::timeout(PATIENCE, site.engine().queue().ping()).await;
    if matches!(queue, Ok(Ok(()))) && site.engine().queue_takes() {
        return Ok(answer(&OK));
    }
    Ok(answer(&Health { status: "degraded", reason: Some("the queue is away; the store serves") }))
}

/// Has the process started?
#[utoipa::path(
    get, path = "/startupz", operation_id = "ops.startupz", tag = "ops",
    responses((status = 200, description = "The database has the schema that this program needs", body = Health)), security(()),
)]
pub(super) async fn startupz(State(site): State<Site>) -> Result<Response<Body>, Problem> {
    let late = |_| Problem::new(Code::StoreUnavailable, "the database does not answer in time");
    let checked = tokio::time::timeout(PATIENCE, site.store().check_schema()).await.map_err(late)?;
    checked.map_err(|error| Problem::new(Code::StoreUnavailable, schema_words(&error)))?;
    Ok(answer(&OK))
}

fn schema_words(error: &crate::store::StoreError) -> String {
    match error {
        crate::store::StoreError::Schema(words) => words.clone(),
        _ => "the database does not answer".to_owned(),
    }
}

/// What the program is and how much it takes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Meta {
    /// The program's version.
    version: &'static str,
    /// The versions of the API.
    api: [&'static str; 1],
    /// The server's time.
    now: Time,
    /// Hard limits.
    limits: Limits,
}

/// Hard limits.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Limits {
    /// Bytes of a request's body.
    body_bytes: u64,
    /// Levels of a JSON body.
    json_depth: u64,
    /// Bytes of a mission's metadata.
    metadata_bytes: u64,
    /// Rows of a page.
    page_rows: i64,
    /// The longest `wait`.
    wait_s: u64,
    /// How long a stream token opens its stream.
    stream_token_ms: i64,
    /// Bytes of a workflow's definition.
    definition_bytes: u64,
    /// Nodes of a workflow.
    nodes: u64,
    /// Output tokens of one call.
    output_tokens: i64,
    /// Attempts at one node.
    attempts: i64,
    /// How long one attempt may take.
    timeout_ms: i64,
    /// How long a mission may take.
    deadline_ms: i64,
}

/// Read version and limits
#[utoipa::path(
    get, path = "/v1/meta", operation_id = "ops.meta", tag = "ops",
    responses((status = 200, description = "What the program is", body = Meta)), security(()),
)]
pub(super) async fn meta(State(site): State<Site>) -> Response<Body> {
    let meta = Meta {
        version: env!("CARGO_PKG_VERSION"),
        api: ["v1"],
        now: site.engine().clock().now().into(),
        limits: Limits {
            body_bytes: limits::MAX_BODY_BYTES as u64,
            json_depth: limits::MAX_JSON_DEPTH as u64,
            metadata_bytes: limits::MAX_METADATA_BYTES as u64,
            page_rows: limits::MAX_PAGE,
            wait_s: limits::MAX_WAIT_S,
            stream_token_ms: limits::STREAM_TOKEN_MS,
            definition_bytes: domain_limits::MAX_DEFINITION_BYTES as u64,
            nodes: domain_limits::MAX_NODES as u64,
            output_tokens: domain_limits::MAX_OUTPUT_TOKENS,
            attempts: domain_limits::MAX_ATTEMPTS,
            timeout_ms: domain_limits::MAX_TIMEOUT_MS,
            deadline_ms: domain_limits::MAX_DEADLINE_MS,
        },
    };
    json(StatusCode::OK, &meta)
}
