//! More than one hand on the same task: settlers of one attempt at once, and strangers who name it.

use bursar_domain::flow::{self, Refusal};
use serde_json::json;

use super::ending;
use crate::support::hand::{Hand, SeededChance, decide_with, succeeded};
use crate::support::stores::on_both_stores;

const PAID: &str = "{workflow: paid, flat_fee: 0, nodes: {only: {transform: {done: 1}, units: {step: 1}}}}";

on_both_stores!(Hand::new:
    settlers_of_one_task_at_once_settle_it_once_and_strangers_not_at_all,
);

async fn settlers_of_one_task_at_once_settle_it_once_and_strangers_not_at_all(mut hand: Hand) {
    hand.grant(100).await;
    let workflow = hand.put(PAID).await;
    for round in 0..50_u64 {
        let (_, ready) = hand.start(workflow).await;
        let (claimed, token) = hand.claim(&ready).await;
        let settles = (0..6_u64).map(|number| {
            let (store, facts, now) = (hand.store.clone(), hand.facts.clone(), hand.now);
            let want = hand.settle_want(&claimed[0]);
            // each with an answer of its own; the last two with a secret that is not the task's
            let is_stranger = number > 3;
            let mut guard = claimed[0].guard(&token);
            if is_stranger {
                guard = claimed[0].guard("somebody else's");
            }
            let outcome = succeeded(json!({"by": number}));
            let request = flow::SettleRequest { guard, outcome, handoff: None, cache: None, prompt: None };
            tokio::spawn(async move {
                let mut chance = SeededChance::new(round);
                chance.skip_ids(1_000_000 * (round + 1) + 1_000 * number);
                let settle = decide_with(&*store, &facts, now, &mut chance, &want, |turn| flow::settle(turn, &request));
                (is_stranger, settle.await.unwrap())
            })
        });
        let mut first = 0;
        for answer in futures::future::join_all(settles).await {
            let (is_stranger, answer) = answer.unwrap();
            match answer {
                Ok(settlement) => {
                    assert!(!is_stranger, "a stranger settled");
                    first += usize::from(!settlement.repeated);
                }
                Err(refusal) => assert!(is_stranger && matches!(refusal, Refusal::StaleFence { .. }), "{refusal:?}"),
            }
        }
        assert_eq!(first, 1, "one of them settles, the others are told what was settled");
    }
    assert_eq!(hand.count("ops where kind = 'settle'").await, 50);
    assert_eq!(hand.count("events where kind = 'task.succeeded'").await, 50);
    ending::holds(&hand.store).await;
}
