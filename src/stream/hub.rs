//! Fan-out inside one process: bounded, and a slow watcher costs itself.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bursar_domain::id::{MissionId, RunId, TaskId};
use tokio::sync::broadcast;

use super::{Frame, FrameBody};

/// Frames that a watcher may lag behind before it is told to read the log.
const WATCH_CAPACITY: usize = 256;
/// Runs to stop that a process may lag behind before it looks at the store.
const STOP_CAPACITY: usize = 4_096;
/// Bytes of produced text kept per running task, for watchers that join late.
const SNAPSHOT_BYTES: usize = 64 * 1024;

/// What a watched task has said so far in its present attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The task.
    pub task_id: TaskId,
    /// Its node.
    pub node: String,
    /// The attempt.
    pub attempt: i32,
    /// The number of the next piece.
    pub next_index: u64,
    /// The text; its end, when it is longer than the limit.
    pub text: String,
}

/// A subscription to one mission.
#[derive(Debug)]
pub struct Watch {
    /// Frames from now on. `Lagged` means: read the log.
    pub frames: broadcast::Receiver<Frame>,
    /// What running tasks said before.
    pub snapshots: Vec<Snapshot>,
}

#[derive(Debug)]
struct Topic {
    sender: broadcast::Sender<Frame>,
    snapshots: HashMap<TaskId, Snapshot>,
    /// The newest attempt of each task that was heard of.
    attempts: HashMap<TaskId, i32>,
}

impl Topic {
    fn new() -> Self {
        Self { sender: broadcast::channel(WATCH_CAPACITY).0, snapshots: HashMap::new(), attempts: HashMap::new() }
    }

    /// Whether a frame comes from an attempt that a newer one took the place of: from a worker that woke after its lease
    /// was taken. What it says is not what the task says.
    fn is_outdated(&mut self, body: &FrameBody) -> bool {
        let (FrameBody::Started { task_id, attempt, .. } | FrameBody::Delta { task_id, attempt, .. }) = body else {
            return false;
        };
        let newest = self.attempts.entry(*task_id).or_insert(*attempt);
        *newest = (*newest).max(*attempt);
        *attempt < *newest
    }
}

/// All watched missions of this process, and one feed of runs whose tasks must stop.
#[derive(Debug)]
pub struct Hub {
    topics: Mutex<HashMap<MissionId, Topic>>,
    stops: broadcast::Sender<RunId>,
}

impl Default for Hub {
    fn default() -> Self {
        Self { topics: Mutex::default(), stops: broadcast::channel(STOP_CAPACITY).0 }
    }
}

impl Hub {
    /// Watches a mission.
    pub fn watch(&self, mission: MissionId) -> Watch {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        // topics nobody watches any more leave when somebody new comes
        topics.retain(|_, topic| topic.sender.receiver_count() > 0);
        let topic = topics.entry(mission).or_insert_with(Topic::new);
        Watch { frames: topic.sender.subscribe(), snapshots: topic.snapshots.values().cloned().collect() }
    }

    /// Watches for runs whose tasks must stop. `Lagged` means: look at the store.
    pub fn watch_stops(&self) -> broadcast::Receiver<RunId> {
        self.stops.subscribe()
    }

    /// How many watchers there are.
    pub fn watchers(&self) -> usize {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.values().map(|topic| topic.sender.receiver_count()).sum()
    }

    /// Hands a frame to the watchers of its mission in this process.
    pub fn deliver(&self, frame: &Frame) {
        if let FrameBody::Stop { run_id } = frame.body {
            let _ = self.stops.send(run_id);
        }
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(topic) = topics.get_mut(&frame.mission_id) else { return };
        if topic.is_outdated(&frame.body) {
            return;
        }
        remember(&mut topic.snapshots, &frame.body);
        let _ = topic.sender.send(frame.clone());
    }
}

