//! Batches without lingering: a batch is whatever queued while the previous one was on its way.
//!
//! An idle system serves the first item at once; a busy one makes large batches by itself.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, oneshot};

use super::Engine;
use crate::store::StoreError;

/// How many items may wait before callers wait to put one in, or are turned away.
const BACKLOG: usize = 8_192;

type Waiting<I, O> = (I, oneshot::Sender<O>);

/// Where items are put in. Each caller gets its own answer.
#[derive(Debug)]
pub(super) struct Batcher<I, O> {
    items: mpsc::Sender<Waiting<I, O>>,
}

/// So many items wait that another one is not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// The other end, until it is started.
pub(super) struct Inbox<I, O> {
    items: mpsc::Receiver<Waiting<I, O>>,
    most: usize,
}

impl<I: Clone + Send + Sync + 'static, O: Send + 'static> Batcher<I, O> {
    /// A batcher whose batches have at most `most` items.
    pub(super) fn new(most: usize) -> (Self, Inbox<I, O>) {
        let (sender, items) = mpsc::channel(BACKLOG);
        (Self { items: sender }, Inbox { items, most })
    }

    /// As [`Self::call`], where nobody waits for a place.
    pub(super) async fn try_call(&self, item: I) -> Result<Option<O>, Full> {
        let (answer, answered) = oneshot::channel();
        match self.items.try_send((item, answer)) {
            Ok(()) => Ok(answered.await.ok()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Full),
            Err(mpsc::error::TrySendError::Closed(_)) => Ok(None),
        }
    }

    /// Puts an item in and waits for its answer. `None` when the engine is gone.
    pub(super) async fn call(&self, item: I) -> Option<O> {
        let (answer, answered) = oneshot::channel();
        self.items.send((item, answer)).await.ok()?;
        answered.await.ok()
    }
}

/// One batch, done or refused as a whole. Answers come in the order of the items.
pub(super) trait Process<I, O>: Clone + Send + 'static {
    /// Does a batch.
    fn process(&self, engine: &Engine, items: Vec<I>) -> impl Future<Output = Result<Vec<O>, StoreError>> + Send;
    /// The answer for an item that the store refused alone.
    fn refuse(&self, error: &StoreError) -> O;
    /// Whether an item is left undone when nobody waits for its answer any more by the time its batch begins.
    fn is_left_with_its_caller(&self) -> bool {
        false
    }
}

impl<I: Clone + Send + Sync + 'static, O: Send + 'static> Inbox<I, O> {
    /// Starts to work. Ends when the last [`Batcher`] is gone.
    ///
    /// With more than one lane a batch is loaded while the one before it commits; locks put them in order.
    pub(super) fn spawn(self, engine: &Engine, lanes: usize, process: impl Process<I, O> + Sync) {
        let inbox = Arc::new(Mutex::new(self.items));
        for _ in 0..lanes {
            // a weak hold, so that the engine can end: the batcher lives inside of it
            let engine = Arc::downgrade(&engine.parts);
            let (inbox, process, most) = (inbox.clone(), process.clone(), self.most);
            tokio::spawn(async move {
                let mut batch = Vec::new();
                while inbox.lock().await.recv_many(&mut batch, most).await > 0 {
                    if process.is_left_with_its_caller() {
                        batch.retain(|(_, answer)| !answer.is_closed());
                    }
                    if batch.is_empty() {
                        continue;
                    }
                    let Some(parts) = engine.upgrade() else { return };
                    let engine = Engine { parts };
                    let (items, answers): (Vec<I>, Vec<_>) = batch.drain(..).unzip();
                    for (answer, out) in answers.into_iter().zip(divide(&engine, &process, items).await) {
                        let _ = answer.send(out);
                    }
                }
            });
        }
    }
}

/// Does a batch; when the database refuses a value in it, divides it until the culprit stands alone.
async fn divide<I, O, P>(engine: &Engine, process: &P, items: Vec<I>) -> Vec<O>
where
    I: Clone + Send + Sync + 'static,
    O: Send + 'static,
    P: Process<I, O> + Sync,
{
    let mut answers = Vec::with_capacity(items.len());
    let mut stack = vec![items];
    while let Some(items) = stack.pop() {
        match process.process(engine, items.clone()).await {
            Ok(done) => answers.extend(done),
            Err(error) if items.len() == 1 || error.is_transient() => {
                answers.extend(items.iter().map(|_| process.refuse(&error)));
            }
            Err(_) => {
                let (left, right) = items.split_at(items.len() / 2);
                stack.push(right.to_vec());
                stack.push(left.to_vec());
            }
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[test]
    fn a_full_backlog_turns_away_at_once_and_takes_in_again_when_there_is_a_place() {
        let (batcher, mut inbox) = Batcher::<usize, usize>::new(1);
        for item in 0..BACKLOG {
            assert!(batcher.try_call(item).now_or_never().is_none(), "{item} waits for its answer");
        }
        assert_eq!(batcher.try_call(BACKLOG).now_or_never(), Some(Err(Full)));
        assert!(inbox.items.try_recv().is_ok());
        assert!(batcher.try_call(BACKLOG).now_or_never().is_none());
    }
}
