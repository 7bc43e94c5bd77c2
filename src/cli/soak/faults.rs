//! What breaks, when: drawn from the seed, done to what the soak itself started, and mended again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::ValueEnum;
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::time::{Instant, sleep, sleep_until};

use crate::cli::installation::{Installation, Process};

/// The most workers at a time.
const MOST_WORKERS: usize = 4;
/// Between two kills of workers: the tasks of the first are over, or claimed again, before the second. Three workers that
/// vanish with a task fail it, and that is not what this is about.
const BETWEEN_KILLS: Duration = Duration::from_secs(12);

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Fault {
    /// SIGKILL of a worker.
    WorkerKilled,
    /// SIGTERM of a worker: it ends in order.
    WorkerStopped,
    /// One more worker.
    WorkerAdded,
    /// SIGKILL of the server.
    ServerKilled,
    /// Redis loses everything.
    RedisFlushed,
    /// SIGKILL of Redis.
    RedisKilled,
    /// Redis answers nobody for a while.
    RedisStalled,
    /// SIGKILL of Postgres.
    PostgresKilled,
}

impl Fault {
    /// Its name on the command line and in the report.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Which faults may happen: `all`, `none`, or a list.
pub(super) fn parse(text: &str) -> Result<Vec<Fault>, String> {
    match text {
        "all" => Ok(Fault::value_variants().to_vec()),
        "none" => Ok(Vec::new()),
        list => list.split(',').map(|name| Fault::from_str(name.trim(), true)).collect(),
    }
}

/// What was done so far.
#[derive(Debug, Default)]
pub(super) struct Done(Mutex<Record>);

#[derive(Debug, Default, Clone)]
pub(super) struct Record {
    /// How often, by kind.
    pub(super) counts: BTreeMap<Fault, u64>,
    /// The process numbers of workers that were killed.
    pub(super) killed: BTreeSet<u32>,
    /// Processes that ended by themselves and were started again.
    pub(super) ended_alone: usize,
    /// Workers that did not end in order when they were asked to.
    pub(super) disorderly: u64,
    /// The longest time from a kill of the server or of its database until it was ready for requests.
    pub(super) longest_outage: Duration,
}

impl Done {
    pub(super) fn look(&self) -> Record {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, change: impl FnOnce(&mut Record)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Breaks one thing after another until it is calm, then leaves everything running.
pub(super) async fn make(
    site: &mut Installation,
    http: &reqwest::Client,
    (kinds, seed): (&[Fault], u64),
    calm_at: Instant,
    done: &Done,
) -> anyhow::Result<()> {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut last_kill: Option<Instant> = None;
    loop {
        let pause = Duration::from_millis(dice.random_range(1_000..5_000));
        let next = Instant::now() + pause;
        sleep_until(next.min(calm_at)).await;
        if next >= calm_at || kinds.is_empty() {
            sleep_until(calm_at).await;
            break;
        }
        let Some(&fault) = kinds.get(dice.random_range(0..kinds.len())) else { continue };
        if fault == Fault::WorkerKilled {
            if last_kill.is_some_and(|last| last.elapsed() < BETWEEN_KILLS) {
                continue;
            }
            last_kill = Some(Instant::now());
        }
        let begun = Instant::now();
        one(site, fault, &mut dice, done).await?;
        site.ready(http).await?;
        let outage = begun.elapsed();
        let ended_alone = site.revive().await?;
        done.note(|record| {
            *record.counts.entry(fault).or_default() += 1;
            if matches!(fault, Fault::ServerKilled | Fault::PostgresKilled) {
                record.longest_outage = record.longest_outage.max(outage);
            }
            record.ended_alone += ended_alone;
        });
    }
    while site.workers.len() < 2 {
        site.work().await?;
    }
    Ok(())
}

/// Takes one of the workers out.
fn some_worker(site: &mut Installation, dice: &mut StdRng) -> Option<Process> {
    let count = site.workers.len();
    (count > 0).then(|| site.workers.swap_remove(dice.random_range(0..count)))
}

async fn one(site: &mut Installation, fault: Fault, dice: &mut StdRng, done: &Done) -> anyhow::Result<()> {
    let lasts = Duration::from_millis(dice.random_range(200..4_000));
    match fault {
        Fault::WorkerKilled => {
            if let Some(worker) = some_worker(site, dice) {
                done.note(|record| {
                    record.killed.insert(worker.pid);
                });
                worker.kill_nine().await;
            }
            // sometimes nobody is left for a while
            sleep(lasts).await;
            site.work().await?;
        }
        Fault::WorkerStopped => {
            if let Some(worker) = some_worker(site, dice)
                && !worker.terminate(Duration::from_secs(30)).await
            {
                done.note(|record| record.disorderly += 1);
            }
            site.work().await?;
        }
        Fault::WorkerAdded if site.workers.len() < MOST_WORKERS => site.work().await?,
        Fault::WorkerAdded => {}
        Fault::ServerKilled => {
            if let Some(server) = site.server.take() {
                server.kill_nine().await;
            }
            sleep(lasts / 4).await;
            site.restart_server().await?;
        }
        Fault::RedisFlushed => site.redis.flush().await?,
        Fault::RedisKilled => {
            site.redis.kill_nine().await;
            sleep(lasts).await;
            site.redis.start_again().await?;
        }
        Fault::RedisStalled => site.redis.stall(lasts).await,
        Fault::PostgresKilled => {
            site.postgres.kill_nine().await?;
            sleep(lasts / 4).await;
            site.postgres.start_again().await?;
        }
    }
    Ok(())
}
