//! Every hard limit of the public listener, in one place, each with its reason. `GET /v1/meta` shows them.

use std::time::Duration;

/// Bytes of a request's body: a workflow (1 MiB) with room to spare; inputs larger than this belong into a store.
pub(super) const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;
/// Nesting of a JSON body: readers recurse once per level, and storing adds levels around an input.
pub(super) const MAX_JSON_DEPTH: usize = 64;
/// Bytes of a mission's metadata: it is read with every list.
pub(super) const MAX_METADATA_BYTES: usize = 16 * 1024;
/// Bytes of an Idempotency-Key, which is an indexed column.
pub(super) const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;
/// Bytes of a reason or a name that people give.
pub(super) const MAX_WORDS_BYTES: usize = 500;
/// Tags of a mission: usage by tag reads them for every call.
pub(super) const MAX_TAGS: usize = 16;
/// Bytes of a tag: it is a key in reports.
pub(super) const MAX_TAG_BYTES: usize = 64;
/// The longest period of a usage report, which reads all of the period's calls: a leap year.
pub(super) const MAX_USAGE_DAYS: i64 = 366;
/// Models and nodes that a mission's usage lists: nodes have a limit of their own, models are few.
pub(super) const MAX_USAGE_GROUPS: i64 = 1_000;
/// Operations read at once while a CSV file is written: memory stays flat however long the file is.
pub(super) const CSV_PAGE: i64 = 500;
/// Rows of a page, unless the client asks for another number.
pub(super) const DEFAULT_PAGE: i64 = 20;
/// The most rows of a page.
pub(super) const MAX_PAGE: i64 = 100;
/// Recorded calls that one request prices again: about a second of work.
pub(super) const MAX_SIMULATED_CALLS: u64 = 100_000;
/// How far back a request looks for calls to price again.
pub(super) const MAX_SIMULATED_DAYS: i64 = 366;
/// The longest time a request waits for a change: below the 30 s after which proxies commonly give up.
pub(super) const MAX_WAIT_S: u64 = 25;
/// How long a client may take for the head of a request.
pub(super) const HEADER_DEADLINE: Duration = Duration::from_secs(10);
/// How long a client may take for the whole body.
pub(super) const BODY_DEADLINE: Duration = Duration::from_secs(30);
/// Open connections. Each costs about 20 kB and a file descriptor.
pub(super) const MAX_CONNECTIONS: usize = 10_000;
/// Bytes of bodies that one listener keeps at once, those counted whose requests are being answered. As values in memory
/// they may take ten times as much.
pub(super) const MAX_BODIES_BYTES: usize = 128 * 1024 * 1024;
/// Open streams of a listener: half of the connections, so that the rest of the API is never shut out.
pub(super) const MAX_STREAMS: usize = 5_000;
/// After how long, in ms, a browser comes again whose stream found no place.
pub(super) const STREAM_BUSY_MS: u64 = 5_000;
/// How often waits and streams look at the store, in case that a hint got lost.
pub(super) const BACKSTOP: Duration = Duration::from_secs(1);
/// How often an idle stream shows that it is alive: proxies close silent connections after 30 to 60 s.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a stream lives before it asks its client to come again, so that a deploy's streams do not stay for ever.
pub(super) const STREAM_ROTATION: Duration = Duration::from_mins(15);
/// Events read from the log at once by a stream.
pub(super) const STREAM_PAGE: i64 = 500;
/// How long a stream token opens its stream.
pub(super) const STREAM_TOKEN_MS: i64 = 15 * 60 * 1_000;

/// How much is read of a body that nobody wants any more, so that its sender gets to read the answer.
pub(super) const MOST_UNREAD_BYTES: usize = 1024 * 1024;

/// How long that may take.
pub(super) const UNREAD_PATIENCE: Duration = Duration::from_secs(2);
