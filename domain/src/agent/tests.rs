//! Steps of many calls over a real journal and real money: whatever the model answers and wherever workers die, the
//! output and the bill are those of an undisturbed step. A failure prints its seed.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Answer, Machine, Message, Next, ToolCall, ToolResult, ToolWish};
use crate::flow::testbed::{Dice, INPUT_UCR, Lease, OUTPUT_UCR, World, answer, request};
use crate::id::MissionId;
use crate::limits::LEASE_MS;
use crate::outcome::{
    CallPermit, CallRefusal, ErrorClass, FinishedCall, Outcome, StepError, ToolAnswer, ToolEffects, ToolEnd,
    ToolIntent, ToolPermit, ToolRequest,
};
use crate::record::CallState;
use crate::workflow::{Action, AgentStep, Syntax, parse};

/// A workflow with one agent node; `more` are further keys of it.
pub(super) fn workflow(more: &str) -> String {
    format!(
        "workflow: w\nagents: {{ a: {{ instructions: i, model: m, max_output_tokens: 100 }} }}\n\
         nodes: {{ one: {{ agent: a, prompt: p{more} }} }}\n"
    )
}

/// The step of such a workflow.
pub(super) fn step(more: &str) -> AgentStep {
    let definition = parse(&workflow(more), Syntax::Yaml).unwrap();
    match &definition.nodes[0].action {
        Action::Agent(step) => step.clone(),
        other => panic!("{other:?}"),
    }
}

pub(super) fn says(text: &str) -> Answer {
    Answer { text: text.to_owned(), finish_reason: "stop".to_owned(), tool_calls: Vec::new() }
}

pub(super) fn wants(tools: &[&str]) -> Answer {
    let call = |(at, name): (usize, &&str)| ToolCall {
        id: format!("call_{at}"),
        name: (*name).to_owned(),
        arguments: "{}".to_owned(),
    };
    Answer {
        text: String::new(),
        finish_reason: "tool_calls".to_owned(),
        tool_calls: tools.iter().enumerate().map(call).collect(),
    }
}

pub(super) fn begin() -> Machine {
    Machine::begin(vec![Message::User { content: "p".to_owned() }])
}

fn gives(number: i32, content: &str) -> ToolResult {
    ToolResult { number, content: content.to_owned() }
}

