//! Missions that are paused and resumed: what goes on meanwhile, what does not, and where the credits are.

use super::{ONE, ONE_HOLD_UCR, open_holds, workflow};
use crate::flow::Refusal;
use crate::flow::testbed::World;
use crate::limits::LEASE_MS;
use crate::outcome::{CallPermit, ErrorClass, Outcome};
use crate::state::{RunState, TaskState, WaitCause};

const CHAIN: &str = "  first: { agent: a, prompt: p }
  aside: { agent: a, prompt: p }
  then: { needs: [first], agent: a, prompt: p }";

fn waits(world: &World, mission: crate::id::MissionId, node: &str) -> Option<WaitCause> {
    let task = world.task(mission, node);
    (task.state == TaskState::Waiting).then_some(task.wait).flatten()
}

#[test]
fn a_paused_mission_holds_nothing_for_what_has_not_begun_and_lets_nobody_begin() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("flat_fee: 1", CHAIN));
    world.pause(mission).unwrap();
    assert_eq!(world.run(mission).state, RunState::Paused);
    assert_eq!(waits(&world, mission, "first"), Some(WaitCause::Paused));
    assert_eq!((world.purse().1, open_holds(&world)), (1_000_000, 1), "the fee alone is held");
    let (worker, task) = (world.worker, world.task(mission, "first").id);
    assert!(world.claim_for(worker, task).is_none());
    world.pass_ms(60_000);
    world.sweep();
    assert_eq!(waits(&world, mission, "first"), Some(WaitCause::Paused));
    world.verify();

    world.resume(mission).unwrap();
    world.verify();
    world.sweep();
    assert_eq!((world.state(mission, "first"), world.state(mission, "then")), (TaskState::Ready, TaskState::Pending));
    assert_eq!(world.held(mission, "first"), Some(ONE_HOLD_UCR));
    assert_eq!(world.run(mission).state, RunState::Queued, "no worker had taken a task");
    for node in ["first", "aside", "then"] {
        world.do_node(mission, node, Some((10, 10)));
    }
    assert_eq!((world.run(mission).state, world.spent(mission)), (RunState::Succeeded, 1_000_000 + 3 * 3_000));
    world.verify();
}

#[test]
fn a_running_step_of_a_paused_mission_buys_its_calls_and_settles_and_its_dependents_stay_put() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", CHAIN));
    let lease = world.claim(mission, "first");
    world.pause(mission).unwrap();
    assert_eq!(world.beat(&lease), (true, false), "nobody tells it to stop");
    let call = world.call(&lease, 10, 10);
    let settled = world.succeed(&lease, vec![call]);
    assert_eq!((settled.ready.len(), settled.successor, settled.ending), (0, None, None));
    assert_eq!(
        (world.state(mission, "first"), waits(&world, mission, "then")),
        (TaskState::Succeeded, Some(WaitCause::Paused))
    );
    assert_eq!((world.spent(mission), world.purse().1), (3_000, 0));
    world.verify();
    world.resume(mission).unwrap();
    world.sweep();
    assert_eq!((world.state(mission, "then"), world.run(mission).state), (TaskState::Ready, RunState::Running));
    world.verify();
}

#[test]
fn a_task_given_back_or_lost_while_paused_keeps_the_credits_of_what_it_bought() {
    for is_lost in [false, true] {
        let mut world = World::with_credits(100);
        let mission = world.submit(&workflow("", ONE));
        let lease = world.claim(mission, "one");
        let bought = world.call(&lease, 10, 10);
        let mut next = crate::flow::testbed::request(2, "b", (10, 10));
        next.finished = vec![bought.clone()];
        assert!(matches!(world.ask_for(&lease, &next), Ok(CallPermit::Send(_))));
        world.pause(mission).unwrap();
        if is_lost {
            world.pass_ms(LEASE_MS);
            world.sweep();
        } else {
            world.settle(&lease, &lease.settle(Outcome::HandedBack)).unwrap();
        }
        assert_eq!((waits(&world, mission, "one"), world.held(mission, "one")), (Some(WaitCause::Paused), Some(3_000)));
        world.verify();

        world.resume(mission).unwrap();
        world.sweep();
        let again = world.claim(mission, "one");
        let Ok(CallPermit::Replay(replayed)) = world.ask(&again, 1, "body 1", (10, 10)) else { panic!("bought twice") };
        assert_eq!(replayed.id, bought.id);
        world.succeed(&again, vec![replayed]);
        assert_eq!((world.run(mission).state, world.spent(mission)), (RunState::Succeeded, 3_000));
        world.verify();
    }
}

