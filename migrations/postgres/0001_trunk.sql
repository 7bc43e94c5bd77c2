-- The trunk: tenants, prices, workflows, missions, runs, tasks, money, events, keys, workers.
--
-- Conventions. Ids are TypeIDs as text ("tsk_…"), collated "C": what stands in the API stands in the table.
-- Times are milliseconds since 1970 UTC by the store's clock. Amounts end in _ucr: micro-credits, whole numbers.
-- Payloads are json, not jsonb: they come back exactly as they went in.
-- Rows that are written on the way of every task have no foreign keys: each would lock and look up a parent row
-- per write; `bursar verify` looks for orphans instead. Every state column has a check that says the domain's
-- legal combinations again.

create table tenants (
  id text collate "C" primary key,
  name text not null,
  created_at bigint not null,
  constraint tenants_name unique (name)
);

-- API keys: only a hash of the secret is kept.
create table api_keys (
  id text collate "C" primary key,
  tenant_id text collate "C" not null references tenants (id),
  name text not null,
  prefix text not null,            -- the first characters of the secret, for people
  secret_hash text not null,       -- SHA-256, hex
  role text not null,
  created_at bigint not null,
  revoked_at bigint,
  constraint api_keys_secret unique (secret_hash),
  constraint api_keys_role check (role in ('user', 'admin', 'worker'))
);

-- Immutable sets of prices; the newest active one is pinned by new runs.
create table price_books (
  id text collate "C" primary key,
  name text not null,
  content_hash text not null,
  content json not null,
  created_at bigint not null,
  activated_at bigint,
  constraint price_books_content unique (content_hash)
);

-- Immutable workflow versions.
create table workflows (
  id text collate "C" primary key,
  tenant_id text collate "C" not null references tenants (id),
  name text collate "C" not null,
  version integer not null,
  content_hash text not null,
  definition json not null,
  created_at bigint not null,
  constraint workflows_version unique (tenant_id, name, version),
  constraint workflows_version_positive check (version > 0)
);

-- A mission carries the live counters of its latest run, so that a settle updates one row for all of them.
create table missions (
  id text collate "C" primary key,
  tenant_id text collate "C" not null,
  wallet_id text collate "C" not null,
  workflow_id text collate "C" not null,
  run_id text collate "C" not null,
  input json not null,
  metadata json,
  idempotency_key text,
  request_hash text not null,
  priority smallint not null,
  budget_ucr bigint,
  on_exhausted text not null,
  last_seq bigint not null,
  tasks_total bigint not null,
  tasks_done bigint not null,
  held_ucr bigint not null,
  spent_ucr bigint not null,
  created_at bigint not null,
  updated_at bigint not null,
  constraint missions_counts check (tasks_done >= 0 and tasks_done <= tasks_total),
  constraint missions_money check (held_ucr >= 0 and spent_ucr >= 0),
  constraint missions_on_exhausted check (on_exhausted in ('pause', 'fail'))
) with (fillfactor = 70);
create index missions_of_tenant on missions (tenant_id, id);
create unique index missions_idempotency on missions (tenant_id, idempotency_key) where idempotency_key is not null;

create table runs (
  id text collate "C" primary key,
  tenant_id text collate "C" not null,
  mission_id text collate "C" not null,
  workflow_id text collate "C" not null,
  price_book_id text collate "C" not null,
  number integer not null,
  state text not null,
  status_reason text,
  error json,
  fee_ucr bigint not null,
  fee_hold_id text collate "C",
  deadline_at bigint,
  created_at bigint not null,
  started_at bigint,
  ended_at bigint,
  constraint runs_number unique (mission_id, number),
  constraint runs_state check (
    state in ('queued', 'running', 'failing', 'cancelling', 'succeeded', 'failed', 'cancelled', 'expired')),
  constraint runs_ended check (
    (ended_at is not null) = (state in ('succeeded', 'failed', 'cancelled', 'expired'))),
  constraint runs_fee check (fee_ucr >= 0)
) with (fillfactor = 80);
-- what sweep looks for: runs that are being ended, and deadlines
create index runs_ending on runs (state, id) where state in ('failing', 'cancelling');
create index runs_deadline on runs (deadline_at) where deadline_at is not null and state in ('queued', 'running');

