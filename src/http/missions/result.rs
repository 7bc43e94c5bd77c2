//! What a mission hands back: resolved from its nodes' outputs when somebody asks.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use bursar_domain::id::MissionKind;
use bursar_domain::record::PRUNED_OUTPUTS;
use bursar_domain::state::RunState;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::conditional::json;
use super::super::params::{PathId, Query};
use super::super::problem::{Code, Problem};
use super::super::state::Site;
use super::super::types::{Amount, ShownMission, ShownRun, Time};
use super::body::{MissionError, MissionStatus};
use super::one::find;
use crate::engine::named_outputs;
use crate::store::StoreError;
use crate::store::read::MissionView;

/// What came of a mission.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct MissionResult {
    /// The mission.
    mission_id: ShownMission,
    /// The run.
    run_id: ShownRun,
    /// How it ended.
    status: MissionStatus,
    /// What the workflow hands back, by name; null unless it succeeded.
    #[schema(value_type = Option<Object>)]
    output: Option<Value>,
    /// Why it failed.
    error: Option<MissionError>,
    /// What was charged, fee included.
    spent: Amount,
    /// When it was over.
    ended_at: Option<Time>,
}

/// Fetch the result
///
/// 409 `not-finished` while the mission runs, 410 `pruned` when it was so long ago that the outputs are gone.
#[utoipa::path(
    get, path = "/v1/missions/{id}/result", operation_id = "missions.result", tag = "missions",
    params(("id" = ShownMission, Path, description = "The mission")),
    responses((status = 200, description = "What came of it", body = MissionResult)),
)]
pub(in crate::http) async fn get(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<MissionKind>,
    query: Query,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let view = find(&site, &caller, id).await?;
    if !view.state.is_final() {
        return Err(Problem::new(Code::NotFinished, format!("the mission is {}", view.state.as_str())));
    }
    if view.state == RunState::Succeeded && view.pruned >= PRUNED_OUTPUTS {
        return Err(Problem::new(Code::Pruned, "the outputs of the mission were pruned").figure("pruned", "outputs"));
    }
    let output = if view.state == RunState::Succeeded { Some(outputs(&site, &view).await?) } else { None };
    let result = MissionResult {
        mission_id: view.id.into(),
        run_id: view.run_id.into(),
        status: view.state.into(),
        output,
        error: view.error.as_ref().filter(|error| !error.is_null()).map(MissionError::of),
        spent: view.spent_ucr.into(),
        ended_at: view.ended_at.map(Time),
    };
    Ok(json(StatusCode::OK, &result))
}

/// The outputs that the workflow names, each from its node; null where a path leads nowhere.
pub(super) async fn outputs(site: &Site, view: &MissionView) -> Result<Value, Problem> {
    let definition = site.engine().definition(view.workflow_id).await?;
    let definition =
        definition.ok_or_else(|| StoreError::Corrupt(format!("workflow {} does not exist", view.workflow_id)))?;
    let index_of = |key: &str| definition.node_by_key(key).map(|node| node.index);
    let mut nodes: Vec<u32> = definition.outputs.values().filter_map(|path| index_of(path.nodes())).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let wanted: Vec<_> = nodes.into_iter().map(|index| (view.run_id, index)).collect();
    let found = site.store().outputs(&wanted).await?;
    Ok(Value::Object(named_outputs(&definition, view.run_id, &found)))
}
