//! What the engine does besides running tasks: submits, cancels, sweeps. Each step loads what the engine loads.

use serde_json::{Value, json};

use crate::credits::Ucr;
use crate::flow::{self, Answer, ApprovalRefusal, Decided, NewSignal, Received, Refusal, SignalRefusal, Submission};
use crate::id::{Id, MissionId, RunId, TaskId, WorkflowId};
use crate::ledger;
use crate::outcome::{ErrorClass, StepError};
use crate::record::{Mission, Run, Task};
use crate::state::{RunState, TaskState, WaitCause};
use crate::workflow::{Layer, spread};

use super::World;
use super::tables::Want;

/// Tasks that one transaction of a sweep handles.
const SWEPT_AT_ONCE: usize = 64;

impl World {
    /// A submission of a workflow without anything special.
    pub(crate) fn submission(&mut self, workflow: WorkflowId) -> Submission {
        Submission {
            mission_id: self.dice.id(),
            run_id: self.dice.id(),
            tenant_id: self.tenant,
            wallet_id: self.wallet,
            workflow_id: workflow,
            price_book_id: self.book,
            input: json!({}),
            metadata: None,
            tags: Vec::new(),
            idempotency_key: None,
            request_hash: "hash".to_owned(),
            priority: 0,
            budget_ucr: None,
            on_exhausted: None,
            dedupe: None,
            project_id: None,
        }
    }

    /// Submits; a refusal leaves nothing behind.
    pub(crate) fn try_submit(&mut self, submission: &Submission) -> Result<MissionId, Refusal> {
        let keys = submission.dedupe.iter().map(|dedupe| (submission.tenant_id, dedupe.key.clone()));
        let want = Want { wallets: vec![submission.wallet_id], dedupe_keys: keys.collect(), ..Want::default() };
        self.decide_or_nothing(&want, |turn| flow::submit(turn, submission))?;
        Ok(submission.mission_id)
    }

    /// Submits a mission of a workflow given as text.
    pub(crate) fn submit(&mut self, yaml: &str) -> MissionId {
        let workflow = self.define(yaml);
        let submission = self.submission(workflow);
        self.try_submit(&submission).unwrap()
    }

    /// Cancels a mission and ends what nobody works on.
    pub(crate) fn cancel(&mut self, mission: MissionId) -> Result<(), Refusal> {
        let want = Want { missions: vec![mission], ..Want::default() };
        let run = self.decide_or_nothing(&want, |turn| flow::cancel(turn, mission, None))?;
        self.end_run(run);
        Ok(())
    }

    /// Somebody decides; a refusal leaves nothing behind.
    pub(crate) fn decide_approval(
        &mut self,
        task: TaskId,
        is_approved: bool,
        comment: Option<&str>,
    ) -> Result<Decided, ApprovalRefusal> {
        let row = &self.tables.tasks[&task];
        let mut want = Want { tasks: vec![task], missions: vec![row.mission_id], ..Want::default() };
        self.reach(row, true, &mut want);
        self.reach_family(row, &mut want);
        let comment = comment.map(str::to_owned);
        let answer = Answer { task_id: task, is_approved, by: "key_1".to_owned(), comment };
        let decided = self.decide_or_nothing(&want, |turn| flow::decide(turn, &answer))?;
        if let Some(run) = decided.ending {
            self.end_run(run);
        }
        Ok(decided)
    }

    /// A signal comes in; a refusal leaves nothing behind.
    pub(crate) fn signal(
        &mut self,
        mission: MissionId,
        name: &str,
        key: Option<&str>,
        payload: Value,
    ) -> Result<Received, SignalRefusal> {
        let run_id = self.mission(mission).run_id;
        let (request_hash, key) = (format!("{name} {payload}"), key.map(str::to_owned));
        let new =
            NewSignal { id: self.id(), mission_id: mission, run_id, name: name.to_owned(), key, request_hash, payload };
        let mut want = Want { missions: vec![mission], signals: vec![mission], ..Want::default() };
        want.signal_keys.extend(new.key.clone().map(|key| (mission, key)));
        for task in self.tables.tasks_of(run_id).into_iter().filter(|task| task.kind == "signal") {
            want.tasks.push(task.id);
            self.reach(task, true, &mut want);
            self.reach_family(task, &mut want);
        }
        self.decide_or_nothing(&want, |turn| flow::receive_signal(turn, &new))
    }