create table tasks (
  id text collate "C" primary key,
  tenant_id text collate "C" not null,
  mission_id text collate "C" not null,
  run_id text collate "C" not null,
  workflow_id text collate "C" not null,
  node text not null,
  node_index integer not null,
  kind text not null,
  pool text collate "C" not null,
  priority smallint not null,
  state text not null,
  wait text,
  status_reason text,
  remaining_needs integer not null,
  input_bytes bigint not null,
  attempt integer not null,
  failures integer not null,
  losses integer not null,
  fence bigint not null,
  lease_token text,
  lease_until bigint,
  worker_id text collate "C",
  ready_at bigint,
  due_at bigint,
  started_at bigint,
  ended_at bigint,
  priced boolean not null,
  hold_id text collate "C",
  holds integer not null,
  output json,
  error json,
  cost_ucr bigint not null,
  units_ucr bigint not null,
  usage json,
  created_at bigint not null,
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
);
-- ready rows are the outbox of the queue: by pool, then fairly by tenant
create index tasks_ready on tasks (pool, tenant_id, priority desc, ready_at) where state = 'ready';
create index tasks_leased on tasks (lease_until) where state = 'running';
create index tasks_due on tasks (due_at) where state in ('retrying', 'waiting') and due_at is not null;
create index tasks_for_credits on tasks (ready_at) where state = 'waiting' and wait = 'credits';

-- Attempts that ended without success; a success is the task itself.
create table attempts (
  task_id text collate "C" not null,
  tenant_id text collate "C" not null,
  number integer not null,
  outcome text not null,
  worker_id text collate "C",
  error json,
  started_at bigint,
  ended_at bigint not null,
  constraint attempts_key primary key (task_id, number),
  constraint attempts_outcome check (outcome in ('failed', 'lost', 'handed_back', 'cancelled'))
);

-- One log per mission, numbered without a gap by the mission's own counter.
create table events (
  mission_id text collate "C" not null,
  seq bigint not null,
  tenant_id text collate "C" not null,
  run_id text collate "C" not null,
  kind text not null,
  task_id text collate "C",
  node text,
  attempt integer,
  data json not null,
  at bigint not null,
  constraint events_key primary key (mission_id, seq)
);

create table wallets (
  id text collate "C" primary key,
  tenant_id text collate "C" not null references tenants (id),
  available_ucr bigint not null,
  held_ucr bigint not null,
  debt_ucr bigint not null,
  frozen boolean not null,
  created_at bigint not null,
  constraint wallets_not_negative check (available_ucr >= 0 and held_ucr >= 0 and debt_ucr >= 0)
) with (fillfactor = 50);
create index wallets_of_tenant on wallets (tenant_id, id);

create table grants (
  id text collate "C" primary key,
  wallet_id text collate "C" not null references wallets (id),
  tenant_id text collate "C" not null,
  kind text not null,
  priority smallint not null,
  amount_ucr bigint not null,
  remaining_ucr bigint not null,
  expires_at bigint,
  expired boolean not null,
  reason text,
  created_at bigint not null,
  constraint grants_amount check (amount_ucr > 0 and remaining_ucr >= 0 and remaining_ucr <= amount_ucr),
  constraint grants_kind check (kind in ('promo', 'included', 'paid', 'refund', 'adjust')),
  constraint grants_priority check (priority between 0 and 100)
) with (fillfactor = 50);
create index grants_of_wallet on grants (wallet_id, id);
create index grants_expiring on grants (expires_at) where expires_at is not null and not expired;

