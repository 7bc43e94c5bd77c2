//! Learn: what settles taught is gathered in memory, folded into the store every few seconds, and read back as part
//! of the facts of later decisions.
//!
//! Never part of a settle's transaction, so that learning costs a task nothing. A crash loses the lessons of some
//! seconds, which only costs precision. What is gathered is bounded by the number of nodes and models, not of tasks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bursar_domain::estimate::{Factor, Learned, NodeCost, NodeKey};
use bursar_domain::flow::Lesson;
use bursar_domain::time::Timestamp;
use tokio::time::MissedTickBehavior;

use super::Engine;
use crate::store::StoreError;

/// How often lessons are folded into the store.
const FOLD_EVERY: Duration = Duration::from_secs(5);
/// After how many folds what all processes learned is read back: every 30 s.
const FOLDS_PER_REFRESH: u32 = 6;
/// Nodes gathered between two folds; lessons of further ones are dropped.
const MOST_NODES: usize = 5_000;
/// Models gathered between two folds; lessons of further ones are dropped.
const MOST_MODELS: usize = 1_000;
/// Nodes read back at once: the ones that learned last.
const MOST_READ: i64 = 20_000;
/// Nodes known at once; above, a refresh starts over with those that learned last.
const MOST_KNOWN: usize = 50_000;
/// How far back a refresh looks beyond the one before it: clocks of processes differ, and a fold takes its time.
const OVERLAP_MS: i64 = 60_000;

/// Lessons that are not in the store yet.
#[derive(Debug, Default)]
pub(super) struct Notebook {
    lessons: Mutex<Lessons>,
    /// One fold at a time: whoever folds last knows that everything before it is in the store.
    folding: tokio::sync::Mutex<()>,
    /// Up to when what is in the store was read.
    read_until: Mutex<Option<Timestamp>>,
}

#[derive(Debug, Default)]
struct Lessons {
    nodes: BTreeMap<NodeKey, NodeCost>,
    models: BTreeMap<(String, String), Factor>,
}

impl Notebook {
    fn add(&self, lesson: &Lesson) {
        let mut lessons = self.lessons.lock().unwrap_or_else(PoisonError::into_inner);
        for call in &lesson.calls {
            let model = (call.provider.clone(), call.model.clone());
            if let Some(factor) = slot(&mut lessons.models, model, MOST_MODELS) {
                factor.add(call.counted_tokens, call.reported_tokens);
            }
        }
        if let Some(node) = &lesson.node
            && let Some(cost) = slot(&mut lessons.nodes, node.key.clone(), MOST_NODES)
        {
            cost.add(node.calls_ucr, node.charged_ucr, node.estimated_ucr);
        }
    }

    fn take(&self) -> Lessons {
        std::mem::take(&mut *self.lessons.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts lessons back that could not be folded.
    fn put_back(&self, earlier: Lessons) {
        let mut lessons = self.lessons.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, cost) in earlier.nodes {
            if let Some(slot) = slot(&mut lessons.nodes, key, MOST_NODES) {
                slot.merge(&cost);
                slot.fade();
            }
        }
        for (model, factor) in earlier.models {
            if let Some(slot) = slot(&mut lessons.models, model, MOST_MODELS) {
                slot.merge(&factor);
                slot.fade();
            }
        }
    }
}

/// The place of a key, a new one only while there is room.
fn slot<K: Ord, V: Default>(places: &mut BTreeMap<K, V>, key: K, most: usize) -> Option<&mut V> {
    let may_grow = places.len() < most;
    match places.entry(key) {
        std::collections::btree_map::Entry::Occupied(place) => Some(place.into_mut()),
        std::collections::btree_map::Entry::Vacant(place) => may_grow.then(|| place.insert(V::default())),
    }
}

impl Engine {
    /// Takes note of what a committed settle taught.
    pub(super) fn note_lesson(&self, lesson: &Lesson) {
        for doubt in &lesson.doubts {
            tracing::warn!(
                call = %doubt.call_id, provider = doubt.provider, model = doubt.model, reported = ?doubt.reported,
                billed = ?doubt.billed, "a usage report is missing or can't be true; the estimate was billed"
            );
            self.metrics().note_doubt(&doubt.model);
        }
        for call in &lesson.calls {
            self.metrics().note_count(&call.model, call.counted_tokens, call.reported_tokens);
        }
        if let Some(node) = &lesson.node {
            self.metrics().note_estimate(&node.model, node.estimated_ucr, node.charged_ucr);
        }
        self.parts.notebook.add(lesson);
    }

