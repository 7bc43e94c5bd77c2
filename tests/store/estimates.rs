//! What estimates learn is added up by both stores exactly as the domain adds it up, by any number of writers.

use std::collections::BTreeMap;
use std::sync::Arc;

use bursar::store::{LearnedFactor, LearnedNode, Store};
use bursar_domain::credits::Ucr;
use bursar_domain::estimate::{Factor, NodeCost, NodeKey};
use bursar_domain::flow::Chance;
use bursar_domain::time::Timestamp;

use crate::support::hand::Hand;
use crate::support::stores::on_both_stores;

on_both_stores!(Hand::new:
    what_is_learned_adds_up_as_in_the_domain,
    a_full_window_is_halved_as_in_the_domain,
    two_writers_learn_together,
    only_what_changed_since_is_read,
    nodes_are_listed_in_pages,
);

fn key(hand: &mut Hand, workflow: &str, node: &str) -> NodeKey {
    let (tenant_id, price_book_id) = (hand.tenant, hand.prices);
    NodeKey { tenant_id, price_book_id, workflow: workflow.to_owned(), node: node.to_owned() }
}

fn model() -> (String, String) {
    ("prövider".to_owned(), "mo\"d'el".to_owned())
}

async fn learn(store: &Arc<dyn Store>, key: &NodeKey, cost: &NodeCost, factor: &Factor, now: Timestamp) {
    store.learn_nodes([(key, cost)], now).await.unwrap();
    store.learn_factors([(&model(), factor)], now).await.unwrap();
}

async fn known(hand: &Hand) -> (LearnedNode, LearnedFactor) {
    let start = Timestamp::from_ms(0);
    let mut nodes = hand.store.learned_nodes(start, 9).await.unwrap();
    let mut factors = hand.store.learned_factors(start, 9).await.unwrap();
    assert_eq!((nodes.len(), factors.len()), (1, 1));
    (nodes.remove(0), factors.remove(0))
}

/// Lessons of some tasks and calls, as chance will have it.
fn lessons(hand: &mut Hand, count: usize) -> (NodeCost, Factor) {
    let (mut cost, mut factor) = (NodeCost::default(), Factor::default());
    for _ in 0..count {
        let shift = hand.chance.below(60);
        let calls = Ucr::new((hand.chance.random() >> 1 >> shift).cast_signed());
        cost.add(calls, calls.saturating_add(Ucr::new(7)), Ucr::new(1_000));
        factor.add(1 + hand.chance.below(9_000) as u64, 1 + hand.chance.below(9_000) as u64);
    }
    (cost, factor)
}

async fn what_is_learned_adds_up_as_in_the_domain(mut hand: Hand) {
    let key = key(&mut hand, "workflow", "nöde");
    let (mut cost, mut factor) = (NodeCost::default(), Factor::default());
    for _ in 0..8 {
        let (more_cost, more_factor) = lessons(&mut hand, 20);
        let store = hand.store.clone();
        learn(&store, &key, &more_cost, &more_factor, hand.now).await;
        cost.merge(&more_cost);
        factor.merge(&more_factor);
        let (node, model_now) = known(&hand).await;
        assert_eq!((&node.key, &node.cost, node.updated_at), (&key, &cost, hand.now));
        assert_eq!((model_now.factor, (model_now.provider, model_now.model)), (factor, model()));
    }
    assert!(cost.range().is_some() && factor.ppm().is_some());
}

async fn a_full_window_is_halved_as_in_the_domain(mut hand: Hand) {
    let key = key(&mut hand, "workflow", "node");
    let (mut cost, mut factor) = (NodeCost::default(), Factor::default());
    for _ in 0..9 {
        let (more_cost, more_factor) = lessons(&mut hand, 300);
        let store = hand.store.clone();
        learn(&store, &key, &more_cost, &more_factor, hand.now).await;
        cost.merge(&more_cost);
        cost.fade();
        factor.merge(&more_factor);
        factor.fade();
        let (node, model_now) = known(&hand).await;
        assert_eq!(node.cost.samples, cost.samples);
        // the store keeps the window's weight; what halving rounds away may halve it once earlier or later
        let (told, expected) = (node.cost.buckets.weight(), cost.buckets.weight());
        assert!(told.abs_diff(expected) * 50 < expected, "{told} {expected}");
        assert_eq!((model_now.factor.samples, model_now.factor.weight), (factor.samples, factor.weight));
        assert_eq!(model_now.factor.weighted_ppm, factor.weighted_ppm);
    }
    assert_eq!(cost.samples, 2_700);
    assert!(cost.buckets.samples() <= 512);
}

async fn two_writers_learn_together(mut hand: Hand) {
    let keys: Vec<NodeKey> = (0..5).map(|at| key(&mut hand, "workflow", &format!("node-{at}"))).collect();
    let mut one = NodeCost::default();
    (0..3).for_each(|_| one.add(Ucr::new(100), Ucr::new(100), Ucr::new(200)));
    let rows: BTreeMap<&NodeKey, &NodeCost> = keys.iter().map(|key| (key, &one)).collect();
    let (store, now) = (hand.store.clone(), hand.now);
    let writers = (0..8).map(|_| async { store.learn_nodes(rows.clone(), now).await.unwrap() });
    futures::future::join_all(writers).await;
    let nodes = hand.store.learned_nodes(Timestamp::from_ms(0), 9).await.unwrap();
    assert_eq!(nodes.len(), 5);
    for node in nodes {
        assert_eq!((node.cost.samples, node.cost.charged_ucr, node.cost.estimated_ucr), (24, 2_400, 4_800));
        assert_eq!(node.cost.error_ppm(), Some(500_000));
        assert_eq!(node.cost.buckets.samples(), 24);
    }
}

async fn only_what_changed_since_is_read(mut hand: Hand) {
    let (old, new) = (key(&mut hand, "old", "n"), key(&mut hand, "new", "n"));
    let (cost, factor) = lessons(&mut hand, 3);
    let (store, before) = (hand.store.clone(), hand.now);
    learn(&store, &old, &cost, &factor, before).await;
    let later = before.plus_ms(1);
    store.learn_nodes([(&new, &cost)], later).await.unwrap();
    let since = |time| store.learned_nodes(time, 9);
    assert_eq!(since(later).await.unwrap().iter().map(|node| &node.key).collect::<Vec<_>>(), [&new]);
    assert_eq!(since(before).await.unwrap().len(), 2);
    assert_eq!(store.learned_factors(later, 9).await.unwrap(), []);
    store.learn_nodes(BTreeMap::new(), later).await.unwrap();
    store.learn_factors(BTreeMap::new(), later).await.unwrap();
}

async fn nodes_are_listed_in_pages(mut hand: Hand) {
    let (cost, _) = lessons(&mut hand, 3);
    let keys = [("a", "z"), ("b", "a"), ("b", "b"), ("c", "a")].map(|(workflow, node)| key(&mut hand, workflow, node));
    let rows: BTreeMap<&NodeKey, &NodeCost> = keys.iter().map(|key| (key, &cost)).collect();
    hand.store.learn_nodes(rows, hand.now).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let page = hand.store.learned_nodes_after(seen.last(), 3).await.unwrap();
        if page.is_empty() {
            break;
        }
        seen.extend(page.into_iter().map(|node| node.key));
    }
    assert_eq!(seen, keys);
}
