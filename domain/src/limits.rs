//! Every hard limit of the domain, in one place, each with its reason.
//!
//! A limit stands here when crossing it could exhaust memory, stack, time or money. Nothing else in the package
//! names such a number. Raising one is an additive change; lowering one can refuse what is already stored.

/// Text of one workflow definition, before and after YAML aliases are expanded: 1 MiB. It is kept with every
/// version, compared on every deploy and sent to the dashboard whole.
pub const MAX_DEFINITION_BYTES: usize = 1024 * 1024;

/// Values (scalars, lists, mappings) in one definition: fifty for each of [`MAX_NODES`], so that a megabyte of
/// `[[],[],…` cannot become a hundred megabytes of memory.
pub const MAX_DEFINITION_VALUES: usize = 50_000;

/// Nesting of lists and mappings in a definition. Readers recurse once per level; 32 levels fit any stack.
pub const MAX_DEFINITION_DEPTH: usize = 32;

/// Bytes of one key anywhere in a definition. Keys become JSON pointers in problems and columns in tables.
pub const MAX_KEY_BYTES: usize = 256;

/// YAML anchors, and uses of them, in one definition. People use a handful; alias bombs use thousands.
pub const MAX_YAML_ALIASES: usize = 256;

/// Problems reported about one definition. Nobody reads more than fifty, and each costs work to find a hint.
pub const MAX_PROBLEMS: usize = 50;

/// Nodes in one definition. A submit writes one task row per node in one transaction.
pub const MAX_NODES: usize = 1_000;

/// Needs of one node. A node's dependents are updated one row each when it ends.
pub const MAX_NEEDS_PER_NODE: usize = 256;

/// Agents in one definition.
pub const MAX_AGENTS: usize = 64;

/// Named outputs of one definition. Each is resolved when a run ends.
pub const MAX_OUTPUTS: usize = 256;

/// Priced units that one node may bill, each a leg of its settle.
pub const MAX_UNITS_PER_NODE: usize = 32;

/// How often one unit may be billed for one node. Keeps quantity times price inside of an i64 of micro-credits.
pub const MAX_UNIT_QUANTITY: u64 = 1_000_000_000;

/// Bytes of a name: workflow, node, agent, output, unit. Names are parts of URLs, metrics and indexed columns.
pub const MAX_NAME_BYTES: usize = 64;

/// Bytes of the name of a worker pool, which is part of every Redis key of the pool.
pub const MAX_POOL_NAME_BYTES: usize = 32;

/// Bytes of a model's name as in the price book.
pub const MAX_MODEL_NAME_BYTES: usize = 128;

/// Bytes of a workflow's description, which lists show.
pub const MAX_DESCRIPTION_BYTES: usize = 4 * 1024;

/// Bytes of one prompt template or of an agent's instructions: 64 KiB, about 16,000 tokens of fixed text.
pub const MAX_PROMPT_BYTES: usize = 64 * 1024;

/// Bytes of the schema of a workflow's inputs. It is compiled once per definition that is loaded.
pub const MAX_SCHEMA_BYTES: usize = 64 * 1024;

/// Subschemas that checking one input may have to visit when every `$ref` is followed. References may share
/// definitions, and thirty levels of "twice the level below" would otherwise take 2^30 steps.
pub const MAX_SCHEMA_STEPS: usize = 2_000;

/// Nesting of a schema with every reference followed. The validator recurses once per level.
pub const MAX_SCHEMA_DEPTH: usize = 64;

/// Regular expressions in the schema of the inputs. Each is compiled when the definition is parsed.
pub const MAX_SCHEMA_PATTERNS: usize = 64;

/// Bytes of one compiled regular expression of a schema: `\p{L}{30}` must not compile.
pub const MAX_PATTERN_COMPILED_BYTES: usize = 256 * 1024;

/// Output tokens that one model call may ask for. Above what any model offers; keeps estimates inside of an i64.
pub const MAX_OUTPUT_TOKENS: i64 = 1_000_000;

/// Named schemas of one definition.
pub const MAX_SCHEMAS: usize = 64;

/// Times that a model may mend its answer. Each is a paid call; who needs more needs another schema.
pub const MAX_REPAIRS: i64 = 10;

/// Characters of the words about a wrong answer that go back to the model and into the step's error.
pub const MAX_VIOLATION_CHARS: usize = 1_000;

/// Models that one agent may fall back through. Each is asked, and may be waited for, in turn.
pub const MAX_MODELS: usize = 5;

/// Tools of one agent. Each is described in every request.
pub const MAX_TOOLS: usize = 64;

