//! Runs: each shape of workflow ends as it should, on both stores.

use std::time::Duration;

use bursar_domain::credits::Ucr;
use bursar_domain::state::{RunState, TaskState, WaitCause};
use serde_json::json;

use crate::support::eventually;
use crate::support::hand::{DIAMOND, SINGLE};
use crate::support::stores::on_both_stores;
use crate::support::world::{PATIENCE, Queues, World};

on_both_stores!(World::on:
    a_diamond_passes_outputs_on_and_charges_its_steps,
    an_agent_is_charged_what_it_used,
    a_failure_ends_the_run_and_charges_nothing,
    a_step_that_fails_once_is_tried_again,
    a_failed_attempt_is_not_billed,
    a_cancel_stops_a_running_step,
    a_cancel_of_what_is_over_is_refused,
    a_sleep_takes_no_worker_and_wakes_in_time,
    a_run_past_its_deadline_expires,
    a_rate_limit_does_not_consume_an_attempt,
    a_key_submits_once,
    an_output_that_cannot_be_stored_fails_its_task_alone,
    a_mission_without_credits_is_refused,
);

async fn a_diamond_passes_outputs_on_and_charges_its_steps(world: World) {
    let mission = world.run(DIAMOND).await;
    let over = world.finished(mission).await;
    assert_eq!((over.state, over.tasks_done, over.tasks_total), (RunState::Succeeded, 4, 4));
    let tasks = world.tasks(mission).await;
    let outputs: Vec<_> = tasks.iter().map(|task| task.output.clone().unwrap()).collect();
    assert_eq!(outputs, [json!({"a": "1"}), json!({"b": "1"}), json!({"c": "1"}), json!({"d": "11"})]);
    let step = tasks[0].cost_ucr;
    assert!(step.is_positive() && tasks.iter().all(|task| task.cost_ucr == step && task.attempt == 1));
    assert_eq!((over.spent_ucr, over.held_ucr), (Ucr::new(4 * step.get()), Ucr::ZERO));
    let events = world.store().events(mission, 0, 100).await.unwrap();
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=6).collect::<Vec<i64>>());
    assert_eq!((events[0].kind.as_str(), events[5].kind.as_str()), ("mission.created", "mission.succeeded"));
    world.balances().await;
}

const ASK: &str = "{workflow: ask, flat_fee: 2, agents: {a: {instructions: be kind, model: simulated-large, max_output_tokens: 200}}, \
                   nodes: {ask: {agent: a, prompt: 'hello [[simulate tokens=50 PLACE]]', retry: {max_attempts: 2, backoff: {initial: 1ms}}}}}";

async fn an_agent_is_charged_what_it_used(world: World) {
    let mission = world.run(&ASK.replace("PLACE", "")).await;
    let over = world.finished(mission).await;
    assert_eq!((over.state, over.fee_ucr), (RunState::Succeeded, Ucr::from_credits(2)));
    let task = world.task(mission, "ask").await;
    let calls = world.store().calls_of_run(over.run_id, 10).await.unwrap();
    assert_eq!((calls.len(), calls[0].state.as_str(), calls[0].billable), (1, "done", true));
    assert_eq!(calls[0].usage.unwrap().output_tokens, 50);
    assert!(calls[0].cost_ucr.is_positive());
    assert_eq!((task.cost_ucr, task.usage), (calls[0].cost_ucr, calls[0].usage));
    assert_eq!(over.spent_ucr, over.fee_ucr.saturating_add(task.cost_ucr));
    world.balances().await;
}

async fn a_failure_ends_the_run_and_charges_nothing(world: World) {
    let text = "{workflow: fails, flat_fee: 3, agents: {a: {instructions: be kind, model: simulated-small, max_output_tokens: 50}}, \
                nodes: {good: {transform: {x: 1}, units: {step: 1}}, rest: {sleep: 1h}, \
                bad: {needs: [good], agent: a, prompt: '[[simulate fail=permanent after_tokens=5]]'}, \
                later: {needs: [bad], transform: {x: 1}}}}";
    let mission = world.run(text).await;
    let over = world.finished(mission).await;
    assert_eq!((over.state, over.tasks_done), (RunState::Failed, 4));
    assert_eq!(over.error.as_ref().unwrap()["node"], json!("bad"));
    let state = async |node| world.task(mission, node).await.state;
    assert_eq!((state("bad").await, state("later").await), (TaskState::Failed, TaskState::Skipped));
    assert_eq!((state("good").await, state("rest").await), (TaskState::Succeeded, TaskState::Cancelled));
    let bad = world.task(mission, "bad").await;
    assert_eq!((bad.cost_ucr, bad.held_ucr, over.held_ucr), (Ucr::ZERO, Ucr::ZERO, Ucr::ZERO));
    assert_eq!(over.spent_ucr, world.task(mission, "good").await.cost_ucr, "neither the failure nor the fee");
    let calls = world.store().calls_of_run(over.run_id, 10).await.unwrap();
    assert!(calls.len() == 1 && !calls[0].billable && calls[0].usage.is_some(), "known, and the platform's to pay");
    world.balances().await;
}

