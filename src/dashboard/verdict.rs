//! What is wrong right now, in one sentence each, with the reason: judged from queues, workers and wallets.
//!
//! Pure: it is given what the overview shows and looks nothing up.

use std::collections::BTreeMap;

use bursar_domain::credits::Ucr;
use bursar_domain::time::Timestamp;

use super::show;
pub(super) use crate::engine::SILENT_MS;
use crate::store::WorkerRow;
use crate::store::read::PoolView;

/// A ready task that waits so long deserves a word.
const LONG_WAIT_MS: i64 = 30_000;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// All is well.
    Fine,
    /// Good to know.
    Note,
    /// Somebody should look at it.
    Warning,
    /// Work stands still.
    Bad,
}

/// One sentence about the system; names stand in backticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) level: Level,
    pub(super) text: String,
}

/// A pool with those who work for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PoolLoad {
    pub(super) ready: i64,
    pub(super) running: i64,
    pub(super) waiting: i64,
    /// How long the oldest ready task is ready.
    pub(super) oldest_ms: Option<i64>,
    /// Live workers that take its tasks.
    pub(super) workers: i64,
    /// Live workers that listen to it but take nothing new.
    pub(super) draining: i64,
    /// Slots of those that take its tasks.
    pub(super) slots: i64,
}

/// What wallets hold, of one tenant or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Money {
    pub(super) available: Ucr,
    pub(super) held: Ucr,
    pub(super) debt: Ucr,
    pub(super) frozen: bool,
}

/// Whether the worker was heard of lately.
pub(super) fn is_live(worker: &WorkerRow, now: Timestamp) -> bool {
    now.since_ms(worker.seen_at) <= SILENT_MS
}

/// The slots of a worker by pool.
pub(super) fn slots_of(worker: &WorkerRow) -> impl Iterator<Item = (&str, i64)> {
    let pools = worker.pools.as_object().into_iter().flatten();
    pools.map(|(pool, slots)| (pool.as_str(), slots.as_i64().unwrap_or_default()))
}

/// Every pool that has tasks or workers.
pub(super) fn loads(pools: &[PoolView], workers: &[WorkerRow], now: Timestamp) -> BTreeMap<String, PoolLoad> {
    let mut loads: BTreeMap<String, PoolLoad> = BTreeMap::new();
    for pool in pools {
        let load = PoolLoad {
            ready: pool.ready,
            running: pool.running,
            waiting: pool.waiting,
            oldest_ms: pool.oldest_ready_at.map(|since| now.since_ms(since).max(0)),
            ..PoolLoad::default()
        };
        loads.insert(pool.pool.clone(), load);
    }
    for worker in workers.iter().filter(|worker| is_live(worker, now)) {
        for (pool, slots) in slots_of(worker) {
            let load = loads.entry(pool.to_owned()).or_default();
            if worker.draining {
                load.draining += 1;
            } else {
                load.workers += 1;
                load.slots = load.slots.saturating_add(slots);
            }
        }
    }
    loads
}

/// What to say about a pool.
fn of_pool(name: &str, load: &PoolLoad) -> Option<Verdict> {
    let waiting = show::number(load.ready);
    let oldest = load.oldest_ms.unwrap_or_default();
    let waits = show::duration(oldest);
    let (level, text) = if load.ready == 0 {
        return None;
    } else if load.workers == 0 && load.draining > 0 {
        (Level::Bad, format!("{waiting} waiting for `{name}`, whose only workers are draining and take nothing new"))
    } else if load.workers == 0 {
        (Level::Bad, format!("{waiting} waiting, no worker listens to `{name}`"))
    } else if load.running >= load.slots {
        let level = if oldest >= LONG_WAIT_MS { Level::Warning } else { Level::Note };
        let slots = show::number(load.slots);
        (level, format!("{waiting} waiting for `{name}`: all {slots} slots are busy; the oldest waits {waits}"))
    } else if oldest >= LONG_WAIT_MS {
        (Level::Warning, format!("{waiting} waiting for `{name}` although slots are free; the oldest waits {waits}"))
    } else {
        return None;
    };
    Some(Verdict { level, text })
}

/// Everything there is to say about pools and workers, the worst first.
pub(super) fn of_system(loads: &BTreeMap<String, PoolLoad>, workers: &[WorkerRow], now: Timestamp) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> = loads.iter().filter_map(|(name, load)| of_pool(name, load)).collect();
    for worker in workers.iter().filter(|worker| !is_live(worker, now)) {
        let since = show::duration(now.since_ms(worker.seen_at));
        let text = format!("the worker on `{}` was not heard of for {since}; its tasks go to others", worker.host);
        verdicts.push(Verdict { level: Level::Warning, text });
    }
    if workers.is_empty() && verdicts.is_empty() {
        verdicts.push(Verdict { level: Level::Note, text: "no worker is running: new missions will wait".to_owned() });
    }
    verdicts
}

