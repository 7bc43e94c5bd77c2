//! Transactions: they load exactly what is wanted, write exactly what changed, and all of it or nothing.

use std::collections::BTreeSet;

use bursar::store::{Conflict, Journals, StoreError, Want};
use bursar_domain::credits::Ucr;
use bursar_domain::flow::{self, Refusal};
use bursar_domain::id::Id;
use bursar_domain::ledger::{self, LedgerRefusal};
use bursar_domain::outcome::{CallPermit, CallRequest, FinishedCall, Outcome};
use bursar_domain::record::{Event, Op, OpKind};
use bursar_domain::usage::Usage;
use bursar_domain::working_set::WorkingSet;
use serde_json::json;

use crate::support::hand::{DIAMOND, Hand, SINGLE, SeededChance, decide_with, succeeded};
use crate::support::stores::on_both_stores;

on_both_stores!(Hand::new:
    a_transaction_loads_what_it_wants_and_no_more,
    a_wanted_mission_brings_its_run_and_fee,
    used_up_grants_are_loaded_only_for_holds_that_drew_from_them,
    answers_are_loaded_only_for_those_who_ask,
    known_ledger_keys_are_loaded,
    an_unchanged_set_writes_nothing,
    only_changed_rows_are_written,
    a_refused_row_takes_everything_back,
    a_second_mission_under_a_key_is_a_conflict,
    a_second_operation_under_a_key_is_a_conflict,
    a_second_workflow_version_is_a_conflict,
    a_second_tenant_of_a_name_is_another_conflict,
    submits_at_once_never_spend_more_than_there_is,
    siblings_that_settle_at_once_ready_their_dependent_once,
);

/// What a want loads, as counts by table.
async fn loaded(hand: &mut Hand, want: &Want) -> WorkingSet {
    hand.decide(want, |turn| turn.set.clone()).await.unwrap()
}

async fn a_transaction_loads_what_it_wants_and_no_more(mut hand: Hand) {
    hand.grant(10).await;
    let workflow = hand.put(DIAMOND).await;
    let (mission, first) = hand.start(workflow).await;
    let (other, _) = hand.start(workflow).await;

    let set = loaded(&mut hand, &Want::tasks(mission, [first[0]])).await;
    assert_eq!(set.tasks.iter().map(|task| (task.id, task.node.as_str())).collect::<Vec<_>>(), [(first[0], "a")]);
    assert_eq!(set.missions.iter().map(|row| row.id).collect::<Vec<_>>(), [mission]);
    assert_eq!(set.runs.iter().map(|row| row.mission_id).collect::<Vec<_>>(), [mission]);
    assert_eq!(set.holds.iter().map(|row| row.owner_id.clone()).collect::<Vec<_>>(), [first[0].to_string()]);
    assert_eq!((set.wallets.len(), set.grants.len(), set.calls.len(), set.known_ops.len()), (1, 1, 0, 0));
    let row = set.missions.get(mission).unwrap();
    assert!(row.input.is_none(), "payloads stay where they are");
    assert!(set.is_unchanged());

    let run = set.runs.iter().next().unwrap().id;
    let nodes = Want { nodes: vec![(run, 1), (run, 3), (run, 99)], ..Want::default() };
    let set = loaded(&mut hand, &Want { missions: vec![mission], ..nodes.clone() }).await;
    assert_eq!(set.tasks.iter().map(|task| task.node.as_str()).collect::<Vec<_>>(), ["b", "d"]);
    let tasks = Want { tasks: vec![first[0]], missions: vec![other], ..Want::default() };
    for want in [nodes, tasks] {
        let error = hand.decide(&want, |_| panic!("decided on what nobody locked")).await.unwrap_err();
        assert!(matches!(error, StoreError::Unlocked { mission: named, .. } if named == mission), "{error}");
    }

    let purse = Want::wallets([hand.wallet]);
    let set = loaded(&mut hand, &purse).await;
    assert_eq!((set.wallets.len(), set.grants.len()), (1, 1));
    assert_eq!((set.missions.len(), set.tasks.len(), set.holds.len()), (0, 0, 0));

    let (task, mission, wallet) = (hand.id(), hand.id(), hand.id());
    let nobody = Want { tasks: vec![task], missions: vec![mission], ..Want::wallets([wallet]) };
    let set = loaded(&mut hand, &nobody).await;
    assert_eq!((set.missions.len(), set.tasks.len(), set.wallets.len(), set.grants.len()), (0, 0, 0, 0));
}

