//! The invariants, recomputed from the entries by code that shares nothing with the code that wrote them.
//!
//! Numbers (I1…) are those of the ledger's documentation.

use std::collections::BTreeMap;

use crate::credits::Ucr;
use crate::flow::Facts;
use crate::id::{HoldId, MissionId, RunId, TaskId, WalletId};
use crate::record::{Account, CallState, Hold, HoldOwner, HoldState, Leg, Mission, Op, OpKind, Run, Task};
use crate::state::{RunState, TaskState, WaitCause};
use crate::workflow::Node;

use super::tables::Tables;

/// What all entries add up to, signed: by wallet and account, and the charges by task and by mission.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Balances {
    accounts: BTreeMap<(WalletId, Account), i64>,
    charges: BTreeMap<TaskId, i64>,
    spent: BTreeMap<MissionId, i64>,
    /// By task: whether its settle says that it was charged for a failure, and that the platform absorbed a part.
    odd: BTreeMap<TaskId, (bool, bool)>,
    /// What came out of usage and fees again, by the hold that the refund names.
    refunded: BTreeMap<String, i64>,
}

impl Balances {
    /// Adds the entries of an operation.
    pub(crate) fn add(&mut self, op: &Op) {
        if let (OpKind::Settle, Some(task), Some(reason)) = (op.kind, op.task_id, &op.reason) {
            self.odd.insert(task, (reason.starts_with("failed"), reason.ends_with("absorbed")));
        }
        if op.kind == OpKind::Refund {
            let back = op.legs.iter().filter(|leg| matches!(leg.0, Account::Usage | Account::Fee));
            let hold = op.request_hash.split('/').next().unwrap_or_default().to_owned();
            *self.refunded.entry(hold).or_default() += back.map(|leg| leg.2.get()).sum::<i64>();
        }
        for Leg(from, to, amount) in &op.legs {
            *self.accounts.entry((op.wallet_id, *from)).or_default() -= amount.get();
            *self.accounts.entry((op.wallet_id, *to)).or_default() += amount.get();
            if matches!(to, Account::Usage | Account::Fee) {
                if let Some(task) = op.task_id {
                    *self.charges.entry(task).or_default() += amount.get();
                }
                if let Some(mission) = op.mission_id {
                    *self.spent.entry(mission).or_default() += amount.get();
                }
            }
        }
    }

    /// The balance of an account.
    pub(crate) fn of(&self, wallet: WalletId, account: Account) -> i64 {
        self.accounts.get(&(wallet, account)).copied().unwrap_or_default()
    }
}

type Broken = Vec<String>;

fn expect(holds: bool, broken: &mut Broken, what: impl FnOnce() -> String) {
    if !holds {
        broken.push(what());
    }
}

