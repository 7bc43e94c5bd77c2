//! The auditor beside a working system: whatever moment it sees, it is clean; and a snapshot is one moment.

use std::time::Duration;

use bursar::engine::Sweeper;
use bursar::store::{Arg, Dialect};
use bursar_domain::record::GrantKind;
use tokio_util::sync::CancellationToken;

use super::ENGINES;
use super::site::Site;

/// Successes, retries, final failures before and after tokens, missing and made-up reports. The two that never end
/// by themselves are cancelled a round later: one waits without a hold in use, one has produced tokens.
const WAYS: [&str; 8] = [
    "[[simulate tokens=30]]",
    "[[simulate tokens=30 fail=retryable times=1 after_tokens=5]]",
    "[[simulate tokens=60 no_usage]]",
    "[[simulate fail=permanent after_tokens=10]]",
    "[[simulate tokens=20 output_tokens_reported=5000]]",
    "[[simulate fail=retryable]]",
    "[[simulate fail=rate_limited retry_after_ms=20]]",
    "[[simulate stall after_tokens=20]]",
];
const ROUNDS: usize = 8;

async fn stays_clean(dialect: Dialect) {
    let site = Site::open(dialect).await;
    site.grant(GrantKind::Promo, 20, Some(700)).await;
    let pool = site.workers(8);
    let stop = CancellationToken::new();
    let sweeper = tokio::spawn(Sweeper::new(site.engine.clone(), Duration::from_secs(15)).run(stop.clone()));
    let work = async {
        let mut endless = Vec::new();
        for _ in 0..ROUNDS {
            for how in WAYS {
                let mission = site.submit(how).await;
                if how.contains("stall") || how.contains("rate_limited") {
                    endless.push(mission);
                } else if how.contains("permanent") && endless.len() > 2 {
                    site.engine.cancel(endless.remove(0), None).await.unwrap();
                }
            }
        }
        // what stalls has been started and has said something by now
        site.until(
            "select count(*) as n from tasks t join missions m on m.id = t.mission_id
             where t.state = 'ready' and t.attempt = 0",
        )
        .await;
        for mission in endless {
            site.engine.cancel(mission, None).await.unwrap();
        }
    };
    let mut looks = 0;
    let audit = async {
        loop {
            let report = site.verify().await;
            assert_eq!(report.violations, [], "{dialect:?}, look {looks}");
            looks += 1;
            let figures = (report.figure("missions"), report.figure("open_holds"), report.figure("tasks_settled"));
            if figures == (Some("64"), Some("0"), report.figure("tasks")) {
                break report;
            }
        }
    };
    let Ok((report, ())) = tokio::time::timeout(Duration::from_mins(2), futures::future::join(audit, work)).await
    else {
        let report = site.verify().await.to_text();
        panic!("{dialect:?}: not all missions ended within two minutes:\n{}\n{report}", site.unfinished().await);
    };
    assert!(looks > 3, "{looks} looks at work in progress");
    assert_eq!(report.figure("usage_calls_in_flight"), Some("0"));
    let states = site.number("select count(distinct state) as n from runs").await;
    assert_eq!(states, 3, "runs succeeded, failed and were cancelled");
    let cancelled = "select count(*) as n from tasks where state = 'cancelled' and cost_ucr > 0";
    assert!(site.number(cancelled).await > 0, "{dialect:?}: a user's cancel charged what was used");
    stop.cancel();
    sweeper.await.unwrap();
    pool.drain(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_system_on_sqlite_is_clean_at_every_look() {
    stays_clean(Dialect::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_system_on_postgres_is_clean_at_every_look() {
    stays_clean(Dialect::Postgres).await;
}

/// The second query counts long enough for writes to land between the two looks at the same table.
#[tokio::test(flavor = "multi_thread")]
async fn the_queries_of_one_snapshot_see_one_moment() {
    for dialect in ENGINES {
        let site = Site::open(dialect).await;
        let count = "select count(*) as n from ops";
        let slow = "with recursive n (n) as (select 1 union all select n + 1 from n where n < 300000)
            select count(*) as n from n";
        let writes = async {
            for _ in 0..20 {
                site.grant(GrantKind::Paid, 1, None).await;
            }
        };
        let queries: [(&str, &[Arg]); 3] = [(count, &[]), (slow, &[]), (count, &[])];
        let reads = site.store().snapshot_rows(&queries, Duration::from_mins(1));
        let (answers, ()) = futures::future::join(reads, writes).await;
        let answers = answers.unwrap();
        assert_eq!(answers[0], answers[2], "{dialect:?}");
        assert_eq!(answers[1][0]["n"], 300_000);
        assert_eq!(site.number(count).await, 22);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_takes_too_long_is_cut_off_and_leaves_the_connection_usable() {
    for dialect in ENGINES {
        let site = Site::open(dialect).await;
        let endless = "with recursive n (n) as (select 1 union all select n + 1 from n where n < 2000000000)
            select count(*) as n from n";
        let refused = site.store().snapshot_rows(&[(endless, &[])], Duration::from_millis(100)).await.unwrap_err();
        assert!(refused.to_string().contains("did not end within 100 ms"), "{dialect:?}: {refused}");
        for _ in 0..8 {
            assert_eq!(site.number("select count(*) as n from wallets").await, 1);
        }
        assert!(site.verify().await.is_clean());
    }
}
