//! Room: how many bytes of bodies a listener keeps at once and how many streams it serves, beyond which it refuses.
//!
//! Connections alone bound neither: ten thousand of them with a body of 4 MiB each would be 40 GB, and as many streams
//! would leave no connection for anything else. Bytes count when they arrive, not when they are announced, so that a
//! client that sends nothing keeps nobody out, and until the request is answered.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::http::Response;
use axum::http::request::Parts;
use axum::middleware::Next;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::limits::{MAX_BODIES_BYTES, MAX_STREAMS};

/// What a listener has left.
#[derive(Debug, Clone)]
pub(super) struct Room {
    bodies: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        Self::new(MAX_BODIES_BYTES, MAX_STREAMS)
    }
}

impl Room {
    /// Room for so many bytes of bodies and so many streams.
    pub(super) fn new(bodies_bytes: usize, streams: usize) -> Self {
        Self { bodies: Arc::new(Semaphore::new(bodies_bytes)), streams: Arc::new(Semaphore::new(streams)) }
    }

    /// A place for a stream, until it is dropped; `None` when all are taken.
    pub(super) fn stream(&self) -> Option<OwnedSemaphorePermit> {
        self.streams.clone().try_acquire_owned().ok()
    }
}

impl<S: Sync> FromRequestParts<S> for Room {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// The bytes that a request has taken.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    room: Room,
    permit: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Taken {
    /// Takes more bytes; whether they were left.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let Ok(bytes) = u32::try_from(bytes) else { return false };
        let Ok(more) = self.room.bodies.clone().try_acquire_many_owned(bytes) else { return false };
        let mut permit = self.permit.lock().unwrap_or_else(PoisonError::into_inner);
        match permit.as_mut() {
            Some(permit) => permit.merge(more),
            None => *permit = Some(more),
        }
        true
    }
}

/// Runs the request; what its body takes is given back when the answer is there.
pub(super) async fn hold(mut request: Request, next: Next) -> Response<Body> {
    let room = request.extensions().get::<Room>().cloned().unwrap_or_default();
    let taken = Taken { room, permit: Arc::default() };
    request.extensions_mut().insert(taken.clone());
    let response = next.run(request).await;
    *taken.permit.lock().unwrap_or_else(PoisonError::into_inner) = None;
    response
}