async fn a_step_that_fails_once_is_tried_again(world: World) {
    let mission = world.run(&ASK.replace("PLACE", "fail=retryable times=1")).await;
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
    let task = world.task(mission, "ask").await;
    assert_eq!((task.attempt, task.failures, task.state), (2, 1, TaskState::Succeeded));
    let kinds: Vec<_> =
        world.store().events(mission, 0, 100).await.unwrap().into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, ["mission.created", "task.retrying", "task.succeeded", "mission.succeeded"]);
    world.balances().await;

    let hopeless =
        world.submit(world.put(&ASK.replace("PLACE", "fail=retryable").replace(": ask,", ": never,")).await.id).await;
    let over = world.finished(hopeless).await;
    assert_eq!((over.state, world.task(hopeless, "ask").await.failures), (RunState::Failed, 2));
    world.balances().await;
}

async fn a_failed_attempt_is_not_billed(world: World) {
    let mission = world.run(&ASK.replace("PLACE", "fail=retryable times=1 after_tokens=20")).await;
    let over = world.finished(mission).await;
    assert_eq!(over.state, RunState::Succeeded);
    let calls = world.store().calls_of_run(over.run_id, 10).await.unwrap();
    let seen: Vec<_> = calls.iter().map(|call| (call.attempt, call.state.as_str(), call.billable)).collect();
    assert_eq!(seen, [(1, "failed", false), (2, "done", true)]);
    assert!(calls[0].cost_ucr.is_positive(), "what it cost the platform is known");
    assert_eq!(world.task(mission, "ask").await.cost_ucr, calls[1].cost_ucr);
    world.balances().await;
}

async fn a_cancel_stops_a_running_step(world: World) {
    let mission = world.run(&ASK.replace("PLACE", "stall after_tokens=10")).await;
    world.task_when(mission, "ask", "running", |task| task.state == TaskState::Running).await;
    // its call is under way
    let sent = || async {
        let run = world.mission(mission).await.run_id;
        world.store().calls_of_run(run, 10).await.unwrap().first().map(|call| call.state.clone())
    };
    assert_eq!(eventually("the call is sent", PATIENCE, sent).await, "sent");
    world.engine().cancel(mission, Some("changed my mind")).await.unwrap();
    let over = world.finished(mission).await;
    assert_eq!(over.state, RunState::Cancelled);
    let task = world.task(mission, "ask").await;
    assert_eq!(task.state, TaskState::Cancelled);
    assert_eq!((over.held_ucr, over.spent_ucr), (Ucr::ZERO, task.cost_ucr), "used tokens are charged, the fee is not");
    world.engine().cancel(mission, None).await.unwrap();
    world.balances().await;
}

async fn a_cancel_of_what_is_over_is_refused(world: World) {
    let mission = world.run(SINGLE).await;
    world.finished(mission).await;
    let refused = world.engine().cancel(mission, None).await.unwrap_err();
    assert!(refused.to_string().contains("succeeded"), "{refused}");
    let unknown = bursar::clock::new_id();
    assert!(world.engine().cancel(unknown, None).await.is_err());
}

async fn a_sleep_takes_no_worker_and_wakes_in_time(world: World) {
    let text = "{workflow: rest, flat_fee: 0, nodes: {a: {sleep: 400ms}, b: {needs: [a], transform: {x: 1}}}}";
    let mission = world.run(text).await;
    let task = world.task(mission, "a").await;
    assert_eq!((task.state, task.wait), (TaskState::Waiting, Some(WaitCause::Timer)));
    let over = world.finished(mission).await;
    assert_eq!(over.state, RunState::Succeeded);
    let slept = world.task(mission, "a").await;
    let late_ms = slept.ended_at.unwrap().since_ms(slept.due_at.unwrap());
    assert!((0..1_000).contains(&late_ms), "{late_ms} ms late");
    assert_eq!((slept.attempt, slept.worker_id), (0, None));
    assert_eq!(slept.due_at.unwrap().since_ms(over.created_at), 400);
}