async fn a_wanted_mission_brings_its_run_and_fee(mut hand: Hand) {
    hand.grant(100).await;
    let workflow = hand.put(&DIAMOND.replace("flat_fee: 0", "flat_fee: 3")).await;
    let (mission, _) = hand.start(workflow).await;
    let set = loaded(&mut hand, &Want { missions: vec![mission], ..Want::default() }).await;
    let run = set.runs.iter().next().unwrap();
    assert_eq!(run.fee_ucr, Ucr::from_credits(3));
    let hold = set.holds.get(run.fee_hold_id.unwrap()).unwrap();
    assert_eq!((hold.amount_ucr, hold.owner_id.as_str()), (Ucr::from_credits(3), run.id.to_string().as_str()));
    assert_eq!((set.tasks.len(), set.wallets.len(), set.grants.len()), (0, 1, 1));
}

async fn used_up_grants_are_loaded_only_for_holds_that_drew_from_them(mut hand: Hand) {
    hand.grant(3).await;
    let workflow = hand.put(&SINGLE.replace("flat_fee: 0", "flat_fee: 3")).await;
    let (mission, _) = hand.start(workflow).await;
    let purse = Want::wallets([hand.wallet]);
    let set = loaded(&mut hand, &purse).await;
    assert_eq!(set.grants.len(), 0, "nothing is left of it");
    let set = loaded(&mut hand, &Want { missions: vec![mission], ..Want::default() }).await;
    assert_eq!(set.grants.len(), 1, "the hold's credits may go home to it");
}

async fn answers_are_loaded_only_for_those_who_ask(mut hand: Hand) {
    hand.grant(100).await;
    let workflow = hand
        .put(
            "{workflow: ask, flat_fee: 0, agents: {a: {instructions: be kind, model: simulated-small, max_output_tokens: 50}}, \
             nodes: {ask: {agent: a, prompt: hello}}}",
        )
        .await;
    let (_, ready) = hand.start(workflow).await;
    let (claimed, token) = hand.claim(&ready).await;
    let request = CallRequest {
        number: 1,
        request_hash: "hash".to_owned(),
        provider: "simulated".to_owned(),
        model: "simulated-small".to_owned(),
        input_tokens: 20,
        max_output_tokens: 50,
        alternatives: Vec::new(),
        in_place_of: None,
        heard: 0,
        finished: Vec::new(),
    };
    let guard = claimed[0].guard(&token);
    let want = Want { journals: Journals::Open, ..Want::tasks(claimed[0].mission_id, [claimed[0].id]) };
    let permit = hand.decide(&want, |turn| flow::reserve_call(turn, &guard, &request)).await.unwrap();
    let Ok(CallPermit::Send(call)) = permit else { panic!("{permit:?}") };
    let finished = FinishedCall {
        id: call,
        usage: Some(Usage { input_tokens: 20, output_tokens: 7, ..Usage::default() }),
        counted: Usage::default(),
        succeeded: true,
        rejected: false,
        response: json!({"text": "hi", "finish_reason": "stop"}),
        duration_ms: 12,
        first_token_ms: Some(3),
    };
    let want = Want { calls: vec![call], ..hand.settle_want(&claimed[0]) };
    let outcome = Outcome::Succeeded { output: json!("hi"), calls: vec![finished] };
    let request = flow::SettleRequest { guard, outcome, handoff: None, cache: None, prompt: None };
    hand.decide(&want, |turn| flow::settle(turn, &request)).await.unwrap().unwrap();

    let closed = loaded(&mut hand, &Want::tasks(claimed[0].mission_id, [claimed[0].id])).await;
    assert_eq!(closed.calls.get(call).unwrap().response, None);
    let want = Want { journals: Journals::Open, ..Want::tasks(claimed[0].mission_id, [claimed[0].id]) };
    let open = loaded(&mut hand, &want).await;
    let row = open.calls.get(call).unwrap();
    assert_eq!(row.response, Some(json!({"text": "hi", "finish_reason": "stop"})));
    assert_eq!(row.usage.unwrap().output_tokens, 7);
    assert!(row.billable && !row.estimated);
    let by_name = loaded(&mut hand, &Want { calls: vec![call], ..Want::default() }).await;
    assert_eq!((by_name.calls.len(), by_name.tasks.len()), (1, 0), "a call can be asked for by its id");
}

async fn known_ledger_keys_are_loaded(mut hand: Hand) {
    let request = hand.grant_request(Ucr::from_credits(5), None);
    let (wallet, key) = (hand.wallet, request.key());
    let want =
        Want { op_keys: vec![(wallet, key.clone()), (wallet, "grant:other".to_owned())], ..Want::wallets([wallet]) };
    let first = hand.decide(&want, |turn| ledger::grant(turn.set, &request, turn.now)).await.unwrap().unwrap();
    let set = loaded(&mut hand, &want).await;
    assert_eq!(set.known_ops.keys().collect::<Vec<_>>(), [&(wallet, key)]);
    let again = ledger::GrantRequest { id: hand.id(), op_id: hand.id(), ..request };
    let second = hand.decide(&want, |turn| ledger::grant(turn.set, &again, turn.now)).await.unwrap().unwrap();
    assert_eq!(second, first, "a replay answers with the first grant");
    assert_eq!(hand.count("grants").await, 1);
}

