//! Runs, their tasks and their usage calls.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use bursar_domain::id::{RunId, RunKind, TaskId, TaskKind};
use bursar_domain::outcome::{ErrorClass, StepError};
use bursar_domain::record::Fan;
use bursar_domain::state::{TaskState, WaitCause};
use bursar_domain::usage::Usage;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::auth::Caller;
use super::conditional::{etag_of, json, tagged};
use super::missions::body::{MissionError, MissionStatus, Progress};
use super::page::Page;
use super::params::{PathId, Query, parse_id, position};
use super::problem::{Code, Problem};
use super::state::Site;
use super::types::{
    Amount, ShownCall, ShownMission, ShownPriceBook, ShownRun, ShownTask, ShownWorker, ShownWorkflow, Time,
};
use super::waiting::ShownWaiting;
use crate::engine::Waiting;
use crate::store::read::{CallView, MissionView, TaskView};

/// One execution of a workflow version for a mission.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Run {
    /// Its id.
    id: ShownRun,
    /// Its mission.
    mission_id: ShownMission,
    /// 1 for a mission's first run.
    number: i64,
    /// How often it was retried after it was over.
    retries: i64,
    /// Where it stands.
    status: MissionStatus,
    /// Why it stands there, for people.
    status_reason: Option<String>,
    /// The pinned workflow version.
    workflow_id: ShownWorkflow,
    /// The pinned prices.
    price_book_id: ShownPriceBook,
    /// How far it is.
    progress: Progress,
    /// The flat fee, charged once on success.
    fee: Amount,
    /// Why it failed.
    error: Option<MissionError>,
    /// When its first task was claimed.
    started_at: Option<Time>,
    /// When it was over.
    ended_at: Option<Time>,
    /// When it fails if it is not over by then.
    deadline_at: Option<Time>,
}

impl Run {
    fn of(id: RunId, view: &MissionView) -> Self {
        Self {
            id: id.into(),
            mission_id: view.id.into(),
            number: view.run_number,
            retries: view.retries,
            status: view.state.into(),
            status_reason: view.status_reason.clone(),
            workflow_id: view.workflow_id.into(),
            price_book_id: view.price_book_id.into(),
            progress: Progress::of(view),
            fee: view.fee_ucr.into(),
            error: view.error.as_ref().filter(|error| !error.is_null()).map(MissionError::of),
            started_at: view.started_at.map(Time),
            ended_at: view.ended_at.map(Time),
            deadline_at: view.deadline_at.map(Time),
        }
    }
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum TaskStatus {
    /// Some of its needs are not finished.
    Pending,
    /// May be claimed by a worker now.
    Ready,
    /// A worker holds a lease on it.
    Running,
    /// Failed and will be ready again.
    Retrying,
    /// Waits for a named cause.
    Waiting,
    /// Done; final.
    Succeeded,
    /// Gave up; final.
    Failed,
    /// Ended by a user or with its run; final.
    Cancelled,
    /// Never started and never will; final.
    Skipped,
}

impl From<TaskState> for TaskStatus {
    fn from(state: TaskState) -> Self {
        match state {
            TaskState::Pending => Self::Pending,
            TaskState::Ready => Self::Ready,
            TaskState::Running => Self::Running,
            TaskState::Retrying => Self::Retrying,
            TaskState::Waiting => Self::Waiting,
            TaskState::Succeeded => Self::Succeeded,
            TaskState::Failed => Self::Failed,
            TaskState::Cancelled => Self::Cancelled,
            TaskState::Skipped => Self::Skipped,
        }
    }
}

/// Why a step failed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TaskError {
    /// How it is treated: `retryable`, `rate_limited`, `permanent`, `budget`, `cancelled` or `lost`.
    class: &'static str,
    /// A stable code.
    code: String,
    /// What happened and what to do about it.
    message: String,
    /// How long the provider asked to wait.
    retry_after_ms: Option<i64>,
}

