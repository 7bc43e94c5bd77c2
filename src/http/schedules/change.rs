//! Schedules are made, changed, paused, resumed and removed.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode, header};
use axum::response::IntoResponse;
use bursar_domain::id::{ScheduleId, ScheduleKind};
use bursar_domain::limits::{MAX_SCHEDULE_JITTER_MS, MAX_SCHEDULE_NAME_BYTES};
use bursar_domain::record;
use serde::Deserialize;
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::conditional::{etag_of, json, with_header};
use super::super::json::Json;
use super::super::missions::submit::unfit;
use super::super::params::{PathId, Query};
use super::super::problem::{Code, Problem};
use super::super::state::Site;
use super::super::types::ShownSchedule;
use super::body::{RepeatedMission, Schedule, WhenMissed, WhenOverlapping};
use crate::clock::new_id;
use crate::cron::CronError;
use crate::engine::ScheduleError;

/// A schedule to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct MakeSchedule {
    /// What people call it: 1 to 100 bytes, unique among the tenant's. So the same request twice makes one schedule.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// When it fires: five fields (minute, hour, day of month, month, day of week), six with seconds first, or a
    /// nickname such as `@daily`.
    #[schema(example = "30 7 * * MON-FRI")]
    cron: String,
    /// By the clocks of which IANA time zone; UTC where left out. A fixed time that a zone's clock leaps over fires right
    /// after the gap, one that it shows twice fires once; intervals fire at every moment that the clock shows.
    #[serde(default)]
    #[schema(example = "Europe/Berlin")]
    zone: Option<String>,
    /// What it submits each time.
    mission: RepeatedMission,
    /// While the mission of the last firing still runs; `skip` where left out.
    #[serde(default)]
    overlap: Option<WhenOverlapping>,
    /// After an outage of more than a minute; `none` where left out.
    #[serde(default)]
    catch_up: Option<WhenMissed>,
    /// Spreads firings over so many milliseconds after their time, at most an hour.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 3_600_000)]
    jitter_ms: Option<i64>,
    /// Whether it begins paused.
    #[serde(default)]
    paused: Option<bool>,
}

/// What to change; what is left out stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ChangeSchedule {
    /// What people call it.
    #[serde(default)]
    name: Option<String>,
    /// When it fires.
    #[serde(default)]
    cron: Option<String>,
    /// By the clocks of which IANA time zone.
    #[serde(default)]
    zone: Option<String>,
    /// What it submits each time, as a whole.
    #[serde(default)]
    mission: Option<RepeatedMission>,
    /// While the mission of the last firing still runs.
    #[serde(default)]
    overlap: Option<WhenOverlapping>,
    /// After an outage.
    #[serde(default)]
    catch_up: Option<WhenMissed>,
    /// Spreads firings over so many milliseconds after their time.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 3_600_000)]
    jitter_ms: Option<i64>,
}

/// Make a schedule
///
/// What it submits must be fit to be submitted now. Each firing is one mission; one that is refused (credits, a workflow
/// that is gone) is told as `last_error` and does not stop the schedule.
#[utoipa::path(
    post, path = "/v1/schedules", operation_id = "schedules.create", tag = "schedules",
    request_body(content = MakeSchedule, content_type = "application/json"),
    responses(
        (status = 201, description = "The schedule", body = Schedule, headers(("Location" = String), ("ETag" = String))),
        (status = 409, description = "The tenant has one of this name", body = crate::http::problem::ProblemBody,
            content_type = "application/problem+json"),
    ),
)]
pub(in crate::http) async fn create(
    State(site): State<Site>,
    caller: Caller,
    query: Query,
    Json { body, .. }: Json<MakeSchedule>,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let (name, jitter_ms) = (name(&body.name)?, jitter(body.jitter_ms.unwrap_or(0))?);
    let payload = body.mission.checked()?;
    let now = site.engine().clock().now();
    let mut row = record::Schedule {
        id: new_id(),
        tenant_id: caller.tenant_id,
        name,
        cron: body.cron,
        zone: body.zone.unwrap_or_else(|| "UTC".to_owned()),
        workflow: String::new(),
        input: None,
        budget_ucr: None,
        on_exhausted: None,
        priority: 0,
        tags: None,
        overlap: body.overlap.map(Into::into).unwrap_or_default(),
        catch_up: body.catch_up.map(Into::into).unwrap_or_default(),
        jitter_ms,
        paused: body.paused.unwrap_or(false),
        next_at: None,
        due_at: None,
        waiting_for: None,
        last_fired_at: None,
        last_mission_id: None,
        last_error: None,
        fired: 0,
        skipped: 0,
        refused: 0,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    payload.put_into(&mut row);
    let row = site.engine().create_schedule(row).await.map_err(refused)?;
    let location = format!("/v1/schedules/{}", row.id);
    Ok(with_header(answer(StatusCode::CREATED, row), header::LOCATION, &location))
}

/// Change a schedule
///
/// The next time is worked out anew when the expression, the zone or the jitter change.
#[utoipa::path(
    patch, path = "/v1/schedules/{id}", operation_id = "schedules.change", tag = "schedules",
    params(("id" = ShownSchedule, Path, description = "The schedule")),
    request_body(content = ChangeSchedule, content_type = "application/json"),
    responses((status = 200, description = "The schedule", body = Schedule, headers(("ETag" = String)))),
)]
pub(in crate::http) async fn patch(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<ScheduleKind>,
    query: Query,
    Json { body, .. }: Json<ChangeSchedule>,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let new_name = body.name.as_deref().map(name).transpose()?;
    let jitter_ms = body.jitter_ms.map(jitter).transpose()?;
    let payload = body.mission.map(RepeatedMission::checked).transpose()?;
    let change = |row: &mut record::Schedule| {
        row.name = new_name.clone().unwrap_or_else(|| row.name.clone());
        row.cron = body.cron.clone().unwrap_or_else(|| row.cron.clone());
        row.zone = body.zone.clone().unwrap_or_else(|| row.zone.clone());
        row.overlap = body.overlap.map_or(row.overlap, Into::into);
        row.catch_up = body.catch_up.map_or(row.catch_up, Into::into);
        row.jitter_ms = jitter_ms.unwrap_or(row.jitter_ms);
        if let Some(payload) = &payload {
            payload.put_into(row);
        }
    };
    let row = site.engine().change_schedule(caller.tenant_id, id, change).await.map_err(refused)?;
    Ok(answer(StatusCode::OK, row))
}

