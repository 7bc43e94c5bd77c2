//! The event log of a mission, as JSON.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use bursar_domain::id::MissionKind;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::conditional::json;
use super::super::missions::one::find;
use super::super::params::{PathId, Query};
use super::super::problem::Problem;
use super::super::state::Site;
use super::super::types::ShownMission;
use super::catalog::StreamEvent;
use super::envelope::Envelope;

/// A piece of a mission's event log.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct EventPage {
    /// Events in order.
    #[schema(value_type = Vec<StreamEvent>)]
    data: Vec<Envelope>,
    /// Whether there are more now.
    has_more: bool,
    /// Continue with `?after=` this.
    next_after: i64,
    /// The number of the last event that was pruned, where this page would have begun before it.
    pruned_to: Option<i64>,
}

/// Read the event log
///
/// In order, after event `after`. Live events come by the stream.
#[utoipa::path(
    get, path = "/v1/missions/{id}/events", operation_id = "missions.events", tag = "events",
    params(
        ("id" = ShownMission, Path, description = "The mission"),
        ("after" = Option<i64>, Query, description = "Only events after this one", minimum = 0),
        ("limit" = Option<u32>, Query, description = "Events per page, 20 by default", minimum = 1, maximum = 100),
    ),
    responses((status = 200, description = "Events", body = EventPage)),
)]
pub(in crate::http) async fn get(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<MissionKind>,
    mut query: Query,
) -> Result<Response<Body>, Problem> {
    let after = query.number("after", 0, i64::MAX)?.unwrap_or(0);
    let limit = query.limit()?;
    query.done()?;
    let mission = find(&site, &caller, id).await?;
    let pruned_to = Some(mission.pruned_seq).filter(|pruned| after < *pruned);
    let after = after.max(pruned_to.unwrap_or(0));
    let mut rows = site.store().events(id, after, limit + 1).await?;
    let has_more = rows.len() as i64 > limit;
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next_after = rows.last().map_or(after, |row| row.seq);
    let page = EventPage { data: rows.into_iter().map(Envelope::of_row).collect(), has_more, next_after, pruned_to };
    Ok(json(StatusCode::OK, &page))
}
