//! One message to watchers.

use bursar_domain::id::{MissionId, RunId, TaskId};
use bursar_domain::record::Event;
use bursar_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A message about a mission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// The mission.
    pub mission_id: MissionId,
    /// What happened.
    #[serde(flatten)]
    pub body: FrameBody,
}

/// What a frame carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "snake_case")]
pub enum FrameBody {
    /// An event was committed. Large ones travel without their body: the watcher reads the log.
    Event {
        /// Its number.
        seq: i64,
        /// Its content, when small.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        event: Option<Box<Event>>,
    },
    /// A worker began an attempt; unnumbered, because the claim does not commit durably.
    Started {
        /// The task.
        task_id: TaskId,
        /// Its node.
        node: String,
        /// The attempt.
        attempt: i32,
        /// When.
        at: Timestamp,
    },
    /// Text that a step produced.
    Delta {
        /// The task.
        task_id: TaskId,
        /// Its node.
        node: String,
        /// The attempt.
        attempt: i32,
        /// 0, 1, 2… within the attempt.
        index: u64,
        /// The text.
        text: String,
    },
    /// The run is being ended: workers stop its tasks.
    Stop {
        /// The run.
        run_id: RunId,
    },
}