    /// A user says something; a refusal leaves nothing behind.
    pub(crate) fn say(
        &mut self,
        mission: MissionId,
        content: &str,
        key: Option<&str>,
    ) -> Result<flow::Said, flow::MessageRefusal> {
        let run = self.run(mission).clone();
        let new = flow::NewMessage {
            id: self.id(),
            mission_id: mission,
            of_run: run.id,
            next_run_id: self.id(),
            price_book_id: self.book,
            author: "key_1".to_owned(),
            content: content.to_owned(),
            metadata: None,
            key: key.map(str::to_owned),
            request_hash: content.to_owned(),
            input: run.input,
        };
        let keys = key.map(|key| (mission, key.to_owned())).into_iter().collect();
        let (inputs, signals) = (vec![(mission, 0)], vec![mission]);
        let want = Want { missions: vec![mission], inputs, signals, message_keys: keys, ..Want::default() };
        self.decide_or_nothing(&want, |turn| flow::say(turn, &new))
    }

    /// Pauses a mission.
    pub(crate) fn pause(&mut self, mission: MissionId) -> Result<(), Refusal> {
        let latest = vec![(mission, TaskState::Ready), (mission, TaskState::Waiting)];
        let want = Want { missions: vec![mission], latest, ..Want::default() };
        self.decide_or_nothing(&want, |turn| flow::pause(turn, mission, None)).map(drop)
    }

    /// Resumes a mission; the sweep does the rest.
    pub(crate) fn resume(&mut self, mission: MissionId) -> Result<(), Refusal> {
        let latest = vec![(mission, TaskState::Waiting)];
        let want = Want { missions: vec![mission], latest, ..Want::default() };
        self.decide_or_nothing(&want, |turn| flow::resume(turn, mission)).map(drop)
    }

    /// Ends what an ending run has left, as far as nobody works on it; in chunks of two, to see the seams.
    pub(crate) fn end_run(&mut self, run: RunId) {
        loop {
            let (mission, now) = (self.tables.runs[&run].mission_id, self.now);
            let mut tasks: Vec<&Task> = self.tables.tasks_of(run);
            tasks.reverse();
            let to_end = |task: &&&Task| match task.state {
                TaskState::Waiting if task.fan.as_ref().is_some_and(|fan| !fan.is_over()) => false,
                TaskState::Pending | TaskState::Ready | TaskState::Retrying | TaskState::Waiting => true,
                TaskState::Running => task.lease_until.is_some_and(|end| end <= now),
                _ => false,
            };
            let ids: Vec<TaskId> = tasks.iter().filter(to_end).map(|task| task.id).take(2).collect();
            if ids.is_empty() {
                return;
            }
            let mut want = Want { tasks: ids.clone(), missions: vec![mission], ..Want::default() };
            want.tasks.extend(ids.iter().flat_map(|id| self.tables.tasks[id].ancestors.iter().flatten()));
            if self.decide(&want, |turn| flow::wind_down(turn, run, &ids)).unwrap() == 0 {
                return;
            }
        }
    }

    /// One pass of the sweep.
    pub(crate) fn sweep(&mut self) {
        let now = self.now;
        let is_late = |task: &&Task| task.ended_at.is_none() && task.deadline_at.is_some_and(|end| end <= now);
        let late = self.tables.tasks.values().filter(is_late).map(|task| task.id).collect();
        self.for_tasks(late, |turn, task| drop(flow::expire_task(turn, task).unwrap()));
        let is_due = |task: &Task| {
            matches!(task.state, TaskState::Retrying | TaskState::Waiting) && task.due_at.is_some_and(|due| due <= now)
        };
        let mut due: Vec<_> = self.tables.tasks.values().filter(|task| is_due(task)).collect();
        due.sort_by_key(|task| task.due_at);
        let due = due.into_iter().map(|task| task.id).collect();
        self.spread();
        self.for_tasks(due, |turn, task| drop(flow::wake_task(turn, task).unwrap()));

        self.recover_lost();
        let is_late = |run: &&Run| run.state.is_open() && run.deadline_at.is_some_and(|deadline| deadline <= now);
        let late: Vec<_> = self.tables.runs.values().filter(is_late).map(|run| (run.id, run.mission_id)).collect();
        for (run, mission) in late {
            let want = Want { missions: vec![mission], ..Want::default() };
            assert_eq!(self.decide(&want, |turn| flow::expire_run(turn, run)), Ok(true));
        }
        let is_ending = |run: &&Run| matches!(run.state, RunState::Failing | RunState::Cancelling);
        let ending: Vec<_> = self.tables.runs.values().filter(is_ending).map(|run| run.id).collect();
        for run in ending {
            self.end_run(run);
        }
        self.expire_grants();
        self.retry_waiters();
    }

