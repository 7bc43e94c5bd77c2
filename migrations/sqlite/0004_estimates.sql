-- Estimates that learn: what providers report for tokens that were counted, and what nodes cost.
--
-- Rows are sums of samples. Every process adds what it learned; none overwrites another's. When a window is full it is
-- halved, so that old behaviour fades. Nothing here is money: losing a row costs nothing but precision.

create table model_factors (
  provider text not null,
  model text not null,
  samples integer not null,         -- calls ever learned from
  weight integer not null,          -- tokens that the calls in the window weigh
  weighted_ppm integer not null,    -- sum of weight times reported/counted input tokens, in millionths
  updated_at integer not null,
  constraint model_factors_key primary key (provider, model),
  constraint model_factors_sums check (samples >= 0 and weight >= 0 and weighted_ppm >= 0)
) strict;
create index model_factors_updated on model_factors (updated_at);

create table node_costs (
  tenant_id text not null,
  price_book_id text not null,
  workflow text not null,
  node text not null,
  samples integer not null,         -- tasks ever learned from
  weight integer not null,          -- what the tasks in the window weigh, 1024 for a new one
  charged_ucr integer not null,     -- what they cost
  estimated_ucr integer not null,   -- what their holds were made with
  buckets text not null,           -- [[bucket, weight], …]: how the costs of their calls are distributed
  updated_at integer not null,
  constraint node_costs_key primary key (tenant_id, price_book_id, workflow, node),
  constraint node_costs_sums check (samples >= 0 and weight >= 0 and charged_ucr >= 0 and estimated_ucr >= 0)
) strict;
create index node_costs_updated on node_costs (updated_at);

-- Input tokens as the worker counted them before the call; 0 is not known.
alter table usage_calls add column estimated_input_tokens integer not null default 0;
