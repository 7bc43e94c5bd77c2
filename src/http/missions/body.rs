//! A mission as the API shows it.

use bursar_domain::id::MissionId;
use bursar_domain::state::RunState;
use bursar_domain::workflow::OnExhausted;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::super::conditional::etag_of;
use super::super::state::Site;
use super::super::stream::token;
use super::super::types::{Amount, ShownMission, ShownProject, ShownRun, ShownWorkflow, Time};
use crate::store::read::MissionView;

/// Where a mission stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum MissionStatus {
    /// Submitted; no worker has taken a task yet.
    Queued,
    /// Tasks run.
    Running,
    /// A user paused it: what runs goes on, nothing new begins.
    Paused,
    /// A task failed for good; the others are being ended.
    Failing,
    /// A user cancelled; tasks are being ended.
    Cancelling,
    /// Done; final.
    Succeeded,
    /// A task failed; final.
    Failed,
    /// A user cancelled; final.
    Cancelled,
    /// The deadline passed; final.
    Expired,
}

impl From<RunState> for MissionStatus {
    fn from(state: RunState) -> Self {
        match state {
            RunState::Queued => Self::Queued,
            RunState::Running => Self::Running,
            RunState::Paused => Self::Paused,
            RunState::Failing => Self::Failing,
            RunState::Cancelling => Self::Cancelling,
            RunState::Succeeded => Self::Succeeded,
            RunState::Failed => Self::Failed,
            RunState::Cancelled => Self::Cancelled,
            RunState::Expired => Self::Expired,
        }
    }
}

/// What happens when a mission's budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum WhenExhausted {
    /// The mission waits until somebody cancels it.
    Pause,
    /// The mission fails.
    Fail,
}

impl From<OnExhausted> for WhenExhausted {
    fn from(policy: OnExhausted) -> Self {
        match policy {
            OnExhausted::Pause => Self::Pause,
            OnExhausted::Fail => Self::Fail,
        }
    }
}

impl From<WhenExhausted> for OnExhausted {
    fn from(policy: WhenExhausted) -> Self {
        match policy {
            WhenExhausted::Pause => Self::Pause,
            WhenExhausted::Fail => Self::Fail,
        }
    }
}

/// The workflow version that a mission runs.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct WorkflowRef {
    /// Its name.
    name: String,
    /// Its version.
    version: i64,
    /// The version's id.
    id: ShownWorkflow,
}

/// How far a mission is.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Progress {
    /// Tasks in a final state.
    done: i64,
    /// All tasks.
    total: i64,
    /// The same as whole percent.
    percent: i64,
}

impl Progress {
    /// Of a mission.
    pub fn of(view: &MissionView) -> Self {
        let percent = view.tasks_done.saturating_mul(100).checked_div(view.tasks_total).unwrap_or(100);
        Self { done: view.tasks_done, total: view.tasks_total, percent }
    }
}

/// A mission's money.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct MissionBudget {
    /// The most it may spend; null is no limit.
    max_credits: Option<Amount>,
    /// Reserved now.
    held: Amount,
    /// Charged so far, fee included.
    spent: Amount,
    /// What happens when `max_credits` is used up.
    on_exhausted: WhenExhausted,
}

/// What can be done with a mission now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum MissionAction {
    /// `POST …/cancel`.
    Cancel,
    /// `POST …/pause`.
    Pause,
    /// `POST …/resume`.
    Resume,
    /// `POST …/retry`.
    Retry,
    /// `POST …/fork`.
    Fork,
}

impl MissionAction {
    /// What can be done with a mission in that state.
    fn allowed(state: RunState) -> Vec<Self> {
        match state {
            RunState::Queued | RunState::Running => vec![Self::Cancel, Self::Pause],
            RunState::Paused => vec![Self::Cancel, Self::Resume],
            RunState::Failing => vec![Self::Cancel],
            RunState::Cancelling => Vec::new(),
            RunState::Failed | RunState::Cancelled | RunState::Expired => vec![Self::Retry, Self::Fork],
            RunState::Succeeded => vec![Self::Fork],
        }
    }
}

/// How to follow a mission from a browser.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct StreamAccess {
    /// The event stream.
    #[schema(example = "/v1/missions/mis_01k…/stream")]
    url: String,
    /// Opens this stream alone, as `?access_token=`.
    token: String,
    /// Until when it does.
    expires_at: Time,
}

