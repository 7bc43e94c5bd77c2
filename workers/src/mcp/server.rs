//! One server as this process knows it: its session, what it says it has, and when it may be asked again.
//!
//! A session begins when a step needs it and is begun anew when it broke. While a server does not answer, steps are told so
//! at once, and it is tried again after a pause that grows: a crowd of steps does not knock a server down that gets up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bursar_domain::outcome::StepError;
use rmcp::{Peer, RoleClient};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::connect::{Session, Way};
use super::failure::Failure;
use super::{ServerConfig, ToolConfig};
use crate::limits::{MCP_DESCRIPTION_CHARS, MCP_SCHEMA_BYTES, MCP_TOOLS};

/// The pause after the first failed attempt to connect; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How old an answer must be before the server is asked again for a tool that was not in it.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// A server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) name: String,
    tools: BTreeMap<String, ToolConfig>,
    others: Option<ToolConfig>,
    connect: Duration,
    tools_ttl: Duration,
    way: Way,
    state: Mutex<State>,
    seen: Mutex<Option<Seen>>,
}

/// How we stand with it.
#[derive(Debug, Default)]
struct State {
    session: Option<Session>,
    failures: u32,
    /// Not before, and why.
    pause: Option<(Instant, Failure)>,
}

/// What it said it has.
#[derive(Debug, Clone)]
struct Seen {
    at: Instant,
    tools: Arc<BTreeMap<String, Told>>,
}

/// What a server says of a tool.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    pub(super) description: String,
    pub(super) parameters: Value,
}

impl Server {
    /// Checks the configuration. Errors: what is wrong with it.
    pub(super) fn new(config: ServerConfig) -> Result<Self, String> {
        let ServerConfig { name, place, tools, others, connect_ms, tools_ttl_ms } = config;
        if tools.is_empty() && others.is_none() {
            return Err("no tool can be called: list `tools`, or set `effects` for all of them".to_owned());
        }
        Ok(Self {
            way: Way::to(place, connect_ms)?,
            name,
            tools,
            others,
            connect: Duration::from_millis(connect_ms),
            tools_ttl: Duration::from_millis(tools_ttl_ms),
            state: Mutex::default(),
            seen: Mutex::default(),
        })
    }

    /// What the operator says of a tool that definitions call so; `None` where it may not be called.
    pub(super) fn config_of(&self, tool: &str) -> Option<&ToolConfig> {
        self.tools.get(tool).or(self.others.as_ref())
    }

    /// Whom to ask: the session of this process, begun now if there is none.
    pub(super) async fn peer(&self) -> Result<Peer<RoleClient>, Failure> {
        let mut state = self.state.lock().await;
        if let Some(session) = state.session.take_if(|session| !session.is_over()) {
            let peer = session.peer();
            state.session = Some(session);
            return Ok(peer);
        }
        state.session = None;
        let now = Instant::now();
        if let Some((_, why)) = state.pause.as_ref().filter(|(until, _)| now < *until) {
            return Err(why.clone());
        }
        let opened = tokio::time::timeout(self.connect, self.way.open()).await;
        let late = || Failure::unreachable("no session began in time");
        match opened.map_err(|_| late()).and_then(|opened| opened) {
            Ok(session) => {
                let peer = session.peer();
                *state = State { session: Some(session), ..State::default() };
                Ok(peer)
            }
            Err(failure) => {
                state.failures = state.failures.saturating_add(1);
                let doublings = state.failures.saturating_sub(1).min(10);
                let pause = FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
                state.pause = Some((Instant::now() + pause, failure.clone()));
                Err(failure)
            }
        }
    }

    /// What the server says of the tool that it calls so; `None` where it has none. What it said before is believed for
    /// a while, and while it can't be asked.
    pub(super) async fn told(&self, tool: &str) -> Result<Option<Told>, StepError> {
        let mut seen = self.seen.lock().await;
        if let Some(known) = seen.as_ref() {
            let age = known.at.elapsed();
            match known.tools.get(tool) {
                Some(told) if age < self.tools_ttl => return Ok(Some(told.clone())),
                None if age < LOOK_AGAIN.min(self.tools_ttl) => return Ok(None),
                _ => {}
            }
        }
        let listed = match self.list().await {
            Ok(listed) => listed,
            Err(failure) => {
                let known = seen.as_ref().and_then(|known| known.tools.get(tool)).cloned();
                return known.map(Some).ok_or_else(|| failure.into_step_error(&self.name));
            }
        };
        let told = listed.get(tool).cloned();
        *seen = Some(Seen { at: Instant::now(), tools: Arc::new(listed) });
        Ok(told)
    }

    async fn list(&self) -> Result<BTreeMap<String, Told>, Failure> {
        let peer = self.peer().await?;
        let listed = tokio::time::timeout(self.connect, peer.list_all_tools()).await;
        let listed = listed.map_err(|_| Failure::unreachable("it did not tell its tools in time"))?;
        let listed = listed.map_err(|error| Failure::of_request(&error))?;
        let told = |tool: rmcp::model::Tool| {
            let description = tool.description.unwrap_or_default().chars().take(MCP_DESCRIPTION_CHARS).collect();
            let parameters = Value::Object(tool.input_schema.as_ref().clone());
            (tool.name.into_owned(), Told { description, parameters })
        };
        // a schema of more than that is no schema that a model can be told
        let fits = |(_, told): &(String, Told)| told.parameters.to_string().len() <= MCP_SCHEMA_BYTES;
        Ok(listed.into_iter().take(MCP_TOOLS).map(told).filter(fits).collect())
    }
}
