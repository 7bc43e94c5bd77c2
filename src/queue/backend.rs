//! The way into apalis: a backend that yields what the engine claimed.
//!
//! The only module that knows apalis's `Backend` trait. Fetching, leasing and acknowledging happen elsewhere
//! (`engine/claim`, the store, `engine/settle`); here is only a channel. It never returns an error: an error
//! would end the worker and cancel whatever runs.

use std::convert::Infallible;
use std::task::{Context, Poll};

use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::task::Task;
use apalis_core::task::task_id::RandomId;
use apalis_core::worker::context::WorkerContext;
use tokio::sync::mpsc;
use tower::layer::util::Identity;

/// Jobs of type `T` from a channel. When the channel closes, the worker finishes what runs and ends.
#[derive(Debug)]
pub struct Feed<T> {
    jobs: mpsc::Receiver<T>,
}

impl<T> Feed<T> {
    /// A feed and the end to put jobs in.
    pub fn new(capacity: usize) -> (mpsc::Sender<T>, Self) {
        let (sender, jobs) = mpsc::channel(capacity);
        (sender, Self { jobs })
    }
}

impl<T: Send + 'static> Backend for Feed<T> {
    type Task = Task<T>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, _: &WorkerContext) -> Poll<Option<Result<Task<T>, Infallible>>> {
        self.jobs.poll_recv(cx).map(|job| job.map(|job| Ok(Task::new(job))))
    }

    fn poll_close(&mut self, _: &mut Context<'_>, worker: &WorkerContext) -> Poll<Result<(), Infallible>> {
        // all jobs are done and no more will come; without this word the worker would wait for a signal for ever
        if let Err(error) = worker.stop() {
            tracing::debug!(%error, "the worker had stopped already");
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Send + 'static> BackendConfig for Feed<T> {
    type Args = T;
    type Id = RandomId;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}
