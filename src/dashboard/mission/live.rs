//! The page's own feed: "something changed", and the words that running steps say.
//!
//! It carries hints, never pages: the browser fetches what changed. Frames of the hub make it quick; once a second it
//! looks at the mission itself, so that nothing is missed for longer. It ends with the mission.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use bursar_domain::id::MissionId;
use futures::stream;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Interval, MissedTickBehavior};

use super::super::failure::Failure;
use super::super::session::Viewer;
use super::super::state::Dashboard;
use super::find;
use crate::stream::{Frame, FrameBody, Hub, Snapshot, Watch};

/// How often the mission itself is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// After so long the browser connects again, by itself.
const ROTATION: Duration = Duration::from_mins(15);

/// The feed of one mission; 204 when it is over, which tells a browser not to come back.
pub(in crate::dashboard) async fn live(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let id = id.parse::<MissionId>().map_err(|_| Failure::NotFound)?;
    // watched before it is read: what happens between the two arrives twice, not never
    let hub = dashboard.app.engine.relay().hub().clone();
    let watch = hub.watch(id);
    let mission = find(&dashboard, &viewer, id).await?;
    if mission.state.is_final() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let feed = Feed::new(dashboard, viewer, id, hub, watch, mission.last_seq);
    let events = stream::unfold(feed, async |mut feed| {
        let event = feed.next().await?;
        Some((Ok::<_, Infallible>(event), feed))
    });
    let headers =
        [(header::CACHE_CONTROL, "no-cache, no-transform"), (HeaderName::from_static("x-accel-buffering"), "no")];
    Ok((headers, Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))).into_response())
}

struct Feed {
    dashboard: Dashboard,
    viewer: Viewer,
    id: MissionId,
    hub: Arc<Hub>,
    watch: Watch,
    /// The last change told.
    seq: i64,
    /// Told first: the present number, so that a page that is behind knows.
    greeted: bool,
    over: bool,
    began: Instant,
    looks: Interval,
}

impl Feed {
    fn new(dashboard: Dashboard, viewer: Viewer, id: MissionId, hub: Arc<Hub>, watch: Watch, seq: i64) -> Self {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looks.reset();
        Self { dashboard, viewer, id, hub, watch, seq, greeted: false, over: false, began: Instant::now(), looks }
    }

    /// The next message; `None` ends the feed.
    async fn next(&mut self) -> Option<Event> {
        if self.over || self.began.elapsed() >= ROTATION {
            return None;
        }
        if !self.greeted {
            self.greeted = true;
            return Some(changed(self.seq));
        }
        if let Some(snapshot) = self.watch.snapshots.pop() {
            return Some(said_so_far(&snapshot));
        }
        loop {
            tokio::select! {
                frame = self.watch.frames.recv() => match frame {
                    Ok(frame) => {
                        if let Some(event) = self.tell(frame) {
                            return Some(event);
                        }
                    }
                    // what was missed of the words is in the snapshots of a new subscription
                    Err(RecvError::Lagged(_)) => {
                        self.watch = self.hub.watch(self.id);
                        return Some(changed(self.seq));
                    }
                    Err(RecvError::Closed) => return None,
                },
                _ = self.looks.tick() => {
                    if let Some(event) = self.look().await {
                        return Some(event);
                    }
                    if self.over || self.began.elapsed() >= ROTATION {
                        return None;
                    }
                }
            }
        }
    }

    fn tell(&mut self, frame: Frame) -> Option<Event> {
        match frame.body {
            FrameBody::Event { seq, .. } if seq > self.seq => {
                self.seq = seq;
                Some(changed(seq))
            }
            FrameBody::Started { .. } => Some(changed(self.seq)),
            FrameBody::Delta { task_id, attempt, index, text, .. } => {
                let data = json!({"task": task_id, "attempt": attempt, "index": index, "text": text});
                Some(Event::default().event("delta").data(data.to_string()))
            }
            FrameBody::Event { .. } | FrameBody::Stop { .. } => None,
        }
    }

    /// Looks at the mission and at the viewer's key: whoever may not look any more is not told.
    async fn look(&mut self) -> Option<Event> {
        let key = &self.viewer.key;
        match self.dashboard.live_key(key.tenant_id, key.id).await {
            Ok(Some(_)) => {}
            Ok(None) => {
                self.over = true;
                return None;
            }
            Err(_) => return None,
        }
        let mission = find(&self.dashboard, &self.viewer, self.id).await.ok()?;
        let news = mission.last_seq > self.seq;
        self.seq = mission.last_seq.max(self.seq);
        if mission.state.is_final() {
            self.over = true;
            return Some(Event::default().event("end").data(json!({"seq": self.seq}).to_string()));
        }
        news.then(|| changed(self.seq))
    }
}

fn changed(seq: i64) -> Event {
    Event::default().event("changed").data(json!({"seq": seq}).to_string())
}

/// Everything that a running step has said, for a page that comes late. `index` is that of the next piece.
fn said_so_far(snapshot: &Snapshot) -> Event {
    let data = json!({
        "task": snapshot.task_id, "attempt": snapshot.attempt, "index": snapshot.next_index, "whole": snapshot.text,
    });
    Event::default().event("delta").data(data.to_string())
}
