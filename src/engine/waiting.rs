//! Why a task, or a mission, does not go on: the domain's cause with the facts that no row says, counted when asked.
//!
//! Only reads. Places are true for one moment and say so: tenants are served in turn, so that a place among one's own
//! tasks is no promise of a time.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bursar_domain::id::TaskId;
use bursar_domain::state::{RunState, TaskState};
use bursar_domain::time::Timestamp;
use bursar_domain::waiting::{Cause, Listeners, Stance, cause};

use super::Engine;
use crate::store::read::{BlockerRow, LinePlace, MOST_COUNTED, MissionView, TaskView, WaiterRow};
use crate::store::{StoreError, WorkerRow};

/// A worker that was not heard of for so long is silent: three of its heartbeats.
pub const SILENT_MS: i64 = 15_000;

/// Why a task does not run.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// The cause.
    pub cause: Cause,
    /// In words, for people; names stand in backticks.
    pub reason: String,
    /// Since when, as far as its row says.
    pub since: Timestamp,
    /// When the wait is over at the latest, where that is known.
    pub until: Option<Timestamp>,
    /// Its place in the line, from 1.
    pub position: Option<i64>,
    /// How many stand before it; [`MOST_COUNTED`] means as many or more.
    pub ahead: Option<i64>,
    /// The first few of the tasks that it waits for.
    pub blocked_by: Vec<Blocker>,
    /// How many there are of these.
    pub blockers: i64,
}

/// A task that another one waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// The task.
    pub id: TaskId,
    /// Its node.
    pub node: String,
    /// Where it stands.
    pub state: TaskState,
}

/// Tasks of a mission that wait for the same.
#[derive(Debug, Clone)]
pub struct WaitingGroup {
    /// How many.
    pub tasks: i64,
    /// The one that waits for longest.
    pub longest: TaskView,
    /// Why that one waits.
    pub waiting: Waiting,
}

/// What a mission waits for.
#[derive(Debug, Clone)]
pub struct WaitingMission {
    /// Tasks that run now.
    pub running: i64,
    /// What the others wait for, the longest waiting first.
    pub groups: Vec<WaitingGroup>,
}

/// Who takes tasks of which pool, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Workers(BTreeMap<String, Takers>);

#[derive(Debug, Clone, Copy, Default)]
struct Takers {
    workers: i64,
    slots: i64,
    draining: i64,
}

impl Workers {
    fn of(rows: &[WorkerRow], now: Timestamp) -> Self {
        let mut pools: BTreeMap<String, Takers> = BTreeMap::new();
        for row in rows.iter().filter(|row| now.since_ms(row.seen_at) <= SILENT_MS) {
            for (pool, slots) in row.pools.as_object().into_iter().flatten() {
                let takers = pools.entry(pool.clone()).or_default();
                if row.draining {
                    takers.draining += 1;
                } else {
                    takers.workers += 1;
                    takers.slots = takers.slots.saturating_add(slots.as_i64().unwrap_or_default());
                }
            }
        }
        Self(pools)
    }

    fn listeners(&self, pool: &str) -> Listeners {
        match self.0.get(pool) {
            Some(takers) if takers.workers > 0 => Listeners::Some,
            Some(takers) if takers.draining > 0 => Listeners::Draining,
            _ => Listeners::None,
        }
    }

    /// Why a task of a run in that state does not run, by what its row says; `None` when it runs or is over.
    pub fn why(&self, run: RunState, task: &TaskView) -> Option<Waiting> {
        let listeners = self.listeners(&task.pool);
        let cause = cause(Stance {
            run,
            task: task.state,
            wait: task.wait,
            has_needs: task.remaining_needs > 0,
            is_kept_back: task.held_since.is_some(),
            listeners,
        })?;
        let said = task.status_reason.clone().unwrap_or_else(|| cause.words().to_owned());
        let reason = match (cause, listeners) {
            (Cause::NoWorker, Listeners::Draining) => {
                format!("ready, and the only workers of pool `{}` are draining and take nothing new", task.pool)
            }
            (Cause::NoWorker, _) => format!("ready, and no worker listens to pool `{}`", task.pool),
            (Cause::Turn | Cause::Paused | Cause::Ending, _) => cause.words().to_owned(),
            _ => said,
        };
        let begun = task.held_since.or(task.ready_at).unwrap_or(task.created_at);
        let since = if task.state == TaskState::Pending { task.created_at } else { begun };
        let until = if cause == Cause::Ending { None } else { task.due_at };
        Some(Waiting { cause, reason, since, until, position: None, ahead: None, blocked_by: Vec::new(), blockers: 0 })
    }
}

