//! Retries and forks, loading what the engine loads.

use serde_json::Value;

use crate::flow::{self, DeadLetter, ForkRequest, Order, Ordered, Plan, Preview, Redriven, Refusal, RunFrom};
use crate::id::{MissionId, WorkflowId};
use crate::state::TaskState;

use super::World;
use super::tables::Want;

impl World {
    fn renewal_want(&self, mission: MissionId, states: &[TaskState]) -> Want {
        let run = self.run(mission);
        let nodes = self.facts.workflows[&run.workflow_id].nodes.iter();
        Want {
            missions: vec![mission],
            latest: states.iter().map(|state| (mission, *state)).collect(),
            results: nodes.map(|node| (run.id, i32::try_from(node.index).unwrap())).collect(),
            inputs: vec![(mission, 0)],
            signals: vec![mission],
            ..Want::default()
        }
    }

    fn retry_want(&self, mission: MissionId) -> Want {
        self.renewal_want(mission, &[TaskState::Failed, TaskState::Cancelled, TaskState::Skipped])
    }

    fn fork_want(&self, mission: MissionId) -> Want {
        use TaskState::{Cancelled, Failed, Skipped, Succeeded};
        self.renewal_want(mission, &[Succeeded, Failed, Cancelled, Skipped])
    }

    /// Retries a mission; what is shown before is what is done.
    pub(crate) fn retry(&mut self, mission: MissionId) -> Result<Plan, Refusal> {
        let preview = self.preview_retry(mission)?;
        let done = self.retry_for(mission, None);
        same(preview, done)
    }

    /// Retries a mission under an idempotency key.
    pub(crate) fn retry_for(&mut self, mission: MissionId, order: Option<&Order>) -> Result<Ordered, Refusal> {
        let want = self.retry_want(mission);
        self.decide_or_nothing(&want, |turn| flow::retry(turn, mission, order))
    }

    /// Redrives a dead letter as one of an order.
    pub(crate) fn redrive(&mut self, letter: &DeadLetter, order: &Order) -> Result<Redriven, Refusal> {
        let want = self.retry_want(letter.mission_id);
        self.decide_or_nothing(&want, |turn| flow::redrive(turn, letter, order))
    }

    /// What a retry would do.
    pub(crate) fn preview_retry(&mut self, mission: MissionId) -> Result<Preview, Refusal> {
        let want = self.retry_want(mission);
        self.decide(&want, |turn| {
            let preview = flow::preview_retry(turn, mission);
            assert!(turn.set.is_unchanged(), "a preview changed something");
            preview
        })
    }

    /// A wish to fork the latest run of a mission, of the same version and with the input that run had.
    pub(crate) fn fork_request(&mut self, mission: MissionId, from_node: &str) -> ForkRequest {
        let run = self.run(mission).clone();
        ForkRequest {
            mission_id: mission,
            of_run: run.id,
            run_id: self.dice.id(),
            from: RunFrom::Node(from_node.to_owned()),
            workflow_id: run.workflow_id,
            price_book_id: self.book,
            input: run.input,
        }
    }

    /// Forks a mission; what is shown before is what is done.
    pub(crate) fn fork(&mut self, mission: MissionId, from_node: &str) -> Result<Plan, Refusal> {
        let request = self.fork_request(mission, from_node);
        self.fork_as(&request)
    }

    /// Forks a mission with another input or version.
    pub(crate) fn fork_with(
        &mut self,
        mission: MissionId,
        from_node: &str,
        input: Option<Value>,
        workflow: Option<WorkflowId>,
    ) -> Result<Plan, Refusal> {
        let mut request = self.fork_request(mission, from_node);
        request.input = input.or(request.input);
        request.workflow_id = workflow.unwrap_or(request.workflow_id);
        self.fork_as(&request)
    }

    fn fork_as(&mut self, request: &ForkRequest) -> Result<Plan, Refusal> {
        let want = self.fork_want(request.mission_id);
        let preview = self.decide(&want, |turn| {
            let preview = flow::preview_fork(turn, request);
            assert!(turn.set.is_unchanged(), "a preview changed something");
            preview
        })?;
        let done = self.fork_for(request, None);
        same(preview, done)
    }

    /// Forks a mission under an idempotency key.
    pub(crate) fn fork_for(&mut self, request: &ForkRequest, order: Option<&Order>) -> Result<Ordered, Refusal> {
        let want = self.fork_want(request.mission_id);
        self.decide_or_nothing(&want, |turn| flow::fork(turn, request, order))
    }
}

/// What was done, which is what was shown.
fn same(preview: Preview, done: Result<Ordered, Refusal>) -> Result<Plan, Refusal> {
    match done {
        Ok(Ordered::Done(plan)) => {
            assert_eq!((Some(&plan), None), (Some(&preview.plan), preview.refusal));
            Ok(plan)
        }
        Ok(Ordered::Repeated) => panic!("there was no key"),
        Err(refusal) => {
            assert_eq!(preview.refusal, Some(refusal.clone()));
            Err(refusal)
        }
    }
}