impl From<StepError> for TaskError {
    fn from(error: StepError) -> Self {
        let class = match error.class {
            ErrorClass::Retryable => "retryable",
            ErrorClass::RateLimited => "rate_limited",
            ErrorClass::Permanent => "permanent",
            ErrorClass::Budget => "budget",
            ErrorClass::Cancelled => "cancelled",
            ErrorClass::Lost => "lost",
        };
        Self { class, code: error.code, message: error.message, retry_after_ms: error.retry_after_ms }
    }
}

/// What calls used. Parts are contained in their totals.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TokenUsage {
    /// All tokens sent, cached ones included.
    input_tokens: u64,
    /// The part of the input that was read from a cache.
    cache_read_tokens: u64,
    /// The part of the input that was written to a cache.
    cache_write_tokens: u64,
    /// The part of `cache_write_tokens` that was written for one hour.
    cache_write_1h_tokens: u64,
    /// All tokens produced, reasoning included.
    output_tokens: u64,
    /// The part of the output spent on reasoning.
    reasoning_tokens: u64,
}

impl From<Usage> for TokenUsage {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.input_tokens,
            cache_read_tokens: usage.cache_read_tokens,
            cache_write_tokens: usage.cache_write_tokens,
            cache_write_1h_tokens: usage.cache_write_1h_tokens,
            output_tokens: usage.output_tokens,
            reasoning_tokens: usage.reasoning_tokens,
        }
    }
}

/// Which of the tasks that were made of one node this is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Item {
    /// Its number, from 0: a map's item, a repetition, or twice the round of a review (the review itself is one more).
    index: i64,
    /// The item's key, in a map.
    key: Option<String>,
}

/// The tasks that were made of one, counted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Children {
    /// How many there will be, where that is known.
    total: Option<i32>,
    /// How many were made.
    made: i32,
    /// How many of these are under way.
    open: i32,
    /// How many of these are over.
    done: i32,
    /// What they were charged together.
    cost_credits: Amount,
}

impl From<Fan> for Children {
    fn from(fan: Fan) -> Self {
        Self { total: fan.total, made: fan.made, open: fan.open(), done: fan.done, cost_credits: fan.spent_ucr.into() }
    }
}

/// One node in one run, or one of the tasks that a map, a repetition or a review made of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Task {
    /// Its id.
    id: ShownTask,
    /// Its mission.
    mission_id: ShownMission,
    /// Its run.
    run_id: ShownRun,
    /// The node's key.
    node: String,
    /// The task that it was made of, where it is one of many.
    parent_id: Option<ShownTask>,
    /// Which of them it is.
    item: Option<Item>,
    /// The tasks that were made of it.
    children: Option<Children>,
    /// The kind of node, e.g. `agent`; of a task that stands for many, `map`, `repeat` or `review`.
    kind: String,
    /// The pool whose workers may take it.
    pool: String,
    /// Where it stands.
    status: TaskStatus,
    /// What it waits for: `credits`, `timer`, `rate_limit`, `condition`, `approval`, `signal`, `children` or `paused`.
    waits_for: Option<&'static str>,
    /// Why it does not run, when it is not over and does not; in lists without what must be counted.
    waiting: Option<ShownWaiting>,
    /// Why it stands there, for people.
    status_reason: Option<String>,
    /// How often it was claimed.
    attempt: i64,
    /// How many attempts failed by the step's own fault.
    failures: i64,
    /// The last error.
    error: Option<TaskError>,
    /// The task that stands in for it since it failed: its output is what that one hands on.
    stand_in_id: Option<ShownTask>,
    /// What it holds now.
    held: Amount,
    /// What its last hold was made with, before its calls made it grow; null where nothing was held.
    estimated_credits: Option<Amount>,
    /// What was charged.
    cost_credits: Amount,
    /// What its billed calls used.
    usage: Option<TokenUsage>,
    /// What its dependents receive; null in lists.
    output: Option<Value>,
    /// Who works on it.
    worker_id: Option<ShownWorker>,
    /// When it became ready.
    ready_at: Option<Time>,
    /// When a retry, timer or rate limit is over.
    due_at: Option<Time>,
    /// When it fails if it is not over by then; known once its needs are done.
    deadline_at: Option<Time>,
    /// When the present attempt began.
    started_at: Option<Time>,
    /// When it was over.
    ended_at: Option<Time>,
}

