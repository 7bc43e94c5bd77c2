//! Faults: real processes, real servers, broken on purpose. Each test's name says what broke and what held.

mod approvals;
mod clients;
mod deploys;
mod door;
mod ending;
mod families;
mod locks;
mod mcp;
mod money;
mod points;
mod pools;
mod processes;
mod queue;
mod races;
mod redrives;
mod schedules;
mod settlers;
mod soak;
mod store;
mod streams;
mod time;
mod tools;
mod wire;

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::eventually;
use processes::Installation;

/// Steps of about half a second, so that a kill meets some in flight.
const TEAM: &str = "
workflow: team
flat_fee: 1
defaults: { model: simulated-small, max_output_tokens: 64, retry: { max_attempts: 3 } }
agents:
  one: { instructions: 'You plan.' }
  two: { instructions: 'You write.' }
nodes:
  plan: { agent: one, prompt: 'Plan {{ inputs.what }} [[simulate tokens=12]]' }
  left: { agent: two, needs: [plan], prompt: 'Left of {{ nodes.plan.output }} [[simulate tokens=12]]' }
  right: { agent: two, needs: [plan], prompt: 'Right of {{ nodes.plan.output }} [[simulate tokens=12]]' }
  sum: { agent: one, needs: [left, right], prompt: 'Sum {{ nodes.left.output }} {{ nodes.right.output }} [[simulate tokens=12]]' }
";

/// How long everything may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(150);

async fn all_succeed(installation: &Installation, missions: &[String]) {
    for id in missions {
        let mission = eventually("the mission ends", PATIENCE, || async {
            let mission = installation.get(&format!("/v1/missions/{id}")).await?;
            let is_over = matches!(mission["status"].as_str(), Some("succeeded" | "failed" | "cancelled" | "expired"));
            is_over.then_some(mission)
        })
        .await;
        assert_eq!(mission["status"], "succeeded", "{mission:#}");
    }
}

/// Each task was billed for exactly one finished call, whatever became of the others.
async fn each_task_was_billed_once(installation: &Installation, missions: &[String]) {
    for id in missions {
        let mission = installation.get(&format!("/v1/missions/{id}")).await.unwrap();
        let run = mission["run_id"].as_str().unwrap();
        let calls = installation.get(&format!("/v1/runs/{run}/calls")).await.unwrap();
        let calls = processes::items(&calls);
        let billed: Vec<&Value> = calls.iter().filter(|call| call["billable"] == true).collect();
        let mut tasks: Vec<&str> = billed.iter().map(|call| call["task_id"].as_str().unwrap()).collect();
        tasks.sort_unstable();
        tasks.dedup();
        assert_eq!((tasks.len(), billed.len()), (4, 4), "four agents, each billed for one call: {calls:#?}");
    }
}

#[tokio::test]
async fn kill_nine_of_a_worker_in_mid_run_loses_nothing_and_bills_nothing_twice() {
    let mut installation = Installation::start().await;
    installation.put("team", TEAM).await;
    let first = installation.worker(&[("BURSAR_LEASE", "2s"), ("BURSAR_SIMULATED_WORD_MS", "40")]);
    let second = installation.worker(&[("BURSAR_LEASE", "2s"), ("BURSAR_SIMULATED_WORD_MS", "40")]);
    let mut missions = Vec::new();
    for number in 0..40 {
        missions.push(installation.submit("team", json!({"what": format!("thing {number}")}), None).await);
    }
    // both work before one of them dies
    eventually("both workers have running tasks", PATIENCE, || async {
        let workers = installation.get("/v1/admin/workers").await?;
        let busy = processes::items(&workers).iter().filter(|worker| worker["running"].as_i64() > Some(0)).count();
        (busy == 2).then_some(())
    })
    .await;
    installation.kill_nine(first);
    all_succeed(&installation, &missions).await;
    each_task_was_billed_once(&installation, &missions).await;
    installation.terminate(second);
    installation.verify();
}

#[tokio::test]
async fn flushall_of_redis_in_the_middle_of_500_missions_delays_but_loses_none() {
    let mut installation = Installation::start().await;
    let quick = "
workflow: quick
flat_fee: 0
nodes:
  a: { transform: { n: '{{ inputs.n }}' }, units: { step: 1 } }
  b: { needs: [a], transform: { n: '{{ nodes.a.output.n }}' }, units: { step: 1 } }
  c: { needs: [b], transform: { n: '{{ nodes.b.output.n }}' }, units: { step: 1 } }
";
    installation.put("quick", quick).await;
    let mut missions = Vec::new();
    for number in 0..250 {
        missions.push(installation.submit("quick", json!({"n": number}), None).await);
    }
    let worker = installation.worker(&[]);
    for number in 250..500 {
        missions.push(installation.submit("quick", json!({"n": number}), None).await);
        if number % 50 == 0 {
            installation.redis.flush().await;
        }
    }
    all_succeed(&installation, &missions).await;
    installation.terminate(worker);
    installation.verify();
}

#[tokio::test]
async fn kill_nine_of_the_api_in_mid_submit_leaves_each_key_with_one_mission() {
    let mut installation = Installation::start().await;
    installation.put("team", TEAM).await;
    let worker = installation.worker(&[("BURSAR_SIMULATED_WORD_MS", "0")]);
    let keys: Vec<String> = (0..60).map(|number| format!("order-{number}")).collect();
    let mut missions = Vec::new();
    for (number, key) in keys.iter().enumerate() {
        if number == 30 {
            // in flight and unanswered when the process dies
            let hasty = installation.submit_hastily("team", json!({"what": "x"}), key);
            installation.restart_server().await;
            drop(hasty.await);
        }
        missions.push(installation.submit("team", json!({"what": "x"}), Some(key)).await);
    }
    // the same keys again name the same missions
    for (key, mission) in keys.iter().zip(&missions) {
        assert_eq!(&installation.submit("team", json!({"what": "x"}), Some(key)).await, mission);
    }
    all_succeed(&installation, &missions).await;
    each_task_was_billed_once(&installation, &missions).await;
    installation.terminate(worker);
    installation.verify();
}

#[tokio::test]
async fn sigterm_of_a_worker_hands_its_tasks_back_without_a_failed_attempt() {
    let mut installation = Installation::start().await;
    installation.put("team", TEAM).await;
    let slow = [("BURSAR_SIMULATED_WORD_MS", "2000"), ("BURSAR_GRACE", "200ms")];
    let leaving = installation.worker(&slow);
    let mission = installation.submit("team", json!({"what": "x"}), None).await;
    let path = format!("/v1/missions/{mission}");
    let run = installation.get(&path).await.unwrap()["run_id"].as_str().unwrap().to_owned();
    let tasks = format!("/v1/runs/{run}/tasks");
    eventually("the first step runs", PATIENCE, || async {
        let tasks = installation.get(&tasks).await?;
        (processes::items(&tasks)[0]["status"] == "running").then_some(())
    })
    .await;
    installation.terminate(leaving);
    let staying = installation.worker(&[("BURSAR_SIMULATED_WORD_MS", "0")]);
    all_succeed(&installation, std::slice::from_ref(&mission)).await;
    let first = processes::items(&installation.get(&tasks).await.unwrap())[0].clone();
    assert_eq!((&first["attempt"], &first["failures"]), (&json!(2), &json!(0)), "{first:#}");
    installation.terminate(staying);
    installation.verify();
}
