//! Charges: what was taken for work, against what the work cost (I9, I11).
//!
//! A charge is an operation with legs into `usage` or `fee`. It belongs to the hold that it closes, which is named by
//! the leg that comes out of it, or, where all of it came from elsewhere, by the operation's key.

use super::{Family, check};

pub(super) const CHARGES: &str = "
    with charges as materialized (
      select op_id, wallet_id, key, kind, task_id,
        coalesce(
          max(case when source like 'hold:%' then substr(source, 6) end),
          case when key like 'settle:%' then substr(key, 8) end) as hold_id,
        sum(case when destination = 'usage' then amount_ucr else 0 end) as usage_ucr,
        sum(case when destination = 'fee' then amount_ucr else 0 end) as fee_ucr
      from entries
      where destination in ('usage', 'fee')
      group by op_id, wallet_id, key, kind, task_id
    ),
    task_charges as materialized (
      select task_id, sum(usage_ucr) as usage_ucr from charges where usage_ucr > 0 group by task_id
    ),
    bought as materialized (
      select task_id, sum(cost_ucr) as cost_ucr from usage_calls where billable group by task_id
    ),
    odd as materialized (
      select task_id,
        max(case when reason like 'failed%' then 1 else 0 end) as was_failure,
        max(case when reason like '%absorbed' then 1 else 0 end) as was_absorbed
      from ops
      where kind = 'settle' and reason is not null and task_id is not null
      group by task_id
    ),
    fees as materialized (
      select h.owner_id as run_id, count(*) as times, sum(c.fee_ucr) as fee_ucr, min(c.op_id) as first_op,
        max(c.op_id) as last_op
      from charges c
      join holds h on h.id = c.hold_id and h.owner_kind = 'fee'
      where c.fee_ucr > 0
      group by h.owner_id
    )
    ";

/// Everything that needs the charges.
pub(super) fn family() -> Family {
    let parts = vec![
        check("I9", TASKS),
        check("I9", NOT_CHARGEABLE),
        check("I9", RUNS),
        check("I9", STRAYS),
        check("I9", MISSIONS),
        check("I11", FEES_TWICE),
    ];
    Family { shared: CHARGES, parts }
}

/// I9: what a task cost is what was charged for it; once it is over, that is its units and its billable calls, less
/// what the platform absorbed.
pub(super) const TASKS: &str = "
    select t.tenant_id as tenant, 'task ' || t.id || ' is ' || t.state || ': cost_ucr is ' || t.cost_ucr || ', charged were '
      || coalesce(c.usage_ucr, 0) || ', its units cost ' || t.units_ucr || ' and its billable calls '
      || coalesce(b.cost_ucr, 0) as what
    from tasks t
    left join task_charges c on c.task_id = t.id
    left join bought b on b.task_id = t.id
    left join odd o on o.task_id = t.id
    where t.cost_ucr <> coalesce(c.usage_ucr, 0)
      or (t.ended_at is not null
        and t.cost_ucr <> t.units_ucr + coalesce(b.cost_ucr, 0)
        and not (coalesce(o.was_absorbed, 0) = 1 and t.cost_ucr < t.units_ucr + coalesce(b.cost_ucr, 0)))";

/// I9: a task that did not succeed costs nothing, unless a user cancelled it or the wallet pays for failures. What was
/// charged so before its run was retried stays charged; that it is what its billable calls cost is said above.
const NOT_CHARGEABLE: &str = "
    select 'task ' || t.id || ' is ' || t.state || ' in run ' || t.run_id || ', which is '
      || coalesce(r.state, 'missing') || ': it may not cost anything, but cost_ucr is ' || t.cost_ucr as what
    from tasks t
    left join runs r on r.id = t.run_id
    left join odd o on o.task_id = t.id
    where t.cost_ucr > 0
      and t.state <> 'succeeded'
      and not (t.state = 'failed' and coalesce(o.was_failure, 0) = 1)
      and not (t.state = 'cancelled' and coalesce(r.state, '') in ('cancelling', 'cancelled'))
      and coalesce(r.retries, 0) = 0";

/// I9: a run that succeeded paid its fee, no other one did.
pub(super) const RUNS: &str = "
    select r.tenant_id as tenant, 'run ' || r.id || ' is ' || r.state || ' with fee_ucr ' || r.fee_ucr || ', as fee were charged '
      || coalesce(f.fee_ucr, 0) as what
    from runs r
    left join fees f on f.run_id = r.id
    where coalesce(f.fee_ucr, 0) <> case when r.state = 'succeeded' then r.fee_ucr else 0 end";

/// I9: usage is charged by the settle of the task's own hold, a fee by that of a hold on a fee.
pub(super) const STRAYS: &str = "
    select (select w.tenant_id from wallets w where w.id = c.wallet_id) as tenant, 'operation ' || c.op_id || ' (' || c.key || ') of kind ' || c.kind || ' charges ' || c.usage_ucr
      || ' as usage for task ' || coalesce(c.task_id, 'none') || ' and ' || c.fee_ucr || ' as fee on hold '
      || coalesce(c.hold_id, 'none') || ', which belongs to ' || coalesce(h.owner_kind || ' ' || h.owner_id, 'nobody')
      as what
    from charges c
    left join holds h on h.id = c.hold_id and h.wallet_id = c.wallet_id
    where c.kind <> 'settle'
      or h.id is null
      or (c.usage_ucr > 0 and h.owner_kind <> 'call' and (h.owner_kind <> 'task' or h.owner_id <> coalesce(c.task_id, '')))
      or (c.fee_ucr > 0 and h.owner_kind <> 'fee')";

/// I9: what a mission spent is what its tasks cost and the fees that were charged for its runs.
const MISSIONS: &str = "
    select 'mission ' || m.id || ': spent_ucr is ' || m.spent_ucr || ', its tasks cost ' || coalesce(t.cost_ucr, 0)
      || ' and the fees charged for its runs are ' || coalesce(f.fee_ucr, 0) as what
    from missions m
    left join (select mission_id, sum(cost_ucr) as cost_ucr from tasks group by mission_id) t on t.mission_id = m.id
    left join (
      select r.mission_id, sum(f.fee_ucr) as fee_ucr from fees f join runs r on r.id = f.run_id group by r.mission_id
    ) f on f.mission_id = m.id
    where m.spent_ucr <> coalesce(t.cost_ucr, 0) + coalesce(f.fee_ucr, 0)";

/// I11: a fee is taken once.
const FEES_TWICE: &str = "
    select 'run ' || f.run_id || ' was charged a fee ' || f.times || ' times, by operations ' || f.first_op || ' to '
      || f.last_op as what
    from fees f
    where f.times > 1";
