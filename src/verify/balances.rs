//! Balances: what the entries leave on every account, against what grants, holds and wallets say (I1 to I8).
//!
//! A balance is what went into an account less what went out of it. Each entry moves one amount from one account to
//! another, so all balances add up to zero by construction, provided that every leg is a proper one: that is I4.

use super::{Family, Part, Unit, check, figure};

/// 1 where an operation of that kind has no such leg: who adjusts does not issue, who gives debt up does not repay it.
/// The most frequent kinds come first.
macro_rules! leads_astray {
    () => {
        "case
           when kind in ('hold', 'top_up') and source like 'grant:%' and destination like 'hold:%' then 0
           when kind in ('settle', 'shrink', 'release', 'expire') and source like 'hold:%'
             and (destination like 'grant:%' or destination = 'breakage') then 0
           when kind = 'settle' and destination in ('usage', 'fee')
             and (source like 'hold:%' or source like 'grant:%' or source = 'debt') then 0
           when kind = 'grant' and source = 'issue' and destination like 'grant:%' then 0
           when kind in ('grant', 'refund', 'adjust') and source like 'grant:%' and destination = 'debt' then 0
           when kind = 'expire' and source like 'grant:%' and destination = 'breakage' then 0
           when kind = 'refund' and source in ('usage', 'fee') and (destination like 'grant:%' or destination = 'debt')
             then 0
           when kind = 'adjust' and source = 'adjust' and destination like 'grant:%' then 0
           when kind = 'adjust' and source like 'grant:%' and destination = 'adjust' then 0
           when kind = 'write_off' and source = 'writeoff' and destination = 'debt' then 0
           else 1
         end"
    };
}

/// One row per wallet and account: `inflow`, `outflow`, the part of the outflow that was charged (`captured`), the
/// part that came out of holds when they closed (`returned`), how many entries begin there (`begun`), and the
/// smallest amount that one moved (`smallest`; 0 for one that leads back to where it begins, or where no operation of
/// its kind leads).
///
/// The limit is no limit: it keeps engines from taking each leg apart again for every mention of its parts.
const BALANCES: &str = concat!(
    "
    with balances as materialized (
      select wallet_id, account, sum(inflow) as inflow, sum(outflow) as outflow, sum(captured) as captured,
        sum(returned) as returned, sum(begun) as begun, min(moved) as smallest
      from (
        select e.wallet_id,
          case when side.n = 1 then e.destination else e.source end as account,
          case when side.n = 1 then e.amount_ucr else 0 end as inflow,
          case when side.n = 2 then e.amount_ucr else 0 end as outflow,
          case when side.n = 2 and e.destination in ('usage', 'fee') then e.amount_ucr else 0 end as captured,
          case when side.n = 2 and e.kind in ('settle', 'release', 'expire') and e.destination not in ('usage', 'fee')
            then e.amount_ucr else 0 end as returned,
          side.n - 1 as begun,
          case when e.source = e.destination or e.leads_astray = 1 then 0 else coalesce(e.amount_ucr, 0) end as moved
        from (
          select wallet_id, kind, source, destination, amount_ucr, ",
    leads_astray!(),
    " as leads_astray
          from entries
          limit 9223372036854775807
        ) e
        cross join (select 1 as n union all select 2) side
      ) legs
      group by wallet_id, account
    )
    "
);

/// Everything that needs the balances.
pub(super) fn family() -> Family {
    let mut parts = figures();
    parts.extend([
        check("I1", GRANTS),
        check("I2", HOLDS),
        check("I3", WALLETS),
        check("I4", LEGS),
        check("I5", ISSUED),
        check("I6", SLICES),
        check("I6", CLOSED),
        check("I6", CAPTURED),
        check("I6", REFUNDED),
        check("I7", lost_account("grant", "grants")),
        check("I7", lost_account("hold", "holds")),
        check("I8", NEGATIVE),
        check("I8", NEGATIVE_COLUMNS),
    ]);
    Family { shared: BALANCES, parts }
}

fn figures() -> Vec<Part> {
    let net = |account: &str| {
        format!("select coalesce(sum(inflow - outflow), 0) as what from balances where account = '{account}'")
    };
    let column = |name: &str| format!("select coalesce(sum({name}), 0) as what from wallets");
    vec![
        figure("entries", Unit::Count, "select coalesce(sum(begun), 0) as what from balances"),
        figure("ops", Unit::Count, "select count(*) as what from ops"),
        figure("wallets", Unit::Count, "select count(*) as what from wallets"),
        figure("grants", Unit::Count, "select count(*) as what from grants"),
        figure("holds", Unit::Count, "select count(*) as what from holds"),
        figure("open_holds", Unit::Count, "select count(*) as what from holds where state = 'open'"),
        figure(
            "credits_issued",
            Unit::Credits,
            "select coalesce(sum(outflow - inflow), 0) as what from balances where account = 'issue'",
        ),
        figure("credits_available", Unit::Credits, column("available_ucr")),
        figure("credits_held", Unit::Credits, column("held_ucr")),
        figure("credits_used", Unit::Credits, net("usage")),
        figure("credits_fees", Unit::Credits, net("fee")),
        figure("credits_breakage", Unit::Credits, net("breakage")),
        figure("credits_adjusted", Unit::Credits, net("adjust")),
        figure("credits_written_off", Unit::Credits, net("writeoff")),
        figure("credits_debt", Unit::Credits, column("debt_ucr")),
    ]
}

