//! Tenants by their shares: one pool's ready tasks in memory.
//!
//! The same order as the Redis script gives (pop.lua): next is the tenant with the least running beside its weight, among
//! equals the one whose turn it is; each tenant's tasks go by age and priority. Only hints: what is wrong here costs
//! order, never work.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use bursar_domain::id::{TaskId, TenantId};

use super::{Known, LOOK, MOST_TENANTS, POPPED_MS, Question, QueueLook, ReadyTask, step_of};

/// The ready tasks of one pool, and what its tenants have running.
#[derive(Debug, Default)]
pub(super) struct Ring {
    /// Who waits, by turn.
    turns: BTreeSet<(i64, TenantId)>,
    tenants: BTreeMap<TenantId, Tenant>,
    /// What waits.
    known: HashMap<TaskId, TenantId>,
    /// The turn served last.
    reached: i64,
}

#[derive(Debug)]
struct Tenant {
    queue: BTreeSet<(i64, TaskId)>,
    turn: i64,
    weight: u16,
    /// Until when, in ms of the ring's clock, each task runs that nobody says has ended.
    running: HashMap<TaskId, i64>,
    /// Running tasks that are known by their number alone.
    elsewhere: u64,
}

impl Default for Tenant {
    fn default() -> Self {
        Self { queue: BTreeSet::new(), turn: 0, weight: 1, running: HashMap::new(), elsewhere: 0 }
    }
}

/// One who stands in line for this pop.
struct Standing {
    tenant: TenantId,
    turn: i64,
    load: u64,
    weight: u16,
    waiting: usize,
}

impl Standing {
    fn order(&self, other: &Self) -> Ordering {
        let left = self.load.saturating_mul(other.weight.into());
        let right = other.load.saturating_mul(self.weight.into());
        left.cmp(&right).then(self.turn.cmp(&other.turn)).then(self.tenant.cmp(&other.tenant))
    }
}

impl Ring {
    /// Adds a task; whether it was new.
    pub(super) fn push(&mut self, task: &ReadyTask) -> bool {
        let tenant = self.tenants.entry(task.tenant_id).or_default();
        tenant.weight = task.weight.max(1);
        if self.known.contains_key(&task.task_id) {
            return false;
        }
        self.known.insert(task.task_id, task.tenant_id);
        if tenant.queue.is_empty() {
            // behind those who wait: were it served next, one whose tasks come one after the other would starve them
            tenant.turn = self.reached.saturating_add(step_of(tenant.weight));
            self.turns.insert((tenant.turn, task.tenant_id));
        }
        tenant.queue.insert((task.score(), task.task_id))
    }

    /// Takes at most `most` tasks at `now_ms` of the ring's clock.
    pub(super) fn pop(&mut self, most: usize, now_ms: i64) -> Vec<TaskId> {
        let mut line: Vec<Standing> = Vec::new();
        for (turn, id) in self.turns.iter().take(LOOK) {
            let Some(tenant) = self.tenants.get_mut(id) else { continue };
            tenant.running.retain(|_, until| *until > now_ms);
            let load = (tenant.running.len() as u64).saturating_add(tenant.elsewhere);
            let (waiting, weight) = (tenant.queue.len(), tenant.weight);
            line.push(Standing { tenant: *id, turn: *turn, load, weight, waiting });
        }
        let mut taken = Vec::new();
        while taken.len() < most {
            let in_line = line.iter_mut().filter(|one| one.waiting > 0);
            let Some(next) = in_line.min_by(|one, other| one.order(other)) else { break };
            let Some(tenant) = self.tenants.get_mut(&next.tenant) else { break };
            let Some((_, task)) = tenant.queue.pop_first() else { break };
            self.known.remove(&task);
            tenant.running.insert(task, now_ms.saturating_add(POPPED_MS));
            taken.push(task);
            self.reached = self.reached.max(next.turn);
            self.turns.remove(&(next.turn, next.tenant));
            next.load = next.load.saturating_add(1);
            next.waiting = next.waiting.saturating_sub(1);
            next.turn = next.turn.saturating_add(step_of(next.weight));
            tenant.turn = next.turn;
            if next.waiting > 0 {
                self.turns.insert((next.turn, next.tenant));
            }
        }
        taken
    }

    /// Takes note that a task runs, until `until_ms` of the ring's clock.
    pub(super) fn begin(&mut self, tenant: TenantId, task: TaskId, until_ms: i64) {
        self.tenants.entry(tenant).or_default().running.insert(task, until_ms);
    }