/// Turns of one agent step. Each is a paid call whose input holds all turns before it, so cost grows with the square.
pub const MAX_TURNS: i64 = 100;

/// Tool calls of one agent step. Each is a row in the journal and an answer that all later turns carry.
pub const MAX_TOOL_CALLS: i64 = 256;

/// Attempts at one node, the first included. With the longest pause this is most of a day.
pub const MAX_ATTEMPTS: i64 = 20;

/// The factor by which the pause between attempts grows.
pub const MAX_BACKOFF_FACTOR: i64 = 10;

/// The longest time one attempt may take, and the longest pause before the next: 24 hours.
pub const MAX_TIMEOUT_MS: i64 = 24 * 60 * 60 * 1_000;

/// The longest time a mission may take, and the longest sleep inside of it: 30 days.
pub const MAX_DEADLINE_MS: i64 = 30 * 24 * 60 * 60 * 1_000;

/// Priorities go from minus to plus this. A small closed range keeps queue scores exact.
pub const MAX_PRIORITY: i64 = 100;

/// How much waiting a point of priority is worth: a minute. So the least urgent task of a tenant (100 points below none)
/// is passed only by what becomes ready within 200 minutes after it, and none waits for ever. Migration 0026 spells the
/// same number in an index.
pub const PRIORITY_POINT_MS: i64 = 60_000;

/// Work that rendering one template may cost, in the units of the template engine: one per instruction or per
/// 64 bytes produced. Enough to write a megabyte of JSON, little enough to end within some milliseconds.
pub const TEMPLATE_FUEL: u64 = 500_000;

/// As [`TEMPLATE_FUEL`], for one condition: it is decided while a transaction holds its locks, and a settle may have
/// to decide many.
pub const CONDITION_FUEL: u64 = 20_000;

/// Bytes of one condition. Whoever needs more computes it in a `transform` first.
pub const MAX_CONDITION_BYTES: usize = 4 * 1024;

/// The longest time for which an output may be used again: 30 days.
pub const MAX_CACHE_MS: i64 = 30 * 24 * 60 * 60 * 1_000;

/// Bytes of a concurrency key. It is part of an index.
pub const MAX_CONCURRENCY_KEY_BYTES: usize = 200;

/// How many tasks with one concurrency key may run at once. Who needs more needs no limit.
pub const MAX_CONCURRENCY: i64 = 10_000;

/// Bytes of the template of what an approval shows, which is rendered under the same locks.
pub const MAX_SHOW_BYTES: usize = 16 * 1024;

/// Bytes of what an approval shows: a long document, and as much as a person reads before they decide. What is longer is
/// cut, and says so.
pub const MAX_SHOWN_BYTES: usize = 64 * 1024;

/// Bytes of the comment that somebody gives with a decision. It goes on in the node's output.
pub const MAX_COMMENT_BYTES: usize = 4 * 1024;

/// Bytes of a signal's payload as JSON. It becomes a node's output, and is loaded with every decision that may hand it on.
pub const MAX_SIGNAL_BYTES: usize = 32 * 1024;

/// Signals of one mission that nobody waits for yet: all of them are loaded together, two megabytes at the most.
pub const MAX_BUFFERED_SIGNALS: usize = 64;

/// Bytes of one message to a mission: half of what a prompt may be, so that a prompt can quote it.
pub const MAX_MESSAGE_BYTES: usize = 32 * 1024;

/// Messages of one mission, answers included. A session that is longer is better begun anew.
pub const MAX_MESSAGES: i64 = 10_000;

/// Messages, the latest, that templates see and that one step is told while it works.
pub const MAX_MESSAGES_TOLD: i64 = 100;

/// Bytes of the messages that templates see, the oldest left out first.
pub const MAX_MESSAGES_TOLD_BYTES: usize = 256 * 1024;

/// Tokens of what an agent remembers. Each of its calls pays for all of them.
pub const MAX_MEMORY_TOKENS: i64 = 100_000;

/// Exchanges or messages, the latest, of which an agent's memory is made.
pub const MAX_REMEMBERED: i64 = 200;

/// Bytes of one prompt that is kept to be remembered; what is longer is cut, and says so.
pub const MAX_KEPT_PROMPT_BYTES: usize = 64 * 1024;

/// Nodes that are loaded with one that ends, beyond its own dependents, because they may be skipped and so let
/// further ones begin. What lies beyond is decided a moment later, by the sweep.
pub const MAX_REACH: usize = 256;

/// Nodes that stand in for one after another: who waits for the first waits for all of them, and the end of each
/// changes the rows of those before it.
pub const MAX_FALLBACKS_IN_LINE: usize = 8;

