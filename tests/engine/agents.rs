//! Agent steps of many calls on real stores: the documented examples run, crashes buy nothing twice.

use bursar_domain::state::RunState;

use crate::support::stores::on_both_stores;
use crate::support::world::World;

on_both_stores!(World::on:
    every_example_of_the_page_runs,
);

/// The page that explains agent steps.
const PAGE: &str = include_str!("../../docs/agent-step.md");

/// The workflows on the page.
fn examples() -> Vec<&'static str> {
    PAGE.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

async fn every_example_of_the_page_runs(world: World) {
    assert!(!examples().is_empty());
    for example in examples() {
        let mission = world.run(example).await;
        let over = world.finished(mission).await;
        assert_eq!(over.state, RunState::Succeeded, "{example}: {:?}", over.error);
    }
    world.balances().await;
}
