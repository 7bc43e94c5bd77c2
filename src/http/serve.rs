//! The listener: HTTP/1.1 connections with deadlines, a cap, and an end.
//!
//! `axum::serve` has no deadline for a request's head and held a half-sent one for as long as the client liked.
//! Here the head must come within 10 s and the body within 30 s. TLS and HTTP/2 are the business of what stands in
//! front. On `stop` nothing new is accepted, streams and waits are told to end, and what is on its way gets `grace`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::limits::{BODY_DEADLINE, HEADER_DEADLINE, MAX_BODIES_BYTES, MAX_CONNECTIONS, MAX_STREAMS};
use super::request::Drain;
use super::room::Room;

/// What a client hears when there are too many connections.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
Content-Type: application/problem+json\r\nContent-Length: 95\r\n\r\n\
{\"type\":\"/problems/overloaded\",\"title\":\"Too many connections\",\"status\":503,\"code\":\"overloaded\"}";

/// How long the pause is after an accept failed (the process has no file descriptors left, for example).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a listener puts up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How long a client may take for the head of a request; idle connections are closed after it as well.
    pub header: Duration,
    /// How long a client may take for the whole body.
    pub body: Duration,
    /// Open connections; those beyond it are answered with 503.
    pub connections: usize,
    /// Open streams; those beyond it are told to come again.
    pub streams: usize,
    /// Bytes of bodies kept at once; what comes beyond them is answered with 503.
    pub bodies_bytes: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            header: HEADER_DEADLINE,
            body: BODY_DEADLINE,
            connections: MAX_CONNECTIONS,
            streams: MAX_STREAMS,
            bodies_bytes: MAX_BODIES_BYTES,
        }
    }
}

/// Serves until `stop`, then ends within about `grace`.
pub async fn serve(listener: TcpListener, router: axum::Router, stop: CancellationToken, grace: Duration) {
    serve_with(listener, router, stop, grace, Patience::default()).await;
}

/// As [`serve`], with limits of one's own.
pub async fn serve_with(
    listener: TcpListener,
    router: axum::Router,
    stop: CancellationToken,
    grace: Duration,
    patience: Patience,
) {
    let free = Arc::new(Semaphore::new(patience.connections));
    let room = Room::new(patience.bodies_bytes, patience.streams);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
            () = stop.cancelled() => break,
        };
        let Ok(permit) = free.clone().try_acquire_owned() else {
            connections.spawn(refuse(stream));
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (drain, room) = (Drain(stop.clone()), room.clone());
        let service = router.clone().map_request(move |request: Request<Incoming>| {
            let mut request = request.map(|body| Body::new(Timed::new(body, patience.body)));
            request.extensions_mut().insert(drain.clone());
            request.extensions_mut().insert(room.clone());
            request
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(patience.header)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection broke off");
            }
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were cut off at the end of their grace");
    }
    connections.shutdown().await;
}

/// Answers without reading the request; a client that does not take the answer is left.
async fn refuse(mut stream: TcpStream) {
    let answer = async {
        let _ = stream.write_all(TOO_MANY).await;
        let _ = stream.shutdown().await;
        // closing with unread bytes would reset the connection and take the answer back
        let mut unread = [0; 1_024];
        while stream.read(&mut unread).await.is_ok_and(|read| read > 0) {}
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), answer).await;
}

/// The body did not arrive in time.
#[derive(Debug, thiserror::Error)]
#[error("the body did not arrive in time")]
pub(super) struct BodyTooLate;

/// A request body that must arrive whole before its deadline.
struct Timed {
    body: Incoming,
    deadline: Pin<Box<Sleep>>,
}

impl Timed {
    fn new(body: Incoming, patience: Duration) -> Self {
        Self { body, deadline: Box::pin(sleep_until(Instant::now() + patience)) }
    }
}

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        match self.deadline.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(Err(BodyTooLate.into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_says_how_long_it_is() {
        let text = String::from_utf8_lossy(TOO_MANY);
        let body = text.split("\r\n\r\n").nth(1).unwrap_or_default();
        assert!(text.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
    }
}