/// Everything that is wrong with the money: I1 to I8 and I10.
pub(crate) fn ledger(tables: &Tables) -> Broken {
    let mut broken = Broken::new();
    let at = |wallet, account| tables.balances.of(wallet, account);
    for grant in tables.grants.values() {
        let balance = at(grant.wallet_id, Account::Grant(grant.id));
        expect(grant.remaining_ucr.get() == balance, &mut broken, || format!("I1: {balance} is left of {grant:?}"));
        expect(balance >= 0, &mut broken, || format!("I8: {grant:?}"));
        let is_spent = !grant.expired || grant.remaining_ucr.is_zero();
        expect(is_spent, &mut broken, || format!("credits came back to an expired grant: {grant:?}"));
    }
    let mut flying: BTreeMap<HoldId, i64> = BTreeMap::new();
    for call in tables.calls.values().filter(|call| call.state == CallState::Sent) {
        if let Some(hold) = call.hold_id {
            *flying.entry(hold).or_default() += call.reserved_ucr.get();
        }
    }
    for hold in tables.holds.values() {
        hold_is_sound(tables, hold, flying.get(&hold.id).copied().unwrap_or_default(), &mut broken);
    }
    for wallet in tables.wallets.values() {
        let mine = |id: WalletId| id == wallet.id;
        let left: i64 =
            tables.grants.values().filter(|row| mine(row.wallet_id)).map(|row| row.remaining_ucr.get()).sum();
        let open = tables.holds.values().filter(|row| mine(row.wallet_id) && row.state == HoldState::Open);
        let held: i64 = open.map(|row| row.amount_ucr.get()).sum();
        let debt = -at(wallet.id, Account::Debt);
        let known = (wallet.available_ucr.get(), wallet.held_ucr.get(), wallet.debt_ucr.get());
        expect(known == (left, held, debt), &mut broken, || {
            format!("I3: left {left}, held {held}, debt {debt} of {wallet:?}")
        });
        let sinks: i64 = [Account::Usage, Account::Fee, Account::Breakage, Account::Writeoff, Account::Adjust]
            .iter()
            .map(|account| at(wallet.id, *account))
            .sum();
        let issued = -at(wallet.id, Account::Issue);
        expect(issued == left + held - debt + sinks, &mut broken, || {
            format!("I5: issued {issued}, left {left}, held {held}, debt {debt}, taken {sinks} of {wallet:?}")
        });
        for account in [Account::Usage, Account::Fee, Account::Breakage] {
            expect(at(wallet.id, account) >= 0, &mut broken, || format!("I8: {account} of {wallet:?}"));
        }
        expect(at(wallet.id, Account::Writeoff) <= 0, &mut broken, || format!("I8: written off of {wallet:?}"));
    }
    let total: i64 = tables.balances.accounts.values().sum();
    expect(total == 0, &mut broken, || format!("I4: all balances add up to {total}"));
    for ((wallet, account), balance) in &tables.balances.accounts {
        let exists = match account {
            Account::Grant(id) => tables.grants.get(id).is_some_and(|row| row.wallet_id == *wallet),
            Account::Hold(id) => tables.holds.get(id).is_some_and(|row| row.wallet_id == *wallet),
            _ => tables.wallets.contains_key(wallet),
        };
        expect(exists, &mut broken, || format!("I7: {account} of {wallet} with {balance} does not exist"));
    }
    broken
}

fn hold_is_sound(tables: &Tables, hold: &Hold, reserved: i64, broken: &mut Broken) {
    let balance = tables.balances.of(hold.wallet_id, Account::Hold(hold.id));
    let sliced: i64 = hold.slices.iter().map(|slice| slice.amount.get()).sum();
    expect(sliced == hold.amount_ucr.get(), broken, || format!("I6: slices {sliced} of {hold:?}"));
    if hold.state == HoldState::Open {
        expect(balance == hold.amount_ucr.get(), broken, || format!("I2: balance {balance} of {hold:?}"));
    } else {
        expect(balance == 0, broken, || format!("I2: balance {balance} of {hold:?}"));
        let parts = hold.captured_ucr.get() + hold.returned_ucr.get();
        expect(parts == hold.amount_ucr.get(), broken, || format!("I6: parts {parts} of {hold:?}"));
    }
    let refunded = tables.balances.refunded.get(&hold.id.to_string()).copied().unwrap_or_default();
    let charged = hold.captured_ucr.get() + hold.overrun_ucr.get();
    let is_sound = refunded == hold.refunded_ucr.get() && refunded <= charged;
    expect(is_sound, broken, || format!("I6: {refunded} was refunded of {hold:?}"));
    expect(reserved == hold.reserved_ucr.get(), broken, || format!("I10: {reserved} in flight of {hold:?}"));
    let promised = hold.reserved_ucr.get() + hold.used_ucr.get();
    let covered = hold.state != HoldState::Open || promised <= hold.amount_ucr.get() || reserved == 0;
    expect(covered, broken, || format!("{promised} promised out of {hold:?}"));
}