pub(super) fn failure(machine: &Machine) -> (&StepError, bool) {
    match machine.next() {
        Next::Failed { error, rejects } => (error, rejects),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_without_tools_is_the_output() {
    let (step, mut machine) = (step(""), begin());
    assert_eq!(machine.next(), Next::CallModel { number: 1 });
    machine.answered(&step, says("Hello"));
    assert_eq!(machine.next(), Next::Done(&json!("Hello")));
    machine.answered(&step, says("Once more"));
    machine.tools_answered(&[gives(1, "x")]);
    assert_eq!(machine.next(), Next::Done(&json!("Hello")), "what is over stays over");
}

#[test]
fn tools_are_numbered_through_and_answered_in_the_order_of_the_wishes() {
    let (step, mut machine) = (step(""), begin());
    machine.answered(&step, wants(&["a", "b"]));
    let Next::CallTools(wishes) = machine.next() else { panic!("{machine:?}") };
    assert_eq!(
        wishes.iter().map(|wish| (wish.number, wish.call.name.as_str())).collect::<Vec<_>>(),
        [(1, "a"), (2, "b")]
    );
    machine.tools_answered(&[gives(2, "second"), gives(1, "first")]);
    assert_eq!(machine.next(), Next::CallModel { number: 2 });
    let told: Vec<_> = machine.messages().iter().map(|message| (message.role(), message.content())).collect();
    assert_eq!(told, [("user", "p"), ("assistant", ""), ("tool", "first"), ("tool", "second")]);
    machine.answered(&step, wants(&["c"]));
    let Next::CallTools(wishes) = machine.next() else { panic!("{machine:?}") };
    assert_eq!(wishes[0].number, 3);
    machine.tools_answered(&[]);
    assert_eq!(machine.messages().last().unwrap().content(), "error: no result");
}

#[test]
fn turns_and_tool_calls_have_an_end() {
    let step = step(", max_turns: 2, max_tool_calls: 3");
    let mut machine = begin();
    machine.answered(&step, wants(&["a", "b"]));
    machine.tools_answered(&[]);
    let mut other = machine.clone();
    machine.answered(&step, wants(&["a", "b"]));
    let (error, rejects) = failure(&machine);
    assert_eq!((error.code.as_str(), error.class, rejects), ("max_tool_calls_exceeded", ErrorClass::Permanent, true));
    assert!(error.message.contains("asked for 4 tool calls and `max_tool_calls` is 3"), "{}", error.message);
    other.answered(&step, wants(&["a"]));
    assert_eq!(failure(&other).0.code, "max_turns_exceeded");
}

#[test]
fn nothing_that_was_said_shows_up_in_a_debug_line() {
    let mut machine = begin();
    machine.answered(&step(""), Answer { text: "secret".to_owned(), ..wants(&["a"]) });
    let shown = format!("{machine:?} {:?} {:?} {:?}", machine.next(), machine.messages(), gives(1, "secret"));
    assert!(!shown.contains("secret") && !shown.contains("{}"), "{shown}");
}

const PLAN: &str = ", output: { schema: { type: object, required: [files], properties: { files: { type: array, \
                    items: { type: string, maxLength: 5 } } } }, repair: 1 }";

#[test]
fn an_answer_that_matches_its_schema_is_a_value() {
    let step = step(PLAN);
    for text in
        [r#"{"files": ["a.rs"]}"#, "\n```json\n{\"files\": [\"a.rs\"]}\n```\n", "```\n{\"files\":[\"a.rs\"]}```"]
    {
        let mut machine = begin();
        machine.answered(&step, says(text));
        assert_eq!(machine.next(), Next::Done(&json!({"files": ["a.rs"]})), "{text}");
    }
    let mut machine = begin();
    machine.answered(&step, says("{\"files\": [\"a\\u0000\"], \"k\\u0000\": 1}"));
    assert_eq!(machine.next(), Next::Done(&json!({"files": ["a\u{FFFD}"], "k\u{FFFD}": 1})));
}

#[test]
fn a_wrong_answer_is_sent_back_with_the_validators_words_and_the_last_one_fails_the_step_for_good() {
    let (step, mut machine) = (step(PLAN), begin());
    machine.answered(&step, says(r#"{"files": ["confidential"]}"#));
    assert_eq!(machine.next(), Next::CallModel { number: 2 });
    let told = machine.messages().last().unwrap();
    assert_eq!(told.role(), "user");
    assert!(told.content().contains("- /files/0: the value is longer than 5 characters"), "{}", told.content());
    machine.answered(&step, says("confidential"));
    let (error, rejects) = failure(&machine);
    assert_eq!((error.code.as_str(), error.class, rejects), ("output_invalid", ErrorClass::Permanent, true));
    assert!(error.message.starts_with("after 1 repairs"), "{}", error.message);
    assert!(error.message.contains("no JSON value: expected value at line 1") && !error.message.contains("confid"));
}

#[test]
fn words_about_a_wrong_answer_are_bounded() {
    let (step, mut machine) = (step(PLAN), begin());
    let wrong: Vec<String> = (0..500).map(|_| "x".repeat(6)).collect();
    machine.answered(&step, says(&json!({"files": wrong}).to_string()));
    assert!(machine.messages().last().unwrap().content().len() < 1_300);
    machine.answered(&step, Answer { finish_reason: "length".to_owned(), ..says("{\"files\": [") });
    assert!(failure(&machine).0.message.contains("cut off at the output limit"), "{:?}", failure(&machine));
}

#[test]
fn repairs_are_no_turns() {
    let step = step(&format!("{PLAN}, max_turns: 2"));
    let mut machine = begin();
    machine.answered(&step, wants(&["a"]));
    machine.tools_answered(&[]);
    machine.answered(&step, says("no"));
    machine.answered(&step, says(r#"{"files": []}"#));
    assert_eq!(machine.next(), Next::Done(&json!({"files": []})));
}

/// What the model will say, call by call: the last one without tools.
#[derive(Debug, Clone)]
struct Play {
    answers: Vec<Answer>,
}

impl Play {
    fn random(dice: &mut Dice) -> Self {
        let turn = |dice: &mut Dice| {
            let tools = ["a"].repeat(usize::try_from(1 + dice.below(3)).unwrap());
            Answer { text: format!("thinking {}", dice.below(9)), ..wants(&tools) }
        };
        let mut answers: Vec<Answer> = (0..dice.below(6)).map(|_| turn(dice)).collect();
        answers.push(says(&format!("output {}", dice.below(1_000))));
        Self { answers }
    }

    /// What the calls of the play cost, each once.
    fn bill(&self) -> i64 {
        (1_i64..).zip(&self.answers).map(|(number, _)| number * INPUT_UCR + OUTPUT_UCR).sum()
    }
}

/// Plays a step on a world whose workers die at the given moments, counted over all attempts.
struct Theatre<'a> {
    effects: ToolEffects,
    /// How often each tool call was really run.
    ran: BTreeMap<i32, u32>,
    world: &'a mut World,
    mission: MissionId,
    step: AgentStep,
    play: &'a Play,
    deaths: BTreeSet<u32>,
    moment: u32,
    /// Calls that were really sent.
    sent: usize,
}

/// Why an attempt came to no output.
enum Stopped {
    /// The worker is no more.
    Died,
    /// Nobody knows whether a tool that takes effect once has run.
    Unknown,
}

use Stopped::Died;

impl<'a> Theatre<'a> {
    fn new(world: &'a mut World, play: &'a Play, deaths: BTreeSet<u32>) -> Self {
        let mission = world.submit(&workflow(""));
        let (effects, ran) = (ToolEffects::None, BTreeMap::new());
        Self { effects, ran, world, mission, step: step(""), play, deaths, moment: 0, sent: 0 }
    }

    fn moment(&mut self) -> Result<(), Stopped> {
        self.moment += 1;
        if self.deaths.remove(&self.moment) { Err(Died) } else { Ok(()) }
    }

    /// The output; `None` when a tool's fate is unknown.
    fn play(&mut self) -> Option<Value> {
        loop {
            let lease = self.world.claim(self.mission, "one");
            match self.attempt(&lease) {
                Ok(output) => return Some(output),
                Err(Stopped::Unknown) => return None,
                Err(Died) => {}
            }
            self.world.pass_ms(LEASE_MS + 1);
            self.world.sweep();
            self.world.verify();
        }
    }

    fn attempt(&mut self, lease: &Lease) -> Result<Value, Stopped> {
        let mut machine = begin();
        let (mut consumed, mut fresh) = (Vec::new(), Vec::new());
        loop {
            machine = serde_json::from_value(serde_json::to_value(&machine).unwrap()).unwrap();
            self.moment()?;
            match machine.next() {
                Next::CallModel { number } => {
                    let call = self.call(lease, number, &machine, &mut fresh)?;
                    consumed.push(call.clone());
                    let said = Answer::from_journal(&call.response).unwrap();
                    machine.answered(&self.step, said);
                }
                Next::CallTools(wishes) => {
                    let wishes = wishes.to_vec();
                    let results = self.tools(lease, &wishes, &mut fresh)?;
                    machine.tools_answered(&results);
                }
                Next::Done(output) => {
                    let outcome = Outcome::Succeeded { output: output.clone(), calls: consumed };
                    self.world.settle(lease, &lease.settle(outcome)).unwrap();
                    return Ok(output.clone());
                }
                Next::Failed { error, .. } => panic!("{error:?}"),
            }
        }
    }

    /// The tools of one turn: asked for with what ended before, replayed or run one after the other.
    fn tools(
        &mut self,
        lease: &Lease,
        wishes: &[ToolWish],
        fresh: &mut Vec<FinishedCall>,
    ) -> Result<Vec<ToolResult>, Stopped> {
        let intent = |wish: &ToolWish| ToolIntent {
            number: wish.number,
            request_hash: wish.call.name.clone(),
            tool: wish.call.name.clone(),
            effects: self.effects,
            arguments: "{}".to_owned(),
        };
        let request = ToolRequest { calls: wishes.iter().map(intent).collect(), finished: std::mem::take(fresh) };
        let permits = match self.world.ask_tools(lease, &request) {
            Err(CallRefusal::FateUnknown { .. }) => return Err(Stopped::Unknown),
            permits => permits.unwrap(),
        };
        let mut results = Vec::new();
        for (wish, permit) in wishes.iter().zip(permits) {
            let answer = match permit {
                ToolPermit::Replay(answer) => answer,
                ToolPermit::Run(id) => {
                    self.moment()?;
                    *self.ran.entry(wish.number).or_default() += 1;
                    self.moment()?;
                    let answer = ToolAnswer { content: format!("result {}", wish.number), is_error: false };
                    let end = ToolEnd { id, number: wish.number, answer: answer.clone(), duration_ms: 1, ran: true };
                    self.world.end_tool(lease, &end).unwrap();
                    self.world.end_tool(lease, &end).unwrap();
                    self.moment()?;
                    answer
                }
            };
            assert_eq!(answer.content, format!("result {}", wish.number));
            results.push(gives(wish.number, &answer.content));
        }
        Ok(results)
    }

    /// One model call: asked for with what ended before, replayed or sent.
    fn call(
        &mut self,
        lease: &Lease,
        number: i32,
        machine: &Machine,
        fresh: &mut Vec<FinishedCall>,
    ) -> Result<FinishedCall, Stopped> {
        let body = serde_json::to_string(machine.messages()).unwrap();
        let input = u64::try_from(number).unwrap();
        let mut wish = request(number, &body, (input, 1));
        wish.finished = std::mem::take(fresh);
        let permit = self.world.ask_for(lease, &wish).unwrap();
        self.moment()?;
        match permit {
            CallPermit::Listen(number) => panic!("nobody said {number}"),
            CallPermit::Replay(call) => Ok(call),
            CallPermit::Send(id) => {
                self.sent += 1;
                let said = &self.play.answers[usize::try_from(number).unwrap() - 1];
                let call = FinishedCall { response: said.to_journal(), ..answer(id, input, 1) };
                self.moment()?;
                fresh.push(call.clone());
                Ok(call)
            }
        }
    }
}

/// Plays it in a world of its own; output, credits charged in µcr, calls sent.
fn perform(seed: u64, play: &Play, deaths: BTreeSet<u32>) -> (Value, i64, usize) {
    let mut world = World::new(seed);
    world.grant(100);
    let mut theatre = Theatre::new(&mut world, play, deaths);
    let output = theatre.play().unwrap();
    let (sent, mission) = (theatre.sent, theatre.mission);
    world.verify();
    (output, world.spent(mission), sent)
}

#[test]
fn a_crash_at_any_moment_costs_at_most_the_call_in_flight() {
    let play = Play { answers: vec![wants(&["a"]), wants(&["a", "a"]), wants(&["a"]), wants(&["a"]), says("done")] };
    let (output, bill, sent) = perform(1, &play, BTreeSet::new());
    assert_eq!((output, bill, sent), (json!("done"), play.bill(), 5));
    for moment in 1..=40 {
        let (output, bill, sent) = perform(1, &play, BTreeSet::from([moment]));
        assert_eq!((output, bill), (json!("done"), play.bill()), "moment {moment}");
        assert!(sent <= 6, "moment {moment}: {sent} calls sent");
    }
}

#[test]
fn a_step_that_gets_on_is_no_poison_pill_however_often_its_workers_vanish() {
    let play = Play { answers: [vec![wants(&["a"]); 6], vec![says("done")]].concat() };
    // one death in each attempt, right after the call that it added was journaled
    let mut world = World::with_credits(100);
    let mut theatre = Theatre::new(&mut world, &play, BTreeSet::new());
    let journaled = |world: &World| world.tables.calls.values().filter(|call| call.state == CallState::Done).count();
    for _ in 0..5 {
        let lease = theatre.world.claim(theatre.mission, "one");
        let before = journaled(theatre.world);
        for moments in 1.. {
            let mut copy = theatre.world.clone();
            let mut trial = Theatre {
                effects: theatre.effects,
                ran: BTreeMap::new(),
                world: &mut copy,
                mission: theatre.mission,
                step: step(""),
                play: &play,
                deaths: BTreeSet::from([moments]),
                moment: 0,
                sent: 0,
            };
            assert!(trial.attempt(&lease).is_err());
            if journaled(&copy) > before {
                *theatre.world = copy;
                break;
            }
        }
        theatre.world.pass_ms(LEASE_MS + 1);
        theatre.world.sweep();
    }
    assert_eq!(theatre.play(), Some(json!("done")));
}

#[test]
fn a_tool_that_takes_effect_once_is_run_once_or_the_step_stops_by_that_name() {
    let play = Play { answers: vec![wants(&["a"]), wants(&["a", "a"]), wants(&["a"]), says("done")] };
    let (mut unknown, mut whole) = (0, 0);
    for moment in 1..=40 {
        let mut world = World::with_credits(100);
        let mut theatre = Theatre::new(&mut world, &play, BTreeSet::from([moment]));
        theatre.effects = ToolEffects::Once;
        let output = theatre.play();
        assert!(theatre.ran.values().all(|times| *times == 1), "moment {moment}: {:?}", theatre.ran);
        if output.is_some() {
            assert_eq!(theatre.ran.len(), 4);
            whole += 1;
        } else {
            unknown += 1;
        }
        let results = theatre.world.events(theatre.mission).iter().filter(|kind| **kind == "task.tool_result").count();
        assert!(results <= 4 && (output.is_none() || results == 4), "a replay is no event");
        world.verify();
    }
    assert!(unknown >= 4 && whole >= 20, "{unknown} unknown, {whole} whole");
}

#[test]
fn a_harmless_tool_whose_worker_vanished_is_run_again() {
    let play = Play { answers: vec![wants(&["a"]), says("done")] };
    for effects in [ToolEffects::None, ToolEffects::Idempotent] {
        let mut most = 0;
        for moment in 1..=12 {
            let mut world = World::with_credits(100);
            let mut theatre = Theatre::new(&mut world, &play, BTreeSet::from([moment]));
            theatre.effects = effects;
            assert_eq!(theatre.play(), Some(json!("done")));
            most = most.max(theatre.ran[&1]);
        }
        assert_eq!(most, 2);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn output_and_bill_do_not_depend_on_crashes(seed in any::<u64>()) {
        let mut dice = Dice::new(seed);
        let play = Play::random(&mut dice);
        let undisturbed = perform(seed, &play, BTreeSet::new());
        prop_assert_eq!(undisturbed.1, play.bill());
        prop_assert_eq!(undisturbed.2, play.answers.len());
        // at most two workers vanish without progress in between: a third would make it a poison pill
        let deaths: BTreeSet<u32> = (0..2).map(|_| 1 + u32::try_from(dice.below(60)).unwrap()).collect();
        let disturbed = perform(seed, &play, deaths);
        prop_assert_eq!(&disturbed.0, &undisturbed.0);
        prop_assert_eq!(disturbed.1, undisturbed.1);
        prop_assert!(disturbed.2 <= undisturbed.2 + 2);
    }
}