/// Items of one map: a run stays small enough to be shown, and its fan-out is finished within minutes.
pub const MAX_ITEMS: usize = 10_000;

/// Bytes of all items of a map together, as JSON: they are read once, when its tasks are made.
pub const MAX_ITEMS_BYTES: usize = 8 * 1024 * 1024;

/// Bytes of one item, as JSON: it stands in its task's row.
pub const MAX_ITEM_BYTES: usize = 64 * 1024;

/// Bytes of an item's key.
pub const MAX_ITEM_KEY_BYTES: usize = 256;

/// Items of one map that may wait for one and the same item.
pub const MAX_ITEM_FOLLOWERS: usize = 256;

/// Bytes that all items of a map hand on together, as JSON: whoever reads the list reads all of it.
pub const MAX_GATHERED_BYTES: i64 = 16 * 1024 * 1024;

/// Items that become tasks in one transaction.
pub const ITEM_CHUNK: usize = 256;

/// Items of one map that may be under way at once.
pub const MAX_PARALLEL_ITEMS: i64 = 1_000;

/// Steps of one plan: as many as a person can still look through.
pub const MAX_PLAN_NODES: i64 = 50;

/// Levels of plans inside of plans: three of the largest are 125,000 tasks.
pub const MAX_PLAN_DEPTH: i64 = 3;

/// Characters of the prompt of one step of a plan.
pub const MAX_PLAN_PROMPT_CHARS: usize = 20_000;

/// Workflows inside of each other, the outermost included.
pub const MAX_WORKFLOW_DEPTH: u32 = 8;

/// Nodes of a workflow with those of all workflows inside of it: a submit looks at each of them.
pub const MAX_NODES_INSIDE: u64 = 5_000;

/// Tasks of one run: what makes more is a mistake rather than work.
pub const MAX_TASKS_PER_RUN: i64 = 1_000_000;

/// Rounds of a `repeat` or `review`.
pub const MAX_ROUNDS: i64 = 100;

/// Bytes that rendering one prompt, or all templates of one transform, may produce: 1 MiB.
pub const MAX_RENDERED_BYTES: usize = 1024 * 1024;

/// Nesting of the JSON value that a transform produces. Readers of stored JSON stop at 128 levels.
pub const MAX_RENDERED_DEPTH: usize = 100;

/// Strings with template code in one transform. Each may use all of [`TEMPLATE_FUEL`].
pub const MAX_TRANSFORM_TEMPLATES: usize = 256;

/// Bytes of the template of a URL. What services accept is mostly less.
pub const MAX_URL_BYTES: usize = 8 * 1024;

/// Headers, and values of the query, of one request. Servers refuse more than about a hundred.
pub const MAX_HTTP_FIELDS: usize = 64;

/// Statuses that a request may expect by name.
pub const MAX_HTTP_EXPECTED: usize = 32;

/// Bytes of an answer that become a node's output: as much as a template may render.
pub const MAX_HTTP_BODY_BYTES: i64 = 1024 * 1024;

/// The program and its arguments. Each is a template.
pub const MAX_EXEC_ARGUMENTS: usize = 128;

/// Environment variables of one program.
pub const MAX_EXEC_VARIABLES: usize = 64;

/// Bytes that a program may write to its output, and as many to its errors: what is more fails it. Both become parts of
/// the node's output.
pub const EXEC_OUTPUT_BYTES: u64 = 64 * 1024;

/// Exit codes that may be named.
pub const MAX_EXEC_CODES: usize = 32;

/// Tags (`{{ … }}` and `{% … %}`) in one template. The template engine recurses over `elif` chains; it was
/// measured to overflow a 2 MiB stack at about 3,700 of them.
pub const MAX_TEMPLATE_TAGS: usize = 500;

/// Tokens in one tag. The template engine recurses over chains such as `a+a+a…`; it was measured to overflow a
/// 2 MiB stack at about 7,000 tokens.
pub const MAX_TAG_TOKENS: usize = 256;

/// Opening brackets and filters in one template: what bounds the nesting of the values it builds. Printing a
/// value recurses; it was measured to overflow a 2 MiB stack at about 4,000 levels.
pub const MAX_TEMPLATE_NESTINGS: usize = 500;

/// Bytes of a dedupe key, a column of a unique index.
pub const MAX_DEDUPE_KEY_BYTES: usize = 255;

/// The longest time for which a dedupe key stays taken by a mission that is over: 366 days. Its row is kept as long.
pub const MAX_DEDUPE_WINDOW_MS: i64 = 366 * 24 * 60 * 60 * 1_000;

/// Bytes of a cron expression. Six fields of lists fit.
pub const MAX_CRON_BYTES: usize = 256;

