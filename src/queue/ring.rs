//! Tenants in turn: one pool's ready tasks in memory.
//!
//! The same order as the Redis script gives: tenants round robin, each tenant's tasks by priority and age.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bursar_domain::id::{TaskId, TenantId};

use super::ReadyTask;

/// The ready tasks of one pool.
#[derive(Debug, Default)]
pub(super) struct Ring {
    turns: VecDeque<TenantId>,
    queues: BTreeMap<TenantId, BTreeSet<(i64, TaskId)>>,
    known: HashMap<TaskId, (TenantId, i64)>,
}

impl Ring {
    /// Adds a task; whether it was new.
    pub(super) fn push(&mut self, task: &ReadyTask) -> bool {
        if self.known.contains_key(&task.task_id) {
            return false;
        }
        let score = task.score();
        self.known.insert(task.task_id, (task.tenant_id, score));
        let queue = self.queues.entry(task.tenant_id).or_default();
        if queue.is_empty() {
            self.turns.push_back(task.tenant_id);
        }
        queue.insert((score, task.task_id))
    }

    /// Takes at most `most` tasks: of each tenant its share, in turn.
    pub(super) fn pop(&mut self, most: usize) -> Vec<TaskId> {
        let mut taken = Vec::new();
        while taken.len() < most {
            let share = (most - taken.len()).checked_div(self.turns.len()).unwrap_or(0).max(1);
            let Some(tenant) = self.turns.pop_front() else { break };
            let Some(queue) = self.queues.get_mut(&tenant) else { continue };
            for _ in 0..share {
                let Some((_, task)) = queue.pop_first() else { break };
                self.known.remove(&task);
                taken.push(task);
            }
            if queue.is_empty() {
                self.queues.remove(&tenant);
            } else {
                self.turns.push_back(tenant);
            }
        }
        taken
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
        assert!(numbers(&ring.pop(4)).contains(&5_000));
    }

    #[test]
    fn within_a_tenant_priority_goes_before_age() {
        let mut ring = Ring::default();
        ring.push(&task(1, 10, 0));
        ring.push(&task(1, 11, 5));
        ring.push(&task(1, 9, 0));
        assert_eq!(numbers(&ring.pop(3)), [11, 9, 10]);
    }

    #[test]
    fn pushing_twice_is_harmless() {
        let mut ring = Ring::default();
        assert!(ring.push(&task(1, 1, 0)));
        assert!(!ring.push(&task(1, 1, 0)));
        assert_eq!(ring.len(), 1);
        assert_eq!(ring.pop(8).len(), 1);
        assert_eq!(ring.len(), 0);
    }
}
