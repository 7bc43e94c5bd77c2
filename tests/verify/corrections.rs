//! The auditor on corrections and policies: refunds, adjustments, write-offs, charges that were absorbed or made for a
//! failure. One row is tampered with per thing that it checks there, on both engines, and is named.

use std::time::Duration;

use bursar::clock::{SystemChance, new_id};
use bursar::store::{Arg, Dialect, Want};
use bursar_domain::credits::Ucr;
use bursar_domain::flow::{Facts, Turn};
use bursar_domain::id::HoldId;
use bursar_domain::ledger::{self, Charge, Correction, HoldRequest, Subject, Terms};
use bursar_domain::record::{ChargeFailed, HoldOwner, Overrun};

use super::site::Site;
use super::{ENGINES, names};

/// A way to falsify a row, as in the parent, on a site that was corrected or that has policies.
struct Forgery {
    invariant: &'static str,
    row: &'static str,
    sql: &'static str,
}

async fn decide<T: Send>(site: &Site, want: &Want, mut step: impl FnMut(&mut Turn<'_>) -> T + Send) -> T {
    let (now, facts) = (site.engine.clock().now(), Facts::default());
    let mut answer = None;
    let mut decide =
        |set: &mut _| answer = Some(step(&mut Turn { set, facts: &facts, now, chance: &mut SystemChance }));
    site.store().transact(want, &mut decide).await.unwrap();
    answer.unwrap()
}

fn correction(site: &Site, reference: &str) -> Correction {
    Correction {
        op_id: new_id(),
        grant_id: new_id(),
        wallet_id: site.wallet,
        reference: reference.to_owned(),
        actor: "somebody".to_owned(),
        reason: "for a reason".to_owned(),
    }
}

/// A hold of a call from outside any mission: a credit, for a minute.
async fn hold_for_call(site: &Site, owner: &str) -> HoldId {
    let request = HoldRequest {
        id: new_id(),
        op_id: new_id(),
        wallet_id: site.wallet,
        owner_kind: HoldOwner::Call,
        owner_id: owner.to_owned(),
        number: 1,
        amount: Ucr::from_credits(1),
        subject: Subject::default(),
        expires_at: Some(site.engine.clock().now().plus_ms(60_000)),
    };
    decide(site, &Want::wallets([site.wallet]), |turn| ledger::hold(turn.set, &request, turn.now)).await.unwrap()
}

/// Work, an open hold of a call and one charged far beyond it; a refund of two parts, adjustments both ways, debt of
/// which a part was given up.
async fn corrected(dialect: Dialect) -> Site {
    let site = Site::with_work(dialect).await;
    let sql = "select id from holds where state = 'settled' and owner_kind = 'task' and captured_ucr > 10 order by id";
    let charged: HoldId = site.id(sql).await.parse().unwrap();
    for (reference, amount) in [("first", 7), ("second", 3)] {
        site.engine.refund(&correction(&site, reference), charged, Ucr::new(amount)).await.unwrap();
    }
    site.engine.adjust(&correction(&site, "up"), Ucr::from_credits(5)).await.unwrap();
    site.engine.adjust(&correction(&site, "down"), Ucr::from_credits(-2)).await.unwrap();
    hold_for_call(&site, "open").await;
    let hold = hold_for_call(&site, "dear").await;
    let want = Want { holds: vec![hold], ..Want::wallets([site.wallet]) };
    let charge = Charge::Usage(Ucr::from_credits(6_000));
    let settle = |turn: &mut Turn<'_>| ledger::settle(turn.set, hold, new_id(), charge, Subject::default(), turn.now);
    assert!(decide(&site, &want, settle).await.unwrap().debt > Ucr::from_credits(900));
    site.engine.write_off(&correction(&site, "off"), Ucr::from_credits(500)).await.unwrap();
    site
}

/// A wallet whose platform absorbs overruns and which pays for failures: one task of each kind.
async fn with_policies(dialect: Dialect) -> Site {
    let site = Site::open(dialect).await;
    let policies =
        Terms { overrun: Some(Overrun::Absorb), charge_failed: Some(ChargeFailed::Always), ..Terms::default() };
    site.engine.set_terms(site.wallet, &policies).await.unwrap();
    let pool = site.workers(4);
    site.submit("[[simulate tokens=20 output_tokens_reported=5000]]").await;
    site.submit("[[simulate fail=permanent after_tokens=10]]").await;
    site.until("select count(*) as n from runs where ended_at is null").await;
    let _ = tokio::time::timeout(Duration::from_millis(300), pool.drain(Duration::from_secs(5))).await;
    site
}

async fn tampered(site: Site, dialect: Dialect, forgery: &Forgery) {
    assert_eq!(site.verify().await.violations, [], "{dialect:?} before");
    let id = site.id(forgery.row).await;
    site.unprotect_ops().await;
    site.tamper(forgery.sql, &[Arg::from(id.as_str())], 1).await;
    names(&site.verify().await, forgery.invariant, &id, dialect);
}

async fn is_found(forgery: &Forgery) {
    for dialect in ENGINES {
        tampered(corrected(dialect).await, dialect, forgery).await;
    }
}

async fn is_found_under_policies(forgery: &Forgery) {
    for dialect in ENGINES {
        tampered(with_policies(dialect).await, dialect, forgery).await;
    }
}

const REFUNDED_HOLD: &str = "select id from holds where refunded_ucr > 0";
const ABSORBED_TASK: &str = "
    select task_id as id from ops where kind = 'settle' and reason = 'overrun absorbed' and task_id is not null order by id";
const FAILED_TASK: &str = "select id from tasks where state = 'failed' and cost_ucr > 0";

#[tokio::test(flavor = "multi_thread")]
async fn corrections_and_policies_that_nobody_tampered_with_are_clean_and_their_figures_are_shown() {
    for dialect in ENGINES {
        let report = corrected(dialect).await.verify().await;
        assert_eq!(report.violations, [], "{dialect:?}");
        assert_eq!(report.figure("credits_adjusted"), Some("-3.000000"));
        assert_eq!(report.figure("credits_written_off"), Some("-500.000000"));
        let report = with_policies(dialect).await.verify().await;
        assert_eq!(report.violations, [], "{dialect:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_a_hold_that_says_another_refund_than_its_refunds() {
    for sql in [
        "update holds set refunded_ucr = refunded_ucr + 1 where id = $1",
        "update holds set refunded_ucr = 0 where id = $1",
    ] {
        is_found(&Forgery { invariant: "I6", row: REFUNDED_HOLD, sql }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_a_refund_that_says_or_moves_something_else_or_is_gone() {
    for sql in [
        "update ops set request_hash = $1 || '/8' where key = 'refund:first'",
        "update ops set legs = '[[\"usage\", \"debt\", 6]]' where key = 'refund:first' and request_hash like $1 || '%'",
        "delete from ops where key = 'refund:second' and request_hash like $1 || '%'",
    ] {
        is_found(&Forgery { invariant: "I6", row: REFUNDED_HOLD, sql }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_a_refund_of_more_than_was_charged() {
    let sql = "update holds set captured_ucr = 0, returned_ucr = amount_ucr, overrun_ucr = refunded_ucr where id = $1";
    is_found(&Forgery { invariant: "I6", row: REFUNDED_HOLD, sql }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_an_operation_whose_legs_are_those_of_another_kind() {
    for (key, legs) in [
        ("adjust:up", r#"'[["issue", "grant:x", 5000000]]'"#),
        ("adjust:down", r#"'[["grant:x", "usage", 2000000]]'"#),
        ("writeoff:off", r#"'[["issue", "debt", 500000000]]'"#),
        ("refund:first", r#"'[["adjust", "grant:x", 7]]'"#),
    ] {
        let row = format!("select id from ops where key = '{key}'");
        let sql = format!("update ops set legs = {legs} where id = $1");
        for dialect in ENGINES {
            let site = corrected(dialect).await;
            let id = site.id(&row).await;
            site.unprotect_ops().await;
            site.tamper(&sql, &[Arg::from(id.as_str())], 1).await;
            names(&site.verify().await, "I4", &id, dialect);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_debt_that_is_given_up_twice_over() {
    let sql =
        r#"update ops set legs = '[["debt", "writeoff", 500000000]]' where kind = 'write_off' and wallet_id = $1"#;
    is_found(&Forgery { invariant: "I8", row: "select id from wallets", sql }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_an_adjustment_that_is_gone() {
    let row = "select id from grants where kind = 'adjust'";
    is_found(&Forgery { invariant: "I1", row, sql: "delete from ops where key = 'adjust:up' and $1 <> ''" }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_debt_that_the_wallet_forgot() {
    let sql = "update wallets set debt_ucr = debt_ucr - 1 where id = $1";
    is_found(&Forgery { invariant: "I3", row: "select id from wallets", sql }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_a_task_that_cost_less_than_its_calls_without_being_absorbed() {
    let sql = "update ops set reason = null where kind = 'settle' and task_id = $1";
    is_found_under_policies(&Forgery { invariant: "I9", row: ABSORBED_TASK, sql }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_an_absorbed_task_that_cost_more_than_its_calls() {
    let sql = "update usage_calls set cost_ucr = 1 where billable and task_id = $1";
    is_found_under_policies(&Forgery { invariant: "I9", row: ABSORBED_TASK, sql }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_a_failure_that_was_charged_without_a_policy() {
    let sql = "update ops set reason = null where kind = 'settle' and task_id = $1";
    is_found_under_policies(&Forgery { invariant: "I9", row: FAILED_TASK, sql }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_a_failure_whose_charge_is_not_what_its_calls_cost() {
    for sql in [
        "update usage_calls set billable = false where task_id = $1",
        // nothing of a failure was absorbed here: it may not cost less than its calls either
        "update usage_calls set cost_ucr = cost_ucr + 100 where billable and task_id = $1",
    ] {
        is_found_under_policies(&Forgery { invariant: "I9", row: FAILED_TASK, sql }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i12_a_call_from_outside_whose_hold_would_never_end() {
    let row = "select id from holds where owner_kind = 'call' and state = 'open'";
    is_found(&Forgery { invariant: "I12", row, sql: "update holds set expires_at = null where id = $1" }).await;
}
