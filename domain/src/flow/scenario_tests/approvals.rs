//! Nodes that wait for a person: what an answer does, once, twice, too late; what happens without one.

use serde_json::{Value, json};

use super::{open_holds, workflow};
use crate::flow::testbed::World;
use crate::flow::{ApprovalRefusal, Refusal};
use crate::id::MissionId;
use crate::limits::MAX_SHOWN_BYTES;
use crate::outcome::Outcome;
use crate::record::Verdict;
use crate::state::{RunState, TaskState, WaitCause};

/// A draft, a decision about it with more keys, and what follows.
fn nodes(more: &str) -> String {
    format!(
        "  draft: {{ transform: 1 }}
  ask: {{ needs: [draft], approval: {{ show: 'Publish {{{{ nodes.draft.output }}}}?', expires: 1h{more} }} }}
  next: {{ needs: [ask], transform: 1 }}"
    )
}

/// A mission whose draft is written and that now waits.
fn asked(world: &mut World, more: &str) -> MissionId {
    let mission = world.submit(&workflow("flat_fee: 1", &nodes(more)));
    let lease = world.claim(mission, "draft");
    world.settle(&lease, &lease.settle(Outcome::Succeeded { output: json!("bees"), calls: vec![] })).unwrap();
    let task = world.task(mission, "ask");
    assert_eq!((task.state, task.wait), (TaskState::Waiting, Some(WaitCause::Approval)));
    mission
}

fn answer(
    world: &mut World,
    mission: MissionId,
    is_approved: bool,
    comment: Option<&str>,
) -> Result<bool, ApprovalRefusal> {
    let task = world.task(mission, "ask").id;
    world.decide_approval(task, is_approved, comment).map(|decided| decided.repeated)
}

/// The code of the node's error.
fn code(world: &World, mission: MissionId) -> Option<&str> {
    world.task(mission, "ask").error.as_ref().map(|error| error.code.as_str())
}

#[test]
fn a_person_is_asked_without_a_slot_and_the_run_goes_on_with_their_answer() {
    for sight in [0, 100] {
        let mut world = World::with_credits(10);
        world.sight = sight;
        let mission = asked(&mut world, "");
        let task = world.task(mission, "ask").clone();
        assert_eq!(task.shown.as_deref(), Some("Publish bees?"));
        assert_eq!(task.due_at, Some(world.now.plus_ms(3_600_000)));
        assert_eq!((task.hold_id, open_holds(&world)), (None, 1), "only the fee is held");
        let worker = world.worker;
        assert!(world.claim_for(worker, task.id).is_none(), "no worker takes it");
        world.pass_ms(60_000);
        world.sweep();
        assert_eq!(answer(&mut world, mission, true, Some("well done")), Ok(false));
        let task = world.task(mission, "ask").clone();
        let at = world.now.to_rfc3339();
        let output = json!({"decision": "approved", "by": "key_1", "comment": "well done", "at": at});
        assert_eq!((task.state, task.output), (TaskState::Succeeded, Some(output)));
        assert_eq!(world.state(mission, "next"), TaskState::Ready);
        world.do_node(mission, "next", None);
        assert_eq!((world.run(mission).state, world.spent(mission)), (RunState::Succeeded, 1_000_000));
        let events = world.events(mission);
        let about: Vec<&&str> = events.iter().filter(|kind| kind.starts_with("approval.")).collect();
        assert_eq!(about, [&"approval.requested", &"approval.decided"]);
        world.verify();
    }
}

#[test]
fn a_rejection_fails_the_node_or_goes_on_as_the_node_says() {
    let mut world = World::with_credits(10);
    let mission = asked(&mut world, "");
    answer(&mut world, mission, false, Some("too long")).unwrap();
    assert_eq!((world.state(mission, "ask"), code(&world, mission)), (TaskState::Failed, Some("approval_rejected")));
    assert_eq!(world.task(mission, "ask").error.as_ref().unwrap().message, "it was rejected: too long");
    assert_eq!((world.run(mission).state, world.spent(mission)), (RunState::Failed, 0));
    world.verify();

    let mut world = World::with_credits(10);
    let mission = asked(&mut world, ", on_reject: continue");
    answer(&mut world, mission, false, None).unwrap();
    assert_eq!(world.task(mission, "ask").output.as_ref().unwrap()["decision"], "rejected");
    assert_eq!(world.state(mission, "next"), TaskState::Ready);
    world.verify();
}

#[test]
fn a_rejection_follows_on_error() {
    let mut world = World::with_credits(10);
    let nodes = nodes("").replace("1h } }", "1h }, on_error: continue }");
    let mission = world.submit(&workflow("", &nodes));
    let lease = world.claim(mission, "draft");
    world.settle(&lease, &lease.settle(Outcome::Succeeded { output: json!("bees"), calls: vec![] })).unwrap();
    answer(&mut world, mission, false, None).unwrap();
    assert_eq!(world.task(mission, "ask").output.as_ref().unwrap()["error"]["code"], "approval_rejected");
    assert_eq!((world.run(mission).state.is_live(), world.state(mission, "next")), (true, TaskState::Ready));
    world.verify();
}

#[test]
fn the_same_answer_twice_is_one_and_another_is_refused() {
    for (first, verdict) in [(true, Verdict::Approved), (false, Verdict::Rejected)] {
        let mut world = World::with_credits(10);
        let mission = asked(&mut world, "");
        assert_eq!(answer(&mut world, mission, first, Some("first")), Ok(false));
        let before = world.tables.clone();
        assert_eq!(answer(&mut world, mission, first, Some("again")), Ok(true));
        assert_eq!(answer(&mut world, mission, !first, None), Err(ApprovalRefusal::DecidedOtherwise(verdict)));
        assert!(world.tables == before, "nothing changed");
        assert_eq!(world.task(mission, "ask").decision.as_ref().unwrap().comment.as_deref(), Some("first"));
    }
}

