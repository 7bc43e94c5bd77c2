//! What the listener counts, and how all of a process's counters are shown to Prometheus.
//!
//! One process has one exposition, so the counters of HTTP are the process's own. Routes are named by template,
//! statuses by class, tenants not at all: the number of series does not grow with use.

use std::sync::LazyLock;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::problem::{Code, Problem};
use super::state::App;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    method: String,
    route: String,
    status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Routed {
    route: String,
}

#[derive(Debug)]
struct Counts {
    requests: Family<Answered, Counter>,
    durations: Family<Routed, Histogram>,
    open_streams: Gauge,
    resumes: Counter,
    lags: Counter,
    backstop_finds: Counter,
}

static COUNTS: LazyLock<Counts> = LazyLock::new(|| Counts {
    requests: Family::default(),
    durations: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.5, 10))),
    open_streams: Gauge::default(),
    resumes: Counter::default(),
    lags: Counter::default(),
    backstop_finds: Counter::default(),
});

/// Methods that have a name of their own in the counters; a stranger may invent others without end.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// Counts an answered request.
pub(super) fn count_request(method: &str, route: &str, status: u16, elapsed: Duration) {
    let method = METHODS.into_iter().find(|known| *known == method).unwrap_or("other");
    let answered =
        Answered { method: method.to_owned(), route: route.to_owned(), status: format!("{}xx", status / 100) };
    COUNTS.requests.get_or_create(&answered).inc();
    COUNTS.durations.get_or_create(&Routed { route: route.to_owned() }).observe(elapsed.as_secs_f64());
}

/// Counts a client that was too slow for the hub.
pub(super) fn count_lag() {
    COUNTS.lags.inc();
}

/// Counts events that only the look at the log found.
pub(super) fn count_backstop_finds(events: usize) {
    COUNTS.backstop_finds.inc_by(events as u64);
}

/// Counts a stream for as long as it is open.
#[derive(Debug)]
pub(super) struct OpenStream;

impl OpenStream {
    /// A stream opened; whether it goes on where an earlier one ended.
    pub(super) fn new(is_resumed: bool) -> Self {
        COUNTS.open_streams.inc();
        if is_resumed {
            COUNTS.resumes.inc();
        }
        Self
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        COUNTS.open_streams.dec();
    }
}

/// How many streams are open.
pub(super) fn open_streams() -> i64 {
    COUNTS.open_streams.get()
}

/// `GET /metrics`, for a listener of its own: operators read it, the public does not.
pub fn metrics_router(app: App) -> axum::Router {
    axum::Router::new().route("/metrics", get(show)).with_state(app)
}

async fn show(State(app): State<App>) -> impl IntoResponse {
    let mut registry = Registry::default();
    app.engine.metrics().register(&mut registry);
    app.engine.rates().register(&mut registry);
    let counts = &*COUNTS;
    registry.register("bursar_http_requests", "Requests by route template", counts.requests.clone());
    registry.register("bursar_http_request_seconds", "Time to the head of the answer", counts.durations.clone());
    registry.register("bursar_streams_open", "Open event streams", counts.open_streams.clone());
    registry.register("bursar_stream_resumes", "Streams that went on after an event", counts.resumes.clone());
    registry.register("bursar_stream_lags", "Streams that were slower than the hub", counts.lags.clone());
    let finds = counts.backstop_finds.clone();
    registry.register("bursar_stream_backstop_finds", "Events that only a look at the log found", finds);
    let store = app.engine.store().counters();
    for (name, about, count) in [
        ("bursar_store_commits", "Transactions that committed", store.commits),
        ("bursar_store_round_trips", "Statements that waited for the database", store.round_trips),
        ("bursar_store_retries", "Transactions that were tried again", store.retries),
    ] {
        let counter = Counter::<u64>::default();
        counter.inc_by(count);
        registry.register(name, about, counter);
    }
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => {
            let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, media_type)], text).into_response()
        }
        Err(_) => Problem::new(Code::Internal, "the counters could not be written").into_response(),
    }
}