/// Pause a schedule
///
/// It fires no more; a firing that waits is dropped. Missions that it made go on.
#[utoipa::path(
    post, path = "/v1/schedules/{id}/pause", operation_id = "schedules.pause", tag = "schedules",
    params(("id" = ShownSchedule, Path, description = "The schedule")),
    responses((status = 200, description = "The schedule, paused", body = Schedule, headers(("ETag" = String)))),
)]
pub(in crate::http) async fn pause(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<ScheduleKind>,
    query: Query,
) -> Result<Response<Body>, Problem> {
    set_paused(&site, &caller, id, query, true).await
}

/// Resume a schedule
///
/// It fires at the next time from now on; what lay in the pause is not made up for.
#[utoipa::path(
    post, path = "/v1/schedules/{id}/resume", operation_id = "schedules.resume", tag = "schedules",
    params(("id" = ShownSchedule, Path, description = "The schedule")),
    responses((status = 200, description = "The schedule, active", body = Schedule, headers(("ETag" = String)))),
)]
pub(in crate::http) async fn resume(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<ScheduleKind>,
    query: Query,
) -> Result<Response<Body>, Problem> {
    set_paused(&site, &caller, id, query, false).await
}

async fn set_paused(
    site: &Site,
    caller: &Caller,
    id: ScheduleId,
    query: Query,
    paused: bool,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let change = |row: &mut record::Schedule| row.paused = paused;
    let row = site.engine().change_schedule(caller.tenant_id, id, change).await.map_err(refused)?;
    Ok(answer(StatusCode::OK, row))
}

/// Remove a schedule
///
/// Missions that it made go on.
#[utoipa::path(
    delete, path = "/v1/schedules/{id}", operation_id = "schedules.delete", tag = "schedules",
    params(("id" = ShownSchedule, Path, description = "The schedule")),
    responses((status = 204, description = "It is gone")),
)]
pub(in crate::http) async fn delete(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<ScheduleKind>,
    query: Query,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    site.engine().remove_schedule(caller.tenant_id, id).await.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn answer(status: StatusCode, row: record::Schedule) -> Response<Body> {
    let schedule = Schedule::whole(row);
    with_header(json(status, &schedule), header::ETAG, &etag_of(&schedule))
}

fn name(text: &str) -> Result<String, Problem> {
    let name = text.trim();
    if (1..=MAX_SCHEDULE_NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control) {
        return Ok(name.to_owned());
    }
    let words = format!("must be 1 to {MAX_SCHEDULE_NAME_BYTES} bytes without control characters");
    Err(Problem::invalid("/name", "invalid", &words))
}

fn jitter(ms: i64) -> Result<i64, Problem> {
    if (0..=MAX_SCHEDULE_JITTER_MS).contains(&ms) {
        return Ok(ms);
    }
    let words = format!("must be from 0 to {MAX_SCHEDULE_JITTER_MS}");
    Err(Problem::invalid("/jitter_ms", "out_of_range", &words))
}

/// Why a schedule was not made or changed.
pub(super) fn refused(error: ScheduleError) -> Problem {
    match error {
        ScheduleError::NotFound => Problem::not_found("schedule"),
        ScheduleError::Cron(CronError::Zone) => Problem::invalid("/zone", "unknown_zone", &CronError::Zone.to_string()),
        ScheduleError::Cron(error) => Problem::invalid("/cron", "invalid", &error.to_string()),
        ScheduleError::Unfit(error) => unfit("/mission", error),
        ScheduleError::NameTaken => Problem::new(Code::NameTaken, "the tenant has a schedule of this name"),
        ScheduleError::TooMany => Problem::new(Code::IllegalState, error.to_string()),
        ScheduleError::Busy => Problem::new(Code::Overloaded, error.to_string()),
        ScheduleError::Store(error) => error.into(),
    }
}
