//! The storm itself: one random thing after another, the checks after each, and the calm in the end.

use std::collections::{BTreeMap, BTreeSet};

use crate::credits::Ucr;
use crate::flow::testbed::{Dice, Lease, World, verify};
use crate::flow::{Refusal, SettleRequest};
use crate::id::{HoldId, TaskId, WorkerId};
use crate::outcome::{FinishedCall, Outcome};
use crate::record::{Account, Mission, Op, OpKind, Task};
use crate::state::{RunState, TaskState, WaitCause};

use super::actors::{Job, Unanswered};
use super::missions;

/// Missions that are submitted in one storm at most; keeps the checks after each step quick.
const MOST_MISSIONS: usize = 40;
/// What must have been seen in some storm: otherwise the storms are too mild to prove anything.
pub(super) const CORNERS: [&str; 82] = [
    "adjustment",
    "approval expired",
    "approved",
    "asked for a decision",
    "attempt cancelled",
    "attempt failed",
    "attempt handed_back",
    "attempt lost",
    "batch",
    "budget alert",
    "call Done",
    "call Failed",
    "call Lost",
    "call Rejected",
    "condition failed",
    "deadline of a node",
    "debt",
    "debt refunded",
    "decided again",
    "decided too late",
    "early signal taken",
    "failure charged",
    "fee taken",
    "grant expired",
    "hold expired",
    "in line",
    "input of a workflow refused",
    "item failed its map",
    "late charge",
    "listened",
    "loss not tried again",
    "made again",
    "map over",
    "message begins a run",
    "message refused",
    "message repeated",
    "message steers",
    "never fits",
    "over a limit",
    "overrun absorbed",
    "parked by a pause",
    "plan carried out",
    "plan refused",
    "poison",
    "put off",
    "refund",
    "rejected",
    "replay",
    "reply",
    "review accepted",
    "run cancelled",
    "run expired",
    "run failed",
    "run forked",
    "run paused",
    "run retried",
    "run succeeded",
    "run succeeded without a failed node",
    "scope in a scope",
    "settle repeated",
    "settle stale",
    "show failed",
    "signal expired",
    "signal repeated",
    "signal taken",
    "signal waits",
    "skipped by a condition",
    "stand-in failed",
    "stand-in for a stand-in",
    "stand-in not needed",
    "stand-in succeeded",
    "submit refused",
    "successor",
    "top up",
    "until failed",
    "waits for a rate limit",
    "waits for a signal",
    "waits for credits",
    "workflow abandoned",
    "workflow inside failed",
    "workflow inside is over",
    "write-off",
];

/// A world in which things go wrong.
pub(super) struct Storm {
    pub(super) world: World,
    pub(super) dice: Dice,
    workers: Vec<WorkerId>,
    /// Ids on their way to workers; taken in any order.
    messages: Vec<TaskId>,
    jobs: Vec<Job>,
    unanswered: Vec<Unanswered>,
    /// What each task must have been charged, by the settle that ended it and arithmetic of our own; `None` where it
    /// failed.
    pub(super) owed: BTreeMap<TaskId, Option<i64>>,
    seen: BTreeSet<String>,
    submitted: usize,
    /// While it lasts, most workers die with what they just claimed.
    is_plague: bool,
    /// The largest grant.
    most_granted_ucr: u64,
    /// Holds of calls from outside any mission.
    pub(super) outside: Vec<HoldId>,
    /// How many of them there were.
    pub(super) calls_outside: u64,
}

