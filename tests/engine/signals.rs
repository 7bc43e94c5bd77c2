//! Signals from outside, as the documentation shows them, on both stores.

use bursar::engine::{SignalError, SignalWish};
use bursar_domain::flow::SignalRefusal;
use bursar_domain::id::MissionId;
use bursar_domain::limits::MAX_BUFFERED_SIGNALS;
use bursar_domain::state::{RunState, TaskState, WaitCause};
use serde_json::{Value, json};

use crate::support::docs::example;
use crate::support::stores::on_both_stores;
use crate::support::world::World;

on_both_stores!(World::on:
    the_example_of_signals_runs_as_it_says,
    signals_that_came_before_their_waiters_are_not_lost,
    of_many_signals_at_once_each_goes_to_one_waiter,
    one_key_is_one_signal_whoever_sends_it_when,
    signals_that_nobody_takes_are_bounded,
);

fn wish(mission_id: MissionId, name: &str, key: Option<&str>, payload: Value) -> SignalWish {
    let request_hash = format!("{name} {payload}");
    SignalWish { mission_id, name: name.to_owned(), key: key.map(str::to_owned), request_hash, payload }
}

async fn the_example_of_signals_runs_as_it_says(world: World) {
    let text = example("order");
    let workflow = world.put(&text).await;
    let mission = world.submit_with(workflow.id, json!({"item": "a clock"})).await;
    let waits = |task: &bursar::store::read::TaskView| task.wait == Some(WaitCause::Signal);
    let paid = world.task_when(mission, "paid", "waiting for its signal", waits).await;
    let received = world.engine().receive_signal(&wish(mission, "paid", None, json!({"amount": 5}))).await.unwrap();
    assert_eq!(received.signal.task_id, Some(paid.id));
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
    assert_eq!(world.task(mission, "ship").await.output, Some(json!("a clock for 5")));
    assert_eq!(
        (world.task(mission, "paid").await.attempt, world.task(mission, "drop").await.state),
        (0, TaskState::Skipped)
    );
    let over = world.engine().receive_signal(&wish(mission, "paid", None, json!({}))).await;
    assert!(matches!(over, Err(SignalError::Refused(SignalRefusal::Over("succeeded")))), "{over:?}");
    let unknown = world.engine().receive_signal(&wish(mission, "payed", None, json!({}))).await;
    assert!(matches!(unknown, Err(SignalError::Unknown(_))), "{unknown:?}");

    let impatient = world.put(&text.replace("24h", "200ms")).await;
    let mission = world.submit_with(impatient.id, json!({"item": "a clock"})).await;
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
    assert_eq!(world.task(mission, "drop").await.output, Some(json!("nobody paid")));
    world.balances().await;
}

async fn signals_that_came_before_their_waiters_are_not_lost(world: World) {
    let text = "{workflow: early, flat_fee: 0, nodes: {nap: {sleep: 400ms}, a: {needs: [nap], signal: {name: s}}, \
                b: {needs: [a], signal: {name: s}}, c: {needs: [b], transform: '{{ nodes.a.output }}{{ nodes.b.output }}'}}}";
    let mission = world.run(text).await;
    for word in ["one", "two", "three"] {
        let received = world.engine().receive_signal(&wish(mission, "s", None, json!(word))).await.unwrap();
        assert_eq!((received.signal.task_id, received.repeated), (None, false), "it waits");
    }
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
    assert_eq!(world.task(mission, "c").await.output, Some(json!("onetwo")), "in their order, each once");
    world.balances().await;
}

async fn of_many_signals_at_once_each_goes_to_one_waiter(world: World) {
    // half of the nodes wait already, half begin to wait while signals come in
    let node = |number: usize| {
        let needs = if number.is_multiple_of(2) { "" } else { "needs: [nap], " };
        format!("n{number:02}: {{{needs}signal: {{name: s}}}}")
    };
    let nodes: Vec<String> = (0..20).map(node).collect();
    let text = format!("{{workflow: many, flat_fee: 0, nodes: {{nap: {{sleep: 100ms}}, {}}}}}", nodes.join(", "));
    let mission = world.run(&text).await;
    let signals = (0..20).map(|number| {
        let engine = world.engine().clone();
        async move { engine.receive_signal(&wish(mission, "s", None, json!(number))).await }
    });
    let received = futures::future::join_all(signals).await;
    assert!(received.iter().all(Result::is_ok), "{received:?}");
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
    let outputs = world.tasks(mission).await.into_iter().filter(|task| task.kind == "signal");
    let mut numbers: Vec<i64> = outputs.map(|task| task.output.unwrap().as_i64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20).collect::<Vec<i64>>(), "each signal once");
    world.balances().await;
}

async fn one_key_is_one_signal_whoever_sends_it_when(world: World) {
    let text = "{workflow: keyed, flat_fee: 0, nodes: {a: {signal: {name: s}}, b: {needs: [a], signal: {name: s}}}}";
    let mission = world.run(text).await;
    let signals = (0..10).map(|_| {
        let engine = world.engine().clone();
        async move { engine.receive_signal(&wish(mission, "s", Some("k"), json!(1))).await.unwrap() }
    });
    let received = futures::future::join_all(signals).await;
    assert_eq!(received.iter().filter(|received| !received.repeated).count(), 1);
    assert!(received.windows(2).all(|pair| pair[0].signal == pair[1].signal), "{received:?}");
    assert_eq!(world.task(mission, "b").await.wait, Some(WaitCause::Signal), "it was delivered once");
    let reused = world.engine().receive_signal(&wish(mission, "s", Some("k"), json!(2))).await;
    assert!(matches!(reused, Err(SignalError::Refused(SignalRefusal::KeyReused))), "{reused:?}");
    world.engine().receive_signal(&wish(mission, "s", Some("other"), json!(1))).await.unwrap();
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
}

async fn signals_that_nobody_takes_are_bounded(world: World) {
    let text = "{workflow: full, flat_fee: 0, nodes: {a: {approval: {show: '?'}}, b: {needs: [a], signal: {name: s}}}}";
    let mission = world.run(text).await;
    for number in 0..MAX_BUFFERED_SIGNALS {
        world.engine().receive_signal(&wish(mission, "s", None, json!(number))).await.unwrap();
    }
    let refused = world.engine().receive_signal(&wish(mission, "s", None, json!("more"))).await;
    assert!(matches!(refused, Err(SignalError::Refused(SignalRefusal::TooMany))), "{refused:?}");
}
