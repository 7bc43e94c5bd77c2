//! The stream as an HTTP answer: who may open it, from where it goes on, its headers.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use bursar_domain::id::{MissionId, MissionKind, TenantId};

use super::super::auth::Caller;
use super::super::limits::STREAM_BUSY_MS;
use super::super::missions::one::unpruned;
use super::super::params::{PathId, Query};
use super::super::problem::{Code, Problem};
use super::super::request::Drain;
use super::super::room::Room;
use super::super::state::Site;
use super::super::types::ShownMission;
use super::catalog::StreamEvent;
use super::follow::Follow;
use super::token;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Follow a mission live
///
/// Server-sent events: first the log after `Last-Event-ID` (or `?after=`), then `stream.caught_up`, then what
/// happens. `id:` is the event's `seq`; frames without one (`task.started`, `task.delta`, …) are not in the log. After
/// the mission's last event comes `stream.end`; a reconnect after that gets 204, which ends an `EventSource`. Where old
/// events were pruned, `stream.gap` stands in their place.
#[utoipa::path(
    get, path = "/v1/missions/{id}/stream", operation_id = "missions.stream", tag = "events",
    params(
        ("id" = ShownMission, Path, description = "The mission"),
        ("after" = Option<i64>, Query, description = "Go on after this event", minimum = 0),
        ("access_token" = Option<String>, Query, description = "A stream token, in place of the header Authorization"),
        ("Last-Event-ID" = Option<String>, Header, description = "Go on after this event; goes before `after`"),
    ),
    responses(
        (status = 200, description = "Each `data:` line is one event", body = StreamEvent, content_type = "text/event-stream"),
        (status = 204, description = "The mission is over and the client has everything"),
    ),
    security(("bearer" = []), ("stream_token" = [])),
)]
pub(in crate::http) async fn get(
    State(site): State<Site>,
    PathId(id): PathId<MissionKind>,
    mut query: Query,
    (drain, room): (Drain, Room),
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    let access_token = query.one("access_token")?;
    // a browser hears nothing of an answer but that it is no stream, and never comes again
    let is_browser = access_token.is_some() || headers.contains_key("sec-fetch-mode");
    let tenant = admit(&site, &headers, access_token, id).await?;
    let after = query.number("after", 0, i64::MAX)?;
    query.done()?;
    let resumed = headers.get(LAST_EVENT_ID).map(|value| value.to_str().ok().and_then(|text| text.trim().parse().ok()));
    let after = match resumed {
        Some(Some(seq)) if seq >= 0 => seq,
        Some(_) => return Err(Problem::parameter("Last-Event-ID", "must be the number of an event")),
        None => after.unwrap_or(0),
    };
    let mission = site.store().mission(tenant, id).await?.ok_or_else(|| Problem::not_found("mission"))?;
    let mission = unpruned(mission)?;
    if mission.state.is_final() && after >= mission.last_seq {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let place = room.stream();
    if place.is_none() && !is_browser {
        return Err(Problem::new(
            Code::Overloaded,
            "all streams are taken; nothing is lost, come again after a moment",
        ));
    }
    // a number that the mission has not reached yet must not hide events from the client
    let mut follow = Follow::new(site, &mission, after.min(mission.last_seq), drain);
    if place.is_none() {
        follow.close(STREAM_BUSY_MS);
    }
    let pieces = futures::stream::unfold((follow, place), |(mut follow, place)| async move {
        let piece = follow.next().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), (follow, place)))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let set = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache, no-transform"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    for (name, value) in set {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// For which tenant the stream is read: the caller's, or that of the mission which the token names.
async fn admit(
    site: &Site,
    headers: &HeaderMap,
    access_token: Option<String>,
    mission: MissionId,
) -> Result<Option<TenantId>, Problem> {
    let Some(access_token) = access_token.filter(|_| !headers.contains_key(header::AUTHORIZATION)) else {
        return Ok(Some(Caller::of(site, headers).await?.tenant_id));
    };
    let now = site.engine().clock().now();
    if token::opens(&site.settings().session_secret, &access_token, mission, now) {
        return Ok(None);
    }
    Err(Problem::unauthorized(true))
}
