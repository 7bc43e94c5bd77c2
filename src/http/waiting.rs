//! Why tasks and missions do not go on, as the API says it.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use bursar_domain::id::MissionKind;
use bursar_domain::waiting::Cause;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Caller;
use super::conditional::json;
use super::missions::body::MissionStatus;
use super::missions::one::find;
use super::params::{PathId, Query};
use super::problem::Problem;
use super::runs::TaskStatus;
use super::state::Site;
use super::types::{ShownMission, ShownRun, ShownTask, Time};
use crate::engine::{Blocker, Waiting, WaitingGroup};

/// Why a task does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum WaitingCause {
    /// Nodes that it needs are not over.
    Needs,
    /// Its turn among the tasks that were made of one.
    Turn,
    /// Ready, in line for a worker's slot.
    Worker,
    /// Ready, and no worker takes anything of its pool.
    NoWorker,
    /// Ready, and kept back because as many tasks with its concurrency key run as may.
    Concurrency,
    /// Credits or room in a budget or limit.
    Credits,
    /// A point in time.
    Timer,
    /// The pause before another attempt.
    Retry,
    /// A pause that a provider asked for, or room in its limits.
    RateLimit,
    /// A decision of the system that follows at once.
    Condition,
    /// A person's decision.
    Approval,
    /// A signal from outside.
    Signal,
    /// The tasks that were made of it.
    Children,
    /// Its mission is paused.
    Paused,
    /// Its run is being ended.
    Ending,
}

impl From<Cause> for WaitingCause {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Needs => Self::Needs,
            Cause::Turn => Self::Turn,
            Cause::Worker => Self::Worker,
            Cause::NoWorker => Self::NoWorker,
            Cause::Concurrency => Self::Concurrency,
            Cause::Credits => Self::Credits,
            Cause::Timer => Self::Timer,
            Cause::Retry => Self::Retry,
            Cause::RateLimit => Self::RateLimit,
            Cause::Condition => Self::Condition,
            Cause::Approval => Self::Approval,
            Cause::Signal => Self::Signal,
            Cause::Children => Self::Children,
            Cause::Paused => Self::Paused,
            Cause::Ending => Self::Ending,
        }
    }
}

/// A task that another one waits for.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BlockingTask {
    /// The task.
    task_id: ShownTask,
    /// Its node.
    node: String,
    /// Where it stands.
    status: TaskStatus,
}

impl From<Blocker> for BlockingTask {
    fn from(blocker: Blocker) -> Self {
        Self { task_id: blocker.id.into(), node: blocker.node, status: blocker.state.into() }
    }
}

/// Why a task that is not over does not run. Lists leave out what must be counted: place and blockers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Waiting)]
pub(super) struct ShownWaiting {
    /// The cause.
    cause: WaitingCause,
    /// In words; names stand in backticks.
    reason: String,
    /// Since when.
    since: Time,
    /// When the wait is over at the latest, where that is known.
    until: Option<Time>,
    /// Its place in the line, from 1, where there is one: among the tenant's own ready tasks of the pool, the tasks of
    /// the wallet that wait for credits, or those with the concurrency key. Counted up to 10,000; never a promise.
    position: Option<i64>,
    /// How many stand before it in that line.
    ahead: Option<i64>,
    /// The first few of the tasks that it waits for.
    blocked_by: Vec<BlockingTask>,
    /// How many tasks it waits for.
    blockers: i64,
}

impl From<Waiting> for ShownWaiting {
    fn from(waiting: Waiting) -> Self {
        Self {
            cause: waiting.cause.into(),
            reason: waiting.reason,
            since: waiting.since.into(),
            until: waiting.until.map(Time),
            position: waiting.position,
            ahead: waiting.ahead,
            blocked_by: waiting.blocked_by.into_iter().map(BlockingTask::from).collect(),
            blockers: waiting.blockers,
        }
    }
}

/// Tasks that wait for the same.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WaitingTasks {
    /// The cause.
    cause: WaitingCause,
    /// How many tasks.
    tasks: i64,
    /// The one that waits for longest.
    longest: LongestWaiting,
}

/// The task that waits for longest.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LongestWaiting {
    /// The task.
    task_id: ShownTask,
    /// Its node.
    node: String,
    /// Its pool.
    pool: String,
    /// Why it waits.
    waiting: ShownWaiting,
}

impl From<WaitingGroup> for WaitingTasks {
    fn from(group: WaitingGroup) -> Self {
        Self {
            cause: group.waiting.cause.into(),
            tasks: group.tasks,
            longest: LongestWaiting {
                task_id: group.longest.id.into(),
                node: group.longest.node,
                pool: group.longest.pool,
                waiting: group.waiting.into(),
            },
        }
    }
}

/// Why a mission does not go on.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MissionWaiting {
    /// The mission.
    mission_id: ShownMission,
    /// Its latest run.
    run_id: ShownRun,
    /// Where it stands.
    status: MissionStatus,
    /// Why it stands there.
    status_reason: Option<String>,
    /// Tasks that run now.
    running: i64,
    /// What the others wait for, by cause, the longest waiting first; of the first 10,000 open tasks.
    waiting: Vec<WaitingTasks>,
}

/// Ask why a mission does not go on
///
/// What its tasks wait for, those that wait for the same together, with the place of the one that waits for longest.
/// Empty for a mission that is over.
#[utoipa::path(
    get, path = "/v1/missions/{id}/waiting", operation_id = "missions.waiting", tag = "missions",
    params(("id" = ShownMission, Path, description = "The mission")),
    responses((status = 200, description = "What it waits for", body = MissionWaiting)),
)]
pub(super) async fn of_mission(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<MissionKind>,
    query: Query,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let view = find(&site, &caller, id).await?;
    let why = site.engine().why_mission(&view).await?;
    let body = MissionWaiting {
        mission_id: view.id.into(),
        run_id: view.run_id.into(),
        status: view.state.into(),
        status_reason: view.status_reason,
        running: why.running,
        waiting: why.groups.into_iter().map(WaitingTasks::from).collect(),
    };
    Ok(json(StatusCode::OK, &body))
}