/// Everything that is wrong with tasks, runs and missions, and between them and the money: I9, I11, I12.
pub(crate) fn work(tables: &Tables, facts: &Facts) -> Broken {
    let mut broken = Broken::new();
    let mut billable: BTreeMap<TaskId, i64> = BTreeMap::new();
    for call in tables.calls.values().filter(|call| call.billable) {
        *billable.entry(call.task_id).or_default() += call.cost_ucr.get();
    }
    for task in tables.tasks.values() {
        task_holds(tables, task, &mut broken);
        task_costs(tables, task, billable.get(&task.id).copied().unwrap_or_default(), &mut broken);
    }
    let nodes: BTreeMap<(RunId, i32), &Task> =
        tables.tasks.values().map(|task| ((task.run_id, task.node_index), task)).collect();
    for task in tables.tasks.values().filter(|task| task.fan.is_some()) {
        family_counts(tables, facts, task, &mut broken);
    }
    for task in tables.tasks.values() {
        needs_came_first(tables, &nodes, facts, task, &mut broken);
    }
    let mut held: BTreeMap<MissionId, i64> = BTreeMap::new();
    for hold in tables.holds.values().filter(|hold| hold.state == HoldState::Open) {
        if let Some(mission) = hold.mission_id {
            *held.entry(mission).or_default() += hold.amount_ucr.get();
        }
        let lives = match hold.owner_kind {
            HoldOwner::Task => {
                tables.tasks.values().any(|task| task.hold_id == Some(hold.id) && task.id.to_string() == hold.owner_id)
            }
            HoldOwner::Fee => tables.runs.values().any(|run| {
                run.fee_hold_id == Some(hold.id) && run.id.to_string() == hold.owner_id && !run.state.is_final()
            }),
            HoldOwner::Call => true,
        };
        expect(lives, &mut broken, || format!("I12: {hold:?} has no live owner"));
    }
    for mission in tables.missions.values() {
        let tasks: Vec<&Task> =
            nodes.range((mission.run_id, 0)..=(mission.run_id, i32::MAX)).map(|(_, task)| *task).collect();
        mission_counts(tables, mission, &tasks, held.get(&mission.id).copied().unwrap_or_default(), &mut broken);
        if let Some(run) = tables.runs.get(&mission.run_id) {
            run_is_sound(tables, mission, run, &tasks, &mut broken);
        }
    }
    broken
}

fn task_holds(tables: &Tables, task: &Task, broken: &mut Broken) {
    use TaskState::{Cancelled, Failed, Pending, Ready, Retrying, Running, Skipped, Succeeded, Waiting};
    let open = task.hold_id.and_then(|id| tables.holds.get(&id)).filter(|hold| hold.state == HoldState::Open);
    expect(task.hold_id.is_some() == open.is_some(), broken, || format!("I12: the hold of {task:?} is not open"));
    let sound = match (task.state, task.wait) {
        (Waiting, Some(WaitCause::Credits | WaitCause::Paused)) => {
            open.is_none_or(|hold| hold.amount_ucr <= hold.used_ucr)
        }
        (Waiting, Some(WaitCause::Condition | WaitCause::Children))
        | (Pending | Succeeded | Failed | Cancelled | Skipped, _) => open.is_none(),
        (Ready | Running | Retrying | Waiting, _) => task.priced == open.is_some(),
    };
    expect(sound, broken, || format!("I12: {task:?} holds {open:?}"));
}

/// Whether a task is over and its dependents may go on.
fn is_passed(task: &Task) -> bool {
    match task.state {
        TaskState::Succeeded => true,
        TaskState::Skipped | TaskState::Failed => task.output.is_some() || task.stand_in_id.is_some(),
        _ => false,
    }
}

