//! What a worker says twice is charged once, also when its task was cancelled meanwhile.

use std::sync::Arc;

use bursar::clock::{SystemChance, new_id, new_token};
use bursar::store::{Claim, Want};
use bursar_domain::flow::{self, Facts, Guard, SettleRequest, Turn};
use bursar_domain::outcome::{CallPermit, CallRequest, ErrorClass, FinishedCall, Outcome, StepError};
use bursar_domain::time::Timestamp;
use bursar_domain::usage::Usage;
use serde_json::Value;

use super::ENGINES;
use super::site::Site;

/// Decides over a task's rows, as the engine does.
async fn decide<T: Send>(
    site: &Site,
    want: &Want,
    facts: &Facts,
    mut step: impl FnMut(&mut Turn<'_>) -> T + Send,
) -> T {
    let now: Timestamp = site.engine.clock().now();
    let mut answer = None;
    let mut decide = |set: &mut _| answer = Some(step(&mut Turn { set, facts, now, chance: &mut SystemChance }));
    site.store().transact(want, &mut decide).await.unwrap();
    answer.unwrap()
}

async fn facts(site: &Site) -> Facts {
    let workflow = site.id("select id from workflows").await.parse().unwrap();
    let definition = site.engine.definition(workflow).await.unwrap().unwrap();
    let (book, prices) = site.engine.active_prices().await.unwrap().unwrap();
    Facts {
        workflows: [(workflow, definition)].into(),
        prices: [(book, Arc::clone(&prices))].into(),
        ..Facts::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_a_cancelled_attempt_reports_twice_is_charged_once() {
    for dialect in ENGINES {
        let site = Site::with_work(dialect).await;
        let facts = facts(&site).await;
        let task = site.id("select id from tasks where state = 'ready'").await.parse().unwrap();
        let (token, now) = (new_token(), site.engine.clock().now());
        let claim = Claim { tasks: vec![task], worker_id: new_id(), token: token.clone(), lease_ms: 60_000, now };
        let claimed = site.store().claim(&claim).await.unwrap().pop().unwrap();
        let guard: Guard = claimed.guard(&token);
        let want = Want::tasks(claimed.mission_id, [task]);
        let request = CallRequest {
            number: 1,
            request_hash: "x".to_owned(),
            provider: "simulated".to_owned(),
            model: "simulated-large".to_owned(),
            input_tokens: 1_000,
            max_output_tokens: 200,
            alternatives: Vec::new(),
            in_place_of: None,
            heard: 0,
            finished: Vec::new(),
        };
        let permit = decide(&site, &want, &facts, |turn| flow::reserve_call(turn, &guard, &request)).await.unwrap();
        let CallPermit::Send(id) = permit else { panic!("nothing to replay") };
        assert_eq!(site.verify().await.violations, [], "{dialect:?} with a call in flight");
        site.engine.cancel(claimed.mission_id, None).await.unwrap();

        let usage = Usage { input_tokens: 900, output_tokens: 50, ..Usage::default() };
        let call = FinishedCall {
            id,
            usage: Some(usage),
            counted: usage,
            succeeded: true,
            rejected: false,
            response: Value::Null,
            duration_ms: 1,
            first_token_ms: None,
        };
        let error = StepError::new(ErrorClass::Cancelled, "cancelled", "told to stop");
        let outcome = Outcome::Failed { error, calls: vec![call.clone(), call] };
        let settle = SettleRequest { guard, outcome, handoff: None, cache: None, prompt: None };
        decide(&site, &want, &facts, |turn| flow::settle(turn, &settle)).await.unwrap();
        let report = site.verify().await;
        assert_eq!(report.violations, [], "{dialect:?}");
        let cost = "select cost_ucr as n from tasks where state = 'cancelled' and cost_ucr > 0";
        // 900 input tokens at 1.00 and 50 output tokens at 4.00 USD per million, a credit at 0.01 USD
        assert_eq!(site.number(cost).await, 110_000);
    }
}
