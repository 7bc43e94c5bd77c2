//! Every check and every unique key of the schema bites, on both engines and under the same name.

use std::collections::BTreeSet;

use bursar::store::{Conflict, StoreError, Want};
use bursar_domain::flow;
use bursar_domain::outcome::{CallRequest, ErrorClass, Outcome, StepError, ToolEffects, ToolIntent, ToolRequest};

use crate::support::hand::Hand;
use crate::support::stores::{Storage, on_both_stores};

on_both_stores!(one_row_of_each:
    every_check_bites,
    every_unique_key_bites,
    a_parent_must_exist,
);

/// A store with at least one row in every table: a ready task with a hold, a running one with a call in flight, a
/// pending one, an attempt that failed.
async fn one_row_of_each(storage: Storage) -> Hand {
    let mut hand = Hand::new(storage).await;
    hand.grant(100).await;
    let text = "{workflow: all, flat_fee: 1, agents: {a: {instructions: be kind, model: simulated-small, max_output_tokens: 50}}, nodes: {\
                ask: {agent: a, prompt: hi}, again: {agent: a, prompt: hi}, last: {needs: [ask], transform: {x: 1}}}}";
    let workflow = hand.put(text).await;
    let (_, ready) = hand.start(workflow).await;
    let (claimed, token) = hand.claim(&ready[..1]).await;
    let guard = claimed[0].guard(&token);
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
    let want = Want::tasks(claimed[0].mission_id, [claimed[0].id]);
    hand.decide(&want, |turn| flow::reserve_call(turn, &guard, &request)).await.unwrap().unwrap();
    let intent = ToolIntent {
        number: 1,
        request_hash: "hash".to_owned(),
        tool: "look".to_owned(),
        effects: ToolEffects::None,
        arguments: "{}".to_owned(),
    };
    let tools = ToolRequest { calls: vec![intent], finished: Vec::new() };
    hand.decide(&want, |turn| flow::begin_tools(turn, &guard, &tools)).await.unwrap().unwrap();
    let (again, token) = hand.claim(&ready[1..]).await;
    let error = StepError::new(ErrorClass::Retryable, "flaky", "again");
    hand.settle(&again[0], &token, Outcome::Failed { error, calls: Vec::new() }).await.unwrap();
    let (key, now) = (hand.id::<bursar_domain::id::KeyKind>(), hand.now);
    let key = bursar::store::ApiKey {
        id: key,
        tenant_id: hand.tenant,
        name: "ci".to_owned(),
        prefix: "bsk".to_owned(),
        role: bursar::store::Role::User,
        created_at: now,
        revoked_at: None,
    };
    hand.store.add_key(&key, "hash").await.unwrap();
    hand
}

const OP: &str =
    "insert into ops (id, wallet_id, tenant_id, kind, key, request_hash, legs, available_after_ucr, created_at)
                  select id, wallet_id, tenant_id,";

