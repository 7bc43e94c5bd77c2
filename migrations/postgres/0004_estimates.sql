-- Estimates that learn: what providers report for tokens that were counted, and what nodes cost.
--
-- Rows are sums of samples. Every process adds what it learned; none overwrites another's. When a window is full it is
-- halved, so that old behaviour fades. Nothing here is money: losing a row costs nothing but precision.

create table model_factors (
  provider text collate "C" not null,
  model text collate "C" not null,
  samples bigint not null,         -- calls ever learned from
  weight bigint not null,          -- tokens that the calls in the window weigh
  weighted_ppm bigint not null,    -- sum of weight times reported/counted input tokens, in millionths
  updated_at bigint not null,
  constraint model_factors_key primary key (provider, model),
  constraint model_factors_sums check (samples >= 0 and weight >= 0 and weighted_ppm >= 0)
);
create index model_factors_updated on model_factors (updated_at);

create table node_costs (
  tenant_id text collate "C" not null,
  price_book_id text collate "C" not null,
  workflow text collate "C" not null,
  node text collate "C" not null,
  samples bigint not null,         -- tasks ever learned from
  weight bigint not null,          -- what the tasks in the window weigh, 1024 for a new one
  charged_ucr bigint not null,     -- what they cost
  estimated_ucr bigint not null,   -- what their holds were made with
  buckets json not null,           -- [[bucket, weight], …]: how the costs of their calls are distributed
  updated_at bigint not null,
  constraint node_costs_key primary key (tenant_id, price_book_id, workflow, node),
  constraint node_costs_sums check (samples >= 0 and weight >= 0 and charged_ucr >= 0 and estimated_ucr >= 0)
);
create index node_costs_updated on node_costs (updated_at);

-- Input tokens as the worker counted them before the call; 0 is not known.
alter table usage_calls add column estimated_input_tokens bigint not null default 0;
