//! How an event looks, in the JSON log and in streams.

use bursar_domain::id::{EventId, MissionId, RunId, TaskId};
use bursar_domain::record::Event;
use bursar_domain::time::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::super::types::{ShownEvent, ShownMission, ShownRun, ShownTask, Time};
use crate::store::read::EventView;
use crate::stream::Snapshot;

/// What an event is about.
#[derive(Debug, Clone, Serialize)]
pub(in crate::http) struct About {
    /// The task.
    id: ShownTask,
    /// Its node.
    node: Option<String>,
    /// Its attempt.
    attempt: Option<i64>,
}

/// One event. Events without `id` and `seq` are frames that no log keeps. `catalog` describes each type.
#[derive(Debug, Clone, Serialize)]
pub(in crate::http) struct Envelope {
    /// The same event has the same id everywhere; null for frames that no log keeps.
    id: Option<ShownEvent>,
    /// Its number in the mission, 1, 2, 3… without a gap; null for frames that no log keeps.
    pub(super) seq: Option<i64>,
    /// What happened.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// When.
    at: Time,
    /// The mission.
    mission_id: ShownMission,
    /// The run; null in frames about the stream itself.
    run_id: Option<ShownRun>,
    /// The task it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<About>,
    /// What the type says it carries.
    data: Value,
}

/// The id of an event: made from its mission and number, so that every reader names it alike without storing it.
fn event_id(mission: MissionId, seq: i64) -> EventId {
    let digest = Sha256::digest(format!("{mission}/{seq}").as_bytes());
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    EventId::from_uuid(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

impl Envelope {
    /// A row of the log.
    pub(super) fn of_row(row: EventView) -> Self {
        Self {
            id: Some(event_id(row.mission_id, row.seq).into()),
            seq: Some(row.seq),
            kind: row.kind,
            at: row.at.into(),
            mission_id: row.mission_id.into(),
            run_id: Some(row.run_id.into()),
            task: row.task_id.map(|id| About { id: id.into(), node: row.node, attempt: row.attempt }),
            data: row.data,
        }
    }

    /// An event as the engine told it.
    pub(super) fn of_event(event: Event) -> Self {
        Self {
            id: Some(event_id(event.mission_id, event.seq).into()),
            seq: Some(event.seq),
            kind: event.kind,
            at: event.at.into(),
            mission_id: event.mission_id.into(),
            run_id: Some(event.run_id.into()),
            task: event.task_id.map(|id| About {
                id: id.into(),
                node: event.node,
                attempt: event.attempt.map(i64::from),
            }),
            data: event.data,
        }
    }

    /// A frame that no log keeps.
    pub(super) fn frame(mission: MissionId, run: Option<RunId>, kind: &str, at: Timestamp, data: Value) -> Self {
        Self {
            id: None,
            seq: None,
            kind: kind.to_owned(),
            at: at.into(),
            mission_id: mission.into(),
            run_id: run.map(Into::into),
            task: None,
            data,
        }
    }

    /// The same about a task.
    pub(super) fn about(mut self, task: TaskId, node: &str, attempt: i32) -> Self {
        let about = About { id: task.into(), node: Some(node.to_owned()), attempt: Some(i64::from(attempt)) };
        self.task = Some(about);
        self
    }

    /// What a running task said so far.
    pub(super) fn snapshot(mission: MissionId, run: RunId, at: Timestamp, snapshot: &Snapshot) -> Self {
        let data = json!({"text": snapshot.text, "next_index": snapshot.next_index});
        Self::frame(mission, Some(run), "task.delta_snapshot", at, data).about(
            snapshot.task_id,
            &snapshot.node,
            snapshot.attempt,
        )
    }

    /// Whether a run of the mission is over with this event, and the mission with it until somebody retries or forks it.
    pub(super) fn is_last(&self) -> bool {
        let ends = ["mission.succeeded", "mission.failed", "mission.cancelled", "mission.expired"];
        self.seq.is_some() && ends.contains(&self.kind.as_str())
    }

    /// The event as server-sent text. Only durable ones move the client's cursor.
    pub(super) fn to_sse(&self) -> String {
        let body = serde_json::to_string(self).unwrap_or_default();
        match self.seq {
            Some(seq) => format!("id: {seq}\nevent: {}\ndata: {body}\n\n", self.kind),
            None => format!("event: {}\ndata: {body}\n\n", self.kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn an_event_has_the_same_id_for_every_reader() {
        let mission = MissionId::from_uuid(Uuid::from_u128(1));
        assert_eq!(event_id(mission, 1), event_id(mission, 1));
        assert_ne!(event_id(mission, 1), event_id(mission, 2));
        assert_ne!(event_id(mission, 1), event_id(MissionId::from_uuid(Uuid::from_u128(2)), 1));
    }
}
