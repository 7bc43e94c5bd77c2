//! Values: every JSON value comes back from the store as it went in, whatever engine keeps it.

use bursar::store::{Arg, StoreError};
use bursar_domain::outcome::{ErrorClass, Outcome, StepError};
use serde_json::{Value, json};

use crate::support::hand::{Hand, SINGLE};
use crate::support::stores::on_both_stores;

on_both_stores!(Hand::new:
    outputs_of_every_shape_come_back_as_they_went_in,
    inputs_and_metadata_come_back_as_they_went_in,
    errors_come_back_as_they_went_in,
    a_nul_character_is_refused_wherever_it_stands,
    lists_and_pairs_are_parameters_on_both_engines,
    the_stores_clock_is_the_time,
);

fn shapes() -> Vec<Value> {
    vec![
        json!("text"),
        json!(""),
        json!("null"),
        json!("42"),
        json!("{\"a\": 1}"),
        json!("quotes ' \" and \\ and \\u0000 spelled out"),
        json!("line\nbreak\ttab \u{1f980} \u{e9} \u{7f} \u{1}"),
        json!(true),
        json!(false),
        json!(0),
        json!(-1),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(1.5e300),
        json!(0.1),
        json!([]),
        json!({}),
        json!([1, "two", null, [true], {"deep": {"deeper": []}}]),
        json!({"b": 1, "a": {"z": null, "y": "x"}, "": "empty key", "ä'\"": 2}),
        json!("x".repeat(300_000)),
    ]
}

async fn outputs_of_every_shape_come_back_as_they_went_in(mut hand: Hand) {
    let workflow = hand.put(SINGLE).await;
    for shape in shapes() {
        let (mission, ready) = hand.start(workflow).await;
        let (claimed, token) = hand.claim(&ready).await;
        let outcome = Outcome::Succeeded { output: shape.clone(), calls: Vec::new() };
        hand.settle(&claimed[0], &token, outcome).await.unwrap();
        let task = hand.store.task(None, ready[0]).await.unwrap().unwrap();
        assert_eq!(task.output, Some(shape.clone()));
        let outputs = hand.store.outputs(&[(claimed[0].run_id, 0)]).await.unwrap();
        assert_eq!(outputs[0].output, Some(shape.clone()), "as an input of the next node");
        let run = hand.store.mission(None, mission).await.unwrap().unwrap().run_id;
        assert_eq!(hand.store.tasks_of_run(run, true, 9).await.unwrap()[0].output, Some(shape));
        assert_eq!(hand.store.tasks_of_run(run, false, 9).await.unwrap()[0].output, None);
    }
}

async fn inputs_and_metadata_come_back_as_they_went_in(mut hand: Hand) {
    let workflow = hand.put(SINGLE).await;
    for shape in shapes() {
        let mut submission = hand.submission(workflow);
        submission.input = json!({"value": shape});
        submission.metadata = Some(shape.clone());
        hand.submit(&submission).await.unwrap().unwrap();
        let mission = hand.store.mission(None, submission.mission_id).await.unwrap().unwrap();
        assert_eq!((mission.input, mission.metadata), (Some(json!({"value": shape})), Some(shape)));
        let inputs = hand.store.inputs(&[(submission.mission_id, 0)]).await.unwrap();
        let read: Vec<_> = inputs.into_iter().map(|read| (read.mission_id, read.base, read.input)).collect();
        assert_eq!(read, [(submission.mission_id, 0, submission.input)]);
    }
}

async fn errors_come_back_as_they_went_in(mut hand: Hand) {
    let workflow = hand.put(SINGLE).await;
    let (mission, ready) = hand.start(workflow).await;
    let (claimed, token) = hand.claim(&ready).await;
    let error = StepError::new(ErrorClass::Permanent, "odd", "it's \"odd\" \\ {1: '\u{1f980}'}\n");
    let outcome = Outcome::Failed { error: error.clone(), calls: Vec::new() };
    hand.settle(&claimed[0], &token, outcome).await.unwrap();
    let task = hand.store.task(None, ready[0]).await.unwrap().unwrap();
    assert_eq!(task.error, Some(error.clone()));
    let run_error = hand.store.mission(None, mission).await.unwrap().unwrap().error.unwrap();
    assert_eq!(run_error["message"], json!(error.message));
    let events = hand.store.events(mission, 0, 100).await.unwrap();
    let failed = events.iter().find(|event| event.kind == "task.failed").unwrap();
    assert_eq!(failed.data["error"]["message"], json!(error.message));
}

async fn a_nul_character_is_refused_wherever_it_stands(mut hand: Hand) {
    let workflow = hand.put(SINGLE).await;
    for output in [json!("a\u{0}b"), json!({"deep": ["\u{0}"]}), json!({"\u{0}": 1})] {
        let (_, ready) = hand.start(workflow).await;
        let (claimed, token) = hand.claim(&ready).await;
        let outcome = Outcome::Succeeded { output, calls: Vec::new() };
        let want = hand.settle_want(&claimed[0]);
        let guard = claimed[0].guard(&token);
        let request = bursar_domain::flow::SettleRequest { guard, outcome, handoff: None, cache: None, prompt: None };
        let refused = hand.decide(&want, |turn| bursar_domain::flow::settle(turn, &request)).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
        assert_eq!(hand.count("tasks where state = 'running'").await, 1, "nothing was settled");
        let spelled_out = Outcome::Succeeded { output: json!("\\u0000 and \\\\u0000"), calls: Vec::new() };
        hand.settle(&claimed[0], &token, spelled_out).await.unwrap();
    }
}

async fn lists_and_pairs_are_parameters_on_both_engines(hand: Hand) {
    let one = |sql: &'static str, list: Value| {
        let store = hand.store.clone();
        async move { store.rows(sql, &[Arg::Json(list)]).await.unwrap() }
    };
    let names = "select name from tenants where name in {list:1}";
    assert_eq!(one(names, json!(["first", "nobody"])).await, [json!({"name": "first"})]);
    assert_eq!(one(names, json!([])).await, Vec::<Value>::new());
    assert_eq!(one(names, json!(["'; drop table tenants; --"])).await, Vec::<Value>::new());
    let pairs = "select n.a, cast(n.b as integer) as b from {pairs:1} n order by n.a";
    let rows = one(pairs, json!([["y", 2], ["x", 1]])).await;
    assert_eq!(rows, [json!({"a": "x", "b": 1}), json!({"a": "y", "b": 2})]);
}

async fn the_stores_clock_is_the_time(hand: Hand) {
    let wall = bursar::clock::Clock::new();
    let (before, told, after) = (wall.now(), hand.store.time().await.unwrap(), wall.now());
    // one machine, two clocks that may round differently
    assert!(told.plus_ms(2) >= before && told <= after.plus_ms(2), "{before:?} {told:?} {after:?}");
}