#[test]
fn what_nobody_decides_ends_as_the_node_says() {
    type Expected = (TaskState, Option<&'static str>, Option<&'static str>);
    let cases: [(&str, Expected); 5] = [
        ("", (TaskState::Failed, Some("approval_expired"), None)),
        (", on_expire: reject, on_reject: continue", (TaskState::Succeeded, None, Some("expired"))),
        (", on_expire: approve", (TaskState::Succeeded, None, Some("approved"))),
        (", on_expire: fail", (TaskState::Failed, Some("approval_expired"), None)),
        (", on_expire: fail, on_reject: continue", (TaskState::Failed, Some("approval_expired"), None)),
    ];
    for (more, (state, code, decision)) in cases {
        let mut world = World::with_credits(10);
        let mission = asked(&mut world, more);
        world.pass_ms(3_599_999);
        world.sweep();
        assert_eq!(world.state(mission, "ask"), TaskState::Waiting);
        world.pass_ms(1);
        assert_eq!(answer(&mut world, mission, true, None), Err(ApprovalRefusal::Expired), "exact before the sweep");
        world.sweep();
        let task = world.task(mission, "ask").clone();
        assert_eq!((task.state, task.error.as_ref().map(|error| error.code.as_str())), (state, code), "{more}");
        let output = task.output.unwrap_or_default();
        assert_eq!(output.get("decision").and_then(Value::as_str), decision, "{more}");
        assert_eq!(task.decision.unwrap().decision, Verdict::Expired);
        assert_eq!(answer(&mut world, mission, true, None), Err(ApprovalRefusal::Expired));
        assert!(world.events(mission).contains(&"approval.expired"));
        let run = if state == TaskState::Failed { RunState::Failed } else { RunState::Running };
        assert_eq!(world.run(mission).state, run, "{more}");
        world.verify();
    }
}

#[test]
fn nothing_is_decided_before_it_is_asked_or_when_its_run_is_over() {
    let mut world = World::with_credits(10);
    let mission = world.submit(&workflow("", &nodes("")));
    assert_eq!(answer(&mut world, mission, true, None), Err(ApprovalRefusal::NotOpen("pending")));
    let draft = world.task(mission, "draft").id;
    assert_eq!(world.decide_approval(draft, true, None), Err(ApprovalRefusal::NotOpen("ready")));
    let nobody = world.id();
    let want = crate::flow::testbed::tables::Want::default();
    let answer_to_nobody = crate::flow::Answer { task_id: nobody, is_approved: true, by: String::new(), comment: None };
    let refused = world.decide(&want, |turn| crate::flow::decide(turn, &answer_to_nobody));
    assert!(matches!(refused, Err(ApprovalRefusal::Refused(Refusal::NotFound(_)))));

    let mission = asked(&mut world, "");
    world.cancel(mission).unwrap();
    assert_eq!(answer(&mut world, mission, true, None), Err(ApprovalRefusal::NotOpen("cancelled")));
    world.verify();
}

#[test]
fn a_long_text_is_cut_and_what_can_not_be_shown_fails_the_node() {
    let mut world = World::with_credits(10);
    let mission = world.submit(&workflow("", &nodes("")));
    let lease = world.claim(mission, "draft");
    let output = json!("ä".repeat(MAX_SHOWN_BYTES));
    world.settle(&lease, &lease.settle(Outcome::Succeeded { output, calls: vec![] })).unwrap();
    let shown = world.task(mission, "ask").shown.clone().unwrap();
    assert!(shown.len() <= MAX_SHOWN_BYTES && shown.ends_with("more bytes are not shown)"), "{}", shown.len());

    let mission = world.submit(&workflow("", "  ask: { approval: { show: '{{ inputs.nothing }}' } }"));
    assert_eq!((world.state(mission, "ask"), code(&world, mission)), (TaskState::Failed, Some("show_failed")));
    world.verify();
}

#[test]
fn units_of_an_approval_are_held_while_it_waits_and_charged_with_the_answer() {
    let mut world = World::with_credits(10);
    let mission = world.submit(&workflow("", "  ask: { approval: { show: 'now?' }, units: { step: 2 } }"));
    assert_eq!(world.held(mission, "ask"), Some(2_000_000));
    answer(&mut world, mission, true, None).unwrap();
    assert_eq!((world.run(mission).state, world.spent(mission)), (RunState::Succeeded, 2_000_000));
    world.verify();
}

#[test]
fn a_decision_is_taken_while_the_run_is_paused_and_what_follows_waits() {
    let mut world = World::with_credits(10);
    let mission = asked(&mut world, "");
    world.pause(mission).unwrap();
    assert_eq!(answer(&mut world, mission, true, None), Ok(false));
    let next = world.task(mission, "next");
    assert_eq!((world.state(mission, "ask"), next.wait), (TaskState::Succeeded, Some(WaitCause::Paused)));
    world.resume(mission).unwrap();
    world.sweep();
    assert_eq!(world.state(mission, "next"), TaskState::Ready);

    let mission = asked(&mut world, "");
    world.pause(mission).unwrap();
    world.pass_ms(3_600_000);
    world.sweep();
    assert_eq!(code(&world, mission), Some("approval_expired"), "time goes on");
    world.verify();
}
