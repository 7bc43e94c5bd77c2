//! The auditor finds what it is there for: one row is tampered with per invariant, on both engines, and is named.

mod corrections;
mod live;
mod site;
mod twice;

use bursar::store::{Arg, Dialect};
use bursar::verify::Report;
use site::Site;

const ENGINES: [Dialect; 2] = [Dialect::Sqlite, Dialect::Postgres];

/// One way to falsify a row, and how to find the row that must be named.
struct Forgery {
    invariant: &'static str,
    /// Finds the column `id`, before the row is tampered with.
    row: &'static str,
    /// Changes exactly one row; `$1` is its id.
    sql: &'static str,
}

/// A site of each kind, checked to be clean, is tampered with; the report must name the row under the invariant.
async fn is_found(forgery: &Forgery) {
    for dialect in ENGINES {
        let site = Site::with_work(dialect).await;
        let before = site.verify().await;
        assert_eq!(before.violations, [], "{dialect:?} before");
        let id = site.id(forgery.row).await;
        site.unprotect_ops().await;
        site.tamper(forgery.sql, &[Arg::from(id.as_str())], 1).await;
        names(&site.verify().await, forgery.invariant, &id, dialect);
    }
}

fn names(report: &Report, invariant: &str, id: &str, dialect: Dialect) {
    let found = report.violations.iter().any(|found| found.invariant == invariant && found.what.contains(id));
    assert!(found, "{dialect:?}: {invariant} does not name {id}:\n{}", report.to_text());
    assert!(!report.is_clean());
}

const SETTLED_TASK_HOLD: &str =
    "select id from holds where state = 'settled' and owner_kind = 'task' and returned_ucr > 0 order by id";
