//! Usage as it is reported: summed by day, model, workflow and tag, each call once, and never another tenant's.

use bursar::store::read::{UsageBy, UsageFilter, UsageView};
use bursar_domain::credits::Ucr;
use bursar_domain::id::{CallId, MissionId, TaskId};
use serde_json::json;

use crate::support::hand::{Hand, SINGLE, succeeded};
use crate::support::stores::{Storage, on_both_stores};

on_both_stores!(calls_of_two_missions:
    usage_is_summed_by_each_key,
    groups_come_in_pages,
    only_the_period_and_the_wallet_count,
    a_mission_shows_its_own_usage,
    a_wallets_holds_and_grants_say_what_they_are_for,
);

const DAY_MS: i64 = 86_400_000;

struct Call {
    mission: MissionId,
    task: TaskId,
    model: &'static str,
    tokens: i64,
    cost: i64,
    billable: bool,
}

async fn record(hand: &mut Hand, call: Call) {
    let id: CallId = hand.id();
    let view = hand.store.mission(None, call.mission).await.unwrap().unwrap();
    let usage = json!({
        "input_tokens": call.tokens, "cache_read_tokens": 2, "cache_write_tokens": 1, "output_tokens": 10,
        "reasoning_tokens": 4,
    });
    let sql = format!(
        "insert into usage_calls (id, tenant_id, mission_id, run_id, task_id, attempt, number, request_hash, provider,
           model, state, reserved_ucr, cost_ucr, billable, estimated, usage, created_at, ended_at)
         values ($1, $2, $3, $4, $5, 1, 1, 'h', 'p', $6, 'done', 0, $7, {}, {}, {{json:8}}, $9, $9)",
        literal(hand, call.billable),
        literal(hand, false),
    );
    let args = [
        id.into(),
        view.tenant_id.into(),
        call.mission.into(),
        view.run_id.into(),
        call.task.into(),
        call.model.into(),
        call.cost.into(),
        usage.into(),
        hand.now.into(),
    ];
    hand.store.execute(&sql, &args).await.unwrap();
}

fn literal(hand: &Hand, truth: bool) -> &'static str {
    match (hand.store.dialect(), truth) {
        (bursar::store::Dialect::Postgres, true) => "true",
        (bursar::store::Dialect::Postgres, false) => "false",
        (bursar::store::Dialect::Sqlite, true) => "1",
        (bursar::store::Dialect::Sqlite, false) => "0",
    }
}

/// Two missions, of which the first is tagged twice and over; the second runs. A call on each of three days.
struct Scene {
    hand: Hand,
    done: MissionId,
    from: bursar_domain::time::Timestamp,
}

async fn calls_of_two_missions(storage: Storage) -> Scene {
    let mut hand = Hand::new(storage).await;
    hand.grant(10).await;
    let from = hand.now;
    let workflow = hand.put(SINGLE).await;
    let other = hand.put(&SINGLE.replace("single", "other")).await;
    let mut submission = hand.submission(workflow);
    submission.tags = vec!["red".to_owned(), "it's \"blue\"".to_owned()];
    let tasks = hand.submit(&submission).await.unwrap().unwrap();
    let (claimed, token) = hand.claim(&tasks).await;
    hand.settle(&claimed[0], &token, succeeded(json!({"done": "yes"}))).await.unwrap();
    let (running, ready) = hand.start(other).await;
    let (done, task) = (submission.mission_id, tasks[0]);
    record(&mut hand, Call { mission: done, task, model: "a", tokens: 100, cost: 7, billable: true }).await;
    hand.now = hand.now.plus_ms(DAY_MS);
    record(&mut hand, Call { mission: done, task, model: "b", tokens: 20, cost: 5, billable: false }).await;
    hand.now = hand.now.plus_ms(DAY_MS);
    let call = Call { mission: running, task: ready[0], model: "b", tokens: 3, cost: 2, billable: false };
    record(&mut hand, call).await;
    Scene { hand, done, from }
}

impl Scene {
    fn filter(&self, by: UsageBy) -> UsageFilter {
        let (tenant, wallet) = (self.hand.tenant, self.hand.wallet);
        let to = self.hand.now.plus_ms(1);
        UsageFilter { tenant, wallet, by, from: self.from, to, after: None, limit: 100 }
    }

    async fn groups(&self, filter: &UsageFilter) -> Vec<UsageView> {
        self.hand.store.usage(filter).await.unwrap()
    }
}

async fn usage_is_summed_by_each_key(scene: Scene) {
    for (by, expected) in [
        (UsageBy::Day, vec![("2027-01-15", 1, 100), ("2027-01-16", 1, 20), ("2027-01-17", 1, 3)]),
        (UsageBy::Model, vec![("p/a", 1, 100), ("p/b", 2, 23)]),
        (UsageBy::Workflow, vec![("other", 1, 3), ("single", 2, 120)]),
        (UsageBy::Tag, vec![("", 1, 3), ("it's \"blue\"", 2, 120), ("red", 2, 120)]),
    ] {
        let groups = scene.groups(&scene.filter(by)).await;
        let told: Vec<(String, i64, i64)> =
            groups.iter().map(|group| (group.name(by).unwrap_or_default(), group.calls, group.input_tokens)).collect();
        let told: Vec<(&str, i64, i64)> =
            told.iter().map(|(name, calls, tokens)| (name.as_str(), *calls, *tokens)).collect();
        assert_eq!(told, expected, "{by:?}");
    }
    let total = scene.hand.store.usage_total(&scene.filter(UsageBy::Tag)).await.unwrap();
    assert_eq!((total.calls, total.input_tokens, total.output_tokens, total.reasoning_tokens), (3, 123, 30, 12));
    assert_eq!((total.cache_read_tokens, total.cache_write_tokens, total.estimated_calls), (6, 3, 0));
    assert_eq!(
        (total.billed_ucr, total.unbilled_ucr, total.pending_ucr),
        (Ucr::new(7), Ucr::new(5), Ucr::new(2)),
        "charged, paid by the platform, not over yet"
    );
}