/// I1: what is left of a grant is its balance.
const GRANTS: &str = "
    select 'grant ' || g.id || ' of wallet ' || g.wallet_id || ': remaining_ucr is ' || g.remaining_ucr
      || ', its entries leave ' || coalesce(b.inflow - b.outflow, 0) as what
    from grants g
    left join balances b on b.wallet_id = g.wallet_id and b.account = 'grant:' || g.id
    where g.remaining_ucr <> coalesce(b.inflow - b.outflow, 0)";

/// I2: an open hold holds its amount, a closed one nothing.
const HOLDS: &str = "
    select 'hold ' || h.id || ' of wallet ' || h.wallet_id || ' is ' || h.state || ' with amount_ucr ' || h.amount_ucr
      || ', its entries leave ' || coalesce(b.inflow - b.outflow, 0) as what
    from holds h
    left join balances b on b.wallet_id = h.wallet_id and b.account = 'hold:' || h.id
    where coalesce(b.inflow - b.outflow, 0) <> case when h.state = 'open' then h.amount_ucr else 0 end";

/// I3: a wallet's three amounts.
const WALLETS: &str = "
    select 'wallet ' || w.id || ': available_ucr is ' || w.available_ucr || ' and its grants have '
      || coalesce(g.remaining, 0) || ', held_ucr is ' || w.held_ucr || ' and its open holds have '
      || coalesce(h.held, 0) || ', debt_ucr is ' || w.debt_ucr || ' and its entries owe ' || coalesce(d.owed, 0) as what
    from wallets w
    left join (select wallet_id, sum(remaining_ucr) as remaining from grants group by wallet_id) g on g.wallet_id = w.id
    left join (select wallet_id, sum(amount_ucr) as held from holds where state = 'open' group by wallet_id) h
      on h.wallet_id = w.id
    left join (select wallet_id, outflow - inflow as owed from balances where account = 'debt') d on d.wallet_id = w.id
    where w.available_ucr <> coalesce(g.remaining, 0)
      or w.held_ucr <> coalesce(h.held, 0)
      or w.debt_ucr <> coalesce(d.owed, 0)";

/// I4: every leg moves a positive amount between two different, known accounts, as operations of its kind do. The balances tell at once whether
/// there is such a leg at all; only then are the legs looked at one by one.
const LEGS: &str = concat!(
    "
    select 'operation ' || e.op_id || ' (' || e.key || ') of kind ' || e.kind || ' has the leg ' || coalesce(e.source, 'nothing') || ' to '
      || coalesce(e.destination, 'nothing') || ' of ' || coalesce(cast(e.amount_ucr as text), 'nothing') as what
    from entries e
    where exists (
        select 1 from balances b
        where b.smallest <= 0
          or not (
            coalesce(b.account, '') in ('issue', 'debt', 'usage', 'fee', 'breakage', 'writeoff', 'adjust')
            or coalesce(b.account, '') like 'grant:%' or coalesce(b.account, '') like 'hold:%'))
      and (
        coalesce(e.amount_ucr, 0) <= 0
        or coalesce(e.source, '') = coalesce(e.destination, '')
        or ",
    leads_astray!(),
    " = 1
        or not (
          coalesce(e.source, '') in ('issue', 'debt', 'usage', 'fee', 'breakage', 'writeoff', 'adjust')
          or coalesce(e.source, '') like 'grant:%' or coalesce(e.source, '') like 'hold:%')
        or not (
          coalesce(e.destination, '') in ('issue', 'debt', 'usage', 'fee', 'breakage', 'writeoff', 'adjust')
          or coalesce(e.destination, '') like 'grant:%' or coalesce(e.destination, '') like 'hold:%'))"
);

/// I5: what was issued is somewhere.
const ISSUED: &str = "
    select 'wallet ' || w.id || ': ' || coalesce(t.issued, 0) || ' were issued, but available_ucr ' || w.available_ucr
      || ' + held_ucr ' || w.held_ucr || ' - debt_ucr ' || w.debt_ucr || ' + ' || coalesce(t.gone, 0)
      || ' charged, expired, given up or adjusted are '
      || (w.available_ucr + w.held_ucr - w.debt_ucr + coalesce(t.gone, 0)) as what
    from wallets w
    left join (
      select wallet_id,
        sum(case when account = 'issue' then outflow - inflow else 0 end) as issued,
        sum(case when account in ('usage', 'fee', 'breakage', 'writeoff', 'adjust') then inflow - outflow else 0 end) as gone
      from balances
      group by wallet_id
    ) t on t.wallet_id = w.id
    where coalesce(t.issued, 0) <> w.available_ucr + w.held_ucr - w.debt_ucr + coalesce(t.gone, 0)";

