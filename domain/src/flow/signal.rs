//! Signals from outside: each goes to one waiting task, the oldest first, or waits for one. None is lost, none goes to two.
//!
//! Whoever receives a signal and whoever begins to wait for one hold the mission, so one of them sees the other.

use serde_json::{Value, json};

use crate::id::{MissionId, RunId, SignalId, TaskId};
use crate::limits::MAX_BUFFERED_SIGNALS;
use crate::outcome::{ErrorClass, StepError};
use crate::record::{Signal, Task};
use crate::state::{TaskState, WaitCause};
use crate::workflow::{Action, OnSilence, SignalWait, Wait};

use super::advance::{fail, park};
use super::begin::go_on;
use super::deadline::has_passed;
use super::settle::check_dependents;
use super::wake::{conclude, finish_wait};
use super::{Refusal, Turn, node_of};

/// A signal that comes in.
#[derive(Clone, PartialEq)]
pub struct NewSignal {
    /// Its id.
    pub id: SignalId,
    /// Where it comes to.
    pub mission_id: MissionId,
    /// The run whose tasks were loaded.
    pub run_id: RunId,
    /// What it is called.
    pub name: String,
    /// The sender's idempotency key.
    pub key: Option<String>,
    /// SHA-256 of name and payload.
    pub request_hash: String,
    /// What it says; not null.
    pub payload: Value,
}

impl std::fmt::Debug for NewSignal {
    /// Names the signal; what it says stays out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} `{}` to {}", self.id, self.name, self.mission_id)
    }
}

/// What became of a signal.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// The signal as it is kept.
    pub signal: Signal,
    /// Whether it had come before under the same key; nothing was changed.
    pub repeated: bool,
}