    /// Folds the lessons of this process into the store. What could not be folded is kept for the next time.
    pub async fn fold_lessons(&self) -> Result<(), StoreError> {
        let _alone = self.parts.notebook.folding.lock().await;
        let Lessons { nodes, models } = self.parts.notebook.take();
        let now = self.clock().now();
        let folded = self.store().learn_nodes(&nodes, now).await;
        let nodes = if folded.is_ok() { BTreeMap::new() } else { nodes };
        let also_folded = self.store().learn_factors(&models, now).await;
        let models = if also_folded.is_ok() { BTreeMap::new() } else { models };
        self.parts.notebook.put_back(Lessons { nodes, models });
        folded.and(also_folded)
    }

    /// Reads what all processes learned since the last time; decisions see it from now on.
    pub async fn refresh_estimates(&self) -> Result<(), StoreError> {
        let notebook = &self.parts.notebook;
        let known = self.parts.facts.snapshot().learned.clone();
        let goes_on = known.nodes_known() <= MOST_KNOWN;
        let since = notebook.read_until.lock().unwrap_or_else(PoisonError::into_inner).filter(|_| goes_on);
        let since = since.map_or(Timestamp::from_ms(0), |until| until.plus_ms(-OVERLAP_MS));
        let began = self.clock().now();
        let factors = self.store().learned_factors(since, MOST_READ).await?;
        let nodes = self.store().learned_nodes(since, MOST_READ).await?;
        *notebook.read_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(began);
        if factors.is_empty() && nodes.is_empty() {
            return Ok(());
        }
        let mut learned = if goes_on { (*known).clone() } else { Learned::default() };
        for row in &factors {
            learned.know_factor(&row.provider, &row.model, &row.factor);
        }
        for row in &nodes {
            learned.know_node(&row.key, &row.cost);
        }
        self.parts.facts.learn(Arc::new(learned));
        Ok(())
    }

    /// Folds and refreshes for as long as the engine lives.
    pub(super) fn keep_learning(&self) {
        // a weak hold, so that the engine can end
        let parts = Arc::downgrade(&self.parts);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(FOLD_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for tick in (0..FOLDS_PER_REFRESH).cycle() {
                ticks.tick().await;
                let Some(parts) = parts.upgrade() else { return };
                let engine = Self { parts };
                if let Err(error) = engine.fold_lessons().await {
                    tracing::debug!(%error, "what was learned waits for the store");
                }
                if tick == 0
                    && let Err(error) = engine.refresh_estimates().await
                {
                    tracing::debug!(%error, "estimates stay as they are");
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use bursar_domain::credits::Ucr;
    use bursar_domain::flow::{CallLesson, NodeLesson};

    fn lesson(node: usize) -> Lesson {
        let key = NodeKey {
            tenant_id: crate::clock::new_id(),
            price_book_id: crate::clock::new_id(),
            workflow: "w".to_owned(),
            node: node.to_string(),
        };
        let amount = Ucr::new(5);
        let node =
            NodeLesson { key, model: "m".to_owned(), calls_ucr: amount, charged_ucr: amount, estimated_ucr: amount };
        let call = CallLesson {
            provider: "p".to_owned(),
            model: format!("m{}", node.key.node),
            counted_tokens: 3,
            reported_tokens: 4,
        };
        Lesson { calls: vec![call], node: Some(node), doubts: Vec::new() }
    }

    #[test]
    fn a_notebook_does_not_grow_without_end_and_goes_on_with_what_it_has() {
        let notebook = Notebook::default();
        let known = lesson(0);
        notebook.add(&known);
        (1..MOST_NODES + 100).for_each(|node| notebook.add(&lesson(node)));
        notebook.add(&known);
        let lessons = notebook.take();
        assert_eq!((lessons.nodes.len(), lessons.models.len()), (MOST_NODES, MOST_MODELS));
        assert_eq!(lessons.nodes[&known.node.unwrap().key].samples, 2);
    }

    #[test]
    fn what_could_not_be_folded_is_added_to_what_came_meanwhile() {
        let notebook = Notebook::default();
        let known = lesson(0);
        notebook.add(&known);
        let earlier = notebook.take();
        notebook.add(&known);
        notebook.put_back(earlier);
        let lessons = notebook.take();
        assert_eq!(lessons.nodes[&known.node.unwrap().key].samples, 2);
        assert_eq!(lessons.models.values().next().unwrap().samples, 2);
    }
}
