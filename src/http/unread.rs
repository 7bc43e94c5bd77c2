//! What a client is still sending when it is refused is read before the connection closes.
//!
//! A server that closes with unread bytes in its hands resets the connection, and the client may never get to read
//! why. Bounded in bytes and time: who sends more than that is cut off.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{Response, StatusCode};
use axum::middleware::Next;
use futures::StreamExt;
use tokio::sync::oneshot;

use super::limits::{MOST_UNREAD_BYTES, UNREAD_PATIENCE};

/// A body that gives itself back when it is dropped half-read.
struct Lent {
    body: Option<Body>,
    back: Option<oneshot::Sender<Body>>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.as_ref().map_or_else(http_body::SizeHint::default, HttpBody::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take(), self.back.take())
            && !body.is_end_stream()
        {
            let _ = back.send(body);
        }
    }
}

/// Runs the request; what its handler left of the body is read and thrown away before the answer goes out.
pub(super) async fn read_on(request: Request, next: Next) -> Response<Body> {
    let (back, given_back) = oneshot::channel();
    let request = request.map(|body| Body::new(Lent { body: Some(body), back: Some(back) }));
    let response = next.run(request).await;
    // handlers are over, and with them their hold on the body: it came back or it never will
    let mut given_back = given_back;
    let timed_out = response.status() == StatusCode::REQUEST_TIMEOUT;
    if let (Ok(body), false) = (given_back.try_recv(), timed_out) {
        let drain = async {
            let mut chunks = body.into_data_stream();
            let mut read = 0_usize;
            while let Some(Ok(chunk)) = chunks.next().await {
                read = read.saturating_add(chunk.len());
                if read > MOST_UNREAD_BYTES {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(UNREAD_PATIENCE, drain).await;
    }
    response
}