/// Nothing of a task happens before all its needs are over, and it counts exactly those that are not.
fn needs_came_first(
    tables: &Tables,
    nodes: &BTreeMap<(RunId, i32), &Task>,
    facts: &Facts,
    task: &Task,
    broken: &mut Broken,
) {
    if task.layer > 0 {
        return;
    }
    let definition = facts.workflows.get(&task.workflow_id);
    let node = definition.and_then(|definition| definition.node(task.place().index));
    let Some(node) = node else {
        broken.push(format!("{task:?} has no node"));
        return;
    };
    let open = |need: &&u32| {
        let need = nodes.get(&(task.run_id, task.neighbour(**need)));
        need.is_none_or(|need| !is_passed(need))
    };
    let missing = node.needs.iter().filter(open).count();
    stands_in_rightly(nodes, node, task, broken);
    let of = |index: u32| nodes.get(&(task.run_id, task.neighbour(index)));
    let origin = node.stands_in_for.and_then(of);
    if origin.is_some_and(|origin| is_passed(origin) && origin.stand_in_id.is_none())
        && matches!(task.state, TaskState::Skipped | TaskState::Waiting | TaskState::Pending | TaskState::Cancelled)
    {
        // dismissed, or about to be, whatever else it would have waited for
        return;
    }
    let stood_by = task.state == TaskState::Cancelled && task.attempt == 0 && node.stands_in_for.is_some();
    let waits =
        stood_by || task.state == TaskState::Pending || task.state == TaskState::Skipped && task.output.is_none();
    expect(waits || missing == 0, broken, || format!("{missing} needs of {task:?} were not over"));
    // what was skipped because another node failed does not hear of the others any more
    let is_left_out = task.state == TaskState::Skipped && task.output.is_none() && task.parent_id.is_some();
    let counted = is_left_out || usize::try_from(task.remaining_needs) == Ok(missing);
    expect(counted, broken, || format!("{missing} needs are missing for {task:?}"));
    let lives = tables.runs.get(&task.run_id).is_some_and(|run| run.state.is_live());
    // the node that it is part of is to fail and skips it as soon as somebody thinks of it
    let above = task.parent_id.and_then(|parent| tables.tasks.get(&parent));
    let is_doomed = above.is_some_and(|above| {
        above.fan.as_ref().is_some_and(|fan| fan.error.is_some()) && (above.due_at.is_some() || above.state.is_final())
    });
    let stuck = lives && task.state == TaskState::Pending && missing == 0 && !is_doomed;
    expect(!stuck, broken, || format!("{task:?} needs nothing and stays pending"));
}

/// Who failed with a fallback names it, or the one that stands in for that; who did not is stood in for by nobody.
fn stands_in_rightly(nodes: &BTreeMap<(RunId, i32), &Task>, node: &Node, task: &Task, broken: &mut Broken) {
    let of = |index: u32| nodes.get(&(task.run_id, task.neighbour(index)));
    let expected = node.fallback.and_then(of).filter(|_| task.state == TaskState::Failed);
    let expected = expected.map(|next| next.stand_in_id.unwrap_or(next.id));
    expect(task.stand_in_id == expected, broken, || format!("{expected:?} should stand in for {task:?}"));
    let origin = node.stands_in_for.and_then(of);
    // who is parked before it is dismissed may be cancelled there
    let is_parked = matches!(task.wait, Some(WaitCause::Condition | WaitCause::Paused));
    let never_ran = matches!(task.state, TaskState::Pending | TaskState::Skipped)
        || task.state == TaskState::Cancelled && task.attempt == 0;
    let is_called = origin.is_none_or(|origin| origin.stand_in_id.is_some());
    expect(is_called || is_parked || never_ran, broken, || format!("{task:?} is not needed"));
}

/// A parent knows how its children stand, and is not forgotten.
fn family_counts(tables: &Tables, facts: &Facts, task: &Task, broken: &mut Broken) {
    let Some(fan) = &task.fan else { return };
    let children: Vec<&Task> = tables.tasks.values().filter(|child| child.parent_id == Some(task.id)).collect();
    let count = |of: &dyn Fn(&&&Task) -> bool| i32::try_from(children.iter().filter(of).count()).unwrap_or(-1);
    let counted =
        (count(&|_| true), count(&|child| child.state != TaskState::Pending), count(&|child| child.state.is_final()));
    // whether the tasks of a scope began is not counted
    let counted = if fan.scope.is_some() { (counted.0, fan.made, counted.2) } else { counted };
    expect(counted == (fan.made, fan.begun, fan.done), broken, || format!("{counted:?} are the children of {task:?}"));
    let all_over = children.iter().all(|child| child.state.is_final());
    expect(!task.state.is_final() || all_over || task.state == TaskState::Failed, broken, || {
        format!("{task:?} is over before its children")
    });
    let lives = tables.runs.get(&task.run_id).is_some_and(|run| run.state.is_live());
    let waits = task.state == TaskState::Waiting && task.due_at.is_none() && lives;
    expect(!waits || fan.open() > 0, broken, || format!("nobody will ever think of {task:?}"));
    let below = tables.tasks.values().filter(|row| row.ancestors.iter().flatten().any(|above| *above == task.id));
    let spent: i64 = below.map(|row| row.cost_ucr.get()).sum();
    expect(spent == fan.spent_ucr.get(), broken, || format!("{spent} was spent below {task:?}"));
    let node = facts.workflows.get(&task.workflow_id).and_then(|definition| definition.node(task.place().index));
    if let Some(budget) = node.filter(|_| task.layer == 0).and_then(|node| node.budget) {
        let family: Vec<&Task> =
            tables.tasks.values().filter(|row| row.ancestors.iter().flatten().any(|above| *above == task.id)).collect();
        let spent: i64 = family.iter().map(|row| row.cost_ucr.get()).sum();
        let holds = family.iter().filter_map(|row| tables.holds.get(&row.hold_id?));
        let held: i64 = holds.map(|hold| hold.amount_ucr.get()).sum();
        expect((spent, held) == (fan.spent_ucr.get(), fan.held_ucr.get()), broken, || {
            format!("{spent} was spent and {held} is held of {budget:?} by the children of {task:?}")
        });
    }
}

