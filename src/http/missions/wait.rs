//! Waiting for a mission: woken by its frames, with a look at the store every second in case that one got lost.

use std::time::Duration;

use bursar_domain::id::{MissionId, TenantId};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until, timeout};

use super::super::limits::BACKSTOP;
use super::super::problem::Problem;
use super::super::request::Drain;
use super::super::state::Site;
use crate::store::read::MissionView;
use crate::stream::{Frame, FrameBody};

/// Which mission to wait for, how long, and what may end the wait early.
pub(super) struct Wait<'a> {
    pub(super) site: &'a Site,
    pub(super) tenant: Option<TenantId>,
    pub(super) id: MissionId,
    pub(super) wait: Duration,
    pub(super) drain: &'a Drain,
}

impl Wait<'_> {
    /// The mission as soon as it `suffices`, or as it is when the time is over. `None` if there is no such mission.
    pub(super) async fn until(&self, suffices: impl Fn(&MissionView) -> bool) -> Result<Option<MissionView>, Problem> {
        let deadline = Instant::now() + self.wait;
        let mut watch = self.site.engine().relay().hub().watch(self.id);
        loop {
            let Some(mission) = self.site.store().mission(self.tenant, self.id).await? else { return Ok(None) };
            if suffices(&mission) || Instant::now() >= deadline || self.drain.0.is_cancelled() {
                return Ok(Some(mission));
            }
            let news = async {
                loop {
                    match watch.frames.recv().await {
                        Ok(frame) if !is_news(&frame) => {}
                        Ok(_) | Err(RecvError::Lagged(_)) => return,
                        // the hub is gone: only the backstop is left
                        Err(RecvError::Closed) => std::future::pending().await,
                    }
                }
            };
            tokio::select! {
                _ = timeout(BACKSTOP, news) => {}
                () = sleep_until(deadline) => {}
                () = self.drain.0.cancelled() => {}
            }
            // whatever else has come by now is answered by the same look
            while watch.frames.try_recv().is_ok() {}
        }
    }
}

/// Whether a frame may change what a mission shows.
fn is_news(frame: &Frame) -> bool {
    matches!(frame.body, FrameBody::Event { .. } | FrameBody::Started { .. })
}
