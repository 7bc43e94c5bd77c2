//! Which events there are and what each carries: the union that the `OpenAPI` document shows for streams.
//!
//! Streams are not written from these types; a test reads every event of real missions back into them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Any event of a stream, told apart by `type`. Clients must tolerate types and fields that they do not know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type")]
pub enum StreamEvent {
    /// The mission was submitted.
    #[serde(rename = "mission.created")]
    MissionCreated(Told<Created>),
    /// A user cancelled; its tasks are being ended.
    #[serde(rename = "mission.cancelling")]
    MissionCancelling(Told<Cancelling>),
    /// A user paused it: what runs goes on, nothing new begins.
    #[serde(rename = "mission.paused")]
    MissionPaused(Told<Paused>),
    /// A user resumed it.
    #[serde(rename = "mission.resumed")]
    MissionResumed(Told<Resumed>),
    /// It was over and goes on in the same run.
    #[serde(rename = "mission.retried")]
    MissionRetried(Told<Retried>),
    /// It was over and goes on in a new run.
    #[serde(rename = "mission.forked")]
    MissionForked(Told<Forked>),
    /// It was over and goes on in a new run, because of a message.
    #[serde(rename = "mission.continued")]
    MissionContinued(Told<Continued>),
    /// Somebody said something: a user, an agent, or a run that succeeded.
    #[serde(rename = "message.created")]
    MessageCreated(Told<MessageTold>),
    /// Done; last.
    #[serde(rename = "mission.succeeded")]
    MissionSucceeded(Told<Ended>),
    /// A task failed; last.
    #[serde(rename = "mission.failed")]
    MissionFailed(Told<Ended>),
    /// A user cancelled; last.
    #[serde(rename = "mission.cancelled")]
    MissionCancelled(Told<Ended>),
    /// The deadline passed; last.
    #[serde(rename = "mission.expired")]
    MissionExpired(Told<Ended>),
    /// A worker began an attempt. Not in the log.
    #[serde(rename = "task.started")]
    TaskStarted(Told<Attempt>),
    /// Text that a running task produced. Not in the log.
    #[serde(rename = "task.delta")]
    TaskDelta(Told<Delta>),
    /// What a running task said before the client came. Not in the log.
    #[serde(rename = "task.delta_snapshot")]
    TaskDeltaSnapshot(Told<DeltaSnapshot>),
    /// A new attempt began: forget the text of the earlier one. Not in the log.
    #[serde(rename = "task.attempt_reset")]
    TaskAttemptReset(Told<Attempt>),
    /// An attempt failed and another will follow.
    #[serde(rename = "task.retrying")]
    TaskRetrying(Told<Retrying>),
    /// The task waits for a named cause.
    #[serde(rename = "task.waiting")]
    TaskWaiting(Told<Waiting>),
    /// All items of a map became tasks.
    #[serde(rename = "task.spread")]
    TaskSpread(Told<Spread>),
    /// Somebody is asked to decide something.
    #[serde(rename = "approval.requested")]
    ApprovalRequested(Told<Asked>),
    /// Somebody decided it.
    #[serde(rename = "approval.decided")]
    ApprovalDecided(Told<Decided>),
    /// Nobody decided it in time.
    #[serde(rename = "approval.expired")]
    ApprovalExpired(Told<NotDecided>),
    /// A signal came in.
    #[serde(rename = "signal.received")]
    SignalReceived(Told<SignalTold>),
    /// A model did not answer; another is asked in its place.
    #[serde(rename = "task.model_changed")]
    TaskModelChanged(Told<ModelChanged>),
    /// An agent has a tool run.
    #[serde(rename = "task.tool_call")]
    TaskToolCall(Told<ToolCalled>),
    /// What came of it.
    #[serde(rename = "task.tool_result")]
    TaskToolResult(Told<ToolEnded>),
    /// The task is done.
    #[serde(rename = "task.succeeded")]
    TaskSucceeded(Told<TaskDone>),
    /// The task gave up.
    #[serde(rename = "task.failed")]
    TaskFailed(Told<TaskLost>),
    /// The task was ended with its run.
    #[serde(rename = "task.cancelled")]
    TaskCancelled(Told<TaskStopped>),
    /// The task never started and never will.
    #[serde(rename = "task.skipped")]
    TaskSkipped(Told<Skipped>),
    /// The log is read; what follows happens now. Not in the log.
    #[serde(rename = "stream.caught_up")]
    StreamCaughtUp(Told<Reached>),
    /// Old events were pruned; what follows comes after them. Not in the log.
    #[serde(rename = "stream.gap")]
    StreamGap(Told<Gap>),
    /// The server closes the stream; come again. Not in the log.
    #[serde(rename = "stream.closing")]
    StreamClosing(Told<Closing>),
    /// The mission is over; nothing follows. Not in the log.
    #[serde(rename = "stream.end")]
    StreamEnd(Told<Reached>),
}