fn task_costs(tables: &Tables, task: &Task, billable: i64, broken: &mut Broken) {
    let captured = tables.balances.charges.get(&task.id).copied().unwrap_or_default();
    let expected = billable + task.units_ucr.get();
    let cost = task.cost_ucr.get();
    let (was_failure, was_absorbed) = tables.balances.odd.get(&task.id).copied().unwrap_or_default();
    let is_billed = cost == expected || was_absorbed && cost < expected;
    expect(cost == captured && is_billed, broken, || {
        format!("I9: charged {captured}, billable {expected}, cost {cost} of {task:?}")
    });
    let may_cost = match task.state {
        TaskState::Succeeded | TaskState::Cancelled => true,
        TaskState::Failed => was_failure,
        _ => false,
    };
    // what was charged before its run was retried stays charged
    let was_retried = tables.runs.get(&task.run_id).is_some_and(|run| run.retries > 0);
    let charges = may_cost || was_retried || cost == 0;
    expect(charges, broken, || format!("{task:?} was charged without success"));
}

fn mission_counts(tables: &Tables, mission: &Mission, tasks: &[&Task], held: i64, broken: &mut Broken) {
    let done = tasks.iter().filter(|task| task.state.is_final()).count();
    expect(mission.tasks_done == i64::try_from(done).unwrap_or(-1), broken, || {
        format!("{done} tasks are done of {mission:?}")
    });
    expect(held == mission.held_ucr.get(), broken, || format!("{held} is held for {mission:?}"));
    let spent = tables.balances.spent.get(&mission.id).copied().unwrap_or_default();
    expect(spent == mission.spent_ucr.get(), broken, || format!("{spent} was spent by {mission:?}"));
    let events = tables.events.range((mission.id, 0)..=(mission.id, i64::MAX));
    let gapless = events.clone().zip(1..).all(|(((_, seq), _), expected)| *seq == expected);
    let count = i64::try_from(events.count()).unwrap_or(-1);
    expect(gapless && count == mission.last_seq, broken, || format!("{count} events of {mission:?}"));
}

fn run_is_sound(tables: &Tables, mission: &Mission, run: &Run, tasks: &[&Task], broken: &mut Broken) {
    let over = mission.tasks_done == mission.tasks_total;
    expect(run.state.is_final() == over, broken, || format!("{mission:?} counts otherwise than {run:?}"));
    let fee_hold = run.fee_hold_id.and_then(|id| tables.holds.get(&id));
    let taken = fee_hold.map(|hold| hold.captured_ucr).unwrap_or_default();
    let owed = if run.state == RunState::Succeeded { run.fee_ucr } else { Ucr::ZERO };
    expect(taken == owed, broken, || format!("I11: the fee taken is {taken} of {run:?}"));
    let all_well = tasks.iter().all(|task| task.parent_id.is_some() || is_passed(task));
    expect(run.state != RunState::Succeeded || all_well, broken, || format!("{run:?} has tasks that did not end well"));
    let moves = tasks.iter().any(|task| !task.state.is_final() && task.state != TaskState::Pending);
    expect(!run.state.is_live() || moves, broken, || format!("nothing will ever happen to {run:?}"));
}
