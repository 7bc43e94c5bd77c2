-- Credits that an auditor would sign: limits and policies of a wallet, the cost basis of a grant, holds that expire
-- by themselves, refunds, adjustments and write-offs, and the tags by which usage is reported.

-- What a wallet may spend in a UTC day, in a UTC month and on one mission; null is no limit. The counters say what was
-- charged in the day (days since 1970) and month (months since 1970) that they name; another one starts at zero.
alter table wallets add column overrun text not null default 'debt'
  constraint wallets_overrun check (overrun in ('debt', 'absorb'));
alter table wallets add column charge_failed text not null default 'never'
  constraint wallets_charge_failed check (charge_failed in ('never', 'fault', 'always'));
alter table wallets add column day_limit_ucr integer constraint wallets_limits check (day_limit_ucr >= 0);
alter table wallets add column month_limit_ucr integer constraint wallets_limits check (month_limit_ucr >= 0);
alter table wallets add column mission_limit_ucr integer constraint wallets_limits check (mission_limit_ucr >= 0);
alter table wallets add column day integer not null default 0;
alter table wallets add column day_spent_ucr integer not null default 0
  constraint wallets_spent check (day_spent_ucr >= 0);
alter table wallets add column month integer not null default 0;
alter table wallets add column month_spent_ucr integer not null default 0
  constraint wallets_spent check (month_spent_ucr >= 0);
-- since when the oldest task has waited for credits that no younger one may take before it
alter table wallets add column queue_from integer;
-- until when that is so; whoever keeps the line says so again and again
alter table wallets add column queue_until integer;

-- What was paid for a grant, in millionths of a USD; null is not known.
alter table grants add column cost_basis_uusd integer constraint grants_cost_basis check (cost_basis_uusd >= 0);

-- SQLite cannot change a check: the tables are made anew.
drop view entries;
drop trigger ops_never_updated;
drop trigger ops_never_deleted;

create table new_holds (
  id text primary key not null,
  wallet_id text not null,
  tenant_id text not null,
  owner_kind text not null,
  owner_id text not null,
  mission_id text,
  state text not null,
  amount_ucr integer not null,
  reserved_ucr integer not null,
  used_ucr integer not null,
  captured_ucr integer not null,
  returned_ucr integer not null,
  slices text not null,
  resizes integer not null,
  created_at integer not null,
  closed_at integer,
  expires_at integer,
  refunded_ucr integer not null default 0,
  overrun_ucr integer not null default 0,
  constraint holds_state check (state in ('open', 'settled', 'released', 'expired')),
  constraint holds_owner check (owner_kind in ('task', 'fee', 'call')),
  constraint holds_amounts check (
    amount_ucr >= 0 and reserved_ucr >= 0 and used_ucr >= 0 and captured_ucr >= 0 and returned_ucr >= 0),
  constraint holds_closed check (
    (state = 'open' and closed_at is null and captured_ucr = 0 and returned_ucr = 0)
    or (state <> 'open' and closed_at is not null and captured_ucr + returned_ucr = amount_ucr)),
  constraint holds_expiring check (expires_at is null or owner_kind = 'call'),
  constraint holds_refunded check (refunded_ucr between 0 and captured_ucr + overrun_ucr)
) strict;
insert into new_holds (
  id, wallet_id, tenant_id, owner_kind, owner_id, mission_id, state, amount_ucr, reserved_ucr, used_ucr, captured_ucr,
  returned_ucr, slices, resizes, created_at, closed_at)
select id, wallet_id, tenant_id, owner_kind, owner_id, mission_id, state, amount_ucr, reserved_ucr, used_ucr,
  captured_ucr, returned_ucr, slices, resizes, created_at, closed_at
from holds;
drop table holds;
alter table new_holds rename to holds;
create index holds_open on holds (wallet_id, id) where state = 'open';
create index holds_expiring on holds (expires_at) where state = 'open' and expires_at is not null;

create table new_ops (
  id text not null,
  wallet_id text not null,
  tenant_id text not null,
  kind text not null,
  key text not null,       -- the natural idempotency key, unique in the wallet for ever
  request_hash text not null,
  legs text not null,
  mission_id text,
  task_id text,
  actor text,
  available_after_ucr integer not null,
  created_at integer not null,
  reason text,
  constraint ops_key primary key (key, wallet_id),
  constraint ops_kind check (kind in (
    'grant', 'hold', 'top_up', 'shrink', 'settle', 'release', 'expire', 'refund', 'adjust', 'write_off')),
  constraint ops_reasoned check (kind not in ('adjust', 'write_off') or (actor is not null and reason is not null))
) strict;
insert into new_ops (
  id, wallet_id, tenant_id, kind, key, request_hash, legs, mission_id, task_id, actor, available_after_ucr, created_at)
select id, wallet_id, tenant_id, kind, key, request_hash, legs, mission_id, task_id, actor, available_after_ucr,
  created_at
from ops;
drop table ops;
alter table new_ops rename to ops;
create index ops_of_wallet on ops (wallet_id, id);
create index ops_of_mission on ops (mission_id, id) where kind = 'refund';

create trigger ops_never_updated before update on ops begin
  select raise(abort, 'the ledger is append-only: update on ops is refused; post a correcting operation');
end;
create trigger ops_never_deleted before delete on ops begin
  select raise(abort, 'the ledger is append-only: delete on ops is refused; post a correcting operation');
end;

create view entries as
  select o.id as op_id, o.wallet_id, o.tenant_id, o.kind, o.key, o.mission_id, o.task_id, o.created_at,
    leg.value ->> 0 as source, leg.value ->> 1 as destination, cast(leg.value ->> 2 as integer) as amount_ucr
  from ops o, json_each(o.legs) leg;

alter table missions add column tags text;
