//! Links nodes by what they need: numbers them, mirrors needs as dependents, finds cycles.
//!
//! Works on positions in a list; knows nothing about keys, templates or what nodes do.

use std::collections::BTreeSet;

/// A graph of nodes without cycles. All lists are by position in the list that was given.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Graph {
    /// Positions in an order in which the nodes could run; by rank among equals.
    pub(super) order: Vec<usize>,
    /// For each position, the set of its ancestors.
    pub(super) ancestors: Vec<Set>,
}

/// A set of positions, as bits: ancestor sets of a thousand nodes with many needs stay cheap to join.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Set(Vec<u64>);

impl Set {
    /// Whether the position is in the set.
    pub(super) fn has(&self, position: usize) -> bool {
        let word = self.0.get(position >> 6).copied().unwrap_or_default();
        word & bit(position) != 0
    }

    fn add(&mut self, position: usize) {
        let words = (position >> 6).saturating_add(1);
        if self.0.len() < words {
            self.0.resize(words, 0);
        }
        if let Some(word) = self.0.get_mut(position >> 6) {
            *word |= bit(position);
        }
    }

    fn join(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(word, more)| *word |= more);
    }
}

fn bit(position: usize) -> u64 {
    1_u64.rotate_left(u32::try_from(position & 63).unwrap_or_default())
}

/// Orders the nodes. `needs` holds, for each node, the positions it needs; `rank` decides between nodes that could
/// run at the same time. Errors: the cycles, each as the positions on it, every one needing the next.
pub(super) fn link(needs: &[Vec<usize>], rank: &[usize]) -> Result<Graph, Vec<Vec<usize>>> {
    let order = order(needs, rank);
    if order.len() < needs.len() {
        return Err(cycles(needs, &order));
    }
    let mut ancestors = vec![Set::default(); needs.len()];
    for position in &order {
        let mut own = Set::default();
        for need in needs.get(*position).into_iter().flatten() {
            own.add(*need);
            if let Some(further) = ancestors.get(*need) {
                own.join(further);
            }
        }
        if let Some(place) = ancestors.get_mut(*position) {
            *place = own;
        }
    }
    Ok(Graph { order, ancestors })
}

/// For each position, the positions that need it.
pub(super) fn dependents(needs: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut dependents = vec![Vec::new(); needs.len()];
    for (position, own) in needs.iter().enumerate() {
        for need in own {
            if let Some(list) = dependents.get_mut(*need) {
                list.push(position);
            }
        }
    }
    dependents
}

/// Kahn's algorithm; leaves out the nodes on cycles and what depends on them.
fn order(needs: &[Vec<usize>], rank: &[usize]) -> Vec<usize> {
    let dependents = dependents(needs);
    let ranked = |position: usize| (rank.get(position).copied().unwrap_or(position), position);
    let mut waiting: Vec<usize> = needs.iter().map(Vec::len).collect();
    let free = waiting.iter().enumerate().filter(|(_, open)| **open == 0);
    let mut ready: BTreeSet<(usize, usize)> = free.map(|(position, _)| ranked(position)).collect();
    let mut order = Vec::with_capacity(needs.len());
    while let Some((_, position)) = ready.pop_first() {
        order.push(position);
        for dependent in dependents.get(position).into_iter().flatten() {
            if let Some(open) = waiting.get_mut(*dependent) {
                *open = open.saturating_sub(1);
                if *open == 0 {
                    ready.insert(ranked(*dependent));
                }
            }
        }
    }
    order
}

/// Cycles that have no node in common: at least one, when nodes are left over.
fn cycles(needs: &[Vec<usize>], ordered: &[usize]) -> Vec<Vec<usize>> {
    let ordered: BTreeSet<usize> = ordered.iter().copied().collect();
    let mut left: BTreeSet<usize> = (0..needs.len()).filter(|position| !ordered.contains(position)).collect();
    let mut found = Vec::new();
    while let Some(start) = left.first().copied() {
        // Walk along needs that are left until the walk meets itself. Where it cannot go on (behind a cycle that
        // was taken out), it takes the dead end out and steps back.
        let mut path = vec![start];
        while let Some(at) = path.last().copied() {
            let next = needs.get(at).into_iter().flatten().find(|need| left.contains(need)).copied();
            let Some(next) = next else {
                left.remove(&at);
                path.pop();
                continue;
            };
            if let Some(begin) = path.iter().position(|seen| *seen == next) {
                let cycle: Vec<usize> = path.split_off(begin);
                left.retain(|position| !cycle.contains(position));
                found.push(cycle);
                break;
            }
            path.push(next);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn link_in_order(needs: &[Vec<usize>]) -> Result<Graph, Vec<Vec<usize>>> {
        link(needs, &(0..needs.len()).collect::<Vec<_>>())
    }

    #[test]
    fn nodes_are_ordered_by_need_then_by_rank() {
        // 0 needs 1 and 2; 3 stands alone; the ranks turn 2 before 1.
        let needs = [vec![1, 2], vec![], vec![], vec![]];
        assert_eq!(link(&needs, &[0, 3, 2, 1]).unwrap().order, [3, 2, 1, 0]);
    }

    #[test]
    fn ancestors_reach_to_the_beginning() {
        let chain: Vec<Vec<usize>> =
            (0..200_usize).map(|position| position.checked_sub(1).into_iter().collect()).collect();
        let graph = link_in_order(&chain).unwrap();
        assert!((0..199).all(|position| graph.ancestors[199].has(position)));
        assert!(!graph.ancestors[199].has(199));
        assert!(!graph.ancestors[3].has(64));
    }

    #[test]
    fn each_cycle_is_found_once_and_what_hangs_on_it_is_not_blamed() {
        // 0 hangs on the circle 1 → 2 → 1; 3 → 4 → 5 → 3 is another; 6 needs itself.
        let needs = [vec![1], vec![2], vec![1], vec![4], vec![5], vec![3], vec![6]];
        assert_eq!(link_in_order(&needs), Err(vec![vec![1, 2], vec![3, 4, 5], vec![6]]));
    }
}
