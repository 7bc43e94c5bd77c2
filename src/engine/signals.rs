//! Signals from outside come in. No worker is needed: the signal and what it sets off are one transaction.

use bursar_domain::flow::{self, NewSignal, Received, SignalRefusal};
use bursar_domain::id::{MissionId, WorkflowId};
use bursar_domain::state::TaskState;
use bursar_domain::workflow::{Action, Definition, Node, ParentClose, Wait};
use serde_json::Value;

use super::Engine;
use crate::clock::new_id;
use crate::store::read::Due;
use crate::store::{StoreError, Want};

/// How often a signal is tried again because the mission began another run meanwhile.
const MAX_TRIES: u32 = 3;
/// Tasks of workflows inside of a run that a signal is offered to.
const MOST_OFFERED: usize = 256;
/// Tasks of a run that wait for signals of any name, of which these are.
const MOST_WAITERS: i64 = 5_000;

/// A signal for a mission.
#[derive(Clone)]
pub struct SignalWish {
    /// The mission.
    pub mission_id: MissionId,
    /// What the signal is called.
    pub name: String,
    /// The sender's idempotency key.
    pub key: Option<String>,
    /// SHA-256 of name and payload.
    pub request_hash: String,
    /// What it says; not null.
    pub payload: Value,
}

impl std::fmt::Debug for SignalWish {
    /// Names the signal; what it says stays out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "signal `{}` to {}", self.name, self.mission_id)
    }
}

/// Why a signal is not taken.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// The mission does not exist, or no node of its workflow waits for such a signal.
    #[error("no node of the mission's workflow waits for the signal `{0}`")]
    Unknown(String),
    /// The mission is over, the key was used before, or too many wait.
    #[error(transparent)]
    Refused(#[from] SignalRefusal),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Engine {
    /// Whether some node of the workflow waits for signals of that name.
    pub async fn waits_for_signal(&self, workflow: WorkflowId, name: &str) -> Result<bool, StoreError> {
        let definition = self.parts.facts.workflow(&self.parts.store, workflow).await?;
        Ok(definition
            .is_some_and(|definition| !takers(&definition, name).is_empty() || is_waited_for_inside(&definition, name)))
    }

    /// Those of the tasks that wait for a signal of that name.
    async fn named(&self, waiting: Vec<Due>, name: &str) -> Result<Vec<Due>, StoreError> {
        let mut named = Vec::new();
        for task in waiting {
            let definition = self.parts.facts.workflow(&self.parts.store, task.workflow_id).await?;
            let node = definition.as_ref().and_then(|definition| definition.node_for(task.place()));
            let is_named =
                |node: &Node| matches!(&node.action, Action::Wait(Wait::Signal(wanted)) if wanted.name == name);
            if node.is_some_and(is_named) && named.len() < MOST_OFFERED {
                named.push(task);
            }
        }
        Ok(named)
    }

    /// Takes a signal for a mission of which the caller knows that it may. With a key, the second one is the first. A
    /// crash after the commit leaves the signal with its task, and the dependents ready.
    pub async fn receive_signal(&self, wish: &SignalWish) -> Result<Received, SignalError> {
        let unknown = || SignalError::Unknown(wish.name.clone());
        for _ in 0..MAX_TRIES {
            let mission = self.store().mission(None, wish.mission_id).await?.ok_or_else(unknown)?;
            let definition = self.parts.facts.workflow(&self.parts.store, mission.workflow_id).await?;
            let definition = definition.ok_or_else(unknown)?;
            let takers = takers(&definition, &wish.name);
            let mut want = Want { missions: vec![wish.mission_id], ..Want::default() };
            if is_waited_for_inside(&definition, &wish.name) {
                let waiting = self.store().signal_waiters(mission.run_id, MOST_WAITERS).await?;
                let waiting = self.named(waiting, &wish.name).await?;
                want = self.want(&waiting).await?;
                want.missions = vec![wish.mission_id];
                // one may begin to wait until the mission is locked
                want.latest.push((wish.mission_id, TaskState::Waiting));
            } else if takers.is_empty() {
                return Err(unknown());
            }
            want.signals.insert(wish.mission_id);
            want.signal_keys.extend(wish.key.clone().map(|key| (wish.mission_id, key)));
            for index in takers {
                want.nodes.extend(i32::try_from(index).ok().map(|index| (mission.run_id, index)));
                want.reach(wish.mission_id, mission.run_id, 0, &definition.reach_of_start(index));
            }
            let new = NewSignal {
                id: new_id(),
                mission_id: wish.mission_id,
                run_id: mission.run_id,
                name: wish.name.clone(),
                key: wish.key.clone(),
                request_hash: wish.request_hash.clone(),
                payload: wish.payload.clone(),
            };
            match self.decide(&want, &mut |turn| flow::receive_signal(turn, &new)).await? {
                Err(SignalRefusal::RunChanged) => {}
                answer => return Ok(answer?),
            }
        }
        Err(StoreError::Contention(MAX_TRIES).into())
    }
}

/// Whether a node of a workflow inside of this one waits for signals of that name.
fn is_waited_for_inside(definition: &Definition, name: &str) -> bool {
    let inside = definition.nodes.iter().filter_map(Node::nested);
    // one that is a mission of its own hears its own signals
    let inside =
        inside.filter(|nested| nested.parent_close == ParentClose::Cancel).filter_map(|nested| nested.of.as_ref());
    inside.into_iter().any(|(_, inner)| !takers(inner, name).is_empty() || is_waited_for_inside(inner, name))
}

/// The nodes that wait for signals of that name.
fn takers(definition: &Definition, name: &str) -> Vec<u32> {
    let waits = |action: &Action| matches!(action, Action::Wait(Wait::Signal(wanted)) if wanted.name == name);
    definition.nodes.iter().filter(|node| waits(&node.action)).map(|node| node.index).collect()
}