async fn groups_come_in_pages(scene: Scene) {
    for by in UsageBy::ALL {
        let all = scene.groups(&scene.filter(by)).await;
        let mut paged = Vec::new();
        let mut filter = UsageFilter { limit: 1, ..scene.filter(by) };
        while let Some(last) = scene.groups(&filter).await.pop() {
            filter.after = Some(last.group.clone());
            paged.push(last);
        }
        assert_eq!(paged, all, "{by:?}");
    }
}

async fn only_the_period_and_the_wallet_count(mut scene: Scene) {
    let filter = scene.filter(UsageBy::Day);
    let first_day = UsageFilter { to: scene.from.plus_ms(DAY_MS), ..filter.clone() };
    assert_eq!(scene.groups(&first_day).await.len(), 1, "the end does not belong to the period");
    let (tenant, wallet) = (scene.hand.id(), scene.hand.id());
    scene.hand.open_wallet(tenant, wallet, "stranger").await;
    assert_eq!(scene.groups(&UsageFilter { tenant, wallet, ..filter.clone() }).await, []);
    let second = scene.hand.id();
    let none = UsageFilter { wallet: second, ..filter };
    assert_eq!(scene.groups(&none).await, []);
    assert_eq!(scene.hand.store.usage_total(&none).await.unwrap(), UsageView::default());
}

async fn a_mission_shows_its_own_usage(scene: Scene) {
    let store = &scene.hand.store;
    let models = store.mission_usage_by_model(scene.done, 10).await.unwrap();
    let told: Vec<_> = models.iter().map(|model| (model.group.as_str(), model.billed_ucr.get())).collect();
    assert_eq!(told, [("p/a", 7), ("p/b", 0)]);
    let sql = "
        insert into ops (id, wallet_id, tenant_id, kind, key, request_hash, legs, mission_id, available_after_ucr, created_at)
        values ($1, $2, $3, 'refund', 'refund:x', '', {json:4}, $5, 0, 0)";
    let legs = json!([["usage", "debt", 4], ["fee", "debt", 2]]);
    let id: bursar_domain::id::OpId = bursar::clock::new_id();
    let args = [id.into(), scene.hand.wallet.into(), scene.hand.tenant.into(), legs.into(), scene.done.into()];
    store.execute(sql, &args).await.unwrap();
    let charge = store.mission_charge(scene.done).await.unwrap();
    assert_eq!((charge.refunded_ucr, charge.usage_ucr, charge.fees_ucr), (Ucr::new(6), Ucr::ZERO, Ucr::ZERO));
    let nodes = store.mission_usage_by_node(scene.done, 10).await.unwrap();
    assert_eq!((nodes.len(), nodes[0].group.as_str(), nodes[0].calls), (1, "only", 2));
    assert_eq!(store.mission_usage(scene.done).await.unwrap(), UsageView { group: String::new(), ..nodes[0].clone() });
}

async fn a_wallets_holds_and_grants_say_what_they_are_for(mut scene: Scene) {
    let hand = &mut scene.hand;
    let workflow = hand.put("{workflow: dear, flat_fee: 2, nodes: {a: {transform: {x: 1}, units: {step: 1}}}}").await;
    let (mission, _) = hand.start(workflow).await;
    let holds = hand.store.holds_with_purpose(hand.wallet, 10).await.unwrap();
    let mut told: Vec<_> = holds.iter().map(|hold| (hold.hold.owner_kind.as_str(), hold.node.as_deref())).collect();
    told.sort_unstable();
    assert_eq!(told, [("fee", None), ("task", Some("a"))]);
    assert!(holds.iter().all(|hold| hold.workflow_name.as_deref() == Some("dear")));
    assert!(holds.iter().all(|hold| hold.hold.mission_id == Some(mission)));

    let now = hand.now;
    let mut order = Vec::new();
    for (priority, deadline) in [(60, None), (50, Some(200)), (50, Some(100)), (10, None), (50, Some(1))] {
        let mut request = hand.grant_request(Ucr::new(9), deadline.map(|ms| now.plus_ms(ms)));
        request.priority = priority;
        let want = bursar::store::Want::wallets([hand.wallet]);
        hand.decide(&want, |turn| bursar_domain::ledger::grant(turn.set, &request, turn.now)).await.unwrap().unwrap();
        order.push(request.id);
    }
    let grants = hand.store.grants_in_draw_order(hand.wallet, now.plus_ms(1), 10).await.unwrap();
    let ids: Vec<_> = grants.iter().map(|grant| grant.id).filter(|id| order.contains(id)).collect();
    assert_eq!(ids, [order[3], order[2], order[1], order[0]], "the one that is over is left out");
    let listed = hand.store.wallets(None, None, now, 10).await.unwrap();
    assert_eq!((listed.len(), listed[0].tenant_name.as_str()), (1, "first"));
    let own = hand.store.owned_wallet(Some(hand.tenant), hand.wallet, now).await.unwrap().unwrap();
    assert_eq!(own, listed[0]);
    let stranger = hand.id();
    assert_eq!(hand.store.owned_wallet(Some(stranger), hand.wallet, now).await.unwrap(), None);
}
