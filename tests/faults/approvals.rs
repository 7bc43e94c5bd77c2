//! People decide, and signals come, while everything that works is down.

use serde_json::json;

use super::processes::{Installation, items};
use super::{PATIENCE, all_succeed};
use crate::support::eventually;

const GATE: &str = "
workflow: gate
flat_fee: 1
nodes:
  draft: { transform: 'a draft about {{ inputs.what }}' }
  ask: { needs: [draft], approval: { show: '{{ nodes.draft.output }}' } }
  publish: { needs: [ask], transform: '{{ nodes.ask.output.comment }}' }
outputs: { said: nodes.publish.output }
";

#[tokio::test]
async fn an_approval_answered_while_the_worker_pool_is_down_lets_the_run_go_on_when_it_is_back() {
    let mut installation = Installation::start().await;
    installation.put("gate", GATE).await;
    let worker = installation.worker(&[]);
    let mission = installation.submit("gate", json!({"what": "bees"}), None).await;
    let open = format!("/v1/approvals?mission_id={mission}");
    let approval = eventually("somebody is asked", PATIENCE, || async {
        let open = items(&installation.get(&open).await?);
        open.first().map(|approval| approval["id"].as_str().unwrap().to_owned())
    })
    .await;
    let path = format!("/v1/approvals/{approval}");
    assert_eq!(installation.get(&path).await.unwrap()["shown"], "a draft about bees");

    // nobody works any more, and the server itself is not the one that asked
    installation.kill_nine(worker);
    installation.restart_server().await;
    let decide = format!("{path}/decide");
    let (status, made) = installation.post(&decide, &json!({"decision": "approved", "comment": "go"})).await;
    assert_eq!((status, &made["status"]), (200, &json!("approved")), "{made:#}");
    let (status, again) = installation.post(&decide, &json!({"decision": "approved"})).await;
    assert_eq!((status, &again["decision"]), (200, &made["decision"]));
    let (status, other) = installation.post(&decide, &json!({"decision": "rejected"})).await;
    assert_eq!((status, &other["code"]), (409, &json!("already-decided")), "{other:#}");
    let waiting = installation.get(&format!("/v1/missions/{mission}")).await.unwrap();
    assert_eq!(waiting["status"], "running", "it goes on as soon as somebody works: {waiting:#}");

    let back = installation.worker(&[]);
    all_succeed(&installation, std::slice::from_ref(&mission)).await;
    let over = installation.get(&format!("/v1/missions/{mission}")).await.unwrap();
    assert_eq!(over["output"], json!({"said": "go"}));
    installation.terminate(back);
    installation.verify();
}

const ORDER: &str = "
workflow: order
flat_fee: 1
nodes:
  reserve: { transform: 'reserved' }
  paid: { needs: [reserve], signal: { name: paid } }
  tip: { needs: [paid], signal: { name: paid } }
  ship: { needs: [tip], transform: '{{ nodes.paid.output.n }} and {{ nodes.tip.output.n }}' }
outputs: { shipped: nodes.ship.output }
";

#[tokio::test]
async fn signals_that_came_before_their_waiter_while_nobody_worked_are_not_lost() {
    let mut installation = Installation::start().await;
    installation.put("order", ORDER).await;
    // no worker at all: the node that the signals are for has not begun to wait
    let mission = installation.submit("order", json!({}), None).await;
    let path = format!("/v1/missions/{mission}/signals/paid");
    for number in 1..=2 {
        let (status, signal) = installation.post(&path, &json!({"n": number})).await;
        assert_eq!((status, &signal["task_id"]), (202, &json!(null)), "{signal:#}");
    }
    installation.restart_server().await;
    installation.redis.flush().await;
    let worker = installation.worker(&[]);
    all_succeed(&installation, std::slice::from_ref(&mission)).await;
    let over = installation.get(&format!("/v1/missions/{mission}")).await.unwrap();
    assert_eq!(over["output"], json!({"shipped": "1 and 2"}));
    installation.terminate(worker);
    installation.verify();
}