/// Why a signal is refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignalRefusal {
    /// The mission is over or being ended.
    #[error("the mission is {0} and takes no signals")]
    Over(&'static str),
    /// The key was used with another name or payload.
    #[error("the key was used before with another signal")]
    KeyReused,
    /// Too many signals of the mission wait for somebody to take them.
    #[error("{MAX_BUFFERED_SIGNALS} signals of this mission wait already for a node to take them")]
    TooMany,
    /// The mission has another run by now, or another task that waits: look again.
    #[error("the mission went on meanwhile")]
    RunChanged,
    /// Something else.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// A signal comes in: the oldest task that waits for it takes it, or it waits.
pub fn receive_signal(turn: &mut Turn<'_>, new: &NewSignal) -> Result<Received, SignalRefusal> {
    let mission = turn.mission(new.mission_id)?;
    let (tenant_id, run_id) = (mission.tenant_id, mission.run_id);
    let known = |signal: &&Signal| signal.mission_id == new.mission_id && new.key.is_some() && signal.key == new.key;
    if let Some(signal) = turn.set.signals.iter().find(known) {
        let is_same = signal.request_hash == new.request_hash;
        let repeated = Received { signal: signal.clone(), repeated: true };
        return if is_same { Ok(repeated) } else { Err(SignalRefusal::KeyReused) };
    }
    let state = turn.run(run_id)?.state;
    if !state.is_open() {
        return Err(SignalRefusal::Over(state.as_str()));
    }
    if run_id != new.run_id {
        return Err(SignalRefusal::RunChanged);
    }
    let taker = taker_of(turn, new);
    match &taker {
        // it began to wait after somebody looked for who waits
        Some(task) if check_dependents(turn, task).is_err() => return Err(SignalRefusal::RunChanged),
        None if waiting(turn, new.mission_id).count() >= MAX_BUFFERED_SIGNALS => return Err(SignalRefusal::TooMany),
        Some(_) | None => {}
    }
    let signal = Signal {
        id: new.id,
        tenant_id,
        mission_id: new.mission_id,
        name: new.name.clone(),
        key: new.key.clone(),
        request_hash: new.request_hash.clone(),
        payload: new.payload.clone(),
        task_id: taker.as_ref().map(|task| task.id),
        received_at: turn.now,
        delivered_at: taker.as_ref().map(|_| turn.now),
    };
    turn.set.signals.add(new.id, signal.clone());
    let bytes = new.payload.to_string().len();
    let data = json!({"signal_id": new.id, "name": new.name, "bytes": bytes, "is_taken": taker.is_some()});
    turn.emit(new.mission_id, "signal.received", taker.as_ref().map(|task| task.id), data);
    if let Some(task) = taker {
        finish_wait(turn, task.id, new.payload.clone())?;
    }
    Ok(Received { signal, repeated: false })
}

/// The task that has waited longest for such a signal and whose time is not over.
fn taker_of(turn: &Turn<'_>, new: &NewSignal) -> Option<Task> {
    let waits = |task: &&Task| {
        let is_due = task.due_at.is_some_and(|due| due <= turn.now) || has_passed(task, turn.now);
        let is_waiting = task.state == TaskState::Waiting && task.wait == Some(WaitCause::Signal) && !is_due;
        let definition = turn.definition(task.workflow_id).ok();
        let node = definition.as_ref().and_then(|definition| node_of(definition, task).ok());
        let is_named = node
            .is_some_and(|node| matches!(&node.action, Action::Wait(Wait::Signal(wanted)) if wanted.name == new.name));
        task.run_id == new.run_id && is_waiting && is_named
    };
    let oldest = turn.set.tasks.iter().filter(waits).min_by_key(|task| (task.ready_at, task.node_index));
    oldest.cloned()
}

/// Signals of a mission that nobody took yet.
fn waiting<'t>(turn: &'t Turn<'_>, mission: MissionId) -> impl Iterator<Item = &'t Signal> {
    turn.set.signals.iter().filter(move |signal| signal.mission_id == mission && signal.task_id.is_none())
}

/// A task begins to wait for a signal; one that came before is taken at once, the oldest first.
pub(super) fn wait_for(turn: &mut Turn<'_>, task: &Task, wanted: &SignalWait) -> Result<(), Refusal> {
    if !turn.set.signals_of.contains(&task.mission_id) {
        return Err(Refusal::Unloaded(format!("the signals of mission {}", task.mission_id)));
    }
    let such = waiting(turn, task.mission_id).filter(|signal| signal.name == wanted.name);
    let oldest = such.min_by_key(|signal| (signal.received_at, signal.id)).map(|signal| signal.id);
    let Some(id) = oldest else {
        let reason = format!("waits for the signal `{}`", wanted.name);
        park(turn, task.id, WaitCause::Signal, Some(wanted.expires_ms), &reason);
        return Ok(());
    };
    let now = turn.now;
    let Some(signal) = turn.set.signals.change(id) else { return Ok(()) };
    signal.task_id = Some(task.id);
    signal.delivered_at = Some(now);
    let payload = signal.payload.clone();
    if let Some(row) = turn.set.tasks.change(task.id) {
        row.ready_at = row.ready_at.or(Some(now));
    }
    conclude(turn, task.id, payload)
}

/// The signal did not come in time. Returns the tasks that are ready now.
pub(super) fn expire(turn: &mut Turn<'_>, id: TaskId) -> Result<Vec<TaskId>, Refusal> {
    let task = turn.task(id)?.clone();
    check_dependents(turn, &task)?;
    let definition = turn.definition(task.workflow_id)?;
    let Action::Wait(Wait::Signal(wanted)) = &node_of(&definition, &task)?.action else {
        return Err(Refusal::Unloaded(format!("the signal of task {id}")));
    };
    match wanted.on_expire {
        OnSilence::Continue => finish_wait(turn, id, Value::Null),
        OnSilence::Fail => {
            let message = format!("the signal `{}` did not come within {} ms", wanted.name, wanted.expires_ms);
            fail(turn, id, StepError::new(ErrorClass::Permanent, "signal_expired", message))?;
            go_on(turn, id)
        }
    }
}
