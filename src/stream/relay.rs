//! Frames between processes: ONE Redis subscription per process, however many watchers there are.
//!
//! Publishing never waits for Redis and never fails: what does not get through, the watcher's look at the log finds.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Frame, FrameBody, Hub};
use crate::link::RedisLink;

const CHANNEL: &str = "bursar:frames";
/// Frames that may wait for Redis; more are dropped (they are hints).
const BACKLOG: usize = 4_096;

/// Where frames are published. Clones share everything.
#[derive(Debug, Clone)]
pub struct Relay {
    hub: Arc<Hub>,
    outgoing: Option<Outgoing>,
}

/// Frames on their way to Redis. Stops pass everything else: produced text that piles up must not delay them.
#[derive(Debug, Clone)]
struct Outgoing {
    stops: mpsc::Sender<Frame>,
    frames: mpsc::Sender<Frame>,
}

impl Relay {
    /// Frames stay in this process.
    pub fn local(hub: Arc<Hub>) -> Self {
        Self { hub, outgoing: None }
    }

    /// Frames go through Redis and reach every process, this one included at once.
    pub fn through_redis(hub: Arc<Hub>, link: RedisLink, stop: CancellationToken) -> Self {
        let (to_stop, stops) = mpsc::channel(BACKLOG);
        let (to_tell, frames) = mpsc::channel(BACKLOG);
        let origin = crate::clock::new_token();
        tokio::spawn(publish(link.clone(), stops, frames, origin.clone()));
        tokio::spawn(listen(link, hub.clone(), origin, stop));
        Self { hub, outgoing: Some(Outgoing { stops: to_stop, frames: to_tell }) }
    }

    /// Where watchers of this process are.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Hands a frame to everybody.
    pub fn publish(&self, frame: Frame) {
        self.hub.deliver(&frame);
        if let Some(outgoing) = &self.outgoing {
            let lane = if matches!(frame.body, FrameBody::Stop { .. }) { &outgoing.stops } else { &outgoing.frames };
            let _ = lane.try_send(frame);
        }
    }
}

/// Sends frames in batches: whatever queued while the previous batch was on its way.
async fn publish(link: RedisLink, mut stops: mpsc::Receiver<Frame>, mut frames: mpsc::Receiver<Frame>, origin: String) {
    let (mut urgent, mut batch) = (Vec::new(), Vec::new());
    loop {
        let taken = tokio::select! {
            biased;
            taken = stops.recv_many(&mut urgent, 256) => taken,
            taken = frames.recv_many(&mut batch, 256) => taken,
        };
        if taken == 0 {
            return;
        }
        let mut pipe = redis::pipe();
        for frame in urgent.drain(..).chain(batch.drain(..)) {
            if let Ok(body) = serde_json::to_string(&frame) {
                pipe.publish(CHANNEL, format!("{origin} {body}")).ignore();
            }
        }
        if let Ok(mut connection) = link.connection().await {
            let _: Result<(), _> = pipe.query_async(&mut connection).await;
        }
    }
}

/// Takes over what other processes publish; subscribes again whenever the connection breaks.
async fn listen(link: RedisLink, hub: Arc<Hub>, origin: String, stop: CancellationToken) {
    while !stop.is_cancelled() {
        if let Ok(mut subscription) = link.pubsub().await
            && subscription.subscribe(CHANNEL).await.is_ok()
        {
            let mut messages = subscription.on_message();
            while let Some(message) =
                tokio::select! { message = messages.next() => message, () = stop.cancelled() => None }
            {
                let Ok(text) = message.get_payload::<String>() else { continue };
                let Some((from, body)) = text.split_once(' ') else { continue };
                if from == origin {
                    continue;
                }
                if let Ok(frame) = serde_json::from_str(body) {
                    hub.deliver(&frame);
                }
            }
        }
        let pause = tokio::time::sleep(Duration::from_millis(500));
        tokio::select! { () = pause => {}, () = stop.cancelled() => {} }
    }
}