/// What all events have in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Told<T: ToSchema> {
    /// The event's id; null when it is not in the log.
    pub id: Option<String>,
    /// Its number in the mission; null when it is not in the log.
    pub seq: Option<i64>,
    /// When.
    pub at: String,
    /// The mission.
    pub mission_id: String,
    /// The run; null in frames about the stream itself.
    pub run_id: Option<String>,
    /// The task it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskRef>,
    /// What happened.
    pub data: T,
}

/// The task that an event is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskRef {
    /// Its id.
    pub id: String,
    /// Its node.
    pub node: Option<String>,
    /// Its attempt.
    pub attempt: Option<i64>,
}

macro_rules! carried {
    ($($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $field:ident: $kind:ty,)* })*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($(#[$about])* pub $field: $kind,)* }
    )* };
}

carried! {
    /// Another model is asked.
    ModelChanged {
        /// The model that did not answer.
        from: String,
        /// The model that is asked now.
        to: String,
        /// The code of the first one's error.
        code: String,
        /// The call's number within the step.
        number: i64,
    }
    /// A tool was called.
    ToolCalled {
        /// Its name.
        tool: String,
        /// The call's number within the step.
        number: i64,
        /// The beginning of its arguments, as JSON text.
        arguments: String,
    }
    /// A tool call ended.
    ToolEnded {
        /// The tool's name.
        tool: String,
        /// The call's number within the step.
        number: i64,
        /// Whether it failed; the model is told why.
        is_error: bool,
        /// The size of its result.
        bytes: i64,
        /// How long it took.
        duration_ms: i64,
        /// The beginning of its result. Nothing in it is trusted.
        preview: String,
    }
    /// A decision is asked for. What is shown is read at `/v1/approvals/{id}`.
    Asked {
        /// Until when, in ms since 1970.
        expires_at_ms: i64,
        /// The size of what is shown.
        bytes: i64,
    }
    /// A decision.
    Decided {
        /// `approved` or `rejected`.
        decision: String,
        /// Who decided, the id of an API key.
        by: Option<String>,
        /// What they said about it.
        comment: Option<String>,
    }
    /// A decision that nobody made.
    NotDecided {
        /// What it counts as: `approved`, `rejected` or `failed`.
        counts_as: String,
    }
    /// Events that are gone.
    Gap {
        /// The first that is missing.
        from: i64,
        /// The last that is missing.
        to: i64,
    }
    /// A signal from outside. What it says is the output of the task that takes it.
    SignalTold {
        /// Its id.
        signal_id: String,
        /// What it is called.
        name: String,
        /// The size of what it says.
        bytes: i64,
        /// Whether a task took it at once; otherwise it waits for one.
        is_taken: bool,
    }
    /// A mission was made.
    Created {
        /// The workflow's name.
        workflow: String,
        /// How many tasks it has.
        tasks: i64,
        /// Its run.
        run_id: String,
    }
    /// A mission is being cancelled.
    Cancelling {
        /// Why.
        reason: String,
    }
    /// A mission is paused.
    Paused {
        /// Why.
        reason: String,
    }
    /// A mission goes on.
    Resumed {
        /// How many tasks the pause had kept from beginning.
        tasks: i64,
    }
    /// A run goes on after it was over.
    Retried {
        /// The run.
        run_id: String,
        /// 1, 2, 3…
        retry: i64,
        /// How many tasks begin anew.
        tasks: i64,
    }
    /// A new run begins where an old one was over.
    Forked {
        /// The new run.
        run_id: String,
        /// Its number.
        number: i64,
        /// The old one.
        of_run_id: String,
        /// How many tasks it has.
        tasks: i64,
        /// The nodes that keep what came out of them.
        kept: Vec<String>,
    }
    /// A new run begins because of a message.
    Continued {
        /// The new run.
        run_id: String,
        /// Its number.
        number: i64,
        /// The one before it.
        of_run_id: String,
        /// How many tasks it has.
        tasks: i64,
        /// The message.
        message_id: String,
    }
    /// A message. What it says is read at `/v1/missions/{id}/messages`.
    MessageTold {
        /// Its id.
        message_id: String,
        /// Its number in the mission.
        number: i64,
        /// `user`, `assistant` or `system`.
        role: String,
        /// Who said it.
        author: String,
        /// What a user's message did: `steers` or `begins_run`.
        #[serde(default)]
        effect: Option<String>,
        /// The run that it steers or begins, or that answered.
        run_id: String,
    }
    /// A mission is over.
    Ended {
        /// Its run.
        run_id: String,
        /// What was charged, fee included.
        credits: String,
        /// The part of it that is the flat fee.
        fee: String,
        /// From submit to end.
        duration_ms: i64,
        /// Why it failed, where it did.
        #[serde(default)]
        error: Option<Failure>,
    }
    /// A run's failure.
    Failure {
        /// The node that failed, where one did.
        #[serde(default)]
        node: Option<String>,
        /// How it was treated.
        #[serde(default)]
        class: Option<String>,
        /// A stable code.
        code: String,
        /// What happened.
        message: String,
    }
    /// A step's error.
    Fault {
        /// How it was treated.
        class: String,
        /// A stable code.
        code: String,
        /// What happened.
        message: String,
        /// How long the provider asked to wait.
        #[serde(default)]
        retry_after_ms: Option<i64>,
    }
    /// An attempt.
    Attempt {
        /// Its number.
        attempt: i64,
    }
    /// A piece of text.
    Delta {
        /// 0, 1, 2… within the attempt.
        index: u64,
        /// The text.
        text: String,
    }
    /// All text so far.
    DeltaSnapshot {
        /// The text; its end, when it is long.
        text: String,
        /// The index of the next piece.
        next_index: u64,
    }
    /// Another attempt follows.
    Retrying {
        /// Why the last one failed.
        error: Fault,
        /// How long until the next.
        delay_ms: i64,
        /// How many failed.
        failures: i64,
        /// How many there may be.
        max_attempts: i64,
    }
    /// A wait.
    Waiting {
        /// `credits`, `timer`, `rate_limit`, `condition`, `approval`, `signal`, `children` or `paused`.
        cause: String,
        /// For people.
        reason: String,
        /// Until when, in ms since 1970, where that is known.
        until_ms: Option<i64>,
    }
    /// A task is done.
    TaskDone {
        /// How long its last attempt took.
        duration_ms: Option<i64>,
        /// When its last attempt began, in ms since 1970.
        #[serde(default)]
        started_at_ms: Option<i64>,
        /// Who did it.
        #[serde(default)]
        worker_id: Option<String>,
        /// What its billed calls used.
        #[serde(default)]
        usage: Option<UsageTold>,
        /// What was charged.
        credits: String,
        /// The models whose answers made the output; empty where none was asked.
        #[serde(default)]
        models: Vec<String>,
        /// Whether the output is an earlier task's, which was used again and costs nothing.
        #[serde(default)]
        cached: bool,
    }
    /// A task gave up.
    TaskLost {
        /// Why.
        error: Fault,
        /// Whether the run goes on without it (`on_error`).
        run_goes_on: bool,
        /// The node that stands in for it (`on_error: { fallback: … }`).
        #[serde(default)]
        stand_in: Option<String>,
    }
    /// A task was ended.
    TaskStopped {
        /// What was charged.
        credits: String,
        /// What was charged for.
        #[serde(default)]
        usage: Option<UsageTold>,
    }
    /// What calls used.
    UsageTold {
        /// All tokens sent, cached ones included.
        input_tokens: u64,
        /// The part of the input that was read from a cache.
        cache_read_tokens: u64,
        /// The part of the input that was written to a cache.
        cache_write_tokens: u64,
        /// The part of the cache writes made for one hour; left out where there is none.
        #[serde(default)]
        cache_write_1h_tokens: Option<u64>,
        /// All tokens produced, reasoning included.
        output_tokens: u64,
        /// The part of the output spent on reasoning.
        reasoning_tokens: u64,
    }
    /// The items of a map.
    Spread {
        /// How many there are.
        items: i32,
    }
    /// A task never runs.
    Skipped {
        /// For people.
        reason: String,
    }
    /// How far the stream is.
    Reached {
        /// The number of the last event that was said.
        seq: i64,
    }
    /// The stream closes.
    Closing {
        /// When to come again.
        retry_ms: u64,
    }
}
