//! Tool calls: recorded before they run, their results journaled when they end, replayed by later attempts.
//!
//! A tool that takes effect once is never run twice: when nobody knows whether an earlier attempt ran it, the step is
//! refused by that name and a person decides.

use serde_json::json;

use crate::id::TaskId;
use crate::outcome::{CallRefusal, ToolAnswer, ToolEffects, ToolEnd, ToolIntent, ToolPermit, ToolRequest};
use crate::record::{Task, ToolCallState, ToolRun};

use super::Turn;
use super::reserve::{CallGuard, journal, live_task, note_progress};

/// Characters of arguments and of results that events show.
const SHOWN_CHARS: usize = 500;

/// Lets a turn's tool calls begin: each is replayed, or recorded as running. Model calls that ended before are
/// journaled first. Refused whole, with only these journaled, when the fate of one of them is unknown. The same wish again
/// changes nothing and gets the same answer.
pub fn begin_tools(
    turn: &mut Turn<'_>,
    guard: &CallGuard,
    request: &ToolRequest,
) -> Result<Vec<ToolPermit>, CallRefusal> {
    let task = live_task(turn, guard)?;
    journal(turn, &task, &request.finished)?;
    for intent in &request.calls {
        let is_unknown = |run: &ToolRun| {
            run.attempt != task.attempt && run.state == ToolCallState::Running && run.effects == ToolEffects::Once
        };
        if earlier(turn, task.id, intent).any(is_unknown) {
            return Err(CallRefusal::FateUnknown { tool: intent.tool.clone(), number: intent.number });
        }
    }
    Ok(request.calls.iter().map(|intent| begin(turn, &task, intent)).collect())
}

/// Journals how a tool call of this attempt ended. The same end again changes nothing.
pub fn end_tool(turn: &mut Turn<'_>, guard: &CallGuard, end: &ToolEnd) -> Result<(), CallRefusal> {
    let task = live_task(turn, guard)?;
    let now = turn.now;
    let run = turn.set.tool_runs.get(end.id).filter(|run| run.task_id == task.id && run.attempt == task.attempt);
    let run = run.ok_or_else(|| CallRefusal::Unavailable(format!("tool call {} was never granted", end.id)))?;
    if run.state != ToolCallState::Running {
        return Ok(());
    }
    let (tool, number) = (run.tool.clone(), run.number);
    if let Some(run) = turn.set.tool_runs.change(end.id) {
        // what never ran leaves no result that could be replayed
        run.state = if end.ran { ToolCallState::Done } else { ToolCallState::Lost };
        run.result = end.ran.then(|| end.answer.content.clone());
        run.is_error = end.answer.is_error;
        run.duration_ms = Some(end.duration_ms);
        run.ended_at = Some(now);
    }
    if end.ran {
        note_progress(turn, task.id);
    }
    let data = json!({
        "tool": tool,
        "number": number,
        "is_error": end.answer.is_error,
        "bytes": end.answer.content.len(),
        "duration_ms": end.duration_ms,
        "preview": shown(&end.answer.content),
    });
    turn.emit(task.mission_id, "task.tool_result", Some(task.id), data);
    Ok(())
}

/// What was recorded of this very call before.
fn earlier<'t>(turn: &'t Turn<'_>, task: TaskId, intent: &'t ToolIntent) -> impl Iterator<Item = &'t ToolRun> {
    let is_same = move |run: &&ToolRun| {
        run.task_id == task && run.number == intent.number && run.request_hash == intent.request_hash
    };
    turn.set.tool_runs.iter().filter(is_same)
}

fn begin(turn: &mut Turn<'_>, task: &Task, intent: &ToolIntent) -> ToolPermit {
    let done = earlier(turn, task.id, intent).find(|run| run.state == ToolCallState::Done);
    if let Some((content, is_error)) = done.and_then(|run| Some((run.result.clone()?, run.is_error))) {
        return ToolPermit::Replay(ToolAnswer { content, is_error });
    }
    // this attempt asked before and did not hear the answer: it has run nothing
    let is_own = |run: &&ToolRun| run.state == ToolCallState::Running && run.attempt == task.attempt;
    if let Some(run) = earlier(turn, task.id, intent).find(is_own) {
        return ToolPermit::Run(run.id);
    }
    let now = turn.now;
    let vanished: Vec<_> =
        earlier(turn, task.id, intent).filter(|run| run.state == ToolCallState::Running).map(|run| run.id).collect();
    for id in vanished {
        if let Some(run) = turn.set.tool_runs.change(id) {
            run.state = ToolCallState::Lost;
            run.ended_at = Some(now);
        }
    }
    let id = turn.id();
    let run = ToolRun {
        id,
        tenant_id: task.tenant_id,
        mission_id: task.mission_id,
        run_id: task.run_id,
        task_id: task.id,
        attempt: task.attempt,
        number: intent.number,
        request_hash: intent.request_hash.clone(),
        tool: intent.tool.clone(),
        effects: intent.effects,
        state: ToolCallState::Running,
        result: None,
        is_error: false,
        duration_ms: None,
        created_at: now,
        ended_at: None,
    };
    turn.set.tool_runs.add(id, run);
    let data = json!({"tool": intent.tool, "number": intent.number, "arguments": shown(&intent.arguments)});
    turn.emit(task.mission_id, "task.tool_call", Some(task.id), data);
    ToolPermit::Run(id)
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).collect()
}