/// What to say about wallets; `whose` begins the sentence.
pub(super) fn of_money(money: &Money, whose: &str) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    if money.debt.is_positive() {
        let text = format!("{whose} {} credits in debt; what comes in repays that first", show::credits(money.debt));
        verdicts.push(Verdict { level: Level::Warning, text });
    }
    if money.frozen {
        let text = format!("{whose} frozen: nothing new is started");
        verdicts.push(Verdict { level: Level::Bad, text });
    } else if !money.available.is_positive() && money.debt.is_zero() {
        let text = format!("{whose} out of credits: what costs something waits or is refused");
        verdicts.push(Verdict { level: Level::Warning, text });
    }
    verdicts
}

/// Puts the worst first; says so when there is nothing to say.
pub(super) fn ranked(mut verdicts: Vec<Verdict>) -> Vec<Verdict> {
    verdicts.sort_by_key(|verdict| std::cmp::Reverse(verdict.level));
    if verdicts.is_empty() {
        verdicts
            .push(Verdict { level: Level::Fine, text: "All is well: nothing waits longer than it should.".to_owned() });
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::new_id;

    const NOW: Timestamp = Timestamp::from_ms(1_000_000);

    fn pool(name: &str, ready: i64, running: i64, oldest_ms: i64) -> PoolView {
        let oldest_ready_at = (ready > 0).then(|| NOW.plus_ms(-oldest_ms));
        PoolView { pool: name.to_owned(), ready, running, waiting: 0, oldest_ready_at }
    }

    fn worker(pools: serde_json::Value, draining: bool, seen_ms_ago: i64) -> WorkerRow {
        WorkerRow {
            id: new_id(),
            host: "box-1".to_owned(),
            pid: 1,
            pools,
            running: 0,
            version: "0".to_owned(),
            draining,
            started_at: NOW,
            seen_at: NOW.plus_ms(-seen_ms_ago),
        }
    }

    fn said(pools: &[PoolView], workers: &[WorkerRow]) -> Vec<(Level, String)> {
        let verdicts = of_system(&loads(pools, workers, NOW), workers, NOW);
        ranked(verdicts).into_iter().map(|verdict| (verdict.level, verdict.text)).collect()
    }

    #[test]
    fn work_that_nobody_listens_to_is_named() {
        let listening = worker(serde_json::json!({"agent": 4}), false, 100);
        assert_eq!(
            said(&[pool("gpu", 12, 0, 5_000)], std::slice::from_ref(&listening)),
            [(Level::Bad, "12 waiting, no worker listens to `gpu`".to_owned())]
        );
        let silent = worker(serde_json::json!({"gpu": 4}), false, SILENT_MS + 1);
        let said = said(&[pool("gpu", 1, 0, 0)], &[listening, silent]);
        assert_eq!(said[0].1, "1 waiting, no worker listens to `gpu`");
        assert!(said[1].1.contains("was not heard of for 15.0 s"), "{said:?}");
    }

    #[test]
    fn draining_workers_do_not_count_as_listening() {
        let draining = worker(serde_json::json!({"agent": 4}), true, 100);
        let said = said(&[pool("agent", 3, 1, 0)], &[draining]);
        assert!(said[0].0 == Level::Bad && said[0].1.contains("draining"), "{said:?}");
    }

    #[test]
    fn full_slots_are_a_note_until_the_wait_is_long() {
        let full = [worker(serde_json::json!({"agent": 4}), false, 100)];
        assert_eq!(said(&[pool("agent", 3, 4, 1_000)], &full)[0].0, Level::Note);
        assert_eq!(said(&[pool("agent", 3, 4, LONG_WAIT_MS)], &full)[0].0, Level::Warning);
        assert_eq!(said(&[pool("agent", 3, 1, 1_000)], &full)[0].0, Level::Fine);
        assert!(said(&[pool("agent", 3, 1, LONG_WAIT_MS)], &full)[0].1.contains("although slots are free"));
    }

    #[test]
    fn wallets_in_debt_frozen_or_empty_are_named() {
        let level = |money: Money| of_money(&money, "your wallet is").first().map(|verdict| verdict.level);
        let some = Ucr::from_credits(5);
        assert_eq!(level(Money { available: some, ..Money::default() }), None);
        assert_eq!(level(Money::default()), Some(Level::Warning));
        assert_eq!(level(Money { available: some, frozen: true, ..Money::default() }), Some(Level::Bad));
        let debt = of_money(&Money { debt: some, ..Money::default() }, "your wallet is");
        assert!(debt.len() == 1 && debt[0].text.contains("5.00 credits in debt"), "{debt:?}");
    }
}