impl Waiting {
    fn place(&mut self, place: LinePlace) {
        self.ahead = Some(place.ahead);
        self.position = Some(place.ahead.saturating_add(1));
    }

    fn blockers(&mut self, rows: Vec<BlockerRow>) {
        self.blockers = rows.first().map_or(0, |row| row.total).max(rows.len() as i64);
        self.blocked_by =
            rows.into_iter().map(|row| Blocker { id: row.id, node: row.node, state: row.state }).collect();
    }
}

/// A count as people read it.
fn counted(count: i64) -> String {
    if count >= MOST_COUNTED { format!("{MOST_COUNTED} or more") } else { count.to_string() }
}

/// The names of the blockers, and how many more there are.
fn names(waiting: &Waiting) -> String {
    let mut text = String::new();
    for (place, blocker) in waiting.blocked_by.iter().enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        let _ = write!(text, "{comma}`{}` ({})", blocker.node, blocker.state.as_str());
    }
    let more = waiting.blockers.saturating_sub(waiting.blocked_by.len() as i64);
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    text
}

impl Engine {
    /// Who takes tasks of which pool now; only looked up when one of the tasks is ready.
    pub async fn workers_for(&self, tasks: &[TaskView]) -> Result<Workers, StoreError> {
        if tasks.iter().all(|task| task.state != TaskState::Ready) {
            return Ok(Workers::default());
        }
        let now = self.clock().now();
        Ok(Workers::of(&self.store().workers(now.plus_ms(-SILENT_MS)).await?, now))
    }

    /// Why a task of a run in that state does not run, with its place and what it waits for.
    pub async fn why(&self, run: RunState, task: &TaskView) -> Result<Option<Waiting>, StoreError> {
        let workers = self.workers_for(std::slice::from_ref(task)).await?;
        let Some(mut waiting) = workers.why(run, task) else { return Ok(None) };
        let Some(row) = self.store().waiter(task.id).await? else { return Ok(Some(waiting)) };
        match waiting.cause {
            Cause::Worker | Cause::NoWorker => self.place_for_worker(&mut waiting, task, &row, &workers).await?,
            Cause::Concurrency => self.place_for_key(&mut waiting, task, &row).await?,
            Cause::Credits => self.place_for_credits(&mut waiting, task, &row).await?,
            Cause::Needs => self.needs_of(&mut waiting, task, &row).await?,
            Cause::Children => {
                waiting.blockers(self.store().open_children(task.id).await?);
                let open = task.fan.as_ref().map_or(0, |fan| i64::from(fan.open()));
                waiting.blockers = waiting.blockers.max(open);
            }
            _ => {}
        }
        Ok(Some(waiting))
    }

    /// Why a mission does not go on, or what of it does not.
    pub async fn why_mission(&self, mission: &MissionView) -> Result<WaitingMission, StoreError> {
        let mut why = WaitingMission { running: 0, groups: Vec::new() };
        for row in self.store().standing(mission.id, mission.run_id).await? {
            if row.state == TaskState::Running {
                why.running = why.running.saturating_add(row.tasks);
                continue;
            }
            // it may have gone on meanwhile
            let Some(longest) = self.store().task(Some(mission.tenant_id), row.id).await? else { continue };
            let Some(waiting) = self.why(mission.state, &longest).await? else { continue };
            why.groups.push(WaitingGroup { tasks: row.tasks, longest, waiting });
        }
        Ok(why)
    }