/// Where things about a mission are.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct MissionLinks {
    /// The mission.
    #[serde(rename = "self")]
    this: String,
    /// Its event log.
    events: String,
    /// Its page for people.
    dashboard: String,
}

/// Why a mission failed.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct MissionError {
    /// The node that failed, where one did.
    pub node: Option<String>,
    /// A stable code.
    pub code: String,
    /// How it was treated, e.g. `permanent`.
    class: Option<String>,
    /// What happened.
    pub message: String,
}

impl MissionError {
    /// Out of a run's stored error.
    pub fn of(error: &Value) -> Self {
        let text = |key: &str| error.get(key).and_then(Value::as_str).map(str::to_owned);
        Self {
            node: text("node"),
            code: text("code").unwrap_or_else(|| "unknown".to_owned()),
            class: text("class"),
            message: text("message").unwrap_or_default(),
        }
    }
}

/// What a user asked for, and where it stands.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Mission {
    /// Its id.
    id: ShownMission,
    /// Where it stands.
    status: MissionStatus,
    /// Why it stands there, for people.
    status_reason: Option<String>,
    /// What it runs.
    workflow: WorkflowRef,
    /// Its latest run.
    run_id: ShownRun,
    /// How far it is.
    progress: Progress,
    /// Its money.
    budget: MissionBudget,
    /// The flat fee, charged once on success.
    fee: Amount,
    /// What the workflow hands back, by name, once it succeeded; null in lists.
    #[schema(value_type = Option<Object>)]
    output: Option<Value>,
    /// Why it failed.
    error: Option<MissionError>,
    /// What was submitted; left out in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    input: Option<Value>,
    /// The project that it belongs to.
    project_id: Option<ShownProject>,
    /// The client's own data.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
    /// The client's words by which usage is reported.
    tags: Vec<String>,
    /// Higher goes first among the tenant's own tasks.
    priority: i64,
    /// The number of its last event.
    version: i64,
    /// What can be done now.
    allowed_actions: Vec<MissionAction>,
    /// How to follow it; left out in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<StreamAccess>,
    /// Where more is.
    links: MissionLinks,
    /// When it was submitted.
    created_at: Time,
    /// When its first task was claimed.
    started_at: Option<Time>,
    /// When it was over.
    ended_at: Option<Time>,
    /// When it fails if it is not over by then.
    deadline_at: Option<Time>,
}

impl Mission {
    /// A row of a list.
    pub fn of(site: &Site, view: MissionView, output: Option<Value>) -> Self {
        let base = site.settings().public_url.trim_end_matches('/');
        let path = format!("{base}/v1/missions/{}", view.id);
        Self {
            id: view.id.into(),
            status: view.state.into(),
            progress: Progress::of(&view),
            status_reason: view.status_reason,
            workflow: WorkflowRef {
                name: view.workflow_name,
                version: view.workflow_version,
                id: view.workflow_id.into(),
            },
            run_id: view.run_id.into(),
            budget: MissionBudget {
                max_credits: view.budget_ucr.map(Amount),
                held: view.held_ucr.into(),
                spent: view.spent_ucr.into(),
                on_exhausted: view.on_exhausted.into(),
            },
            fee: view.fee_ucr.into(),
            output,
            error: view.error.as_ref().filter(|error| !error.is_null()).map(MissionError::of),
            input: view.input,
            project_id: view.project_id.map(Into::into),
            metadata: view.metadata,
            tags: view.tags.unwrap_or_default(),
            priority: view.priority,
            version: view.last_seq,
            allowed_actions: MissionAction::allowed(view.state),
            stream: None,
            links: MissionLinks {
                events: format!("{path}/events"),
                this: path,
                dashboard: format!("{base}/dashboard/missions/{}", view.id),
            },
            created_at: view.created_at.into(),
            started_at: view.started_at.map(Time),
            ended_at: view.ended_at.map(Time),
            deadline_at: view.deadline_at.map(Time),
        }
    }

    /// Its tag. It does not cover the stream token, which is fresh on every answer and says nothing about the mission.
    pub fn etag(&self) -> String {
        debug_assert!(self.stream.is_none(), "the token comes after the tag");
        etag_of(self)
    }

    /// The same with a fresh stream token.
    pub fn with_stream(mut self, site: &Site, id: MissionId) -> Self {
        let (token, expires_at) = token::issue(site, id);
        self.stream =
            Some(StreamAccess { url: format!("/v1/missions/{id}/stream"), token, expires_at: expires_at.into() });
        self
    }
}
