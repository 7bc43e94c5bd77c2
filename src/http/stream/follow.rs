//! One client follows one mission: subscribe, read the log, then go live, without a gap and without a double.
//!
//! The subscription stands before the log is read, so whatever is committed meanwhile is either in the log or comes
//! as a frame. Frames are hints: one with a number that is not the next sends the stream back to the log, as does
//! a hub that ran ahead of a slow client, and a look at the log every second finds what no frame told. Dropping it
//! ends it; nothing of the mission depends on who watches.

use std::collections::{HashMap, VecDeque};

use axum::body::Bytes;
use bursar_domain::id::{MissionId, RunId, TaskId};
use bursar_domain::time::Timestamp;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use super::super::limits::{BACKSTOP, HEARTBEAT, STREAM_PAGE, STREAM_ROTATION};
use super::super::metrics;
use super::super::request::Drain;
use super::super::state::Site;
use super::envelope::Envelope;
use crate::clock::jitter;
use crate::store::read::MissionView;
use crate::stream::{Frame, FrameBody, Watch};

/// Where a stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The log has (or may have) more; whether that was found by the backstop alone.
    Log { by_backstop: bool },
    /// Frames come.
    Live,
    /// Nothing more is said.
    Over,
}

/// A client that follows a mission.
pub(super) struct Follow {
    site: Site,
    mission: MissionId,
    run: RunId,
    watch: Watch,
    /// The number of the last event that was said.
    last: i64,
    phase: Phase,
    is_caught_up: bool,
    /// Whether the last event that was said ends a run.
    has_ended: bool,
    /// The attempt whose text the client hears, by task.
    attempts: HashMap<TaskId, i32>,
    pending: VecDeque<Bytes>,
    heartbeat: Interval,
    backstop: Interval,
    rotation: Instant,
    drain: Drain,
    _open: metrics::OpenStream,
}