    async fn place_for_worker(
        &self,
        waiting: &mut Waiting,
        task: &TaskView,
        row: &WaiterRow,
        workers: &Workers,
    ) -> Result<(), StoreError> {
        let since = task.ready_at.unwrap_or(task.created_at);
        let line = (row.priority, since, task.id);
        let place = self.store().place_among_ready(task.tenant_id, &task.pool, line).await?;
        waiting.place(place);
        let own = format!(
            "place {} among your {} ready tasks of pool `{}`",
            counted(place.ahead.saturating_add(1)),
            counted(place.total.max(1)),
            task.pool
        );
        if waiting.cause == Cause::NoWorker {
            let _ = write!(waiting.reason, "; {own}");
            return Ok(());
        }
        let tenants = self.store().ready_tenants(&task.pool).await?.len();
        let running = self.store().running_in_pool(&task.pool).await?;
        let slots = workers.0.get(&task.pool).map_or(0, |takers| takers.slots);
        let shared = match tenants {
            0 | 1 => String::new(),
            many => format!(", which {many} tenants share in turn"),
        };
        let line = format!("{own}{shared}; {running} of {slots} slots are busy");
        // why it is ready again, where that was not to be expected
        let told = std::mem::take(&mut waiting.reason);
        waiting.reason = if told.starts_with("ready,") { line } else { format!("{told}; {line}") };
        Ok(())
    }

    async fn place_for_key(&self, waiting: &mut Waiting, task: &TaskView, row: &WaiterRow) -> Result<(), StoreError> {
        let Some(key) = &row.concurrency_key else { return Ok(()) };
        let line = (row.priority, task.ready_at.unwrap_or(task.created_at), task.id);
        let place = self.store().place_for_key(task.tenant_id, key, line).await?;
        waiting.place(place);
        waiting.blockers(self.store().holders_of_key(task.tenant_id, key, self.clock().now()).await?);
        let (position, running) = (counted(place.ahead.saturating_add(1)), waiting.blockers);
        waiting.reason = format!("place {position} in line for concurrency key `{key}`, with which {running} run now");
        Ok(())
    }

    async fn place_for_credits(
        &self,
        waiting: &mut Waiting,
        task: &TaskView,
        row: &WaiterRow,
    ) -> Result<(), StoreError> {
        let since = task.ready_at.unwrap_or(task.created_at);
        let place = self.store().place_for_credits(row.wallet_id, (since, task.id)).await?;
        waiting.place(place);
        let _ = write!(waiting.reason, "; place {} among", counted(place.ahead.saturating_add(1)));
        let _ = write!(waiting.reason, " the {} tasks of its wallet that wait for credits", counted(place.total));
        if let Some(purse) = self.store().purse(row.wallet_id).await? {
            let _ = match (purse.frozen, purse.debt_ucr.is_positive()) {
                (true, _) => write!(waiting.reason, "; the wallet is frozen"),
                (_, true) => write!(waiting.reason, "; the wallet owes {} credits", purse.debt_ucr),
                _ => write!(waiting.reason, "; {} credits are available now", purse.available_ucr),
            };
        }
        Ok(())
    }

    async fn needs_of(&self, waiting: &mut Waiting, task: &TaskView, row: &WaiterRow) -> Result<(), StoreError> {
        // one of many waits for others of its family, which its row does not name
        if row.layer > 0 {
            return Ok(());
        }
        let Some(definition) = self.definition(row.workflow_id).await? else { return Ok(()) };
        let Some(node) = definition.node(row.node_at) else { return Ok(()) };
        let numbers: Vec<i64> = node.needs.iter().map(|index| row.base.saturating_add(i64::from(*index))).collect();
        waiting.blockers(self.store().open_of_run(task.run_id, &numbers).await?);
        if !waiting.blocked_by.is_empty() {
            waiting.reason = format!("needs {}", names(waiting));
        }
        Ok(())
    }
}