impl Task {
    fn of(view: TaskView, waiting: Option<Waiting>) -> Self {
        let key = view.item_key().map(str::to_owned);
        Self {
            id: view.id.into(),
            mission_id: view.mission_id.into(),
            run_id: view.run_id.into(),
            node: view.node,
            parent_id: view.parent_id.map(Into::into),
            item: view.parent_id.map(|_| Item { index: view.item, key }),
            children: view.fan.map(Children::from),
            kind: view.kind,
            pool: view.pool,
            status: view.state.into(),
            waits_for: view.wait.map(WaitCause::as_str),
            waiting: waiting.map(ShownWaiting::from),
            status_reason: view.status_reason,
            attempt: view.attempt,
            failures: view.failures,
            error: view.error.map(TaskError::from),
            stand_in_id: view.stand_in_id.map(Into::into),
            held: view.held_ucr.into(),
            estimated_credits: view.estimate_ucr.map(Amount),
            cost_credits: view.cost_ucr.into(),
            usage: view.usage.map(TokenUsage::from),
            output: view.output,
            worker_id: view.worker_id.map(Into::into),
            ready_at: view.ready_at.map(Time),
            due_at: view.due_at.map(Time),
            deadline_at: view.deadline_at.map(Time),
            started_at: view.started_at.map(Time),
            ended_at: view.ended_at.map(Time),
        }
    }
}

/// One call that used something that costs. What was asked and answered is not shown.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Call {
    /// Its id.
    id: ShownCall,
    /// Its task.
    task_id: ShownTask,
    /// The attempt that bought it.
    attempt: i64,
    /// Its number in the attempt.
    number: i64,
    /// Who answered.
    provider: String,
    /// With which model.
    model: String,
    /// `sent`, `done`, `failed`, `rejected` or `lost`.
    status: String,
    /// What it costs, whoever pays.
    cost: Amount,
    /// Whether the tenant pays.
    billable: bool,
    /// Whether the usage is an estimate.
    estimated: bool,
    /// What it used.
    usage: Option<TokenUsage>,
    /// From sending to the end.
    duration_ms: Option<i64>,
    /// From sending to the first token.
    first_token_ms: Option<i64>,
    /// When it was recorded, before it was sent.
    created_at: Time,
}

impl From<CallView> for Call {
    fn from(view: CallView) -> Self {
        Self {
            id: view.id.into(),
            task_id: view.task_id.into(),
            attempt: view.attempt,
            number: view.number,
            provider: view.provider,
            model: view.model,
            status: view.state,
            cost: view.cost_ucr.into(),
            billable: view.billable,
            estimated: view.estimated,
            usage: view.usage.map(TokenUsage::from),
            duration_ms: view.duration_ms,
            first_token_ms: view.first_token_ms,
            created_at: view.created_at.into(),
        }
    }
}

async fn find(site: &Site, caller: &Caller, run: RunId) -> Result<MissionView, Problem> {
    site.store().mission_of_run(Some(caller.tenant_id), run).await?.ok_or_else(|| Problem::not_found("run"))
}

/// Read a run
#[utoipa::path(
    get, path = "/v1/runs/{id}", operation_id = "runs.get", tag = "runs",
    params(
        ("id" = ShownRun, Path, description = "The run"),
        ("If-None-Match" = Option<String>, Header, description = "The tag that the client has"),
    ),
    responses(
        (status = 200, description = "The run", body = Run, headers(("ETag" = String))),
        (status = 304, description = "It is as the client has it"),
    ),
)]
pub(super) async fn get(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<RunKind>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let run = Run::of(id, &find(&site, &caller, id).await?);
    Ok(tagged(&headers, &etag_of(&run), &run))
}