/// All rows of all tables that transactions write.
async fn everything(hand: &Hand) -> Vec<(&'static str, Vec<serde_json::Value>)> {
    let mut tables = Vec::new();
    for (name, order) in crate::store::random::TABLES {
        tables.push((*name, hand.table(name, order).await));
    }
    tables
}

async fn an_unchanged_set_writes_nothing(mut hand: Hand) {
    hand.grant(10).await;
    let workflow = hand.put(DIAMOND).await;
    let (mission, first) = hand.start(workflow).await;
    let before = (everything(&hand).await, hand.store.counters().commits);
    let want = Want::tasks(mission, first);
    hand.decide(&want, |turn| assert!(turn.set.tasks.len() == 1)).await.unwrap();
    assert_eq!((everything(&hand).await, hand.store.counters().commits), before);
}

async fn only_changed_rows_are_written(mut hand: Hand) {
    hand.grant(10).await;
    let workflow = hand.put(DIAMOND).await;
    let (_, first) = hand.start(workflow).await;
    hand.start(workflow).await;
    let (claimed, token) = hand.claim(&first).await;
    let before = everything(&hand).await;
    hand.now = hand.now.plus_ms(40);
    hand.settle(&claimed[0], &token, succeeded(json!({"a": 1}))).await.unwrap();
    let after = everything(&hand).await;
    let mut changed = Vec::new();
    for ((name, old), (_, new)) in before.iter().zip(&after) {
        let fresh = new.iter().filter(|row| !old.contains(row)).count();
        assert!(new.len() >= old.len());
        changed.push((*name, fresh, new.len() - old.len()));
    }
    // `a` ends, `b` and `c` become ready with a hold each; the run and the other mission stay as they are
    let expected = [
        ("wallets", 1, 0),
        ("grants", 1, 0),
        ("missions", 1, 0),
        ("runs", 0, 0),
        ("tasks", 3, 0),
        ("holds", 3, 2),
        ("usage_calls", 0, 0),
        ("ops", 3, 3),
        ("events", 1, 1),
        ("attempts", 0, 0),
    ];
    assert_eq!(changed, expected);
}

async fn a_refused_row_takes_everything_back(mut hand: Hand) {
    let (tenant, wallet) = (hand.tenant, hand.id());
    let mission = hand.id();
    let run_id = hand.id();
    let before = everything(&hand).await;
    let refused = hand
        .decide(&Want::default(), |turn| {
            ledger::open_wallet(turn.set, wallet, tenant, turn.now);
            let event = Event {
                mission_id: mission,
                seq: 1,
                tenant_id: tenant,
                run_id,
                kind: "a\u{0}b".to_owned(),
                task_id: None,
                node: None,
                attempt: None,
                data: json!({}),
                at: turn.now,
            };
            turn.set.events.push(event);
        })
        .await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    assert_eq!(everything(&hand).await, before);
    // and the same connection serves on
    hand.grant(1).await;
}

async fn a_second_mission_under_a_key_is_a_conflict(mut hand: Hand) {
    let workflow = hand.put(SINGLE).await;
    let mut submission = hand.submission(workflow);
    submission.idempotency_key = Some("once".to_owned());
    hand.submit(&submission).await.unwrap().unwrap();
    (submission.mission_id, submission.run_id) = (hand.id(), hand.id());
    let second = hand.submit(&submission).await;
    assert!(matches!(second, Err(StoreError::Conflict(Conflict::MissionKey))), "{second:?}");
    assert_eq!((hand.count("missions").await, hand.count("tasks").await), (1, 1));
    // another tenant has keys of its own
    let (tenant, wallet) = (hand.id(), hand.id());
    hand.open_wallet(tenant, wallet, "second").await;
    (submission.tenant_id, submission.wallet_id) = (tenant, wallet);
    hand.submit(&submission).await.unwrap().unwrap();
}

async fn a_second_operation_under_a_key_is_a_conflict(mut hand: Hand) {
    let (tenant_id, wallet_id, now) = (hand.tenant, hand.wallet, hand.now);
    let mut post = async |id| {
        let op = Op {
            id,
            wallet_id,
            tenant_id,
            kind: OpKind::Grant,
            key: "grant:1".to_owned(),
            request_hash: String::new(),
            legs: Vec::new(),
            mission_id: None,
            task_id: None,
            actor: None,
            available_after_ucr: Ucr::ZERO,
            created_at: now,
            reason: None,
        };
        hand.decide(&Want::default(), |turn| turn.set.ops.push(op.clone())).await
    };
    let mut chance = SeededChance::new(7);
    let mut id = || Id::from_uuid(flow::Chance::uuid(&mut chance));
    post(id()).await.unwrap();
    let second = post(id()).await;
    assert!(matches!(second, Err(StoreError::Conflict(Conflict::LedgerKey))), "{second:?}");
}

