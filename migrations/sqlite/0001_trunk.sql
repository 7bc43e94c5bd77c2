-- The trunk: tenants, prices, workflows, missions, runs, tasks, money, events, keys, workers.
--
-- Conventions. Ids are TypeIDs as text ("tsk_…"), collated "C": what stands in the API stands in the table.
-- Times are milliseconds since 1970 UTC by the store's clock. Amounts end in _ucr: micro-credits, whole numbers.
-- Payloads are JSON text. Booleans are 0 and 1.
-- Rows that are written on the way of every task have no foreign keys: each would lock and look up a parent row
-- per write; `bursar verify` looks for orphans instead. Every state column has a check that says the domain's
-- legal combinations again.

create table tenants (
  id text primary key not null,
  name text not null,
  created_at integer not null,
  constraint tenants_name unique (name)
) strict;

-- API keys: only a hash of the secret is kept.
create table api_keys (
  id text primary key not null,
  tenant_id text not null references tenants (id),
  name text not null,
  prefix text not null,            -- the first characters of the secret, for people
  secret_hash text not null,       -- SHA-256, hex
  role text not null,
  created_at integer not null,
  revoked_at integer,
  constraint api_keys_secret unique (secret_hash),
  constraint api_keys_role check (role in ('user', 'admin', 'worker'))
) strict;

-- Immutable sets of prices; the newest active one is pinned by new runs.
create table price_books (
  id text primary key not null,
  name text not null,
  content_hash text not null,
  content text not null,
  created_at integer not null,
  activated_at integer,
  constraint price_books_content unique (content_hash)
) strict;

-- Immutable workflow versions.
create table workflows (
  id text primary key not null,
  tenant_id text not null references tenants (id),
  name text not null,
  version integer not null,
  content_hash text not null,
  definition text not null,
  created_at integer not null,
  constraint workflows_version unique (tenant_id, name, version),
  constraint workflows_version_positive check (version > 0)
) strict;

-- A mission carries the live counters of its latest run, so that a settle updates one row for all of them.
create table missions (
  id text primary key not null,
  tenant_id text not null,
  wallet_id text not null,
  workflow_id text not null,
  run_id text not null,
  input text not null,
  metadata text,
  idempotency_key text,
  request_hash text not null,
  priority integer not null,
  budget_ucr integer,
  on_exhausted text not null,
  last_seq integer not null,
  tasks_total integer not null,
  tasks_done integer not null,
  held_ucr integer not null,
  spent_ucr integer not null,
  created_at integer not null,
  updated_at integer not null,
  constraint missions_counts check (tasks_done >= 0 and tasks_done <= tasks_total),
  constraint missions_money check (held_ucr >= 0 and spent_ucr >= 0),
  constraint missions_on_exhausted check (on_exhausted in ('pause', 'fail'))
) strict;
create index missions_of_tenant on missions (tenant_id, id);
create unique index missions_idempotency on missions (tenant_id, idempotency_key) where idempotency_key is not null;

create table runs (
  id text primary key not null,
  tenant_id text not null,
  mission_id text not null,
  workflow_id text not null,
  price_book_id text not null,
  number integer not null,
  state text not null,
  status_reason text,
  error text,
  fee_ucr integer not null,
  fee_hold_id text,
  deadline_at integer,
  created_at integer not null,
  started_at integer,
  ended_at integer,
  constraint runs_number unique (mission_id, number),
  constraint runs_state check (
    state in ('queued', 'running', 'failing', 'cancelling', 'succeeded', 'failed', 'cancelled', 'expired')),
  constraint runs_ended check (
    (ended_at is not null) = (state in ('succeeded', 'failed', 'cancelled', 'expired'))),
  constraint runs_fee check (fee_ucr >= 0)
) strict;
-- what sweep looks for: runs that are being ended, and deadlines
create index runs_ending on runs (state, id) where state in ('failing', 'cancelling');
create index runs_deadline on runs (deadline_at) where deadline_at is not null and state in ('queued', 'running');

create table tasks (
  id text primary key not null,
  tenant_id text not null,
  mission_id text not null,
  run_id text not null,
  workflow_id text not null,
  node text not null,
  node_index integer not null,
  kind text not null,
  pool text not null,
  priority integer not null,
  state text not null,
  wait text,
  status_reason text,
  remaining_needs integer not null,
  input_bytes integer not null,
  attempt integer not null,
  failures integer not null,
  losses integer not null,
  fence integer not null,
  lease_token text,
  lease_until integer,
  worker_id text,
  ready_at integer,
  due_at integer,
  started_at integer,
  ended_at integer,
  priced integer not null,
  hold_id text,
  holds integer not null,
  output text,
  error text,
  cost_ucr integer not null,
  units_ucr integer not null,
  usage text,
  created_at integer not null,
  constraint tasks_node unique (run_id, node_index),
  constraint tasks_state check (
    state in ('pending', 'ready', 'running', 'retrying', 'waiting', 'succeeded', 'failed', 'cancelled', 'skipped')),
  constraint tasks_running check (
    state <> 'running' or (lease_token is not null and lease_until is not null and worker_id is not null)),
  constraint tasks_waiting check ((state = 'waiting') = (wait is not null)),
  constraint tasks_wait check (wait in ('credits', 'timer', 'rate_limit')),
  constraint tasks_ended check (
    (ended_at is not null) = (state in ('succeeded', 'failed', 'cancelled', 'skipped'))),
  constraint tasks_hold_ended check (ended_at is null or hold_id is null),
  constraint tasks_counts check (remaining_needs >= 0 and attempt >= 0 and failures >= 0 and losses >= 0),
  constraint tasks_money check (cost_ucr >= 0 and units_ucr >= 0)
) strict;
-- ready rows are the outbox of the queue: by pool, then fairly by tenant
create index tasks_ready on tasks (pool, tenant_id, priority desc, ready_at) where state = 'ready';
create index tasks_leased on tasks (lease_until) where state = 'running';
create index tasks_due on tasks (due_at) where state in ('retrying', 'waiting') and due_at is not null;
create index tasks_for_credits on tasks (ready_at) where state = 'waiting' and wait = 'credits';