    /// Takes tasks from workers whose lease ran out.
    pub(crate) fn recover_lost(&mut self) {
        let now = self.now;
        let is_lost = |task: &&Task| task.state == TaskState::Running && task.lease_until.is_some_and(|end| end <= now);
        let lost = self.tables.tasks.values().filter(is_lost).map(|task| task.id).collect();
        self.for_tasks(lost, |turn, task| {
            flow::recover_lease(turn, task).unwrap();
        });
    }

    /// Writes off what is left of grants whose time is over.
    pub(crate) fn expire_grants(&mut self) {
        let now = self.now;
        let over = self
            .tables
            .grants
            .values()
            .filter(|grant| !grant.expired && grant.expires_at.is_some_and(|deadline| deadline <= now));
        let over: Vec<_> = over.map(|grant| (grant.id, grant.wallet_id)).collect();
        for (grant, wallet) in over {
            let op = self.dice.id();
            let want = Want { wallets: vec![wallet], grants: vec![grant], ..Want::default() };
            self.decide(&want, |turn| ledger::expire(turn.set, grant, op, turn.now));
        }
    }

    /// Tries whoever waits for credits, oldest first.
    pub(crate) fn retry_waiters(&mut self) {
        let waits = |task: &&Task| task.state == TaskState::Waiting && task.wait == Some(WaitCause::Credits);
        let mut waiters: Vec<_> = self.tables.tasks.values().filter(waits).collect();
        waiters.sort_by_key(|task| task.ready_at);
        let waiters = waiters.into_iter().map(|task| task.id).collect();
        self.for_tasks(waiters, |turn, task| drop(flow::wake_task(turn, task).unwrap()));
    }