-- A hold remembers in `slices` ([{"grant", "amount"}]) which grants it drew from, so that the rest goes home.
create table holds (
  id text collate "C" primary key,
  wallet_id text collate "C" not null,
  tenant_id text collate "C" not null,
  owner_kind text not null,
  owner_id text collate "C" not null,
  mission_id text collate "C",
  state text not null,
  amount_ucr bigint not null,
  reserved_ucr bigint not null,
  used_ucr bigint not null,
  captured_ucr bigint not null,
  returned_ucr bigint not null,
  slices json not null,
  resizes integer not null,
  created_at bigint not null,
  closed_at bigint,
  constraint holds_state check (state in ('open', 'settled', 'released')),
  constraint holds_owner check (owner_kind in ('task', 'fee')),
  constraint holds_amounts check (
    amount_ucr >= 0 and reserved_ucr >= 0 and used_ucr >= 0 and captured_ucr >= 0 and returned_ucr >= 0),
  constraint holds_closed check (
    (state = 'open' and closed_at is null and captured_ucr = 0 and returned_ucr = 0)
    or (state <> 'open' and closed_at is not null and captured_ucr + returned_ucr = amount_ucr))
);
create index holds_open on holds (wallet_id, id) where state = 'open';

-- The ledger: one immutable row per business operation; `legs` are its entries, [[from, to, amount_ucr], …].
create table ops (
  id text collate "C" not null,
  wallet_id text collate "C" not null,
  tenant_id text collate "C" not null,
  kind text not null,
  key text collate "C" not null,       -- the natural idempotency key, unique in the wallet for ever
  request_hash text not null,
  legs json not null,
  mission_id text collate "C",
  task_id text collate "C",
  actor text,
  available_after_ucr bigint not null,
  created_at bigint not null,
  constraint ops_key primary key (wallet_id, key),
  constraint ops_kind check (kind in ('grant', 'hold', 'top_up', 'shrink', 'settle', 'release', 'expire'))
);
create index ops_of_wallet on ops (wallet_id, id);

create function refuse_ledger_change() returns trigger language plpgsql as $$
begin
  raise exception 'the ledger is append-only: % on ops is refused', lower(tg_op)
    using errcode = 'restrict_violation', hint = 'post a correcting operation';
end $$;
create trigger ops_append_only before update or delete or truncate on ops
  for each statement execute function refuse_ledger_change();

create view entries as
  select o.id as op_id, o.wallet_id, o.tenant_id, o.kind, o.key, o.mission_id, o.task_id, o.created_at,
    leg.value ->> 0 as source, leg.value ->> 1 as destination, cast(leg.value ->> 2 as bigint) as amount_ucr
  from ops o, json_array_elements(o.legs) leg (value);

-- One LLM (later also tool, embedding, retrieval) call; written before the call is sent.
create table usage_calls (
  id text collate "C" primary key,
  tenant_id text collate "C" not null,
  mission_id text collate "C" not null,
  run_id text collate "C" not null,
  task_id text collate "C" not null,
  hold_id text collate "C",
  attempt integer not null,
  number integer not null,
  request_hash text not null,
  provider text not null,
  model text not null,
  state text not null,
  reserved_ucr bigint not null,
  cost_ucr bigint not null,
  billable boolean not null,
  estimated boolean not null,
  usage json,
  response json,
  duration_ms bigint,
  first_token_ms bigint,
  created_at bigint not null,
  ended_at bigint,
  constraint usage_calls_state check (state in ('sent', 'done', 'failed', 'rejected', 'lost')),
  constraint usage_calls_amounts check (reserved_ucr >= 0 and cost_ucr >= 0),
  constraint usage_calls_sent check ((state = 'sent') = (ended_at is null)),
  constraint usage_calls_reserved check (state = 'sent' or reserved_ucr = 0)
);
create index usage_calls_of_task on usage_calls (task_id);
create index usage_calls_of_tenant on usage_calls (tenant_id, created_at);

-- Worker processes that are alive (seen within the last minute) or were.
create table workers (
  id text collate "C" primary key,
  host text not null,
  pid bigint not null,
  pools json not null,             -- {"agent": 64, …}: slots by pool
  running bigint not null,
  version text not null,
  draining boolean not null,
  started_at bigint not null,
  seen_at bigint not null
);
create index workers_seen on workers (seen_at);
