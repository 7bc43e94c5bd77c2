-- Credits that an auditor would sign: limits and policies of a wallet, the cost basis of a grant, holds that expire
-- by themselves, refunds, adjustments and write-offs, and the tags by which usage is reported.

-- What a wallet may spend in a UTC day, in a UTC month and on one mission; null is no limit. The counters say what was
-- charged in the day (days since 1970) and month (months since 1970) that they name; another one starts at zero.
alter table wallets
  add column overrun text not null default 'debt',
  add column charge_failed text not null default 'never',
  add column day_limit_ucr bigint,
  add column month_limit_ucr bigint,
  add column mission_limit_ucr bigint,
  add column day integer not null default 0,
  add column day_spent_ucr bigint not null default 0,
  add column month integer not null default 0,
  add column month_spent_ucr bigint not null default 0,
  -- since when the oldest task has waited for credits that no younger one may take before it
  add column queue_from bigint,
  -- until when that is so; whoever keeps the line says so again and again
  add column queue_until bigint,
  add constraint wallets_overrun check (overrun in ('debt', 'absorb')),
  add constraint wallets_charge_failed check (charge_failed in ('never', 'fault', 'always')),
  add constraint wallets_limits check (day_limit_ucr >= 0 and month_limit_ucr >= 0 and mission_limit_ucr >= 0),
  add constraint wallets_spent check (day_spent_ucr >= 0 and month_spent_ucr >= 0);

-- What was paid for a grant, in millionths of a USD; null is not known.
alter table grants
  add column cost_basis_uusd bigint,
  add constraint grants_cost_basis check (cost_basis_uusd >= 0);

alter table holds
  add column expires_at bigint,
  add column refunded_ucr bigint not null default 0,
  add column overrun_ucr bigint not null default 0,
  drop constraint holds_state,
  drop constraint holds_owner,
  drop constraint holds_closed,
  add constraint holds_state check (state in ('open', 'settled', 'released', 'expired')),
  add constraint holds_owner check (owner_kind in ('task', 'fee', 'call')),
  add constraint holds_closed check (
    (state = 'open' and closed_at is null and captured_ucr = 0 and returned_ucr = 0)
    or (state <> 'open' and closed_at is not null and captured_ucr + returned_ucr = amount_ucr)),
  add constraint holds_expiring check (expires_at is null or owner_kind = 'call'),
  add constraint holds_refunded check (refunded_ucr between 0 and captured_ucr + overrun_ucr);
create index holds_expiring on holds (expires_at) where state = 'open' and expires_at is not null;

-- The key first: it says nearly all, and a wallet may have millions of operations.
alter table ops
  add column reason text,
  drop constraint ops_key,
  add constraint ops_key primary key (key, wallet_id),
  drop constraint ops_kind,
  add constraint ops_kind check (kind in (
    'grant', 'hold', 'top_up', 'shrink', 'settle', 'release', 'expire', 'refund', 'adjust', 'write_off')),
  add constraint ops_reasoned check (kind not in ('adjust', 'write_off') or (actor is not null and reason is not null));
create index ops_of_mission on ops (mission_id, id) where kind = 'refund';

alter table missions add column tags json;