async fn a_run_past_its_deadline_expires(world: World) {
    let text =
        "{workflow: hurry, flat_fee: 2, deadline: 500ms, nodes: {a: {sleep: 1h}, b: {needs: [a], transform: {x: 1}}}}";
    let mission = world.run(text).await;
    let over = world.finished(mission).await;
    assert_eq!((over.state, over.spent_ucr, over.held_ucr), (RunState::Expired, Ucr::ZERO, Ucr::ZERO));
    let late_ms = over.ended_at.unwrap().since_ms(over.deadline_at.unwrap());
    assert!((0..3_000).contains(&late_ms), "{late_ms} ms late");
    world.balances().await;
}

async fn a_rate_limit_does_not_consume_an_attempt(world: World) {
    // one attempt in all; the directive counts attempts, so the limit holds until somebody cancels
    let text =
        ASK.replace("PLACE", "fail=rate_limited retry_after_ms=50").replace("max_attempts: 2", "max_attempts: 1");
    let mission = world.run(&text).await;
    let task = world.task_when(mission, "ask", "claimed three times", |task| task.attempt >= 3).await;
    assert_eq!(task.failures, 0);
    world.engine().cancel(mission, None).await.unwrap();
    assert_eq!(world.finished(mission).await.state, RunState::Cancelled);
    world.balances().await;
}

async fn a_key_submits_once(world: World) {
    let workflow = world.put(SINGLE).await;
    let keyed = |hash: &str| {
        let mut submission = world.submission(workflow.id, json!({}));
        submission.idempotency_key = Some("once".to_owned());
        hash.clone_into(&mut submission.request_hash);
        world.try_submit(submission)
    };
    // all at once: some meet in a batch, some in the database
    let answers = futures::future::join_all((0..20).map(|_| keyed("same"))).await;
    let missions: std::collections::BTreeSet<_> =
        answers.iter().map(|answer| answer.as_ref().unwrap().mission_id).collect();
    assert_eq!(missions.len(), 1);
    assert_eq!(answers.iter().filter(|answer| !answer.as_ref().unwrap().replayed).count(), 1);
    let reused = keyed("other").await.unwrap_err();
    assert!(matches!(reused, bursar::engine::SubmitError::KeyReused), "{reused:?}");
    world.finished(*missions.first().unwrap()).await;
}

async fn an_output_that_cannot_be_stored_fails_its_task_alone(world: World) {
    let text = r#"{workflow: echo, flat_fee: 0, nodes: {say: {transform: {text: "{% if inputs.odd %}{{ '\\u0000' }}{% else %}fine{% endif %}"}}}}"#;
    let workflow = world.put(text).await;
    let mut missions = Vec::new();
    for number in 0..30 {
        let input = json!({"odd": number == 17});
        missions.push(world.submission(workflow.id, input));
    }
    let submits = missions.iter().map(|submission| world.try_submit(submission.clone()));
    let submitted = futures::future::join_all(submits).await;
    for (number, answer) in submitted.into_iter().enumerate() {
        let mission = answer.unwrap().mission_id;
        let over = world.finished(mission).await;
        let task = world.task(mission, "say").await;
        if number == 17 {
            assert_eq!((over.state, task.state), (RunState::Failed, TaskState::Failed));
            assert_eq!(task.error.unwrap().code, "result_refused");
        } else {
            assert_eq!((over.state, task.attempt), (RunState::Succeeded, 1));
        }
    }
}

async fn a_mission_without_credits_is_refused(world: World) {
    let workflow = world.put(&SINGLE.replace("flat_fee: 0", "flat_fee: 1001")).await;
    let refused = world.try_submit(world.submission(workflow.id, json!({}))).await.unwrap_err();
    let (required, available) = refused.shortfall().unwrap();
    assert_eq!((required, available), (Ucr::from_credits(1_001), Ucr::from_credits(1_000)));
    let filter = bursar::store::read::MissionFilter { limit: 10, ..Default::default() };
    assert!(world.store().missions(&filter).await.unwrap().is_empty(), "nothing was made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_system_starts_at_once() {
    for queues in [Queues::Memory, Queues::Redis] {
        let world = World::working(crate::support::stores::Storage::Sqlite, queues).await;
        let workflow = world.put(SINGLE).await;
        let mut pauses = Vec::new();
        for _ in 0..5 {
            let mission = world.submit(workflow.id).await;
            world.finished(mission).await;
            let task = world.task(mission, "only").await;
            pauses.push(task.started_at.unwrap().since_ms(task.ready_at.unwrap()));
        }
        pauses.sort_unstable();
        assert!(Duration::from_millis(pauses[2] as u64) < Duration::from_millis(300), "{queues:?}: {pauses:?} ms");
    }
}