impl Storm {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut world = World::new(seed);
        let workers = (0..3).map(|_| dice.id()).collect();
        // some storms blow over the poor, some over the rich
        let most_granted_ucr = 20_000 << dice.below(8);
        world.grant_ucr(Ucr::from_credits(1), None).unwrap();
        // some see all that a settle may reach, some next to nothing of it
        if dice.percent(50) {
            world.sight = usize::try_from(dice.below(3)).unwrap();
        }
        let mut storm = Self {
            world,
            dice,
            workers,
            messages: Vec::new(),
            jobs: Vec::new(),
            unanswered: Vec::new(),
            owed: BTreeMap::new(),
            seen: BTreeSet::new(),
            submitted: 0,
            is_plague: false,
            most_granted_ucr,
            outside: Vec::new(),
            calls_outside: 0,
        };
        storm.choose_policies();
        storm
    }

    /// So many steps of storm, then calm, then the reckoning.
    pub(super) fn run(&mut self, steps: u32) {
        for step in 0..steps {
            self.step();
            self.forward_messages();
            self.check();
            if step % 16 == 0 {
                self.look_around();
            }
        }
        self.calm();
        self.look_around();
        self.reckon();
    }

    /// What was seen so far.
    pub(super) fn sights(&self) -> impl Iterator<Item = String> + '_ {
        self.seen.iter().cloned()
    }

    pub(super) fn saw(&mut self, what: &str) {
        if !self.seen.contains(what) {
            self.seen.insert(what.to_owned());
        }
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..=4 => self.submit(),
            5..=24 => self.deliver(),
            25..=61 => self.work(),
            62 => self.send_something(),
            63 => self.batch(),
            64 => self.decide_something(),
            65 => self.say_something(),
            66..=69 => self.beat(),
            70..=73 => self.lose_a_worker(),
            74..=79 => self.repeat_a_settle(),
            80..=88 => self.pass_time(),
            89..=92 => self.world.sweep(),
            93 => self.correct(),
            94 => self.call_from_outside(),
            95 if self.dice.percent(50) => self.change_terms(),
            95 => self.change_budget(),
            96 if self.dice.percent(50) => self.cancel(),
            96 if self.dice.percent(60) => self.pause_or_resume(),
            96 => self.renew(),
            97..=98 => self.grant(),
            _ if self.dice.percent(50) => self.freeze(),
            _ => self.is_plague = self.dice.percent(60),
        }
    }

    fn submit(&mut self) {
        if self.submitted >= MOST_MISSIONS {
            return;
        }
        self.submitted += 1;
        if missions::submit(&mut self.world, &mut self.dice).is_none() {
            self.saw("submit refused");
        }
    }

    /// What became ready is told to the queue, which loses and doubles messages.
    fn forward_messages(&mut self) {
        for task in std::mem::take(&mut self.world.outbox) {
            if !self.dice.percent(10) {
                self.messages.push(task);
            }
            if self.dice.percent(10) {
                self.messages.push(task);
            }
        }
    }

    pub(super) fn pick(&mut self, count: usize) -> Option<usize> {
        let at = self.dice.below(u64::try_from(count).unwrap());
        (count > 0).then(|| usize::try_from(at).unwrap())
    }

    /// Any message reaches any worker; now and then the store is asked for what the queue lost.
    fn deliver(&mut self) {
        if self.messages.is_empty() {
            let ready = self.world.tables.tasks.values().filter(|task| task.state == TaskState::Ready);
            self.messages.extend(ready.map(|task| task.id).collect::<Vec<_>>());
        }
        let Some(at) = self.pick(self.messages.len()) else { return };
        let task = self.messages.swap_remove(at);
        let who = self.pick(self.workers.len()).unwrap();
        let worker = self.workers[who];
        let claimed = self.world.claim_for(worker, task);
        let dies = self.is_plague && self.dice.percent(70);
        let job = claimed.map(|lease| Job::new(lease, &self.world, &mut self.dice));
        self.jobs.extend(job.filter(|_| !dies));
    }

    fn work(&mut self) {
        let Some(at) = self.pick(self.jobs.len()) else { return };
        if self.jobs[at].is_frozen {
            self.jobs[at].is_frozen = self.dice.percent(80);
            return;
        }
        let task = &self.world.tables.tasks[&self.jobs[at].lease.task];
        let may_call = task.kind == "agent" && self.jobs[at].stopped.is_none() && self.jobs[at].next < 4;
        if may_call && self.dice.percent(65) {
            let (calls, heard) = (self.jobs[at].calls.len(), self.jobs[at].heard);
            self.jobs[at].call(&mut self.world, &mut self.dice);
            if self.jobs[at].heard > heard {
                self.saw("listened");
            }
            let number = self.jobs[at].lease.guard.fence;
            let bought_before = |call: &FinishedCall| i64::from(self.world.tables.calls[&call.id].attempt) < number;
            if self.jobs[at].calls.get(calls).is_some_and(bought_before) {
                self.saw("replay");
            }
            return;
        }
        let job = self.jobs.swap_remove(at);
        let mut request = job.lease.settle(job.outcome(&mut self.dice));
        if matches!(request.outcome, Outcome::Succeeded { .. }) && self.dice.percent(60) {
            request.handoff = Some(self.world.offer(job.lease.worker, "default"));
        }
        self.settle(Unanswered { lease: job.lease, request });
    }

    /// Settles; the answer may get lost, and the worker may die right after.
    fn settle(&mut self, sent: Unanswered) {
        let task = sent.lease.task;
        let owed = self.bill(&sent);
        match self.world.settle(&sent.lease, &sent.request) {
            Ok(settled) => {
                if settled.repeated {
                    self.saw("settle repeated");
                } else if settled.state.is_final() {
                    // what a failure costs is the wallet's policy, reckoned in the end
                    let owed = if settled.state == TaskState::Failed { None } else { Some(owed) };
                    let first = self.owed.insert(task, owed);
                    assert_eq!(first, None, "{task} was settled twice");
                }
                if let Some(run) = settled.ending.filter(|_| self.dice.percent(70)) {
                    self.world.end_run(run);
                }
                if self.dice.percent(20) {
                    self.unanswered.push(sent);
                } else if let Some(next) = settled.successor {
                    self.saw("successor");
                    let lease = Lease::of(&self.world, next);
                    assert_eq!(Some(&lease.guard.token), sent.request.handoff.as_ref().map(|offer| &offer.token));
                    if self.dice.percent(90) {
                        let job = Job::new(lease, &self.world, &mut self.dice);
                        self.jobs.push(job);
                    }
                }
            }
            Err(Refusal::StaleFence { .. }) => {
                self.saw("settle stale");
                if let Outcome::Succeeded { calls, .. } | Outcome::Failed { calls, .. } = &sent.request.outcome {
                    self.world.record_late(&sent.lease, calls);
                }
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// Several settles in one transaction do exactly what they would do one after another. Tried out in two copies
    /// of the world, which are thrown away.
    fn batch(&mut self) {
        if self.world.sight < 100 {
            // who settles together sees together, and decides at once what others put off
            return;
        }
        let mut batch: Vec<(Lease, SettleRequest)> = Vec::new();
        for job in &self.jobs {
            let mut request = job.lease.settle(job.outcome(&mut self.dice));
            if self.dice.percent(50) {
                request.handoff = Some(self.world.offer(job.lease.worker, "default"));
            }
            batch.push((job.lease.clone(), request));
        }
        batch.extend(self.unanswered.iter().map(|sent| (sent.lease.clone(), sent.request.clone())));
        if let Some(again) = self.pick(batch.len()) {
            batch.push(batch[again].clone());
        }
        self.world.give_back_overdue();
        let (mut together, mut apart) = (self.world.clone(), self.world.clone());
        let answers = together.settle_batch(&batch);
        let expected: Vec<_> = batch.iter().map(|(lease, request)| apart.settle(lease, request)).collect();
        assert_eq!(answers, expected);
        assert!(together.tables == apart.tables, "a batch is not the sequence of its settles");
        if batch.len() > 2 {
            self.saw("batch");
        }
    }

    fn repeat_a_settle(&mut self) {
        let Some(at) = self.pick(self.unanswered.len()) else { return };
        let sent = self.unanswered.swap_remove(at);
        self.settle(sent);
    }

    /// All workers that are awake renew; who lost its lease drops its work, or does not notice.
    fn beat(&mut self) {
        for at in (0..self.jobs.len()).rev() {
            if self.jobs[at].is_frozen {
                continue;
            }
            let lease = self.jobs[at].lease.clone();
            let (is_held, must_stop) = self.world.beat(&lease);
            if !is_held && self.dice.percent(70) {
                self.jobs.swap_remove(at);
            } else if must_stop {
                self.jobs[at].stopped = Some(crate::outcome::ErrorClass::Cancelled);
            }
        }
    }

    /// A worker dies with what it had in its hands, or freezes and comes back much later.
    fn lose_a_worker(&mut self) {
        let Some(at) = self.pick(self.jobs.len()) else { return };
        if self.dice.percent(60) {
            self.jobs.swap_remove(at);
        } else {
            self.jobs[at].is_frozen = true;
        }
    }

    fn pass_time(&mut self) {
        let ms = match self.dice.below(100) {
            0..=79 => i64::try_from(self.dice.below(3_000)).unwrap(),
            80..=92 => i64::try_from(self.dice.below(40_000)).unwrap(),
            93..=94 => 3_600_000,
            _ => -i64::try_from(self.dice.below(5_000)).unwrap(),
        };
        self.world.pass_ms(ms);
    }

    fn cancel(&mut self) {
        let missions: Vec<_> = self.world.tables.missions.keys().copied().collect();
        let Some(at) = self.pick(missions.len()) else { return };
        let state = self.world.run(missions[at]).state;
        let is_over = matches!(state, RunState::Succeeded | RunState::Failed | RunState::Expired);
        assert_eq!(self.world.cancel(missions[at]).is_err(), is_over);
    }

    fn grant(&mut self) {
        let amount = Ucr::new(i64::try_from(1 + self.dice.below(self.most_granted_ucr)).unwrap());
        let lives_ms = i64::try_from(self.dice.below(60_000)).unwrap();
        let expires_at = self.dice.percent(40).then(|| self.world.now.plus_ms(lives_ms));
        self.world.grant_ucr(amount, expires_at).unwrap();
    }

    fn freeze(&mut self) {
        let frozen = self.dice.percent(30);
        self.world.freeze(frozen);
    }

    fn check(&self) {
        let mut broken = verify::ledger(&self.world.tables);
        broken.extend(verify::work(&self.world.tables, &self.world.facts));
        assert!(broken.is_empty(), "{}", broken.join("\n"));
    }

    /// The wind is gone: workers work, the clock ticks, credits come, until nothing moves any more.
    fn calm(&mut self) {
        self.lift_terms();
        self.resume_all();
        self.world.grant_ucr(Ucr::from_credits(10_000), None).unwrap();
        for round in 0.. {
            for sent in std::mem::take(&mut self.unanswered) {
                self.settle(sent);
            }
            for job in std::mem::take(&mut self.jobs) {
                let calls = job.calls.into_iter().filter(|call| call.succeeded).collect();
                let outcome = Outcome::Succeeded { output: "calm".into(), calls };
                let request = job.lease.settle(outcome);
                self.settle(Unanswered { lease: job.lease, request });
            }
            let ready = self.world.tables.tasks.values().filter(|task| task.state == TaskState::Ready);
            let ready: Vec<TaskId> = ready.map(|task| task.id).collect();
            for task in ready {
                let claimed = self.world.claim_for(self.workers[0], task);
                self.jobs.extend(claimed.map(|lease| Job::new(lease, &self.world, &mut self.dice)));
            }
            self.world.pass_ms(1_000);
            self.beat();
            self.world.sweep();
            self.forward_messages();
            self.check();
            let is_quiet = self.jobs.is_empty() && self.unanswered.is_empty();
            if is_quiet && self.world.tables.missions.keys().all(|id| self.rests(*id)) {
                return;
            }
            assert!(round < 4_000, "missions do not come to rest: {:?}", self.restless());
        }
    }

    /// Whether a mission is over, or waits for room in its budget and for nothing else.
    fn rests(&self, mission: crate::id::MissionId) -> bool {
        let run = self.world.run(mission);
        let tasks = self.world.tables.tasks_of(run.id);
        let waits = |wait: Option<WaitCause>| wait == Some(WaitCause::Credits);
        let moves = tasks.iter().any(|task| {
            let for_children = task.wait == Some(WaitCause::Children) && task.due_at.is_none();
            let is_parked = task.state == TaskState::Waiting && (waits(task.wait) || for_children);
            !task.state.is_final() && task.state != TaskState::Pending && !is_parked
        });
        let is_named = tasks.iter().filter(|task| waits(task.wait)).all(|task| {
            task.status_reason.as_ref().is_some_and(|reason| !reason.is_empty())
                && self.world.mission(mission).budget_ucr.is_some()
        });
        run.state.is_final() || !moves && is_named && tasks.iter().any(|task| waits(task.wait))
    }

    fn restless(&self) -> Vec<String> {
        let restless = self.world.tables.missions.keys().filter(|id| !self.rests(**id));
        restless
            .map(|id| {
                let run = self.world.run(*id);
                let tasks = self.world.tables.tasks_of(run.id).into_iter();
                let tasks: Vec<_> = tasks.map(|task| (task.state, task.wait, task.status_reason.clone())).collect();
                format!("{:?} {tasks:?}", run.state)
            })
            .collect()
    }

    fn look_around(&mut self) {
        self.look_at_signals();
        self.look_at_messages();
        let tables = &self.world.tables;
        let mut seen: Vec<String> = Vec::new();
        seen.extend(tables.attempts.values().map(|attempt| format!("attempt {}", attempt.outcome)));
        seen.extend(tables.calls.values().map(|call| format!("call {:?}", call.state)));
        seen.extend(tables.runs.values().map(|run| format!("run {}", run.state.as_str())));
        let mut notice = |is_seen: bool, what: &str| seen.extend(is_seen.then(|| what.to_owned()));
        let has = |kind: OpKind| tables.ops.values().any(|op| op.kind == kind);
        notice(has(OpKind::TopUp), "top up");
        let is_spoilt = |op: &Op| op.kind == OpKind::Expire && op.legs.iter().any(|leg| leg.1 == Account::Breakage);
        notice(tables.ops.values().any(is_spoilt), "grant expired");
        let on_credit = |op: &Op| op.legs.iter().any(|leg| leg.0 == Account::Debt);
        notice(tables.ops.values().any(on_credit), "debt");
        let waits = |cause| tables.tasks.values().any(|task| task.wait == Some(cause));
        notice(waits(WaitCause::Credits), "waits for credits");
        notice(waits(WaitCause::RateLimit), "waits for a rate limit");
        notice(waits(WaitCause::Condition), "put off");
        notice(tables.runs.values().any(|run| run.retries > 0), "run retried");
        notice(tables.runs.values().any(|run| run.number > 1), "run forked");
        notice(waits(WaitCause::Approval), "asked for a decision");
        notice(waits(WaitCause::Signal), "waits for a signal");
        notice(waits(WaitCause::Paused), "parked by a pause");
        let skipped = |of: &str| {
            let is_such = |task: &Task| task.state == TaskState::Skipped && task.output.is_some();
            tables.tasks.values().any(|task| is_such(task) && task.status_reason.iter().any(|text| text.contains(of)))
        };
        notice(skipped("its condition does not hold"), "skipped by a condition");
        notice(skipped("it stands in for"), "stand-in not needed");
        let stand_ins: Vec<TaskId> = tables.tasks.values().filter_map(|task| task.stand_in_id).collect();
        let stood_in = |state| stand_ins.iter().any(|id| tables.tasks[id].state == state);
        notice(stood_in(TaskState::Succeeded), "stand-in succeeded");
        notice(stood_in(TaskState::Failed), "stand-in failed");
        let is_twice = |id: &TaskId| stand_ins.iter().filter(|other| *other == id).count() > 1;
        notice(stand_ins.iter().any(is_twice), "stand-in for a stand-in");
        let has_error =
            |code| tables.tasks.values().any(|task| task.error.as_ref().is_some_and(|error| error.code == code));
        let without =
            |task: &Task| task.state == TaskState::Failed && tables.runs[&task.run_id].state == RunState::Succeeded;
        notice(tables.tasks.values().any(without), "run succeeded without a failed node");
        notice(has_error("condition_failed"), "condition failed");
        notice(has_error("until_failed"), "until failed");
        notice(has_error("show_failed"), "show failed");
        notice(has_error("approval_expired"), "approval expired");
        notice(has_error("signal_expired"), "signal expired");
        notice(has_error("deadline_exceeded"), "deadline of a node");
        notice(has_error("worker_lost"), "loss not tried again");
        let poison = |error: &crate::outcome::StepError| error.code == "poison_pill";
        notice(tables.tasks.values().any(|task| task.error.as_ref().is_some_and(poison)), "poison");
        let paid = tables.runs.values().any(|run| run.fee_ucr.is_positive() && run.state == RunState::Succeeded);
        notice(paid, "fee taken");
        let is_over = |kind: &str, state: TaskState| {
            tables.tasks.values().any(|task| task.kind == kind && task.state == state && task.fan.is_some())
        };
        notice(is_over("map", TaskState::Succeeded), "map over");
        notice(is_over("map", TaskState::Failed), "item failed its map");
        notice(is_over("review", TaskState::Succeeded), "review accepted");
        let again = |task: &Task| task.bound.as_ref().is_some_and(|bound| !bound.outputs.is_empty());
        notice(tables.tasks.values().any(again), "made again");
        seen.extend(self.look_at_money());
        seen.extend(self.look_inside());
        for what in seen {
            self.saw(&what);
        }
    }

    /// What is seen of workflows inside of runs.
    fn look_inside(&self) -> Vec<String> {
        let tables = &self.world.tables;
        let mut seen: Vec<String> = Vec::new();
        let mut notice = |is_seen: bool, what: &str| seen.extend(is_seen.then(|| what.to_owned()));
        let is_over = |kind: &str, state: TaskState| {
            tables.tasks.values().any(|task| task.kind == kind && task.state == state && task.fan.is_some())
        };
        let has_error =
            |code| tables.tasks.values().any(|task| task.error.as_ref().is_some_and(|error| error.code == code));
        notice(is_over("plan", TaskState::Succeeded), "plan carried out");
        notice(is_over("workflow", TaskState::Succeeded), "workflow inside is over");
        notice(is_over("workflow", TaskState::Failed), "workflow inside failed");
        notice(has_error("plan_refused"), "plan refused");
        notice(has_error("input_refused"), "input of a workflow refused");
        let deep = |task: &Task| task.base > 0 && task.fan.as_ref().is_some_and(|fan| fan.scope.is_some());
        notice(tables.tasks.values().any(deep), "scope in a scope");
        let own = |mission: &Mission| mission.metadata.is_some();
        notice(tables.missions.values().any(own), "workflow abandoned");
        seen
    }
}