/// List a run's tasks
///
/// In an order in which they could run. `output` is left to the task itself.
#[utoipa::path(
    get, path = "/v1/runs/{id}/tasks", operation_id = "runs.tasks", tag = "runs",
    params(
        ("id" = ShownRun, Path, description = "The run"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the previous page"),
        ("limit" = Option<u32>, Query, description = "Rows per page, 20 by default", minimum = 1, maximum = 100),
        ("parent_id" = Option<ShownTask>, Query, description = "Only the tasks that were made of this one"),
    ),
    responses((status = 200, description = "A page of tasks", body = Page<Task>)),
)]
pub(super) async fn tasks(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<RunKind>,
    mut query: Query,
) -> Result<Response<Body>, Problem> {
    let parent: Option<TaskId> = query.one("parent_id")?.map(|text| parse_id(&text)).transpose()?;
    let list = format!("{}/{id}/tasks/{}", caller.tenant_id, parent.map(|id| id.to_string()).unwrap_or_default());
    let not_ours = |_| Problem::new(Code::BadCursor, "the cursor is not one of this list");
    let after = query.cursor(&list)?.map(|text| text.parse::<i64>()).transpose().map_err(not_ours)?;
    let limit = query.limit()?;
    query.done()?;
    let run = find(&site, &caller, id).await?.state;
    let rows = site.store().tasks_after(id, parent, after.unwrap_or(-1), limit + 1).await?;
    let workers = site.engine().workers_for(&rows).await?;
    let shown = |row: TaskView| {
        let waiting = workers.why(run, &row);
        Task::of(row, waiting)
    };
    let page = Page::cut(rows, limit, &list, |row| row.node_index.to_string(), shown);
    Ok(json(StatusCode::OK, &page))
}

/// List a run's usage calls
///
/// Oldest first: what each call used and costs.
#[utoipa::path(
    get, path = "/v1/runs/{id}/calls", operation_id = "runs.calls", tag = "runs",
    params(
        ("id" = ShownRun, Path, description = "The run"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the previous page"),
        ("limit" = Option<u32>, Query, description = "Rows per page, 20 by default", minimum = 1, maximum = 100),
    ),
    responses((status = 200, description = "A page of calls", body = Page<Call>)),
)]
pub(super) async fn calls(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<RunKind>,
    mut query: Query,
) -> Result<Response<Body>, Problem> {
    let list = format!("{}/{id}/calls", caller.tenant_id);
    let after = position(query.cursor(&list)?)?;
    let limit = query.limit()?;
    query.done()?;
    find(&site, &caller, id).await?;
    let rows = site.store().calls_after(id, after, limit + 1).await?;
    let page = Page::cut(rows, limit, &list, |row| row.id.to_string(), Call::from);
    Ok(json(StatusCode::OK, &page))
}

/// Read a task
#[utoipa::path(
    get, path = "/v1/tasks/{id}", operation_id = "tasks.get", tag = "runs",
    params(
        ("id" = ShownTask, Path, description = "The task"),
        ("If-None-Match" = Option<String>, Header, description = "The tag that the client has"),
    ),
    responses(
        (status = 200, description = "The task", body = Task, headers(("ETag" = String))),
        (status = 304, description = "It is as the client has it"),
    ),
)]
pub(super) async fn task(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<TaskKind>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let view = site.store().task(Some(caller.tenant_id), id).await?.ok_or_else(|| Problem::not_found("task"))?;
    let is_idle = !view.state.is_final() && view.state != TaskState::Running;
    let run = if is_idle { site.store().mission_of_run(Some(caller.tenant_id), view.run_id).await? } else { None };
    let waiting = match run {
        Some(run) => site.engine().why(run.state, &view).await?,
        None => None,
    };
    let task = Task::of(view, waiting);
    Ok(tagged(&headers, &etag_of(&task), &task))
}