async fn a_second_workflow_version_is_a_conflict(mut hand: Hand) {
    let id = hand.put(SINGLE).await;
    let source = hand.facts.workflows[&id].source.clone();
    let other = hand.id();
    let second = hand
        .store
        .add_workflow(&crate::support::hand::version(other, hand.tenant, "single", 1, "hash", &source, hand.now))
        .await;
    assert!(matches!(second, Err(StoreError::Conflict(Conflict::WorkflowVersion))), "{second:?}");
    let other = hand.id();
    hand.store
        .add_workflow(&crate::support::hand::version(other, hand.tenant, "single", 2, "hash", &source, hand.now))
        .await
        .unwrap();
}

async fn a_second_tenant_of_a_name_is_another_conflict(mut hand: Hand) {
    let id = hand.id();
    let second = hand.store.add_tenant(id, "first", hand.now).await;
    assert!(matches!(second, Err(StoreError::Conflict(Conflict::Other))), "{second:?}");
}

async fn submits_at_once_never_spend_more_than_there_is(mut hand: Hand) {
    // two grants, so that holds draw from both and the locks on them matter
    hand.grant(4).await;
    hand.grant(3).await;
    let workflow = hand.put(&SINGLE.replace("flat_fee: 0", "flat_fee: 1")).await;
    let submissions: Vec<_> = (0..20).map(|_| hand.submission(workflow)).collect();
    let tries = submissions.iter().enumerate().map(|(number, submission)| {
        let (store, facts, now) = (hand.store.clone(), hand.facts.clone(), hand.now);
        let submission = submission.clone();
        tokio::spawn(async move {
            let mut chance = SeededChance::new(number as u64);
            // ids of each try apart from those of the others
            chance.skip_ids(1_000 * (number as u64 + 1));
            let want = Want::wallets([submission.wallet_id]);
            decide_with(&*store, &facts, now, &mut chance, &want, |turn| flow::submit(turn, &submission)).await
        })
    });
    let answers = futures::future::join_all(tries).await;
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().unwrap()).collect();
    let accepted = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(accepted, 7);
    for refusal in answers.into_iter().filter_map(Result::err) {
        assert!(matches!(refusal, Refusal::Ledger(LedgerRefusal::Insufficient { .. })), "{refusal:?}");
    }
    let purse = Want::wallets([hand.wallet]);
    let set = loaded(&mut hand, &purse).await;
    let wallet = set.wallets.get(hand.wallet).unwrap();
    assert_eq!((wallet.available_ucr, wallet.held_ucr), (Ucr::ZERO, Ucr::from_credits(7)));
    assert_eq!(hand.count("holds where state = 'open'").await, 7);
    assert_eq!(hand.count("grants where remaining_ucr > 0").await, 0);
}

async fn siblings_that_settle_at_once_ready_their_dependent_once(mut hand: Hand) {
    hand.grant(10).await;
    let workflow = hand.put(DIAMOND).await;
    for round in 0..10_u64 {
        let (mission, first) = hand.start(workflow).await;
        let (claimed, token) = hand.claim(&first).await;
        let settled = hand.settle(&claimed[0], &token, succeeded(json!({"a": 1}))).await.unwrap();
        let (siblings, token) = hand.claim(&settled.ready).await;
        assert_eq!(siblings.len(), 2);
        let settles = siblings.iter().enumerate().map(|(number, sibling)| {
            let (store, facts, now) = (hand.store.clone(), hand.facts.clone(), hand.now);
            let want = hand.settle_want(sibling);
            let outcome = succeeded(json!({"b": 1, "c": 1}));
            let request =
                flow::SettleRequest { guard: sibling.guard(&token), outcome, handoff: None, cache: None, prompt: None };
            tokio::spawn(async move {
                let mut chance = SeededChance::new(round);
                chance.skip_ids(100_000 * (round + 1) + 1_000 * number as u64);
                decide_with(&*store, &facts, now, &mut chance, &want, |turn| flow::settle(turn, &request)).await
            })
        });
        let settled = futures::future::join_all(settles).await;
        let readied: Vec<_> = settled.into_iter().flat_map(|answer| answer.unwrap().unwrap().unwrap().ready).collect();
        assert_eq!(readied.iter().collect::<BTreeSet<_>>().len(), 1);
        assert_eq!(readied.len(), 1, "one of the two readies `d`");
        let set = loaded(&mut hand, &Want::tasks(mission, readied)).await;
        let last = set.tasks.iter().next().unwrap();
        assert_eq!((last.node.as_str(), last.remaining_needs), ("d", 0));
        assert_eq!(set.missions.get(mission).unwrap().tasks_done, 3);
    }
}
