//! Pruning: what is over and old loses its payloads, a batch in one transaction. Rows that the ledger refers to stay.
//!
//! Whoever changes a mission holds its row; a batch takes the missions' rows first and looks again which of them are
//! still over. So a mission that is being tried again at the same moment is either left whole, or is seen as pruned.

use bursar_domain::id::{MissionId, RunId};
use bursar_domain::record::{PRUNED_DETAILS, PRUNED_MISSION, PRUNED_OUTPUTS};
use bursar_domain::time::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::{Arg, Store, StoreError};

/// What of a run is pruned next. In this order, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pruned {
    /// Its events, the answers of its models, the results of its tools, its failed attempts.
    Details,
    /// The outputs of its tasks.
    Outputs,
    /// Its input, its errors, its signals, its messages: what is left is what the ledger refers to.
    Mission,
}

impl Pruned {
    /// What `runs.pruned` says afterwards.
    const fn level(self) -> i16 {
        match self {
            Self::Details => PRUNED_DETAILS,
            Self::Outputs => PRUNED_OUTPUTS,
            Self::Mission => PRUNED_MISSION,
        }
    }

    /// The word in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Details => "details",
            Self::Outputs => "outputs",
            Self::Mission => "mission",
        }
    }
}

/// A run that may be pruned.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Prunable {
    /// The run.
    pub id: RunId,
    /// Its mission.
    pub mission_id: MissionId,
    /// Events that go with it at most.
    pub events: i64,
}

// the runs of the batch for which it is so now; `$1` are the runs, `$2` how far they are pruned now
const RUNS: &str = "select id from runs where id in {list:1} and pruned = $2";
const TASKS: &str =
    "select t.id from tasks t where t.run_id in (select id from runs where id in {list:1} and pruned = $2)";
const MISSIONS: &str = "select mission_id from runs where id in {list:1} and pruned = $2";

impl dyn Store {
    /// Runs of missions that are over since before `cutoff` and were not pruned so far, the oldest first.
    pub async fn prunable(&self, next: Pruned, cutoff: Timestamp, limit: i64) -> Result<Vec<Prunable>, StoreError> {
        let sql = "
            select r.id, r.mission_id, m.last_seq - m.pruned_seq as events
            from runs r
            join missions m on m.id = r.mission_id
            join runs latest on latest.id = m.run_id
            where r.pruned = $1 and r.ended_at is not null and r.ended_at <= $2
              and latest.ended_at is not null and latest.ended_at <= $2
            order by r.ended_at limit $3";
        let level = i64::from(next.level().saturating_sub(1));
        let rows = self.rows(sql, &[level.into(), cutoff.into(), limit.into()]).await?;
        let parse = |row| serde_json::from_value(row).map_err(|error| StoreError::Corrupt(error.to_string()));
        rows.into_iter().map(parse).collect()
    }

    /// Prunes a batch in one transaction. How many of the runs were pruned; the others are not over any more.
    pub async fn prune(&self, next: Pruned, batch: &[Prunable], cutoff: Timestamp) -> Result<u64, StoreError> {
        let runs: Vec<RunId> = batch.iter().map(|run| run.id).collect();
        let missions: Vec<MissionId> = batch.iter().map(|run| run.mission_id).collect();
        let take = "update missions set pruned_seq = pruned_seq where id in {list:1}";
        let mark = "
            update runs set pruned = $2
            where id in {list:1} and pruned = $2 - 1 and ended_at is not null and ended_at <= $3
              and exists (
                select 1 from missions m join runs latest on latest.id = m.run_id
                where m.id = runs.mission_id and latest.ended_at is not null and latest.ended_at <= $3)";
        let level = i64::from(next.level());
        let (take_args, mark_args): ([Arg; 1], [Arg; 3]) =
            ([json!(missions).into()], [json!(runs).into(), level.into(), cutoff.into()]);
        let args: [Arg; 2] = [json!(runs).into(), level.into()];
        let clear: Vec<String> = clearing(next);
        let mut statements: Vec<(&str, &[Arg])> = vec![(take, &take_args), (mark, &mark_args)];
        statements.extend(clear.iter().map(|sql| (sql.as_str(), args.as_slice())));
        let touched = self.execute_all(&statements).await?;
        Ok(touched.get(1).copied().unwrap_or(0))
    }

    /// Forgets dedupe keys that are free, at most `limit`. How many.
    pub async fn prune_dedupe_keys(&self, now: Timestamp, limit: i64) -> Result<u64, StoreError> {
        let sql = "
            delete from dedupe_keys
            where taken_until <= $1
              and id in (
                select d.id
                from dedupe_keys d
                left join missions m on m.id = d.mission_id
                left join runs r on r.id = m.run_id
                where d.taken_until <= $1 and (r.id is null or r.ended_at is not null)
                order by d.taken_until limit $2)";
        self.execute(sql, &[now.into(), limit.into()]).await
    }
}

/// What takes the payloads away.
fn clearing(next: Pruned) -> Vec<String> {
    match next {
        Pruned::Details => vec![
            format!("update missions set pruned_seq = last_seq where id in ({MISSIONS})"),
            format!("delete from events where mission_id in ({MISSIONS})"),
            format!("update usage_calls set response = null where response is not null and task_id in ({TASKS})"),
            format!("delete from tool_calls where task_id in ({TASKS})"),
            format!("delete from attempts where task_id in ({TASKS})"),
        ],
        Pruned::Outputs => {
            vec![
                format!("update tasks set output = null, shown = null, bound = null where id in ({TASKS})"),
                format!("delete from workflows where planned_by in ({TASKS})"),
                format!("update messages set prompt = null where prompt is not null and task_id in ({TASKS})"),
            ]
        }
        Pruned::Mission => vec![
            format!("update missions set input = '{{}}', metadata = null where id in ({MISSIONS})"),
            format!("update tasks set error = null, status_reason = null where id in ({TASKS})"),
            format!("delete from signals where mission_id in ({MISSIONS})"),
            format!("delete from messages where mission_id in ({MISSIONS})"),
            format!("update runs set error = null, status_reason = null, fingerprint = null where id in ({RUNS})"),
        ],
    }
}