-- Attempts that ended without success; a success is the task itself.
create table attempts (
  task_id text not null,
  tenant_id text not null,
  number integer not null,
  outcome text not null,
  worker_id text,
  error text,
  started_at integer,
  ended_at integer not null,
  constraint attempts_key primary key (task_id, number),
  constraint attempts_outcome check (outcome in ('failed', 'lost', 'handed_back', 'cancelled'))
) strict;

-- One log per mission, numbered without a gap by the mission's own counter.
create table events (
  mission_id text not null,
  seq integer not null,
  tenant_id text not null,
  run_id text not null,
  kind text not null,
  task_id text,
  node text,
  attempt integer,
  data text not null,
  at integer not null,
  constraint events_key primary key (mission_id, seq)
) strict;

create table wallets (
  id text primary key not null,
  tenant_id text not null references tenants (id),
  available_ucr integer not null,
  held_ucr integer not null,
  debt_ucr integer not null,
  frozen integer not null,
  created_at integer not null,
  constraint wallets_not_negative check (available_ucr >= 0 and held_ucr >= 0 and debt_ucr >= 0)
) strict;
create index wallets_of_tenant on wallets (tenant_id, id);

create table grants (
  id text primary key not null,
  wallet_id text not null references wallets (id),
  tenant_id text not null,
  kind text not null,
  priority integer not null,
  amount_ucr integer not null,
  remaining_ucr integer not null,
  expires_at integer,
  expired integer not null,
  reason text,
  created_at integer not null,
  constraint grants_amount check (amount_ucr > 0 and remaining_ucr >= 0 and remaining_ucr <= amount_ucr),
  constraint grants_kind check (kind in ('promo', 'included', 'paid', 'refund', 'adjust')),
  constraint grants_priority check (priority between 0 and 100)
) strict;
create index grants_of_wallet on grants (wallet_id, id);
create index grants_expiring on grants (expires_at) where expires_at is not null and not expired;

-- A hold remembers in `slices` ([{"grant", "amount"}]) which grants it drew from, so that the rest goes home.
create table holds (
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
  constraint holds_state check (state in ('open', 'settled', 'released')),
  constraint holds_owner check (owner_kind in ('task', 'fee')),
  constraint holds_amounts check (
    amount_ucr >= 0 and reserved_ucr >= 0 and used_ucr >= 0 and captured_ucr >= 0 and returned_ucr >= 0),
  constraint holds_closed check (
    (state = 'open' and closed_at is null and captured_ucr = 0 and returned_ucr = 0)
    or (state <> 'open' and closed_at is not null and captured_ucr + returned_ucr = amount_ucr))
) strict;
create index holds_open on holds (wallet_id, id) where state = 'open';

-- The ledger: one immutable row per business operation; `legs` are its entries, [[from, to, amount_ucr], …].
create table ops (
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
  constraint ops_key primary key (wallet_id, key),
  constraint ops_kind check (kind in ('grant', 'hold', 'top_up', 'shrink', 'settle', 'release', 'expire'))
) strict;
create index ops_of_wallet on ops (wallet_id, id);

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

-- One LLM (later also tool, embedding, retrieval) call; written before the call is sent.
create table usage_calls (
  id text primary key not null,
  tenant_id text not null,
  mission_id text not null,
  run_id text not null,
  task_id text not null,
  hold_id text,
  attempt integer not null,
  number integer not null,
  request_hash text not null,
  provider text not null,
  model text not null,
  state text not null,
  reserved_ucr integer not null,
  cost_ucr integer not null,
  billable integer not null,
  estimated integer not null,
  usage text,
  response text,
  duration_ms integer,
  first_token_ms integer,
  created_at integer not null,
  ended_at integer,
  constraint usage_calls_state check (state in ('sent', 'done', 'failed', 'rejected', 'lost')),
  constraint usage_calls_amounts check (reserved_ucr >= 0 and cost_ucr >= 0),
  constraint usage_calls_sent check ((state = 'sent') = (ended_at is null)),
  constraint usage_calls_reserved check (state = 'sent' or reserved_ucr = 0)
) strict;
create index usage_calls_of_task on usage_calls (task_id);
create index usage_calls_of_tenant on usage_calls (tenant_id, created_at);

-- Worker processes that are alive (seen within the last minute) or were.
create table workers (
  id text primary key not null,
  host text not null,
  pid integer not null,
  pools text not null,             -- {"agent": 64, …}: slots by pool
  running integer not null,
  version text not null,
  draining integer not null,
  started_at integer not null,
  seen_at integer not null
) strict;
create index workers_seen on workers (seen_at);