    /// Prolongs what is known to run.
    pub(super) fn renew(&mut self, tenant: TenantId, task: TaskId, until_ms: i64) {
        if let Some(until) = self.tenants.get_mut(&tenant).and_then(|tenant| tenant.running.get_mut(&task)) {
            *until = until_ms;
        }
    }

    /// Takes note that a task runs no more.
    pub(super) fn end(&mut self, tenant_id: TenantId, task: TaskId) {
        if let Some(tenant) = self.tenants.get_mut(&tenant_id) {
            tenant.running.remove(&task);
            // whoever has nothing here is forgotten: memory does not grow with tenants that were
            if tenant.running.is_empty() && tenant.queue.is_empty() {
                self.tenants.remove(&tenant_id);
            }
        }
    }

    /// Sets a tenant's weight.
    pub(super) fn weigh(&mut self, tenant: TenantId, weight: u16) {
        if let Some(tenant) = self.tenants.get_mut(&tenant) {
            tenant.weight = weight.max(1);
        }
    }

    /// Forgets everything but whose turn it is, and learns anew what waits and how much runs.
    pub(super) fn learn(&mut self, ready: &[ReadyTask], running: &[(TenantId, u64)]) {
        self.known.clear();
        let turns = std::mem::take(&mut self.turns);
        self.tenants.clear();
        for task in ready {
            self.push(task);
        }
        for (turn, id) in turns {
            // who waited already keeps its turn
            if let Some(tenant) = self.tenants.get_mut(&id) {
                self.turns.remove(&(tenant.turn, id));
                tenant.turn = turn;
                self.turns.insert((turn, id));
            }
        }
        for (id, count) in running {
            if let Some(tenant) = self.tenants.get_mut(id) {
                tenant.elsewhere = *count;
            }
        }
    }

    /// What is known at `now_ms` of the ring's clock. What was popped counts as running until it is claimed or given up.
    pub(super) fn look(&self, question: &Question<'_>, now_ms: i64) -> QueueLook {
        let runs = |id: &TaskId, until: &i64| (*until > now_ms).then(|| id.to_string());
        let tenants = || self.tenants.values().take(MOST_TENANTS);
        let running = || tenants().flat_map(|tenant| tenant.running.iter()).filter_map(|(id, until)| runs(id, until));
        let is_known = |tenant: &TenantId, task: &TaskId| {
            let until = self.tenants.get(tenant).and_then(|tenant| tenant.running.get(task));
            self.known.contains_key(task) || until.is_some_and(|until| *until > now_ms)
        };
        let waiting = tenants().flat_map(|tenant| tenant.queue.iter()).map(|(_, id)| id.to_string());
        let unknown = question.ready.iter().filter(|(tenant, task)| !is_known(tenant, task));
        QueueLook {
            stands: true,
            waiting: Known { count: self.known.len() as u64, ids: waiting.take(question.most).collect() },
            popped: Known::default(),
            running: Known { count: running().count() as u64, ids: running().take(question.most).collect() },
            unknown: unknown.map(|(_, task)| *task).collect(),
        }
    }

    /// How many tasks wait.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bursar_domain::time::Timestamp;
    use uuid::Uuid;

    fn task(tenant: u128, number: u128, priority: i16) -> ReadyTask {
        ReadyTask {
            task_id: TaskId::from_uuid(Uuid::from_u128(number)),
            tenant_id: TenantId::from_uuid(Uuid::from_u128(tenant)),
            weight: 1,
            pool: "agent".to_owned(),
            priority,
            ready_at: Timestamp::from_ms(1_000 + number as i64),
        }
    }

    fn numbers(tasks: &[TaskId]) -> Vec<u128> {
        tasks.iter().map(|id| id.uuid().as_u128()).collect()
    }

    #[test]
    fn a_flood_of_one_tenant_does_not_delay_another() {
        let mut ring = Ring::default();
        for number in 0..1_000 {
            ring.push(&task(1, number, 0));
        }
        ring.push(&task(2, 5_000, 0));
        assert!(numbers(&ring.pop(4, 0)).contains(&5_000));
    }

    #[test]
    fn within_a_tenant_priority_goes_before_age() {
        let mut ring = Ring::default();
        ring.push(&task(1, 10, 0));
        ring.push(&task(1, 11, 5));
        ring.push(&task(1, 9, 0));
        assert_eq!(numbers(&ring.pop(3, 0)), [11, 9, 10]);
    }

    #[test]
    fn pushing_twice_is_harmless() {
        let mut ring = Ring::default();
        assert!(ring.push(&task(1, 1, 0)));
        assert!(!ring.push(&task(1, 1, 0)));
        assert_eq!(ring.len(), 1);
        assert_eq!(ring.pop(8, 0).len(), 1);
        assert_eq!(ring.len(), 0);
    }
}
