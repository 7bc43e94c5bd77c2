//! Reserve: a step wants to make a call, run tools, or has run one. Recorded durably before anything is sent. Batched.

use bursar_domain::flow::{self, Guard, Lesson, OpenCalls, Turn};
use bursar_domain::id::{MissionId, TaskId};
use bursar_domain::outcome::{CallPermit, CallRefusal, CallRequest, FinishedCall, ToolEnd, ToolPermit, ToolRequest};
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::batcher::Process;
use super::patience::Patience;
use crate::store::{Journals, StoreError, Want};

/// What a running step wants to be recorded.
#[derive(Debug, Clone)]
pub(super) struct Reserve {
    pub(super) guard: Guard,
    pub(super) mission_id: MissionId,
    /// The tasks above the step's, whose budgets it may use.
    pub(super) ancestors: Vec<TaskId>,
    pub(super) wish: Wish,
}

/// The wish itself.
#[derive(Debug, Clone)]
pub(super) enum Wish {
    /// To make a call.
    Call(CallRequest),
    /// To run the tools of a turn.
    Tools(ToolRequest),
    /// To keep what a tool gave.
    ToolEnd(ToolEnd),
}

/// The answer to a wish, of its kind.
#[derive(Debug)]
pub(super) enum Granted {
    Call(CallPermit),
    Tools(Vec<ToolPermit>),
    Kept,
}

pub(super) type Reserved = Result<Granted, Denied>;

/// A wish that was not granted.
#[derive(Debug)]
pub(super) enum Denied {
    /// It is refused.
    Refused(CallRefusal),
    /// The store did not answer: it may have been granted, and may be repeated.
    Unheard(String),
}

impl From<CallRefusal> for Denied {
    fn from(refusal: CallRefusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Wish {
    /// The calls that ended before it.
    fn finished(&self) -> &[FinishedCall] {
        match self {
            Self::Call(request) => &request.finished,
            Self::Tools(request) => &request.finished,
            Self::ToolEnd(_) => &[],
        }
    }

    /// The numbers of the tool calls it is about.
    fn tool_numbers(&self) -> Vec<i32> {
        match self {
            Self::Call(_) => Vec::new(),
            Self::Tools(request) => request.calls.iter().map(|call| call.number).collect(),
            Self::ToolEnd(end) => vec![end.number],
        }
    }
}

impl Engine {
    /// Repeats the wish while the store does not answer, until `stop` fires: the same wish again changes nothing.
    async fn record(&self, reserve: Reserve, stop: &CancellationToken) -> Result<Granted, CallRefusal> {
        let mut patience = Patience::new();
        loop {
            match self.parts.reserves.call(reserve.clone()).await {
                None => return Err(CallRefusal::Unavailable("the engine is stopping".to_owned())),
                Some(Ok(granted)) => return Ok(granted),
                Some(Err(Denied::Refused(refusal))) => return Err(refusal),
                Some(Err(Denied::Unheard(error))) => {
                    tracing::debug!(task = %reserve.guard.task_id, error, "a reservation is repeated");
                    if !patience.pause_unless(stop).await {
                        return Err(CallRefusal::Unavailable(error));
                    }
                }
            }
        }
    }

    /// Asks for permission to make a call.
    pub(super) async fn reserve(
        &self,
        guard: Guard,
        mission_id: MissionId,
        ancestors: Vec<TaskId>,
        request: CallRequest,
        stop: &CancellationToken,
    ) -> Result<CallPermit, CallRefusal> {
        match self.record(Reserve { guard, mission_id, ancestors, wish: Wish::Call(request) }, stop).await? {
            Granted::Call(permit) => Ok(permit),
            other => Err(mistaken(&other)),
        }
    }

    /// Asks for permission to run tools.
    pub(super) async fn begin_tools(
        &self,
        guard: Guard,
        mission_id: MissionId,
        request: ToolRequest,
        stop: &CancellationToken,
    ) -> Result<Vec<ToolPermit>, CallRefusal> {
        let ancestors = Vec::new();
        match self.record(Reserve { guard, mission_id, ancestors, wish: Wish::Tools(request) }, stop).await? {
            Granted::Tools(permits) => Ok(permits),
            other => Err(mistaken(&other)),
        }
    }

    /// Keeps what a tool gave.
    pub(super) async fn end_tool(
        &self,
        guard: Guard,
        mission_id: MissionId,
        end: ToolEnd,
        stop: &CancellationToken,
    ) -> Result<(), CallRefusal> {
        let ancestors = Vec::new();
        match self.record(Reserve { guard, mission_id, ancestors, wish: Wish::ToolEnd(end) }, stop).await? {
            Granted::Kept => Ok(()),
            other => Err(mistaken(&other)),
        }
    }
}

/// An answer of another kind than the wish: a defect of this file.
fn mistaken(answer: &Granted) -> CallRefusal {
    tracing::error!(?answer, "a wish was given an answer of another kind");
    CallRefusal::Unavailable("the engine mistook one wish for another".to_owned())
}

/// Grants a batch in one transaction.
#[derive(Clone)]
pub(super) struct ReserveBatch;

impl Process<Reserve, Reserved> for ReserveBatch {
    async fn process(&self, engine: &Engine, items: Vec<Reserve>) -> Result<Vec<Reserved>, StoreError> {
        let asks_for_calls = items.iter().any(|item| matches!(item.wish, Wish::Call(_)));
        let tools = |item: &Reserve| {
            let task = item.guard.task_id;
            item.wish.tool_numbers().into_iter().map(move |number| (task, number))
        };
        let want = Want {
            tasks: items
                .iter()
                .flat_map(|item| [item.guard.task_id].into_iter().chain(item.ancestors.iter().copied()))
                .collect(),
            missions: items.iter().map(|item| item.mission_id).collect(),
            calls: items.iter().flat_map(|item| item.wish.finished()).map(|call| call.id).collect(),
            tool_calls: items.iter().flat_map(tools).collect(),
            journals: if asks_for_calls { Journals::Open } else { Journals::Closed },
            ..Want::default()
        };
        let mut decide = |turn: &mut Turn<'_>| {
            let mut lessons: Vec<Lesson> = Vec::new();
            let one = |item: &Reserve| {
                let open = OpenCalls::before(turn, item.wish.finished());
                let answer = grant(turn, item);
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
        Err(match error {
            error if error.is_transient() => Denied::Unheard(error.to_string()),
            error => Denied::Refused(CallRefusal::Unavailable(error.to_string())),
        })
    }
}

fn grant(turn: &mut Turn<'_>, item: &Reserve) -> Reserved {
    let granted = match &item.wish {
        Wish::Call(request) => flow::reserve_call(turn, &item.guard, request).map(Granted::Call),
        Wish::Tools(request) => flow::begin_tools(turn, &item.guard, request).map(Granted::Tools),
        Wish::ToolEnd(end) => flow::end_tool(turn, &item.guard, end).map(|()| Granted::Kept),
    };
    granted.map_err(Denied::from)
}
