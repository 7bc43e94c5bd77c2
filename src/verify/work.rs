//! Work: counters of missions against their rows, reservations against calls, holds against their owners
//! (I9, I10, I12).

use super::{Family, Unit, check, figure};

/// Everything that needs no entries.
pub(super) fn family() -> Family {
    let count = |what: &str| format!("select count(*) as what from {what}");
    let parts = vec![
        figure("missions", Unit::Count, count("missions")),
        figure("runs", Unit::Count, count("runs")),
        figure("tasks", Unit::Count, count("tasks")),
        figure("tasks_settled", Unit::Count, count("tasks where ended_at is not null")),
        figure("usage_calls", Unit::Count, count("usage_calls")),
        figure("usage_calls_in_flight", Unit::Count, count("usage_calls where state = 'sent'")),
        figure("events", Unit::Count, count("events")),
        check("I9", MISSION_HOLDS),
        check("I9", MISSION_TASKS),
        check("I9", MISSION_EVENTS),
        check("I10", RESERVED),
        check("I12", HOLDS_WITHOUT_OWNER),
        check("I12", TASKS_WITHOUT_HOLD),
    ];
    Family { shared: "", parts }
}

/// I9: what a mission holds is what its open holds have.
const MISSION_HOLDS: &str = "
    select 'mission ' || m.id || ': held_ucr is ' || m.held_ucr || ', its open holds have ' || coalesce(h.held, 0) as what
    from missions m
    left join (select mission_id, sum(amount_ucr) as held from holds where state = 'open' group by mission_id) h
      on h.mission_id = m.id
    where m.held_ucr <> coalesce(h.held, 0)";

/// I9: the counters of the latest run's tasks.
const MISSION_TASKS: &str = "
    select 'mission ' || m.id || ': tasks_done is ' || m.tasks_done || ' of ' || m.tasks_total || ', run ' || m.run_id
      || ' has ' || coalesce(t.done, 0) || ' of ' || coalesce(t.total, 0) || ' tasks in a final state' as what
    from missions m
    left join (
      select run_id, count(*) as total, sum(case when ended_at is not null then 1 else 0 end) as done
      from tasks
      group by run_id
    ) t on t.run_id = m.run_id
    where m.tasks_done <> coalesce(t.done, 0) or m.tasks_total <> coalesce(t.total, 0)";

/// I9: the event log counts 1, 2, 3… to the mission's last number, from behind what was pruned.
const MISSION_EVENTS: &str = "
    select 'mission ' || m.id || ': last_seq is ' || m.last_seq || ', pruned up to ' || m.pruned_seq || ', its log has ' || coalesce(e.entries, 0)
      || ' events numbered ' || coalesce(e.first, 0) || ' to ' || coalesce(e.last, 0) as what
    from missions m
    left join (
      select mission_id, count(*) as entries, min(seq) as first, max(seq) as last from events group by mission_id
    ) e on e.mission_id = m.id
    where m.last_seq - m.pruned_seq <> coalesce(e.entries, 0)
      or m.last_seq <> coalesce(e.last, m.pruned_seq)
      or coalesce(e.first, m.pruned_seq + 1) <> m.pruned_seq + 1";

/// I10: what a hold has promised is what its calls in flight reserved.
const RESERVED: &str = "
    select 'hold ' || h.id || ': reserved_ucr is ' || h.reserved_ucr || ', its calls in flight reserved '
      || coalesce(c.reserved, 0) as what
    from holds h
    left join (
      select hold_id, sum(reserved_ucr) as reserved from usage_calls where state = 'sent' group by hold_id
    ) c on c.hold_id = h.id
    where h.reserved_ucr <> coalesce(c.reserved, 0)";

/// I12: who holds credits is alive and knows it; a call from outside any mission has nobody who could, so its hold ends
/// by itself.
pub(super) const HOLDS_WITHOUT_OWNER: &str = "
    select h.tenant_id as tenant, 'hold ' || h.id || ' is open with amount_ucr ' || h.amount_ucr || ', but its owner, ' || h.owner_kind || ' '
      || h.owner_id || ', is ' || coalesce(t.state, r.state, 'missing') || ' and has the hold '
      || coalesce(t.hold_id, r.fee_hold_id, 'none') as what
    from holds h
    left join tasks t on h.owner_kind = 'task' and t.id = h.owner_id
    left join runs r on h.owner_kind = 'fee' and r.id = h.owner_id
    where h.state = 'open'
      and case
        when t.hold_id = h.id and t.state in ('ready', 'running', 'retrying', 'waiting') then 1
        when r.fee_hold_id = h.id and r.ended_at is null then 1
        -- nobody must look after it: it gives itself back
        when h.owner_kind = 'call' and h.expires_at is not null then 1
        else 0
      end = 0";

/// I12: nothing that may cost is under way without a hold, and nobody counts on a hold that is closed.
pub(super) const TASKS_WITHOUT_HOLD: &str = "
    select t.tenant_id as tenant, 'task ' || t.id || ' is ' || t.state || ' without an open hold: its hold_id is '
      || coalesce(t.hold_id, 'none') as what
    from tasks t
    left join holds h on h.id = t.hold_id and h.state = 'open'
    where h.id is null
      and (t.hold_id is not null or (t.priced and t.state in ('ready', 'running', 'retrying')))";
