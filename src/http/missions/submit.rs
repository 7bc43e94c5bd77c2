//! A mission comes in.

use std::str::FromStr;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode, header};
use bursar_domain::credits::Ucr;
use bursar_domain::flow::{Dedupe, DedupeMode, Refusal, Submission};
use bursar_domain::id::ProjectId;
use bursar_domain::ledger::LedgerRefusal;
use bursar_domain::limits::{MAX_DEDUPE_KEY_BYTES, MAX_DEDUPE_WINDOW_MS, MAX_PRIORITY};
use bursar_domain::workflow::{OnExhausted, parse_duration_ms};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::conditional::{self, idempotency_key, replayed, wait, with_header};
use super::super::json::Json;
use super::super::limits::{MAX_METADATA_BYTES, MAX_TAG_BYTES, MAX_TAGS};
use super::super::params::Query;
use super::super::problem::{Code, Problem};
use super::super::request::Drain;
use super::super::state::Site;
use super::super::types::ShownProject;
use super::body::{Mission, WhenExhausted};
use super::one::{PREFERENCE_APPLIED, complete};
use super::wait::Wait;
use crate::digest::sha256_hex;
use crate::engine::{SubmitError, Submitted, Unfit, Wish};

/// A mission to submit.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct SubmitMission {
    /// The workflow: its name, which stands for the newest version, or `name@3`.
    #[schema(example = "software-company@3")]
    workflow: String,
    /// What the workflow's `inputs` schema describes; an empty object where left out.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    input: Option<Map<String, Value>>,
    /// What it may spend; the workflow's own budget where left out.
    #[serde(default)]
    budget: Option<BudgetWish>,
    /// Higher goes first among the tenant's own tasks.
    #[serde(default)]
    #[schema(minimum = -100, maximum = 100)]
    priority: Option<i64>,
    /// The client's own data, at most 16 KiB.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    /// Words by which usage is reported: at most 16, different ones, of 1 to 64 bytes each.
    #[serde(default)]
    #[schema(max_items = 16)]
    tags: Option<Vec<String>>,
    /// What makes it the same wish as another one.
    #[serde(default)]
    dedupe: Option<DedupeWish>,
    /// The project that it is to belong to.
    #[serde(default)]
    #[schema(value_type = Option<ShownProject>)]
    project_id: Option<String>,
}

/// What makes two missions of a tenant the same wish: the second one is not made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct DedupeWish {
    /// What names the wish: 1 to 255 bytes. It is taken while its mission runs.
    #[schema(example = "invoice-2026-11", min_length = 1)]
    key: String,
    /// For how long after its creation the mission keeps the key even when it is over, e.g. `10m` or `1d`; at most
    /// `366d`, and not at all where left out.
    #[serde(default)]
    #[schema(example = "10m", pattern = "^[0-9]+(ms|s|m|h|d)$")]
    window: Option<String>,
    /// What a second submit gets.
    #[serde(default)]
    mode: Option<WhenDuplicate>,
}

/// What a submit gets whose dedupe key is taken.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum WhenDuplicate {
    /// 409 `duplicate-mission`, which names the mission that has the key. The default.
    Reject,
    /// 200 with the mission that has the key.
    ReturnExisting,
}

/// What a mission may spend.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct BudgetWish {
    /// The most credits, a decimal string.
    #[serde(default)]
    #[schema(example = "25.00", pattern = "^[0-9]+(\\.[0-9]{1,6})?$")]
    max_credits: Option<String>,
    /// What happens when that is used up.
    #[serde(default)]
    on_exhausted: Option<WhenExhausted>,
}