    fn for_tasks(&mut self, tasks: Vec<TaskId>, decide: impl Fn(&mut flow::Turn<'_>, TaskId)) {
        for chunk in tasks.chunks(SWEPT_AT_ONCE) {
            let mut want = Want { tasks: chunk.to_vec(), ..Want::default() };
            for id in chunk {
                let task = &self.tables.tasks[id];
                want.missions.push(task.mission_id);
                self.reach(task, true, &mut want);
                self.reach_family(task, &mut want);
            }
            self.decide(&want, |turn| {
                for id in chunk {
                    decide(turn, *id);
                }
            });
        }
    }

    /// Wants what decides about a task's children, and what its own end means to its parent.
    pub(crate) fn reach_family(&self, task: &Task, want: &mut Want) {
        want.tasks.extend(task.ancestors.iter().flatten());
        if let Some(parent) = task.parent_id {
            want.heirs.push((parent, 1));
            want.items.extend(task.bound.iter().flat_map(|bound| &bound.followers).map(|item| (parent, *item)));
        }
        let Some(fan) = &task.fan else { return };
        want.heirs.push((task.id, 16));
        want.idle.extend(fan.error.is_some().then_some(task.id));
        want.item_results.extend([fan.made - 1, fan.made - 2].map(|item| (task.id, item)));
        let reach = self.facts.workflows[&task.workflow_id].reach_of_children(task.place());
        want.results.extend(reach.results.into_iter().map(|index| (task.run_id, task.neighbour(index))));
        if let Some(scope) = fan.scope {
            let inside = self.facts.workflows[&scope.workflow_id].handed_back();
            want.results.extend(inside.map(|index| (task.run_id, scope.base + i32::try_from(index).unwrap())));
        }
        want.inputs.extend(reach.input.then_some((task.mission_id, task.base)));
    }

    /// Makes the tasks of maps, as the engine does: a chunk at a time.
    pub(crate) fn spread(&mut self) {
        let unmade = |task: &&Task| {
            task.state == TaskState::Waiting
                && task.kind == "map"
                && task.fan.as_ref().is_some_and(|fan| !fan.is_complete() && fan.error.is_none())
        };
        let maps: Vec<Task> = self.tables.tasks.values().filter(unmade).cloned().collect();
        for task in maps {
            let definition = self.facts.workflows[&task.workflow_id].clone();
            let node = definition.node_for(task.place()).unwrap();
            let Some(Layer::Map(map)) = node.layers.first() else { panic!("{task:?} is no map") };
            let nodes: serde_json::Map<String, serde_json::Value> = node
                .spread
                .nodes
                .iter()
                .map(|index| {
                    let above = self.tables.tasks_of(task.run_id).into_iter();
                    let above = above.clone().find(|row| row.node_index == task.neighbour(*index)).unwrap();
                    (above.node.clone(), json!({"output": self.tables.output_of(above)}))
                })
                .collect();
            let input = self.tables.input_of((task.mission_id, task.base));
            let items = spread(map, &json!({"inputs": input, "nodes": nodes}));
            let mut want = Want { tasks: vec![task.id], missions: vec![task.mission_id], ..Want::default() };
            self.reach(&task, true, &mut want);
            self.reach_family(&task, &mut want);
            match items {
                Ok(items) => drop(self.decide(&want, |turn| flow::add_items(turn, task.id, &items)).unwrap()),
                Err(error) => {
                    let error = StepError::new(ErrorClass::Permanent, "map_failed", error.to_string());
                    self.decide(&want, |turn| flow::refuse_items(turn, task.id, error)).unwrap();
                }
            }
        }
    }

    /// Wants what the end of a task reaches; with what lets it begin, too, for tasks that wait for that.
    pub(crate) fn reach(&self, task: &Task, starts: bool, want: &mut Want) {
        if task.layer > 0 {
            return;
        }
        let definition = &self.facts.workflows[&task.workflow_id];
        let index = task.place().index;
        let reach = if starts { definition.reach_of_start(index) } else { definition.reach_of_end(index) };
        let at = |index: u32| (task.run_id, task.neighbour(index));
        // far-sighted or short-sighted, the same comes of it in the end
        let own = definition.node(index).unwrap().dependents.len();
        let nodes = reach.nodes.into_iter().take(own + self.sight);
        want.nodes.extend(nodes.chain(reach.before).map(at));
        want.results.extend(reach.results.into_iter().map(at));
        want.inputs.extend(reach.input.then_some((task.mission_id, task.base)));
        want.signals.extend(reach.signals.then_some(task.mission_id));
    }

    /// A mission.
    pub(crate) fn mission(&self, id: MissionId) -> &Mission {
        &self.tables.missions[&id]
    }

    /// A mission's run.
    pub(crate) fn run(&self, mission: MissionId) -> &Run {
        &self.tables.runs[&self.mission(mission).run_id]
    }

    /// The task of a mission's node.
    pub(crate) fn task(&self, mission: MissionId, node: &str) -> &Task {
        let run = self.mission(mission).run_id;
        self.tables.tasks_of(run).into_iter().find(|task| task.node == node).unwrap()
    }

    /// Where a mission's node stands.
    pub(crate) fn state(&self, mission: MissionId, node: &str) -> TaskState {
        self.task(mission, node).state
    }

    /// What the open hold of a mission's node has, in µcr.
    pub(crate) fn held(&self, mission: MissionId, node: &str) -> Option<i64> {
        let hold = self.task(mission, node).hold_id?;
        Some(self.tables.holds[&hold].amount_ucr.get())
    }

    /// Everything charged for a mission, in µcr.
    pub(crate) fn spent(&self, mission: MissionId) -> i64 {
        self.mission(mission).spent_ucr.get()
    }

    /// The kinds of a mission's events, in order.
    pub(crate) fn events(&self, mission: MissionId) -> Vec<&str> {
        self.tables.events.range((mission, 0)..=(mission, i64::MAX)).map(|(_, event)| event.kind.as_str()).collect()
    }

    /// Changes a mission's budget, as its user would, and tries whoever waits.
    pub(crate) fn change_budget(&mut self, mission: MissionId, budget: Option<Ucr>) -> Result<(), Refusal> {
        let want = Want { missions: vec![mission], ..Want::default() };
        let changed = self.decide_or_nothing(&want, |turn| flow::set_budget(turn, mission, Some(budget), None));
        self.retry_waiters();
        changed
    }

    /// Raises the budget of a mission that lives.
    pub(crate) fn set_budget(&mut self, mission: MissionId, credits: i64) {
        self.change_budget(mission, Some(Ucr::from_credits(credits))).unwrap();
    }

    /// A new id of any kind.
    pub(crate) fn id<K: crate::id::Kind>(&mut self) -> Id<K> {
        self.dice.id()
    }
}
