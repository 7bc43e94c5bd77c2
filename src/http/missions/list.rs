//! Missions, newest first.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use bursar_domain::id::ProjectKind;
use bursar_domain::state::RunState;

use super::super::auth::Caller;
use super::super::conditional::json;
use super::super::page::Page;
use super::super::params::{Query, parse_id, position};
use super::super::problem::Problem;
use super::super::state::Site;
use super::super::types::ShownProject;
use super::body::{Mission, MissionStatus};
use crate::store::read::MissionFilter;

/// List missions
///
/// Newest first. `output`, `input` and `stream` are left to the mission itself.
#[utoipa::path(
    get, path = "/v1/missions", operation_id = "missions.list", tag = "missions",
    params(
        ("status" = Option<Vec<MissionStatus>>, Query, description = "Only in these states; repeated or separated by commas"),
        ("workflow" = Option<String>, Query, description = "Only of the workflow of this name"),
        ("project_id" = Option<ShownProject>, Query, description = "Only of this project"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the previous page"),
        ("limit" = Option<u32>, Query, description = "Rows per page, 20 by default", minimum = 1, maximum = 100),
    ),
    responses((status = 200, description = "A page of missions", body = Page<Mission>)),
)]
pub(in crate::http) async fn get(
    State(site): State<Site>,
    caller: Caller,
    mut query: Query,
) -> Result<Response<Body>, Problem> {
    let mut states = Vec::new();
    for name in query.many("status") {
        states.push(RunState::from_name(&name).ok_or_else(unknown_status)?);
    }
    states.sort_unstable();
    states.dedup();
    let workflow = query.one("workflow")?;
    let project = query.one("project_id")?.map(|text| parse_id::<ProjectKind>(&text)).transpose()?;
    let names: Vec<&str> = states.iter().map(|state| state.as_str()).collect();
    let list =
        format!("{}/missions?status={}&workflow={workflow:?}&project={project:?}", caller.tenant_id, names.join(","));
    let before = position(query.cursor(&list)?)?;
    let limit = query.limit()?;
    query.done()?;
    let tenant = Some(caller.tenant_id);
    let filter = MissionFilter { tenant, states, workflow, project, before, limit: limit + 1 };
    let rows = site.store().missions(&filter).await?;
    let page = Page::cut(rows, limit, &list, |row| row.id.to_string(), |row| Mission::of(&site, row, None));
    Ok(json(StatusCode::OK, &page))
}

fn unknown_status() -> Problem {
    let names: Vec<&str> = RunState::ALL.iter().map(|state| state.as_str()).collect();
    Problem::parameter("status", &format!("must be one of {}", names.join(", ")))
}