/// Submit a mission
///
/// Holds the flat fee and the credits of the first tasks, or refuses with 402 and creates nothing. With
/// `Prefer: wait=N` (or `?wait=N`) the answer waits until the mission is over, at most N seconds. With an
/// `Idempotency-Key` a repeated request returns the mission of the first one, as it is now.
#[utoipa::path(
    post, path = "/v1/missions", operation_id = "missions.submit", tag = "missions",
    params(
        ("wait" = Option<u32>, Query, description = "Seconds to wait for the end, at most 25", maximum = 25),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: as `?wait=N`"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters", max_length = 255),
    ),
    request_body(content = SubmitMission, content_type = "application/json"),
    responses(
        (status = 202, description = "The mission", body = Mission, headers(
            ("Location" = String), ("ETag" = String), ("Idempotent-Replayed" = Option<String>),
        )),
        (status = 200, description = "The mission that has the dedupe key already", body = Mission, headers(
            ("Location" = String), ("ETag" = String),
        )),
        (status = 409, description = "Another mission has the dedupe key; nothing was created", body = crate::http::problem::ProblemBody,
            content_type = "application/problem+json"),
        (status = 402, description = "The credits do not suffice; nothing was created", body = crate::http::problem::ProblemBody,
            content_type = "application/problem+json"),
        (status = 429, description = "The tenant has as many missions under way as it may have; nothing was created",
            body = crate::http::problem::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(in crate::http) async fn post(
    State(site): State<Site>,
    caller: Caller,
    mut query: Query,
    drain: Drain,
    headers: HeaderMap,
    Json { body, value }: Json<SubmitMission>,
) -> Result<Response<Body>, Problem> {
    let wait = wait(&headers, &mut query)?;
    query.done()?;
    let key = idempotency_key(&headers)?;
    let submitted = submit(&site, &caller, body, value, key).await?;
    let id = submitted.mission_id;
    let look = Wait { site: &site, tenant: Some(caller.tenant_id), id, wait: wait.unwrap_or_default(), drain: &drain };
    let view = look.until(|view| view.state.is_final()).await?.ok_or_else(|| Problem::not_found("mission"))?;
    let (mission, etag) = complete(&site, view).await?;
    let status = if submitted.duplicate { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = conditional::json(status, &mission.with_stream(&site, id));
    response = with_header(response, header::ETAG, &etag);
    response = with_header(response, header::LOCATION, &format!("/v1/missions/{id}"));
    if let Some(wait) = wait {
        response = with_header(response, PREFERENCE_APPLIED, &format!("wait={}", wait.as_secs()));
    }
    Ok(if submitted.replayed { replayed(response) } else { response })
}

async fn submit(
    site: &Site,
    caller: &Caller,
    body: SubmitMission,
    mut value: Value,
    key: Option<String>,
) -> Result<Submitted, Problem> {
    for part in ["budget", "dedupe"] {
        if value.get(part).is_some_and(Value::is_array) {
            // a list would be taken for the part's fields in their order
            return Err(Problem::invalid(&format!("/{part}"), "wrong_type", "must be an object"));
        }
    }
    value.sort_all_objects();
    let request_hash = sha256_hex(&value.to_string());
    let submission = match prepare(site, caller, body, key.clone(), request_hash.clone()).await {
        Ok(submission) => submission,
        // what was accepted once stays so, even if it would be refused today
        Err(problem) => return earlier(site, caller, key, &request_hash).await?.ok_or(problem),
    };
    site.engine().submit(submission).await.map_err(|error| refused(site, error))
}

/// What an earlier request with the same key and body made.
async fn earlier(
    site: &Site,
    caller: &Caller,
    key: Option<String>,
    request_hash: &str,
) -> Result<Option<Submitted>, Problem> {
    let Some(key) = key else { return Ok(None) };
    let known = site.store().mission_by_key(caller.tenant_id, &key).await?;
    match known {
        None => Ok(None),
        Some(mission) if mission.request_hash != request_hash => Err(key_reused()),
        Some(mission) => {
            Ok(Some(Submitted { mission_id: mission.id, run_id: mission.run_id, replayed: true, duplicate: false }))
        }
    }
}

/// Checks everything that can be checked outside of the transaction.
pub(super) async fn prepare(
    site: &Site,
    caller: &Caller,
    body: SubmitMission,
    idempotency_key: Option<String>,
    request_hash: String,
) -> Result<Submission, Problem> {
    let terms = terms("", body.priority, body.tags, body.budget.as_ref())?;
    let metadata = body.metadata.map(Value::Object);
    if metadata.as_ref().is_some_and(|metadata| metadata.to_string().len() > MAX_METADATA_BYTES) {
        let words = format!("must have at most {MAX_METADATA_BYTES} bytes as JSON");
        return Err(Problem::invalid("/metadata", "too_long", &words));
    }
    let dedupe = body.dedupe.map(dedupe).transpose()?;
    let project_id = body.project_id.as_deref().map(project).transpose()?;
    let wish = Wish {
        tenant_id: caller.tenant_id,
        workflow: body.workflow,
        input: Value::Object(body.input.unwrap_or_default()),
        metadata,
        tags: terms.tags,
        idempotency_key,
        request_hash,
        priority: terms.priority,
        budget_ucr: terms.budget_ucr,
        on_exhausted: terms.on_exhausted,
        dedupe,
        project_id,
    };
    site.engine().fit(wish).await.map_err(|error| unfit("", error))
}

/// How missions are to run, checked.
#[derive(Debug, Clone)]
pub(in crate::http) struct Terms {
    /// −100 to 100.
    pub priority: i16,
    /// The words by which usage is reported.
    pub tags: Vec<String>,
    /// The most to spend.
    pub budget_ucr: Option<Ucr>,
    /// What happens then.
    pub on_exhausted: Option<OnExhausted>,
}

/// Checks how missions are to run; `below` is where that stands in the body.
pub(in crate::http) fn terms(
    below: &str,
    priority: Option<i64>,
    tags: Option<Vec<String>>,
    budget: Option<&BudgetWish>,
) -> Result<Terms, Problem> {
    let priority = priority.unwrap_or(0);
    if !(-MAX_PRIORITY..=MAX_PRIORITY).contains(&priority) {
        let words = format!("must be from -{MAX_PRIORITY} to {MAX_PRIORITY}");
        return Err(Problem::invalid(&format!("{below}/priority"), "out_of_range", &words));
    }
    let tags = self::tags(below, tags.unwrap_or_default())?;
    let budget_ucr = budget.and_then(|budget| budget.max_credits.as_deref());
    let budget_ucr = budget_ucr.map(|text| amount(&format!("{below}/budget/max_credits"), text)).transpose()?;
    Ok(Terms {
        priority: i16::try_from(priority).unwrap_or_default(),
        tags,
        budget_ucr,
        on_exhausted: budget.and_then(|budget| budget.on_exhausted).map(Into::into),
    })
}

/// Why a wish can't be submitted; `below` is where it stands in the body.
pub(in crate::http) fn unfit(below: &str, error: Unfit) -> Problem {
    let pointer = format!("{below}/workflow");
    match error {
        Unfit::WorkflowName => Problem::invalid(&pointer, "invalid", "must be a workflow's name, or name@version"),
        Unfit::UnknownWorkflow => {
            Problem::invalid(&pointer, "unknown_workflow", "there is no such workflow, or not in this version")
        }
        Unfit::Input(problems) => Problem::of_workflow(&format!("{below}/input"), &problems),
        Unfit::UnknownProject => {
            Problem::invalid(&format!("{below}/project_id"), "unknown_project", &error.to_string())
        }
        Unfit::ArchivedProject => {
            Problem::invalid(&format!("{below}/project_id"), "archived_project", &error.to_string())
        }
        Unfit::NoPrices => Problem::new(Code::NoPrices, "no price book is active"),
        Unfit::NoWallet => no_wallet(),
        Unfit::Store(error) => error.into(),
    }
}

/// The id of a project that a client wrote.
fn project(text: &str) -> Result<ProjectId, Problem> {
    text.parse().map_err(|_| Problem::invalid("/project_id", "invalid", "must be the id of a project, prj_…"))
}

/// Words that may name groups of a report.
fn tags(below: &str, tags: Vec<String>) -> Result<Vec<String>, Problem> {
    if tags.len() > MAX_TAGS {
        return Err(Problem::invalid(
            &format!("{below}/tags"),
            "too_long",
            &format!("must have at most {MAX_TAGS} tags"),
        ));
    }
    for (place, tag) in tags.iter().enumerate() {
        let pointer = format!("{below}/tags/{place}");
        if !(1..=MAX_TAG_BYTES).contains(&tag.len()) {
            return Err(Problem::invalid(&pointer, "too_long", &format!("must have 1 to {MAX_TAG_BYTES} bytes")));
        }
        if tags.iter().take(place).any(|earlier| earlier == tag) {
            return Err(Problem::invalid(&pointer, "duplicate", "stands in the list already"));
        }
    }
    Ok(tags)
}

/// A dedupe key with its window.
fn dedupe(wish: DedupeWish) -> Result<Dedupe, Problem> {
    if !(1..=MAX_DEDUPE_KEY_BYTES).contains(&wish.key.len()) || wish.key.chars().any(char::is_control) {
        let words = format!("must have 1 to {MAX_DEDUPE_KEY_BYTES} bytes and no control characters");
        return Err(Problem::invalid("/dedupe/key", "invalid", &words));
    }
    let refused =
        || Problem::invalid("/dedupe/window", "invalid", "must be a duration such as 30s, 10m or 1d, at most 366d");
    let window_ms = match &wish.window {
        None => 0,
        Some(text) => {
            let window = parse_duration_ms(text).filter(|window| (0..=MAX_DEDUPE_WINDOW_MS).contains(window));
            window.ok_or_else(refused)?
        }
    };
    let mode = match wish.mode {
        None | Some(WhenDuplicate::Reject) => DedupeMode::Reject,
        Some(WhenDuplicate::ReturnExisting) => DedupeMode::ReturnExisting,
    };
    Ok(Dedupe { key: wish.key, window_ms, mode })
}

/// An amount of credits greater than zero that a client wrote.
pub(in crate::http) fn amount(pointer: &str, text: &str) -> Result<Ucr, Problem> {
    let words = "must be a decimal string greater than zero with at most six places, such as \"12.5\"";
    let amount = Ucr::from_str(text).ok().filter(|amount| amount.is_positive());
    amount.ok_or_else(|| Problem::invalid(pointer, "invalid_amount", words))
}

pub(in crate::http) fn no_wallet() -> Problem {
    Problem::new(Code::NoWallet, "the tenant has no wallet")
}

pub(in crate::http) fn key_reused() -> Problem {
    Problem::new(Code::IdempotencyKeyReused, "this Idempotency-Key was used before with another body")
}

/// What the client is told; nothing was created.
pub(in crate::http) fn refused(site: &Site, error: SubmitError) -> Problem {
    match error {
        SubmitError::KeyReused => key_reused(),
        SubmitError::NotAllowed(problems) => Problem::of_workflow("/workflow", &problems),
        SubmitError::Raced => {
            Problem::new(Code::Overloaded, "other submits with the same dedupe key ran at the same time")
        }
        SubmitError::Overloaded => Problem::new(Code::Overloaded, error.to_string()),
        SubmitError::Stopping => Problem::new(Code::Overloaded, "the server is stopping"),
        SubmitError::Store(cause, is_transient) => {
            tracing::warn!(cause, is_transient, "a submit did not reach the store");
            if is_transient {
                Problem::new(Code::StoreUnavailable, "the database did not take the mission")
            } else {
                Problem::new(Code::Internal, "the server failed; its log has the cause under this request_id")
            }
        }
        SubmitError::Refused(refusal) => refused_by_rule(site, refusal),
    }
}

/// What a client is told whose wish does not fit into credits, limits or prices.
pub(super) fn refused_by_rule(site: &Site, refusal: Refusal) -> Problem {
    let words = refusal.to_string();
    let problem = match refusal {
        Refusal::Ledger(LedgerRefusal::Insufficient { required, available }) => Problem::new(
            Code::InsufficientCredits,
            format!("{required} credits are needed and {available} are available"),
        )
        .credits("required", required)
        .credits("available", available)
        .credits("shortfall", required.minus_or_zero(available)),
        Refusal::Ledger(LedgerRefusal::InDebt(debt)) => {
            Problem::new(Code::WalletInDebt, format!("the wallet owes {debt} credits")).credits("debt", debt)
        }
        Refusal::Ledger(LedgerRefusal::WalletFrozen) => {
            Problem::new(Code::WalletFrozen, "the wallet makes no new holds")
        }
        Refusal::Ledger(LedgerRefusal::UnknownWallet(_)) => no_wallet(),
        Refusal::Ledger(LedgerRefusal::OverLimit { period, limit, room, required }) => {
            let words =
                format!("{required} credits are needed to start and this {}'s limit leaves {room}", period.as_str());
            Problem::new(Code::LimitReached, words)
                .figure("period", json!(period.as_str()))
                .credits("limit", limit)
                .credits("required", required)
                .credits("available", room)
                .credits("shortfall", required.minus_or_zero(room))
        }
        Refusal::OverBudget { of: _, budget, room, required } => {
            let words = format!("{required} credits are needed to start and the budget is {budget}");
            Problem::new(Code::BudgetTooSmall, words)
                .credits("required", required)
                .credits("available", room)
                .credits("shortfall", required.minus_or_zero(room))
        }
        Refusal::Duplicate { mission_id, .. } => {
            Problem::new(Code::DuplicateMission, format!("mission {mission_id} has this dedupe key"))
                .figure("mission_id", json!(mission_id))
        }
        Refusal::QueueFull { live, most } => {
            Problem::new(Code::QueueFull, words).figure("queued", json!(live)).figure("max_queued", json!(most))
        }
        Refusal::Pricing(error) => Problem::invalid("/workflow", "not_priced", &error.to_string()),
        other => {
            tracing::error!(refusal = %other, "a submit was refused by a rule that clients cannot break");
            Problem::new(Code::Internal, "the server failed; its log has the cause under this request_id")
        }
    };
    match (&site.settings().top_up_url, problem.code()) {
        (Some(url), Code::InsufficientCredits | Code::WalletInDebt) => problem.figure("top_up_url", json!(url)),
        _ => problem,
    }
}