/// The constraint, and statements that must fail by it.
const CHECKS: &[(&str, &[&str])] = &[
    ("api_keys_role", &["update api_keys set role = 'king'"]),
    ("workflows_version_positive", &["update workflows set version = 0"]),
    ("missions_counts", &["update missions set tasks_done = -1", "update missions set tasks_done = tasks_total + 1"]),
    ("missions_money", &["update missions set held_ucr = -1", "update missions set spent_ucr = -1"]),
    ("missions_on_exhausted", &["update missions set on_exhausted = 'never'"]),
    ("runs_state", &["update runs set state = 'resting'"]),
    ("runs_ended", &["update runs set ended_at = 1", "update runs set state = 'succeeded'"]),
    ("runs_fee", &["update runs set fee_ucr = -1"]),
    ("tasks_state", &["update tasks set state = 'odd' where state = 'pending'"]),
    (
        "tasks_running",
        &[
            "update tasks set state = 'running' where state = 'pending'",
            "update tasks set lease_token = null where state = 'running'",
            "update tasks set lease_until = null where state = 'running'",
            "update tasks set worker_id = null where state = 'running'",
        ],
    ),
    (
        "tasks_waiting",
        &[
            "update tasks set state = 'waiting' where state = 'pending'",
            "update tasks set wait = 'timer' where state = 'pending'",
        ],
    ),
    ("tasks_wait", &["update tasks set state = 'waiting', wait = 'people' where state = 'pending'"]),
    (
        "tasks_ended",
        &[
            "update tasks set ended_at = 1 where state = 'pending'",
            "update tasks set state = 'skipped' where state = 'pending'",
        ],
    ),
    ("tasks_hold_ended", &["update tasks set state = 'failed', ended_at = 1 where state = 'retrying'"]),
    (
        "tasks_counts",
        &[
            "update tasks set remaining_needs = -1",
            "update tasks set attempt = -1",
            "update tasks set failures = -1",
            "update tasks set losses = -1",
        ],
    ),
    ("tasks_money", &["update tasks set cost_ucr = -1", "update tasks set units_ucr = -1"]),
    ("attempts_outcome", &["update attempts set outcome = 'bored'"]),
    (
        "wallets_not_negative",
        &[
            "update wallets set available_ucr = -1",
            "update wallets set held_ucr = -1",
            "update wallets set debt_ucr = -1",
        ],
    ),
    (
        "grants_amount",
        &[
            "update grants set amount_ucr = 0, remaining_ucr = 0",
            "update grants set remaining_ucr = -1",
            "update grants set remaining_ucr = amount_ucr + 1",
        ],
    ),
    ("grants_kind", &["update grants set kind = 'stolen'"]),
    ("grants_priority", &["update grants set priority = -1", "update grants set priority = 101"]),
    ("holds_state", &["update holds set state = 'odd', closed_at = 1, captured_ucr = amount_ucr"]),
    ("holds_owner", &["update holds set owner_kind = 'nobody'"]),
    ("holds_amounts", &["update holds set used_ucr = -1", "update holds set reserved_ucr = -1"]),
    (
        "holds_closed",
        &[
            "update holds set closed_at = 1",
            "update holds set captured_ucr = 1",
            "update holds set returned_ucr = 1",
            "update holds set state = 'settled', captured_ucr = amount_ucr",
            "update holds set state = 'released', closed_at = 1, returned_ucr = amount_ucr - 1",
        ],
    ),
    ("wallets_overrun", &["update wallets set overrun = 'forget'"]),
    ("wallets_charge_failed", &["update wallets set charge_failed = 'sometimes'"]),
    (
        "wallets_limits",
        &[
            "update wallets set day_limit_ucr = -1",
            "update wallets set month_limit_ucr = -1",
            "update wallets set mission_limit_ucr = -1",
        ],
    ),
    ("wallets_spent", &["update wallets set day_spent_ucr = -1", "update wallets set month_spent_ucr = -1"]),
    ("grants_cost_basis", &["update grants set cost_basis_uusd = -1"]),
    ("holds_expiring", &["update holds set expires_at = 1"]),
    ("holds_refunded", &["update holds set refunded_ucr = -1", "update holds set refunded_ucr = 1"]),
    ("usage_calls_state", &["update usage_calls set state = 'odd', ended_at = 1, reserved_ucr = 0"]),
    ("usage_calls_amounts", &["update usage_calls set cost_ucr = -1", "update usage_calls set reserved_ucr = -1"]),
    (
        "usage_calls_sent",
        &["update usage_calls set ended_at = 1", "update usage_calls set state = 'done', reserved_ucr = 0"],
    ),
    ("tool_calls_effects", &["update tool_calls set effects = 'many'"]),
    ("tool_calls_state", &["update tool_calls set state = 'odd', ended_at = 1"]),
    ("tool_calls_ended", &["update tool_calls set ended_at = 1", "update tool_calls set state = 'lost'"]),
    ("tool_calls_done", &["update tool_calls set state = 'done', ended_at = 1", "update tool_calls set result = 'x'"]),
    ("usage_calls_reserved", &["update usage_calls set state = 'done', ended_at = 1, reserved_ucr = 1"]),
];

async fn every_check_bites(hand: Hand) {
    let mut names: BTreeSet<&str> = CHECKS.iter().map(|(name, _)| *name).collect();
    for (name, statements) in CHECKS {
        for statement in *statements {
            expect_refusal(&hand, name, statement).await;
        }
    }
    let odd = format!("{OP} 'gift', 'other', request_hash, legs, available_after_ucr, created_at from ops");
    expect_refusal(&hand, "ops_kind", &odd).await;
    names.insert("ops_kind");
    let silent = format!("{OP} 'adjust', 'other', request_hash, legs, available_after_ucr, created_at from ops");
    expect_refusal(&hand, "ops_reasoned", &silent).await;
    names.insert("ops_reasoned");
    let lost = "insert into signals (id, tenant_id, mission_id, name, request_hash, payload, task_id, received_at)
                select id, tenant_id, id, 'paid', 'hash', '{}', 'tsk_x', 1 from missions";
    expect_refusal(&hand, "signals_delivered", lost).await;
    names.insert("signals_delivered");
    assert_eq!(names, declared("check"), "every check of the schema has a row here");
}

