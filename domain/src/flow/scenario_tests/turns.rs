//! Tasks that take turns: the key is told once, when a task becomes ready, and never handed over unclaimed.

use crate::flow::testbed::World;
use crate::outcome::ErrorClass;
use crate::state::TaskState;

fn workflow(key: &str) -> String {
    format!(
        "workflow: w
inputs: {{ type: object }}
agents: {{ a: {{ instructions: i, model: m, max_output_tokens: 100 }} }}
nodes:
  first: {{ agent: a, prompt: p }}
  then: {{ needs: [first], agent: a, prompt: p, pool: default, concurrency: {{ key: \"{key}\", max: 2 }} }}
"
    )
}

#[test]
fn the_key_is_told_when_the_task_becomes_ready_and_no_worker_is_handed_it() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("desk {{ 4 if nodes.first.output is none else 5 }}"));
    let lease = world.claim(mission, "first");
    assert_eq!(world.task(mission, "then").concurrency_key, None);
    let (_, settlement) = world.hand_over(&lease, Vec::new());
    assert_eq!((settlement.successor, settlement.ready.len()), (None, 1));
    let then = world.task(mission, "then").clone();
    assert_eq!(
        (then.state, then.concurrency_key.as_deref(), then.concurrency_max),
        (TaskState::Ready, Some("desk 4"), Some(2))
    );
    world.verify();

    // another attempt keeps it
    let lease = world.claim(mission, "then");
    world.fail(&lease, ErrorClass::Retryable, Vec::new());
    world.pass_ms(60_000);
    world.sweep();
    assert_eq!(world.task(mission, "then").concurrency_key.as_deref(), Some("desk 4"));
    world.verify();
}

#[test]
fn a_task_that_was_kept_back_is_free_again_when_it_becomes_ready_anew() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("k"));
    let lease = world.claim(mission, "first");
    world.succeed(&lease, Vec::new());
    let lease = world.claim(mission, "then");
    world.tables.tasks.get_mut(&lease.task).unwrap().held_since = Some(world.now);
    world.fail(&lease, ErrorClass::Retryable, Vec::new());
    world.pass_ms(60_000);
    world.sweep();
    assert_eq!((world.state(mission, "then"), world.task(mission, "then").held_since), (TaskState::Ready, None));
}

#[test]
fn a_key_that_cannot_be_told_fails_the_task_by_that_name() {
    for key in ["{{ nodes.first.output.nothing }}", "{{ '' }}", "{{ 'x' * 201 }}"] {
        let mut world = World::with_credits(100);
        let mission = world.submit(&workflow(key));
        let lease = world.claim(mission, "first");
        world.succeed(&lease, Vec::new());
        let then = world.task(mission, "then");
        let code = then.error.as_ref().map(|error| error.code.as_str());
        assert_eq!((then.state, code), (TaskState::Failed, Some("concurrency_key_failed")), "{key}");
        world.verify();
    }
}
