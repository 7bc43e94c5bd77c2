//! Decisions of people, as the documentation shows them, on both stores.

use bursar::engine::ApprovalError;
use bursar::store::read::{ApprovalFilter, ApprovalView};
use bursar_domain::flow::{Answer, ApprovalRefusal};
use bursar_domain::id::MissionId;
use bursar_domain::state::{RunState, TaskState, WaitCause};
use serde_json::json;

use crate::support::docs::example;
use crate::support::stores::on_both_stores;
use crate::support::world::World;

on_both_stores!(World::on:
    the_example_of_decisions_runs_as_it_says,
    of_two_decisions_at_once_one_counts,
    a_rejection_ends_the_run_in_the_same_breath,
    what_nobody_decides_expires_by_name,
    open_decisions_are_listed_counted_and_gone_with_their_run,
);

async fn asked(world: &World, mission: MissionId, node: &str) -> ApprovalView {
    let is_asked = |task: &bursar::store::read::TaskView| task.wait == Some(WaitCause::Approval);
    let task = world.task_when(mission, node, "to be decided", is_asked).await;
    world.store().approval(Some(world.tenant), task.id).await.unwrap().expect("it is an approval")
}

fn answer(approval: &ApprovalView, is_approved: bool, comment: Option<&str>) -> Answer {
    Answer { task_id: approval.id, is_approved, by: "key_of_mine".to_owned(), comment: comment.map(str::to_owned) }
}

async fn the_example_of_decisions_runs_as_it_says(world: World) {
    let workflow = world.put(&example("release")).await;
    let cases =
        [(true, Some("nice"), ("publish", "BEES"), "shelve"), (false, Some("dull"), ("shelve", "dull"), "publish")];
    for (is_approved, comment, (node, output), skipped) in cases {
        let mission = world.submit_with(workflow.id, json!({"text": "bees"})).await;
        let approval = asked(&world, mission, "sign_off").await;
        assert_eq!(approval.shown.as_deref(), Some("Publish this? BEES"));
        assert_eq!(approval.due_at.unwrap().since_ms(approval.ready_at.unwrap()), 72 * 3_600_000);
        let decided =
            world.engine().decide_approval(&approval, &answer(&approval, is_approved, comment)).await.unwrap();
        assert!(!decided.repeated);
        assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
        assert_eq!(world.task(mission, node).await.output, Some(json!(output)));
        assert_eq!(world.task(mission, skipped).await.state, TaskState::Skipped);
        let task = world.task(mission, "sign_off").await;
        assert_eq!((task.attempt, task.worker_id), (0, None), "no worker had it");
        // long after the mission is over the same decision is still told as it was made
        let again = world.engine().decide_approval(&approval, &answer(&approval, is_approved, None)).await.unwrap();
        assert!(again.repeated && again.decision == decided.decision);
        let other = world.engine().decide_approval(&approval, &answer(&approval, !is_approved, None)).await;
        assert!(matches!(other, Err(ApprovalError::Refused(ApprovalRefusal::DecidedOtherwise(_)))), "{other:?}");
    }
    world.balances().await;
}

async fn of_two_decisions_at_once_one_counts(world: World) {
    let workflow = world.put(&example("release")).await;
    let mission = world.submit_with(workflow.id, json!({"text": "bees"})).await;
    let approval = asked(&world, mission, "sign_off").await;
    let decisions = (0..12).map(|number| {
        let (engine, approval) = (world.engine().clone(), approval.clone());
        async move { engine.decide_approval(&approval, &answer(&approval, number % 2 == 0, None)).await }
    });
    let answers = futures::future::join_all(decisions).await;
    let first = answers.iter().filter(|answer| answer.as_ref().is_ok_and(|decided| !decided.repeated)).count();
    let repeated = answers.iter().filter(|answer| answer.as_ref().is_ok_and(|decided| decided.repeated)).count();
    assert_eq!((first, repeated), (1, 5), "{answers:?}");
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
    world.balances().await;
}

async fn a_rejection_ends_the_run_in_the_same_breath(world: World) {
    let text = "{workflow: gate, flat_fee: 2, nodes: {ask: {approval: {show: 'now?'}}, \
                other: {approval: {show: 'and this?'}}, next: {needs: [ask], transform: 1}}}";
    let mission = world.run(text).await;
    let approval = asked(&world, mission, "ask").await;
    world.engine().decide_approval(&approval, &answer(&approval, false, Some("no"))).await.unwrap();
    let over = world.mission(mission).await;
    assert_eq!((over.state, over.error.unwrap()["code"].clone()), (RunState::Failed, json!("approval_rejected")));
    assert_eq!(world.task(mission, "other").await.state, TaskState::Cancelled);
    assert!(over.spent_ucr.is_zero() && over.held_ucr.is_zero());
    world.balances().await;
}

async fn what_nobody_decides_expires_by_name(world: World) {
    let text = "{workflow: brief, flat_fee: 0, nodes: {ask: {approval: {show: 'now?', expires: 300ms}}}}";
    let mission = world.run(text).await;
    let over = world.finished(mission).await;
    assert_eq!((over.state, over.error.unwrap()["code"].clone()), (RunState::Failed, json!("approval_expired")));
    let text =
        "{workflow: lax, flat_fee: 0, nodes: {ask: {approval: {show: 'now?', expires: 300ms, on_expire: approve}}}}";
    let mission = world.run(text).await;
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
    let output = world.task(mission, "ask").await.output.unwrap();
    assert_eq!((&output["decision"], &output["by"]), (&json!("approved"), &json!(null)));
    world.balances().await;
}

async fn open_decisions_are_listed_counted_and_gone_with_their_run(world: World) {
    let text = "{workflow: gate, flat_fee: 0, nodes: {a: {approval: {show: 'a?'}}, b: {approval: {show: 'b?'}}}}";
    let workflow = world.put(text).await;
    let mut missions = Vec::new();
    for _ in 0..3 {
        missions.push(world.submit(workflow.id).await);
    }
    let filter = ApprovalFilter { tenant: Some(world.tenant), limit: 4, ..ApprovalFilter::default() };
    let store = world.store();
    let first = store.open_approvals(&filter).await.unwrap();
    let after = first.last().map(|row| row.id);
    let rest = store.open_approvals(&ApprovalFilter { after, ..filter.clone() }).await.unwrap();
    assert_eq!((first.len(), rest.len()), (4, 2));
    assert!(first.iter().all(|row| row.shown.is_none() && row.workflow_name == "gate"));
    assert_eq!(store.count_open_approvals(Some(world.tenant), 100).await.unwrap(), 6);
    assert_eq!(store.count_open_approvals(None, 5).await.unwrap(), 5, "counts no further");
    world.engine().cancel(missions[0], None).await.unwrap();
    let of_one = ApprovalFilter { mission: Some(missions[0]), ..filter.clone() };
    assert_eq!(store.open_approvals(&of_one).await.unwrap(), []);
    let of_another = ApprovalFilter { mission: Some(missions[1]), with_shown: true, ..filter };
    let shown: Vec<_> = store.open_approvals(&of_another).await.unwrap().into_iter().map(|row| row.shown).collect();
    assert_eq!(shown, [Some("a?".to_owned()), Some("b?".to_owned())]);
}
