//! After a commit: workers hear of runs that are being ended, ready tasks go to the queue, events to watchers. Hints only; a crash right here costs latency:
//! the sweep finds ready tasks that the queue does not know, watchers read the log.

use std::sync::atomic::Ordering;

use bursar_domain::record::Event;

use super::{Effects, Engine};
use crate::stream::{Frame, FrameBody};

/// Events whose content is larger travel without it.
const INLINE_BYTES: usize = 4_096;

impl Engine {
    pub(super) async fn dispatch(&self, mut effects: Effects) {
        for task in &mut effects.ready {
            task.weight = self.parts.weights.of(task.tenant_id);
        }
        for (mission_id, run_id) in effects.stops {
            self.parts.relay.publish(Frame { mission_id, body: FrameBody::Stop { run_id } });
        }
        if !effects.ready.is_empty()
            && let Err(error) = self.parts.queue.push(&effects.ready).await
        {
            self.parts.queue_takes.store(false, Ordering::Relaxed);
            self.parts.metrics.queue_failures.inc();
            tracing::debug!(%error, tasks = effects.ready.len(), "ready tasks are left to the sweep");
        }
        if !effects.due.is_empty() {
            self.wake_soon(effects.due);
        }
        for event in effects.events {
            self.parts.metrics.note_event(&event.kind);
            if matches!(event.kind.as_str(), "task.waiting" | "task.retrying" | "mission.resumed") {
                self.parts.attention.notify_one();
            }
            self.parts.relay.publish(frame_of(event));
        }
    }
}

fn frame_of(event: Event) -> Frame {
    let (mission_id, seq) = (event.mission_id, event.seq);
    let is_small = serde_json::to_string(&event.data).is_ok_and(|text| text.len() <= INLINE_BYTES);
    Frame { mission_id, body: FrameBody::Event { seq, event: is_small.then(|| Box::new(event)) } }
}
