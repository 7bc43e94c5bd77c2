//! What must hold after a soak, looked up in the store, in Redis and in the provider's own books, by queries of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use bursar_domain::credits::Ucr;
use serde_json::{Value, json};

use super::client::Told;
use super::errand::End;
use super::faults::Record;
use crate::engine::Engine;
use crate::reconcile::reconcile;

/// Findings of one kind that are shown.
const MOST_SHOWN: usize = 20;
/// How long the queue may take to forget what is over.
const QUEUE_PATIENCE: Duration = Duration::from_secs(20);

/// Figures, and what is wrong. Nothing wrong is what must be.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) figures: Vec<(String, Value)>,
    pub(super) wrong: Vec<String>,
}

impl Verdict {
    pub(super) fn figure(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.figures.push((name.into(), value.into()));
    }

    fn all_wrong(&mut self, mut found: Vec<String>) {
        let more = found.len().saturating_sub(MOST_SHOWN);
        found.truncate(MOST_SHOWN);
        self.wrong.extend(found);
        if more > 0 {
            self.wrong.push(format!("… and {more} more of this kind"));
        }
    }

    /// For a terminal.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        let width = self.figures.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in &self.figures {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let _ = writeln!(text, "{name:width$}  {value:>12}");
        }
        for wrong in &self.wrong {
            let _ = writeln!(text, "WRONG  {wrong}");
        }
        text + if self.wrong.is_empty() { "everything holds" } else { "something does not hold" }
    }

    /// For programs.
    pub(super) fn to_json(&self) -> Value {
        let figures: serde_json::Map<String, Value> = self.figures.iter().cloned().collect();
        json!({"holds": self.wrong.is_empty(), "figures": figures, "wrong": self.wrong})
    }
}

/// A select with the columns `of` and `what`: each row is something wrong.
async fn wrong_rows(verdict: &mut Verdict, engine: &Engine, sql: &str) -> anyhow::Result<()> {
    let rows = engine.store().rows(sql, &[]).await?;
    verdict.all_wrong(rows.iter().map(|row| row["what"].as_str().unwrap_or("a row").to_owned()).collect());
    Ok(())
}

/// Everything that must hold.
pub(super) async fn judge(engine: &Engine, told: &[Told], journal: &str, faults: &Record) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::default();
    missions(&mut verdict, engine, told, faults).await?;
    wrong_rows(&mut verdict, engine, UNFINISHED).await?;
    wrong_rows(&mut verdict, engine, OPEN_HOLDS).await?;
    wrong_rows(&mut verdict, engine, GAPS).await?;
    reconciled(&mut verdict, engine).await?;
    calls(&mut verdict, engine, journal).await?;
    losses(&mut verdict, engine).await?;
    let report = crate::verify::verify(engine.store()).await?;
    for (name, value) in &report.figures {
        verdict.figure(name.clone(), value.clone());
    }
    let violations = report.violations.iter().map(|found| format!("{} {}", found.invariant, found.what));
    verdict.all_wrong(violations.collect());
    Ok(verdict)
}

/// Every mission is over as it had to be, each key made one, and nobody made another.
async fn missions(verdict: &mut Verdict, engine: &Engine, told: &[Told], faults: &Record) -> anyhow::Result<()> {
    let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
    for one in told {
        *ends.entry(&one.status).or_default() += 1;
    }
    for (status, count) in ends {
        verdict.figure(format!("missions_{status}"), count);
    }
    let lost = lost_to_kills(engine, faults).await?;
    let wrong: Vec<&Told> = told.iter().filter(|one| one.wrong().is_some()).collect();
    let (excused, wrong): (Vec<&Told>, Vec<&Told>) =
        wrong.into_iter().partition(|one| one.code.as_deref() == Some("poison_pill") && lost.contains(&one.id));
    verdict.figure("missions_lost_with_three_killed_workers", excused.len());
    verdict.all_wrong(wrong.iter().filter_map(|one| one.wrong()).collect());
    let expected = told.iter().filter(|one| one.end == End::Succeeds).count();
    verdict.figure("missions_that_had_to_succeed", expected);
    verdict.figure("retries", told.iter().map(|one| one.retries).sum::<u64>());
    let rows = engine.store().rows("select id from missions", &[]).await?;
    let stored: BTreeSet<&str> = rows.iter().filter_map(|row| row["id"].as_str()).collect();
    let known: BTreeSet<&str> = told.iter().map(|one| one.id.as_str()).collect();
    let strangers =
        stored.difference(&known).map(|id| format!("mission {id} was made, and no client was told of its end"));
    verdict.all_wrong(strangers.collect());
    verdict.all_wrong(known.difference(&stored).map(|id| format!("mission {id} was accepted and is gone")).collect());
    if told.len() != known.len() {
        verdict.wrong.push(format!("{} errands made {} missions", told.len(), known.len()));
    }
    Ok(())
}