#[test]
fn timers_and_retries_go_on_while_paused_and_what_follows_waits() {
    let mut world = World::with_credits(100);
    let nodes = "  nap: { sleep: 10s }
  after: { needs: [nap], transform: 1 }
  shaky: { agent: a, prompt: p, retry: { max_attempts: 3 } }
  late: { needs: [shaky], sleep: 10s }";
    let mission = world.submit(&workflow("", nodes));
    let lease = world.claim(mission, "shaky");
    world.pause(mission).unwrap();
    world.fail(&lease, ErrorClass::Retryable, vec![]);
    assert_eq!(world.state(mission, "shaky"), TaskState::Retrying);
    world.pass_ms(3_600_000);
    world.sweep();
    assert_eq!(world.state(mission, "nap"), TaskState::Succeeded, "it slept while it was paused");
    assert_eq!(waits(&world, mission, "after"), Some(WaitCause::Paused));
    assert_eq!((waits(&world, mission, "shaky"), world.purse().1), (Some(WaitCause::Paused), 0));
    world.verify();
    world.resume(mission).unwrap();
    world.sweep();
    assert_eq!((world.state(mission, "after"), world.state(mission, "shaky")), (TaskState::Ready, TaskState::Ready));
    assert_eq!(world.task(mission, "shaky").failures, 1, "the failure counts");
    world.verify();
}

#[test]
fn a_deadline_passes_and_a_failure_ends_the_run_while_it_is_paused() {
    let mut world = World::with_credits(100);
    let late = world.submit(&workflow("deadline: 10s", CHAIN));
    world.pause(late).unwrap();
    world.pass_ms(10_000);
    world.sweep();
    assert_eq!(world.run(late).state, RunState::Expired);

    let failing = world.submit(&workflow("", CHAIN));
    let lease = world.claim(failing, "first");
    world.pause(failing).unwrap();
    world.fail(&lease, ErrorClass::Permanent, vec![]);
    assert_eq!(world.run(failing).state, RunState::Failed);

    let last = world.submit(&workflow("", ONE));
    let lease = world.claim(last, "one");
    world.pause(last).unwrap();
    world.succeed(&lease, vec![]);
    assert_eq!(world.run(last).state, RunState::Succeeded, "nothing was left to wait for");
    assert_eq!((world.purse().1, open_holds(&world)), (0, 0));
    world.verify();
}

#[test]
fn a_condition_is_decided_when_the_mission_is_resumed() {
    let mut world = World::with_credits(100);
    let nodes = "  a: { transform: 1 }
  b: { needs: [a], when: 'nodes.a.output == 2', transform: 1 }
  c: { needs: [b], agent: a, prompt: p }";
    let mission = world.submit(&workflow("", nodes));
    let lease = world.claim(mission, "a");
    world.pause(mission).unwrap();
    world.succeed(&lease, vec![]);
    assert_eq!((waits(&world, mission, "b"), world.state(mission, "c")), (Some(WaitCause::Paused), TaskState::Pending));
    world.resume(mission).unwrap();
    world.sweep();
    assert_eq!((world.state(mission, "b"), world.state(mission, "c")), (TaskState::Skipped, TaskState::Ready));
    world.verify();
}

#[test]
fn pausing_and_resuming_twice_is_the_same_as_once_and_what_is_over_refuses() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", ONE));
    world.resume(mission).unwrap();
    world.pause(mission).unwrap();
    let before = world.tables.clone();
    world.pause(mission).unwrap();
    assert!(world.tables == before);
    world.resume(mission).unwrap();
    let before = world.tables.clone();
    world.resume(mission).unwrap();
    assert!(world.tables == before);
    world.pause(mission).unwrap();
    world.sweep();
    assert_eq!(world.task(mission, "one").due_at, None, "the resume did not last");
    world.cancel(mission).unwrap();
    assert_eq!((world.run(mission).state, world.purse().1), (RunState::Cancelled, 0));
    let refused = |wish| Refusal::IllegalMove { what: "mission", state: "cancelled", wish };
    assert_eq!(world.pause(mission), Err(refused("paused")));
    assert_eq!(world.resume(mission), Err(refused("resumed")));
    world.verify();
}

#[test]
fn a_pause_counts_what_children_give_back() {
    let mut world = World::with_credits(10);
    let nodes = "  one: { agent: a, prompt: p, repeat: { until: output, max: 2 }, budget: { credits: 1 } }";
    let mission = world.submit(&workflow("", nodes));
    world.sweep();
    world.verify();
    world.pause(mission).unwrap();
    world.verify();
}