const OPEN_HOLD: &str = "select id from holds where state = 'open' and owner_kind = 'task'";
const PAID_GRANT: &str = "select id from grants where kind = 'paid'";
const SETTLED_TASK: &str = "select id from tasks where state = 'succeeded' and cost_ucr > 0 order by id";
const FINISHED_RUN: &str = "select id from runs where state = 'succeeded'";
const FINISHED_MISSION: &str = "select m.id from missions m join runs r on r.id = m.run_id where r.state = 'succeeded'";
const WAITING_MISSION: &str = "select m.id from missions m join runs r on r.id = m.run_id where r.state = 'queued'";

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_nobody_tampered_with_is_clean_and_its_figures_add_up() {
    for dialect in ENGINES {
        let site = Site::with_work(dialect).await;
        let report = site.verify().await;
        assert_eq!(report.violations, [], "{dialect:?}");
        let figure = |name: &str| report.figure(name).unwrap_or_else(|| panic!("{name} in\n{}", report.to_text()));
        assert_eq!(figure("credits_issued"), "5003.000000");
        assert_eq!(figure("credits_fees"), "2.000000");
        assert_eq!((figure("missions"), figure("tasks"), figure("tasks_settled")), ("2", "6", "3"));
        assert_eq!((figure("wallets"), figure("grants"), figure("open_holds")), ("1", "2", "2"));
        let entries = site.number("select count(*) as n from entries").await.to_string();
        assert_eq!(figure("entries"), entries);
        let used = site.number("select cast(sum(cost_ucr) as bigint) as n from tasks").await;
        assert!(used > 0, "the work cost something");
        assert_eq!(figure("credits_used"), bursar_domain::credits::Ucr::new(used).to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_a_grant_that_has_more_left_than_its_entries() {
    let sql = "update grants set remaining_ucr = remaining_ucr + 1 where id = $1";
    is_found(&Forgery { invariant: "I1", row: PAID_GRANT, sql }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_an_open_hold_that_holds_less_than_it_says() {
    let sql = "update holds set amount_ucr = amount_ucr + 5 where id = $1";
    is_found(&Forgery { invariant: "I2", row: OPEN_HOLD, sql }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_a_wallet_with_credits_out_of_nowhere() {
    for column in ["available_ucr", "held_ucr", "debt_ucr"] {
        let sql = match column {
            "available_ucr" => "update wallets set available_ucr = available_ucr + 1 where id = $1",
            "held_ucr" => "update wallets set held_ucr = held_ucr + 1 where id = $1",
            _ => "update wallets set debt_ucr = debt_ucr + 1 where id = $1",
        };
        is_found(&Forgery { invariant: "I3", row: "select id from wallets", sql }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_a_leg_that_moves_nothing_or_leads_nowhere() {
    let row = "select id from ops where kind = 'settle' order by id";
    let sql = r#"update ops set legs = '[["issue", "grant:x", 0]]' where id = $1"#;
    is_found(&Forgery { invariant: "I4", row, sql }).await;
    let sql = r#"update ops set legs = '[["issue", "pocket", 5]]' where id = $1"#;
    is_found(&Forgery { invariant: "I4", row, sql }).await;
    let sql = r#"update ops set legs = '[["issue"]]' where id = $1"#;
    is_found(&Forgery { invariant: "I4", row, sql }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_credits_that_were_issued_and_are_nowhere() {
    let sql = "update wallets set available_ucr = available_ucr - 7 where id = $1";
    is_found(&Forgery { invariant: "I5", row: "select id from wallets", sql }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_a_hold_that_forgot_where_its_credits_came_from() {
    is_found(&Forgery { invariant: "I6", row: OPEN_HOLD, sql: "update holds set slices = '[]' where id = $1" }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_a_closed_hold_that_claims_another_charge_than_its_entries() {
    let sql = "update holds set captured_ucr = captured_ucr + 1, returned_ucr = returned_ucr - 1 where id = $1";
    is_found(&Forgery { invariant: "I6", row: SETTLED_TASK_HOLD, sql }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_an_operation_without_legs() {
    let sql = "update ops set legs = '[]' where id = $1";
    is_found(&Forgery { invariant: "I7", row: "select id from ops where kind = 'settle' order by id", sql }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_entries_of_a_hold_or_grant_that_does_not_exist() {
    is_found(&Forgery { invariant: "I7", row: SETTLED_TASK_HOLD, sql: "delete from holds where id = $1" }).await;
    is_found(&Forgery { invariant: "I7", row: PAID_GRANT, sql: "delete from grants where id = $1" }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_rows_whose_task_run_mission_or_wallet_is_gone() {
    let call = "select id from usage_calls order by id";
    is_found(&Forgery { invariant: "I7", row: call, sql: "update usage_calls set task_id = 'tsk_x' where id = $1" })
        .await;
    is_found(&Forgery { invariant: "I7", row: FINISHED_RUN, sql: "delete from runs where id = $1" }).await;
    is_found(&Forgery { invariant: "I7", row: WAITING_MISSION, sql: "delete from missions where id = $1" }).await;
    let op = "select id from ops where kind = 'hold' order by id";
    is_found(&Forgery { invariant: "I7", row: op, sql: "update ops set wallet_id = 'wal_x' where id = $1" }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_an_account_that_gave_more_than_it_got() {
    let sql = "
        update ops set legs = (
          select o.legs from ops o where o.kind = 'grant' and o.id <> ops.id order by o.id limit 1
        )
        where kind = 'grant' and key = (
          select o.key from ops o join entries e on e.op_id = o.id where e.destination = 'grant:' || $1 limit 1)";
    // the grant's own issue now feeds the other grant: everything drawn from it came from nothing
    let drawn = "select g.id from grants g where g.remaining_ucr < g.amount_ucr order by g.id";
    is_found(&Forgery { invariant: "I8", row: drawn, sql }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_a_task_that_cost_something_else_than_was_charged() {
    let sql = "update tasks set cost_ucr = cost_ucr + 1 where id = $1";
    is_found(&Forgery { invariant: "I9", row: SETTLED_TASK, sql }).await;
    let sql = "update tasks set units_ucr = units_ucr + 1 where id = $1";
    is_found(&Forgery { invariant: "I9", row: SETTLED_TASK, sql }).await;
    let sql = "update usage_calls set billable = not billable where task_id = $1";
    is_found(&Forgery { invariant: "I9", row: SETTLED_TASK, sql }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_a_task_that_failed_and_was_charged() {
    let sql = "update tasks set state = 'failed' where id = $1";
    is_found(&Forgery { invariant: "I9", row: SETTLED_TASK, sql }).await;
    let sql = "update tasks set state = 'cancelled' where id = $1";
    is_found(&Forgery { invariant: "I9", row: SETTLED_TASK, sql }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_a_run_that_did_not_pay_its_fee_or_paid_without_success() {
    let sql = "update runs set fee_ucr = fee_ucr + 1 where id = $1";
    is_found(&Forgery { invariant: "I9", row: FINISHED_RUN, sql }).await;
    let sql = "update runs set state = 'failed' where id = $1";
    is_found(&Forgery { invariant: "I9", row: FINISHED_RUN, sql }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_a_charge_on_the_hold_of_somebody_else() {
    let row = "select id from ops where kind = 'settle' and task_id is not null order by id";
    let sql = "
        update ops set task_id = (select max(t.id) from tasks t where t.id <> ops.task_id) where id = $1";
    is_found(&Forgery { invariant: "I9", row, sql }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_a_mission_that_lost_count() {
    for sql in [
        "update missions set spent_ucr = spent_ucr + 1 where id = $1",
        "update missions set held_ucr = held_ucr + 1 where id = $1",
        "update missions set tasks_done = tasks_done - 1 where id = $1",
        "update missions set last_seq = last_seq + 1 where id = $1",
        "delete from events where mission_id = $1 and seq = 2",
    ] {
        is_found(&Forgery { invariant: "I9", row: FINISHED_MISSION, sql }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_a_reservation_that_no_call_made() {
    is_found(&Forgery { invariant: "I10", row: OPEN_HOLD, sql: "update holds set reserved_ucr = 3 where id = $1" })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i11_a_fee_that_is_taken_twice() {
    let sql = "
        insert into ops (id, wallet_id, tenant_id, kind, key, request_hash, legs, mission_id, available_after_ucr,
          created_at)
        select 'op_x', o.wallet_id, o.tenant_id, o.kind, 'settle:again', o.request_hash, o.legs, o.mission_id,
          o.available_after_ucr, o.created_at
        from ops o
        join holds h on o.key = 'settle:' || h.id
        where h.owner_id = $1";
    is_found(&Forgery { invariant: "I11", row: FINISHED_RUN, sql }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i12_a_hold_that_its_owner_forgot() {
    let sql = "update tasks set hold_id = null where hold_id = $1";
    is_found(&Forgery { invariant: "I12", row: OPEN_HOLD, sql }).await;
    let fee = "select id from holds where state = 'open' and owner_kind = 'fee'";
    let sql = "update runs set fee_hold_id = null where fee_hold_id = $1";
    is_found(&Forgery { invariant: "I12", row: fee, sql }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i12_a_priced_task_that_runs_without_a_hold() {
    let row = "select id from tasks where state = 'ready'";
    is_found(&Forgery { invariant: "I12", row, sql: "update tasks set hold_id = null where id = $1" }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_hundred_violations_of_a_kind_are_cut_and_it_is_said() {
    for dialect in ENGINES {
        let site = Site::with_work(dialect).await;
        let sql = "
            insert into attempts (task_id, tenant_id, number, outcome, ended_at)
            with recursive n (n) as (select 1 union all select n + 1 from n where n < 150)
            select 'tsk_x', 'ten_x', n, 'lost', 0 from n";
        site.tamper(sql, &[], 150).await;
        let report = site.verify().await;
        assert_eq!(report.violations.len(), 100, "{dialect:?}");
        assert!(report.truncated);
        assert!(report.to_text().ends_with("100 violations shown, there are more"));
    }
}