async fn expect_refusal(hand: &Hand, constraint: &str, statement: &str) {
    match hand.store.execute(statement, &[]).await {
        Err(StoreError::Refused(message)) => {
            assert!(names_exactly(&message, constraint), "{statement}: {message}");
        }
        other => panic!("{statement}: {other:?}"),
    }
}

/// Whether the message names the constraint, and not one whose name begins alike.
fn names_exactly(message: &str, constraint: &str) -> bool {
    message.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == constraint)
}

/// The names of all constraints of a kind in the migrations of one engine, which those of the other repeat.
fn declared(kind: &str) -> BTreeSet<&'static str> {
    let of = |text: &'static str| -> BTreeSet<&'static str> {
        text.lines()
            .filter_map(|line| line.split_once("constraint "))
            .filter(|(before, _)| !before.contains("drop ") && !before.contains("--"))
            .map(|(_, rest)| rest)
            .filter_map(|line| line.split_once(' '))
            .filter(|(_, rest)| rest.starts_with(kind))
            .map(|(name, _)| name)
            .collect()
    };
    let postgres = [
        include_str!("../../migrations/postgres/0001_trunk.sql"),
        include_str!("../../migrations/postgres/0002_credits.sql"),
        include_str!("../../migrations/postgres/0005_waits.sql"),
        include_str!("../../migrations/postgres/0006_tools.sql"),
    ];
    let sqlite = [
        include_str!("../../migrations/sqlite/0001_trunk.sql"),
        include_str!("../../migrations/sqlite/0002_credits.sql"),
        include_str!("../../migrations/sqlite/0005_waits.sql"),
        include_str!("../../migrations/sqlite/0006_tools.sql"),
    ];
    let postgres: BTreeSet<&str> = postgres.into_iter().flat_map(of).collect();
    assert_eq!(postgres, sqlite.into_iter().flat_map(of).collect());
    postgres
}

async fn every_unique_key_bites(mut hand: Hand) {
    hand.store.execute("update missions set idempotency_key = 'once'", &[]).await.unwrap();
    let other = |hand: &mut Hand| hand.id::<bursar_domain::id::TaskKind>().to_string();
    let copies: &[(&str, &str, Conflict)] = &[
        ("tenants", "id", Conflict::Other),
        ("api_keys", "id", Conflict::Other),
        ("price_books", "id", Conflict::Other),
        ("workflows", "id", Conflict::WorkflowVersion),
        ("missions", "id", Conflict::MissionKey),
        ("runs", "id", Conflict::Other),
        ("tasks", "id", Conflict::Other),
        ("attempts", "worker_id", Conflict::Other),
        ("events", "kind", Conflict::Other),
        ("ops", "id", Conflict::LedgerKey),
    ];
    for (table, changed, conflict) in copies {
        // a copy of a row that differs in a column outside of the key
        let rows = hand.table(table, "1").await;
        let columns: Vec<String> = rows[0].as_object().unwrap().keys().cloned().collect();
        let id = other(&mut hand);
        let values: Vec<String> =
            columns.iter().map(|column| if column == changed { format!("'{id}'") } else { column.clone() }).collect();
        let (columns, values) = (columns.join(", "), values.join(", "));
        let copy = format!("insert into {table} ({columns}) select {values} from {table} limit 1");
        let refused = hand.store.execute(&copy, &[]).await;
        assert!(matches!(&refused, Err(StoreError::Conflict(found)) if found == conflict), "{table}: {refused:?}");
    }
}

async fn a_parent_must_exist(mut hand: Hand) {
    let id = hand.id::<bursar_domain::id::TenantKind>().to_string();
    for table in ["api_keys", "workflows", "wallets"] {
        let refused = hand.store.execute(&format!("update {table} set tenant_id = '{id}'"), &[]).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{table}: {refused:?}");
    }
}