impl Follow {
    /// Follows a mission after event `after`.
    pub(super) fn new(site: Site, mission: &MissionView, after: i64, drain: Drain) -> Self {
        let watch = site.engine().relay().hub().watch(mission.id);
        let now = Instant::now();
        let every = |period| {
            let mut interval = interval_at(now + period, period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        };
        let mut follow = Self {
            site,
            mission: mission.id,
            run: mission.run_id,
            watch,
            last: after,
            phase: Phase::Log { by_backstop: false },
            is_caught_up: false,
            has_ended: false,
            attempts: HashMap::new(),
            pending: VecDeque::new(),
            heartbeat: every(HEARTBEAT),
            backstop: every(BACKSTOP),
            rotation: now + STREAM_ROTATION,
            drain,
            _open: metrics::OpenStream::new(after > 0),
        };
        if after < mission.pruned_seq {
            follow.leap(mission);
        }
        follow
    }

    /// Goes on behind what was pruned; when that was all, there is nothing more.
    fn leap(&mut self, mission: &MissionView) {
        self.say_control("stream.gap", json!({"from": self.last + 1, "to": mission.pruned_seq}));
        self.last = mission.pruned_seq;
        if self.last >= mission.last_seq && mission.state.is_final() {
            self.say_control("stream.end", json!({"seq": self.last}));
            self.phase = Phase::Over;
        }
    }

    /// The next piece of text; `None` when the stream is over.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(piece) = self.pending.pop_front() {
                return Some(piece);
            }
            match self.phase {
                Phase::Over => return None,
                Phase::Log { by_backstop } => self.read_log(by_backstop).await,
                Phase::Live => self.listen().await,
            }
        }
    }

    fn now(&self) -> Timestamp {
        self.site.engine().clock().now()
    }

    fn say(&mut self, envelope: &Envelope) {
        self.pending.push_back(Bytes::from(envelope.to_sse()));
    }

    fn say_control(&mut self, kind: &str, data: Value) {
        let frame = Envelope::frame(self.mission, None, kind, self.now(), data);
        self.say(&frame);
    }

    /// Says what the log has; at its end the stream is live.
    async fn read_log(&mut self, by_backstop: bool) {
        let rows = match self.site.store().events(self.mission, self.last, STREAM_PAGE).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::debug!(%error, mission = %self.mission, "a stream waits for the store");
                self.close(1_000);
                return;
            }
        };
        if by_backstop {
            metrics::count_backstop_finds(rows.len());
        }
        let is_end = (rows.len() as i64) < STREAM_PAGE;
        for row in rows {
            if let Some(task) = row.task_id {
                // whatever was said of an attempt that ended is no news any more
                self.watch.snapshots.retain(|snapshot| snapshot.task_id != task);
            }
            self.say_event(Envelope::of_row(row));
        }
        if self.phase == Phase::Over || !is_end {
            return;
        }
        if self.has_ended {
            self.end();
            return;
        }
        self.phase = Phase::Live;
        for snapshot in std::mem::take(&mut self.watch.snapshots) {
            self.attempts.insert(snapshot.task_id, snapshot.attempt);
            let envelope = Envelope::snapshot(self.mission, self.run, self.now(), &snapshot);
            self.say(&envelope);
        }
        if !std::mem::replace(&mut self.is_caught_up, true) {
            self.say_control("stream.caught_up", json!({"seq": self.last}));
        }
    }

    /// Says a durable event. Whoever says the last one of a run ends the stream, unless the log goes on: the mission was
    /// retried or forked.
    fn say_event(&mut self, envelope: Envelope) {
        self.last = envelope.seq.unwrap_or(self.last);
        self.has_ended = envelope.is_last();
        self.say(&envelope);
    }

    fn end(&mut self) {
        self.say_control("stream.end", json!({"seq": self.last}));
        self.phase = Phase::Over;
    }

    /// Waits for whatever comes first.
    async fn listen(&mut self) {
        tokio::select! {
            frame = self.watch.frames.recv() => match frame {
                Ok(frame) => {
                    self.backstop.reset();
                    self.hear(frame);
                }
                Err(RecvError::Lagged(_)) => {
                    metrics::count_lag();
                    // texts were lost as well: a new subscription comes with what was said so far
                    self.watch = self.site.engine().relay().hub().watch(self.mission);
                    self.phase = Phase::Log { by_backstop: false };
                }
                Err(RecvError::Closed) => self.close(1_000),
            },
            _ = self.backstop.tick() => self.phase = Phase::Log { by_backstop: true },
            _ = self.heartbeat.tick() => self.pending.push_back(Bytes::from_static(b": heartbeat\n\n")),
            () = sleep_until(self.rotation) => self.close(100),
            () = self.drain.0.cancelled() => self.close(1_000),
        }
    }

    fn hear(&mut self, frame: Frame) {
        match frame.body {
            FrameBody::Event { seq, .. } if seq <= self.last => {}
            FrameBody::Event { seq, event: Some(event) } if seq == self.last + 1 => {
                self.say_event(Envelope::of_event(*event));
                if self.has_ended {
                    self.end();
                }
            }
            // too large to travel, or not the next one: the log has it
            FrameBody::Event { .. } => self.phase = Phase::Log { by_backstop: false },
            FrameBody::Started { task_id, node, attempt, at } => {
                if !self.note_attempt(task_id, &node, attempt) {
                    return;
                }
                let data = json!({"attempt": attempt});
                let frame = Envelope::frame(self.mission, Some(self.run), "task.started", at, data);
                self.say(&frame.about(task_id, &node, attempt));
            }
            FrameBody::Delta { task_id, node, attempt, index, text } => {
                if !self.note_attempt(task_id, &node, attempt) {
                    return;
                }
                let data = json!({"index": index, "text": text});
                let frame = Envelope::frame(self.mission, Some(self.run), "task.delta", self.now(), data);
                self.say(&frame.about(task_id, &node, attempt));
            }
            FrameBody::Stop { .. } => {}
        }
    }

    /// A new attempt makes what the client heard of the earlier one void. Whether it is the newest: what an earlier one
    /// says after that comes from a worker that lost the task, and is not told.
    fn note_attempt(&mut self, task: TaskId, node: &str, attempt: i32) -> bool {
        let before = self.attempts.get(&task).copied();
        if before.is_some_and(|before| before > attempt) {
            return false;
        }
        self.attempts.insert(task, attempt);
        if before.is_some_and(|before| before < attempt) {
            let data = json!({"attempt": attempt});
            let frame = Envelope::frame(self.mission, Some(self.run), "task.attempt_reset", self.now(), data);
            self.say(&frame.about(task, node, attempt));
        }
        true
    }

    /// Asks the client to come again, and ends. Clients come spread over twice the time.
    pub(super) fn close(&mut self, after_ms: u64) {
        let retry_ms = after_ms + jitter(after_ms);
        self.pending.push_back(Bytes::from(format!("retry: {retry_ms}\n")));
        self.say_control("stream.closing", json!({"retry_ms": retry_ms}));
        self.phase = Phase::Over;
    }
}