/// I6: a hold is what it drew from its grants.
const SLICES: &str = "
    select 'hold ' || h.id || ': amount_ucr is ' || h.amount_ucr || ', its slices add up to ' || h.sliced as what
    from (
      select id, amount_ucr,
        (select coalesce(sum(cast(s.value ->> 'amount' as bigint)), 0) from {each:holds.slices} s) as sliced
      from holds
    ) h
    where h.amount_ucr <> h.sliced";

/// I6: a closed hold was charged or given back, all of it.
const CLOSED: &str = "
    select 'hold ' || h.id || ' is ' || h.state || ': captured_ucr ' || h.captured_ucr || ' + returned_ucr '
      || h.returned_ucr || ' are not its amount_ucr ' || h.amount_ucr as what
    from holds h
    where h.state <> 'open' and h.captured_ucr + h.returned_ucr <> h.amount_ucr";

/// I6: what a hold says it was charged and gave back is what its entries say.
const CAPTURED: &str = "
    select 'hold ' || h.id || ' is ' || h.state || ': captured_ucr is ' || h.captured_ucr || ' and its entries charge '
      || coalesce(b.captured, 0) || ', returned_ucr is ' || h.returned_ucr || ' and its entries return '
      || coalesce(b.returned, 0) as what
    from holds h
    left join balances b on b.wallet_id = h.wallet_id and b.account = 'hold:' || h.id
    where h.captured_ucr <> coalesce(b.captured, 0) or h.returned_ucr <> coalesce(b.returned, 0)";

/// I6: what was refunded of a hold's charge is what the refunds say, each of them names the hold and the amount, and
/// none gives back more than was charged.
const REFUNDED: &str = "
    select 'hold ' || h.id || ': refunded_ucr is ' || h.refunded_ucr || ' of a charge of '
      || (h.captured_ucr + h.overrun_ucr) || ', its refunds add up to ' || coalesce(r.refunded, 0) || ' and their legs to '
      || coalesce(r.moved, 0) as what
    from holds h
    left join (
      select o.hold_id, sum(o.asked) as refunded, sum(o.moved) as moved
      from (
        select substr(p.request_hash, 1, 30) as hold_id, cast(substr(p.request_hash, 32) as bigint) as asked,
          (select coalesce(sum(e.amount_ucr), 0) from entries e
           where e.wallet_id = p.wallet_id and e.key = p.key and e.source in ('usage', 'fee')) as moved
        from ops p
        where p.kind = 'refund'
      ) o
      group by o.hold_id
    ) r on r.hold_id = h.id
    where h.refunded_ucr <> coalesce(r.refunded, 0)
      or h.refunded_ucr <> coalesce(r.moved, 0)
      or h.refunded_ucr > h.captured_ucr + h.overrun_ucr";

/// I7: an account of a grant or hold that this wallet does not have.
fn lost_account(kind: &str, table: &str) -> String {
    let id = format!("substr(b.account, {})", kind.len().saturating_add(2));
    format!(
        "select 'account ' || b.account || ' has entries in wallet ' || b.wallet_id || ', which has no such {kind}' as what
         from balances b
         left join {table} r on r.id = {id} and r.wallet_id = b.wallet_id
         where b.account like '{kind}:%' and r.id is null"
    )
}

/// I8: only `issue`, `debt`, `writeoff` and `adjust` give more than they got; but for `adjust`, they never got more than
/// they gave.
const NEGATIVE: &str = "
    select 'account ' || b.account || ' of wallet ' || b.wallet_id || ' has the balance ' || (b.inflow - b.outflow)
      as what
    from balances b
    where (b.account in ('issue', 'debt', 'writeoff') and b.inflow > b.outflow)
      or (b.account not in ('issue', 'debt', 'writeoff', 'adjust') and b.inflow < b.outflow)";

/// I8: the columns say so too. The schema refuses most of this; a verification trusts nobody.
const NEGATIVE_COLUMNS: &str = "
    select 'wallet ' || id || ' has available_ucr ' || available_ucr || ', held_ucr ' || held_ucr || ', debt_ucr '
      || debt_ucr as what
    from wallets
    where available_ucr < 0 or held_ucr < 0 or debt_ucr < 0
    union all
    select 'grant ' || id || ' has remaining_ucr ' || remaining_ucr || ' of ' || amount_ucr from grants
    where remaining_ucr < 0 or remaining_ucr > amount_ucr
    union all
    select 'hold ' || id || ' has amount_ucr ' || amount_ucr || ', reserved_ucr ' || reserved_ucr from holds
    where amount_ucr < 0 or reserved_ucr < 0 or used_ucr < 0 or captured_ucr < 0 or returned_ucr < 0";
