//! Reserve: a step wants to make a call. Recorded and reserved durably before anything is sent. Batched.

use bursar_domain::flow::{self, Guard, Lesson, OpenCalls};
use bursar_domain::id::MissionId;
use bursar_domain::outcome::{CallPermit, CallRefusal, CallRequest};

use super::Engine;
use super::batcher::Process;
use crate::store::{Journals, StoreError, Want};

/// A call to grant.
#[derive(Debug, Clone)]
pub(super) struct Reserve {
    pub(super) guard: Guard,
    pub(super) mission_id: MissionId,
    pub(super) request: CallRequest,
}

pub(super) type Reserved = Result<CallPermit, CallRefusal>;

impl Engine {
    pub(super) async fn reserve(&self, reserve: Reserve) -> Reserved {
        let answer = self.parts.reserves.call(reserve).await;
        answer.unwrap_or_else(|| Err(CallRefusal::Unavailable("the engine is stopping".to_owned())))
    }
}

/// Grants a batch in one transaction.
#[derive(Clone)]
pub(super) struct ReserveBatch;

impl Process<Reserve, Reserved> for ReserveBatch {
    async fn process(&self, engine: &Engine, items: Vec<Reserve>) -> Result<Vec<Reserved>, StoreError> {
        let want = Want {
            tasks: items.iter().map(|item| item.guard.task_id).collect(),
            missions: items.iter().map(|item| item.mission_id).collect(),
            calls: items.iter().flat_map(|item| &item.request.finished).map(|call| call.id).collect(),
            journals: Journals::Open,
            ..Want::default()
        };
        let mut decide = |turn: &mut flow::Turn<'_>| {
            let mut lessons: Vec<Lesson> = Vec::new();
            let one = |item: &Reserve| {
                let open = OpenCalls::before(turn, &item.request.finished);
                let answer = flow::reserve_call(turn, &item.guard, &item.request);
                lessons.push(open.after(turn));
                answer
            };
            (items.iter().map(one).collect::<Vec<_>>(), lessons)
        };
        let (answers, lessons) = engine.decide(&want, &mut decide).await?;
        for lesson in &lessons {
            engine.note_lesson(lesson);
        }
        Ok(answers)
    }

    fn refuse(&self, error: &StoreError) -> Reserved {
        Err(CallRefusal::Unavailable(error.to_string()))
    }
}