/// Keeps the text of running tasks; forgets it when the task's event says that the attempt is over.
fn remember(snapshots: &mut HashMap<TaskId, Snapshot>, body: &FrameBody) {
    match body {
        FrameBody::Delta { task_id, node, attempt, index, text } => {
            let fresh = || Snapshot {
                task_id: *task_id,
                node: node.clone(),
                attempt: *attempt,
                next_index: *index,
                text: String::new(),
            };
            let snapshot = snapshots.entry(*task_id).or_insert_with(fresh);
            if snapshot.attempt != *attempt {
                *snapshot = fresh();
            }
            snapshot.next_index = index.saturating_add(1);
            snapshot.text.push_str(text);
            if snapshot.text.len() > SNAPSHOT_BYTES {
                let mut cut = snapshot.text.len() - SNAPSHOT_BYTES;
                while !snapshot.text.is_char_boundary(cut) {
                    cut += 1;
                }
                snapshot.text.drain(..cut);
            }
        }
        FrameBody::Event { event: Some(event), .. } => {
            if let Some(task) = event.task_id {
                snapshots.remove(&task);
            }
        }
        FrameBody::Event { event: None, .. } | FrameBody::Started { .. } | FrameBody::Stop { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn delta(index: u64, attempt: i32, text: &str) -> Frame {
        Frame {
            mission_id: MissionId::from_uuid(Uuid::from_u128(1)),
            body: FrameBody::Delta {
                task_id: TaskId::from_uuid(Uuid::from_u128(2)),
                node: "write".to_owned(),
                attempt,
                index,
                text: text.to_owned(),
            },
        }
    }

    #[test]
    fn who_joins_late_is_told_what_was_said() {
        let hub = Hub::default();
        let _first = hub.watch(MissionId::from_uuid(Uuid::from_u128(1)));
        hub.deliver(&delta(0, 1, "Hello "));
        hub.deliver(&delta(1, 1, "world"));
        let late = hub.watch(MissionId::from_uuid(Uuid::from_u128(1)));
        assert_eq!(late.snapshots.len(), 1);
        assert_eq!((late.snapshots[0].text.as_str(), late.snapshots[0].next_index), ("Hello world", 2));
    }

    #[test]
    fn a_new_attempt_starts_over() {
        let hub = Hub::default();
        let _first = hub.watch(MissionId::from_uuid(Uuid::from_u128(1)));
        hub.deliver(&delta(0, 1, "lost"));
        hub.deliver(&delta(0, 2, "found"));
        let late = hub.watch(MissionId::from_uuid(Uuid::from_u128(1)));
        assert_eq!((late.snapshots[0].text.as_str(), late.snapshots[0].attempt), ("found", 2));
    }

    #[test]
    fn what_a_lost_attempt_goes_on_to_say_reaches_nobody() {
        let hub = Hub::default();
        let mut first = hub.watch(MissionId::from_uuid(Uuid::from_u128(1)));
        let said = [(0, 1, "lost"), (0, 2, "found "), (1, 1, " and late"), (1, 2, "again")];
        for (index, attempt, text) in said {
            hub.deliver(&delta(index, attempt, text));
        }
        let late = hub.watch(MissionId::from_uuid(Uuid::from_u128(1)));
        assert_eq!((late.snapshots[0].text.as_str(), late.snapshots[0].attempt), ("found again", 2));
        let heard = std::iter::from_fn(|| first.frames.try_recv().ok());
        let told: Vec<Frame> = heard.collect();
        assert_eq!(told, [delta(0, 1, "lost"), delta(0, 2, "found "), delta(1, 2, "again")]);
    }

    #[test]
    fn the_text_kept_is_bounded() {
        let hub = Hub::default();
        let _first = hub.watch(MissionId::from_uuid(Uuid::from_u128(1)));
        for index in 0..100 {
            hub.deliver(&delta(index, 1, &"ä".repeat(1_000)));
        }
        let late = hub.watch(MissionId::from_uuid(Uuid::from_u128(1)));
        assert!(late.snapshots[0].text.len() <= SNAPSHOT_BYTES);
    }
}
