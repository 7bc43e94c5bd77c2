//! What a worker has in its hands, and how one attempt goes on: calls, their ends, the settle.

use serde_json::{Value, json};

use crate::flow::SettleRequest;
use crate::flow::testbed::{Dice, Lease, World, answer, request};
use crate::outcome::{CallPermit, CallRefusal, ErrorClass, FinishedCall, Outcome, StepError};
use crate::usage::Usage;

/// A claimed task in a worker's hands.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub lease: Lease,
    /// Calls that ended, in order.
    pub calls: Vec<FinishedCall>,
    /// How many of these the engine was told of while the step ran.
    pub journaled: usize,
    /// The number of the next call.
    pub next: i32,
    /// The number of the last message that the conversation has heard of.
    pub heard: i64,
    /// Why the step cannot go on, once it can't.
    pub stopped: Option<ErrorClass>,
    /// What it hands on, where something begins with that.
    pub makes: Option<Value>,
    /// A frozen worker does nothing, not even renew its lease, until it wakes up.
    pub is_frozen: bool,
}

/// A settle that was sent and whose answer got lost: it will be sent again.
#[derive(Debug, Clone)]
pub(super) struct Unanswered {
    pub lease: Lease,
    pub request: SettleRequest,
}

impl Job {
    pub(super) fn new(lease: Lease, world: &World, dice: &mut Dice) -> Self {
        let task = &world.tables.tasks[&lease.task];
        let heard = world.tables.runs[&lease.run].heard;
        let above = task.parent_id.map(|parent| world.tables.tasks[&parent].kind.as_str());
        let makes = match above.filter(|_| task.layer > 0) {
            Some("plan") => Some(plan(dice)),
            Some("workflow") if dice.percent(95) => Some(json!({"go": dice.percent(60), "at": "2023-11-14T22:14:00Z"})),
            Some("workflow") => Some(json!(["no", "input"])),
            _ => None,
        };
        Self { lease, calls: Vec::new(), journaled: 0, next: 1, heard, stopped: None, makes, is_frozen: false }
    }

    /// Asks for the next call and, if it is granted, brings it to some end. A call that the worker dies in is
    /// left open.
    pub(super) fn call(&mut self, world: &mut World, dice: &mut Dice) {
        // few bodies, so that attempts often ask the same again
        let body = format!("body {} after {}", dice.below(2), self.heard);
        let cap = 1 + dice.below(50);
        let input = if dice.percent(5) { 3_000 } else { 1 + dice.below(60) };
        let mut request = request(self.next, &body, (input, cap));
        if dice.percent(70) {
            request.finished = self.calls.split_off(self.journaled);
            self.calls.extend(request.finished.iter().cloned());
            self.journaled = self.calls.len();
        }
        request.heard = self.heard;
        match world.ask_for(&self.lease, &request) {
            Ok(CallPermit::Listen(number)) => {
                assert!(number > self.heard, "it heard of {number} before");
                self.heard = number;
                return;
            }
            Ok(CallPermit::Replay(done)) => self.calls.push(done),
            Ok(CallPermit::Send(id)) => {
                // a provider may report more than the cap it was given, or nothing, or nonsense
                let output = if dice.percent(8) { cap * 400 } else { dice.below(cap + 1) };
                let mut call = answer(id, input, output);
                if dice.percent(10) {
                    call.usage = None;
                } else if dice.percent(5) {
                    call.usage = Some(Usage { input_tokens: 1, cache_read_tokens: 2, ..Usage::default() });
                }
                call.succeeded = dice.percent(80);
                if !call.succeeded {
                    let classes = [ErrorClass::Retryable, ErrorClass::RateLimited, ErrorClass::Permanent];
                    self.stopped = Some(classes[usize::try_from(dice.below(3)).unwrap()]);
                }
                if dice.percent(95) {
                    self.calls.push(call);
                } else {
                    self.stopped = Some(ErrorClass::Retryable);
                }
            }
            Err(CallRefusal::InsufficientCredits { .. }) => self.stopped = Some(ErrorClass::Budget),
            Err(CallRefusal::StaleFence) => self.stopped = Some(ErrorClass::Lost),
            Err(other) => panic!("{other}"),
        }
        self.next += 1;
    }

    /// How the attempt ends now.
    pub(super) fn outcome(&self, dice: &mut Dice) -> Outcome {
        let mut calls = self.calls.clone();
        if dice.percent(5) {
            calls.extend(self.calls.first().cloned());
        }
        let class = self.stopped.or_else(|| match dice.below(100) {
            0..=2 => Some(ErrorClass::Permanent),
            3..=12 => Some(ErrorClass::Retryable),
            13..=16 => Some(ErrorClass::RateLimited),
            17..=18 => Some(ErrorClass::Cancelled),
            _ => None,
        });
        match class {
            _ if dice.percent(3) => Outcome::HandedBack,
            None => {
                let text = json!("x".repeat(usize::try_from(dice.below(30)).unwrap()));
                Outcome::Succeeded { output: self.makes.clone().unwrap_or(text), calls }
            }
            Some(class) => {
                let mut error = StepError::new(class, "storm", "the storm says so");
                error.retry_after_ms = dice.percent(50).then(|| i64::try_from(dice.below(3_000)).unwrap());
                if let Some(last) = calls.last_mut().filter(|_| dice.percent(50)) {
                    last.rejected = last.succeeded;
                }
                Outcome::Failed { error, calls }
            }
        }
    }
}

/// A plan of some steps; few can't be carried out.
fn plan(dice: &mut Dice) -> Value {
    let odd = dice.percent(6);
    let steps: Vec<Value> = (0..=dice.below(4))
        .map(|step| {
            let mut needs: Vec<String> =
                (0..step).filter(|_| dice.percent(40)).map(|need| format!("s{need}")).collect();
            needs.extend(odd.then(|| "nobody".to_owned()));
            json!({"key": format!("s{step}"), "agent": "a", "prompt": "p", "needs": needs, "plan": dice.percent(20)})
        })
        .collect();
    json!({"nodes": steps})
}
