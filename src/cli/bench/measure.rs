//! What is measured besides time: rows written, commits, round trips, CPU, memory.

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use super::site::Site;
use crate::store::{Dialect, StoreCounters};

/// The state of all counters before a workload.
pub(super) struct Before {
    counters: StoreCounters,
    rows: Option<i64>,
    cpu: Vec<(&'static str, u32, f64)>,
}

impl Before {
    pub(super) async fn take(site: &Site) -> anyhow::Result<Self> {
        let mut processes = vec![("bursar", std::process::id())];
        processes.extend(site.servers.iter().copied());
        Ok(Self {
            counters: site.engine.store().counters(),
            rows: rows_written(site).await?,
            cpu: processes.into_iter().map(|(name, pid)| (name, pid, cpu_s(pid).unwrap_or(0.0))).collect(),
        })
    }

    /// What the workload cost, by node.
    pub(super) async fn figures(&self, site: &Site, nodes: usize) -> anyhow::Result<Value> {
        let after = site.engine.store().counters();
        let per_node = |count: u64| count as f64 / nodes as f64;
        let mut figures = Map::new();
        figures.insert("nodes".to_owned(), json!(nodes));
        if let (Some(before), Some(after)) = (self.rows, rows_written(site).await?) {
            figures.insert("row_writes_per_node".to_owned(), json!((after - before) as f64 / nodes as f64));
        }
        figures.insert("commits_per_node".to_owned(), json!(per_node(after.commits - self.counters.commits)));
        let trips = per_node(after.round_trips - self.counters.round_trips);
        figures.insert("round_trips_per_node".to_owned(), json!(trips));
        for (name, pid, before) in &self.cpu {
            let used = cpu_s(*pid).unwrap_or(*before) - before;
            figures.insert(format!("{name}_cpu_s"), json!(used));
        }
        figures.insert("memory_mb".to_owned(), json!(memory_mb(std::process::id())));
        let (claims, queue, store) = site.engine.metrics().claim_sources();
        if queue + store > 0 {
            figures.insert("claims_by_queue_percent".to_owned(), json!(queue as f64 * 100.0 / (queue + store) as f64));
        }
        figures.insert("claims".to_owned(), json!(claims));
        Ok(Value::Object(figures))
    }
}

/// Rows inserted, updated and deleted so far, as the database itself counts them. SQLite counts only on its
/// writing connection, which this asks.
async fn rows_written(site: &Site) -> anyhow::Result<Option<i64>> {
    let store = site.engine.store();
    if store.dialect() == Dialect::Sqlite {
        return Ok(store.written_rows().await?);
    }
    // an idle backend of the server publishes its counts after ten seconds at the latest
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    Ok(Some(store.written_rows().await?.context("Postgres counts rows")?))
}

/// CPU seconds that a process and its children used so far.
pub(super) fn cpu_s(pid: u32) -> Option<f64> {
    const TICKS_PER_S: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok());
    let own = ticks(11)? + ticks(12)?;
    let live: f64 = children(pid).into_iter().filter_map(cpu_s).sum();
    Some((own + ticks(13)? + ticks(14)?) / TICKS_PER_S + live)
}

fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Resident memory of a process in MB.
pub(super) fn memory_mb(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kb| kb / 1024.0)
}

/// The processes of Postgres and Redis, where they run on this machine.
pub(super) async fn servers(database_url: &str, redis_url: Option<&str>) -> Vec<(&'static str, u32)> {
    let mut servers = Vec::new();
    if let Ok(mut connection) = <sqlx::PgConnection as sqlx::Connection>::connect(database_url).await
        && let Ok(file) =
            sqlx::query_scalar::<_, String>("select pg_read_file('postmaster.pid')").fetch_one(&mut connection).await
        && let Some(pid) = file.lines().next().and_then(|line| line.parse().ok())
    {
        servers.push(("postgres", pid));
    }
    if let Some(client) = redis_url.and_then(|url| redis::Client::open(url).ok())
        && let Ok(mut connection) = client.get_multiplexed_async_connection().await
        && let Ok(info) = redis::cmd("INFO").arg("server").query_async::<String>(&mut connection).await
        && let Some(pid) = info.lines().find_map(|line| line.strip_prefix("process_id:")?.trim().parse().ok())
    {
        servers.push(("redis", pid));
    }
    servers
}

/// The median of each figure over repetitions.
pub(super) fn median_of(runs: &[Value]) -> Value {
    let mut median = Map::new();
    let names = runs.first().and_then(Value::as_object).map(|first| first.keys().cloned().collect::<Vec<_>>());
    for name in names.unwrap_or_default() {
        let mut values: Vec<f64> = runs.iter().filter_map(|run| run[&name].as_f64()).collect();
        values.sort_by(f64::total_cmp);
        median.insert(name, values.get(values.len() / 2).map_or(Value::Null, |value| json!(value)));
    }
    Value::Object(median)
}