/// Missions with a task that three workers vanished with, each of which the soak killed.
async fn lost_to_kills(engine: &Engine, faults: &Record) -> anyhow::Result<BTreeSet<String>> {
    let sql = "select t.mission_id, a.task_id, w.pid from attempts a join tasks t on t.id = a.task_id
      left join workers w on w.id = a.worker_id where a.outcome = 'lost'";
    let mut killed: BTreeMap<(String, String), usize> = BTreeMap::new();
    for row in engine.store().rows(sql, &[]).await? {
        let is_ours = row["pid"].as_u64().is_some_and(|pid| faults.killed.contains(&(pid as u32)));
        let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
        *killed.entry((text("mission_id"), text("task_id"))).or_default() += usize::from(is_ours);
    }
    Ok(killed.into_iter().filter(|(_, count)| *count >= 3).map(|((mission, _), _)| mission).collect())
}

const UNFINISHED: &str = "
    select 'task ' || id || ' of mission ' || mission_id || ' is ' || state || ' (' || coalesce(status_reason, '') || ')' as what
    from tasks where ended_at is null
    union all
    select 'run ' || id || ' of mission ' || mission_id || ' is ' || state as what from runs where ended_at is null
    union all
    select 'call ' || id || ' of task ' || task_id || ' is still in flight' as what from usage_calls where state = 'sent'";

const OPEN_HOLDS: &str = "
    select 'hold ' || id || ' of ' || owner_kind || ' ' || owner_id || ' is open' as what from holds where state = 'open'";

/// Each event is numbered one more than the one before it.
const GAPS: &str = "
    select 'mission ' || mission_id || ': event ' || seq || ' follows ' || coalesce(before, 0) as what
    from (select mission_id, seq, lag(seq) over (partition by mission_id order by seq) as before from events) numbered
    where seq <> coalesce(before, 0) + 1";

/// What was taken, against what was used, by tenant; and the queue beside the store. What is over may stay in the queue until
/// a worker comes to it, so it is looked at for a while.
async fn reconciled(verdict: &mut Verdict, engine: &Engine) -> anyhow::Result<()> {
    let mut report = reconcile(engine.store(), Some(engine.queue()), engine.clock()).await?;
    let deadline = Instant::now() + QUEUE_PATIENCE;
    while !report.agrees && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(500)).await;
        report = reconcile(engine.store(), Some(engine.queue()), engine.clock()).await?;
    }
    let mut sums = [0_i64; 5];
    for tenant in report.money.iter().flat_map(|money| &money.tenants) {
        let of = [tenant.charged, tenant.calls, tenant.units, tenant.fees, tenant.fees_earned].map(Ucr::get);
        for (sum, figure) in sums.iter_mut().zip(of) {
            *sum += figure;
        }
    }
    let names = ["billed_ucr", "billable_calls_ucr", "billable_units_ucr", "fees_ucr", "fees_earned_ucr"];
    for (name, sum) in names.into_iter().zip(sums) {
        verdict.figure(name, sum);
    }
    verdict.all_wrong(report.differences());
    verdict.all_wrong(report.missed);
    Ok(())
}

/// A call is recorded before it is sent and its usage after it is answered, and in between anything may be killed. So for
/// every request: calls that ended with the provider's usage ≤ requests in the provider's books ≤ calls on record.
async fn calls(verdict: &mut Verdict, engine: &Engine, journal: &str) -> anyhow::Result<()> {
    let mut sent: BTreeMap<&str, i64> = BTreeMap::new();
    for hash in journal.lines() {
        *sent.entry(hash).or_default() += 1;
    }
    let sql = "select request_hash, count(*) as recorded,
      sum(case when state = 'done' and not estimated then 1 else 0 end) as answered
      from usage_calls group by request_hash";
    let mut totals = [0_i64; 2];
    let mut found = Vec::new();
    for row in engine.store().rows(sql, &[]).await? {
        let hash = row["request_hash"].as_str().unwrap_or_default();
        let [recorded, answered] = ["recorded", "answered"].map(|field| row[field].as_i64().unwrap_or_default());
        totals = [totals[0] + recorded, totals[1] + answered];
        let lines = sent.remove(hash).unwrap_or_default();
        if answered > lines || lines > recorded {
            found.push(format!(
                "request {hash}: {recorded} calls on record, {lines} sent, {answered} answered with usage"
            ));
        }
    }
    found.extend(
        sent.into_iter().map(|(hash, lines)| format!("request {hash} was sent {lines} times and is not on record")),
    );
    verdict.figure("provider_requests", journal.lines().count());
    verdict.figure("calls_on_record", totals[0]);
    verdict.figure("calls_answered_with_usage", totals[1]);
    verdict.all_wrong(found);
    Ok(())
}

/// How long what was lost with a worker waited for the next one.
async fn losses(verdict: &mut Verdict, engine: &Engine) -> anyhow::Result<()> {
    let sql = "select count(*) as lost, coalesce(max(next - ended_at), 0) as longest from (
        select a.ended_at, coalesce(
          (select b.started_at from attempts b where b.task_id = a.task_id and b.number = a.number + 1),
          case when t.attempt = a.number + 1 then t.started_at end) as next
        from attempts a join tasks t on t.id = a.task_id where a.outcome = 'lost') losses";
    let rows = engine.store().rows(sql, &[]).await?;
    let first = rows.first().cloned().unwrap_or_default();
    verdict.figure("attempts_lost", first["lost"].clone());
    verdict.figure("longest_wait_after_a_lease_ms", first["longest"].clone());
    Ok(())
}