/// Bytes of a schedule's name, a column of a unique index.
pub const MAX_SCHEDULE_NAME_BYTES: usize = 100;

/// The longest time by which a firing may be late on purpose: an hour.
pub const MAX_SCHEDULE_JITTER_MS: i64 = 60 * 60 * 1_000;

/// Schedules of one tenant. Each may make a mission a second.
pub const MAX_SCHEDULES: i64 = 1_000;

/// A firing that comes so much later than it should was missed. A pass over the schedules happens every second; a
/// restart takes some.
pub const SCHEDULE_LATE_MS: i64 = 60_000;

/// Bytes of a project's name, a column of a unique index.
pub const MAX_PROJECT_NAME_BYTES: usize = 100;

/// Bytes of a project's description: it is read with every list.
pub const MAX_PROJECT_DESCRIPTION_BYTES: usize = 1_000;

/// Projects of one tenant: people look through them.
pub const MAX_PROJECTS: i64 = 10_000;

/// The largest weight of a tenant. Wide enough for "a thousand times the others", narrow enough that shares stay exact
/// in whole numbers.
pub const MAX_TENANT_WEIGHT: u16 = 1_000;

/// The largest number of live missions that a tenant's limit may name: more than any store holds.
pub const MAX_TENANT_QUEUED: i64 = 1_000_000_000;

/// Missions that a bulk action redrives in a second at most: each takes its tenant's wallet for a moment, which what
/// runs needs as well.
pub const MAX_REDRIVES_PER_SECOND: i64 = 100;

/// Missions of one bulk action. Its progress is counted from a row for each.
pub const MAX_REDRIVES: i64 = 10_000;

/// Missions that a dry run looks at, each in a transaction of its own: a second or two of work.
pub const MAX_REHEARSED: i64 = 200;

// --- Leases, losses and waits ---

/// How long a lease lasts unless it is renewed: long enough to survive a pause of a few seconds, short enough that
/// work of a crashed worker runs again within 17 s.
pub const LEASE_MS: i64 = 15_000;
/// How often leases are renewed: three chances per lease.
pub const HEARTBEAT_MS: i64 = 5_000;
/// How long a step may go on after it was told to stop. Long enough to read what a provider says at last and to count
/// what it did not say; short enough that a cancelled mission ends within five seconds, whatever its steps do.
pub const STOP_GRACE_MS: i64 = 2_000;
/// How often a worker looks whether runs that its tasks belong to are being ended, in case the hint got lost.
pub const STOP_LOOK_MS: i64 = 1_000;
/// How many workers in a row may vanish with a task before it is taken for what kills them.
pub const POISON_LOSSES: i32 = 3;
/// How long a rate-limited task waits when the provider does not say.
pub const RATE_LIMIT_PAUSE_MS: i64 = 5_000;
/// The longest wait that a provider may ask for.
pub const MAX_RETRY_AFTER_MS: i64 = 3_600_000;

/// How long a small task may pass a larger one that waits for credits. Then the wallet's tasks go in order.
pub const CREDIT_LINE_PATIENCE_MS: i64 = 60_000;

/// How long a line for credits is kept without being confirmed: a line whose head is gone dissolves by itself.
pub const CREDIT_LINE_LEASE_MS: i64 = 30_000;
// --- Estimates that learn ---

/// How many samples an estimate needs before it is used: below, chance decides more than behaviour.
pub const ESTIMATE_LEAST_SAMPLES: i64 = 20;
/// About how many of a node's latest tasks count: enough for a 95th percentile, few enough to follow a change within
/// some dozens of tasks.
pub const ESTIMATE_WINDOW_SAMPLES: u64 = 512;
/// No single task teaches more than this, a billion credits: sums over the window stay far inside of an i64.
pub const ESTIMATE_LARGEST_SAMPLE_UCR: i64 = 1_000_000_000_000_000;
/// The smallest factor on counted input tokens. Counting twice too many happens; more is a broken report.
pub const LEAST_FACTOR_PPM: u32 = 500_000;
/// The largest factor on counted input tokens: a foreign vocabulary on its worst script.
pub const LARGEST_FACTOR_PPM: u32 = 4_000_000;
/// The most tokens that one call weighs in its model's factor, so that a single huge prompt does not decide.
pub const FACTOR_SAMPLE_TOKENS: i64 = 4_096;
/// The weight of "as counted" before anything was learned: two large calls.
pub const FACTOR_PRIOR_TOKENS: i64 = 8_192;
/// The weight of the latest calls that count: 512 large calls.
pub const FACTOR_WINDOW_TOKENS: i64 = 2_097_152;
