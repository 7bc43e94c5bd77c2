//! MCP servers: tools that somebody else has, called through one session per server and process.
//!
//! The operator names the servers and says what their tools do to the world; a definition names tools, never addresses
//! or programs. What a server says of its tools and what these give back is trusted by nobody: sizes are bounded here, and
//! what stands in it is told to models and watchers only. Nothing is retried here: another attempt is the engine's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bursar_domain::outcome::{ErrorClass, StepError, ToolEffects};
use secrecy::SecretString;

use crate::tools::{Tool, ToolLimits};

mod connect;
mod content;
mod failure;
mod server;
mod tool;

use server::Server;

/// An MCP server, as the operator describes it.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Its name: 1 to 32 of `a-z`, `0-9` and `-`, a letter first.
    pub name: String,
    /// Where it is.
    pub place: Place,
    /// The tools that definitions may name, by the names they use.
    pub tools: BTreeMap<String, ToolConfig>,
    /// What tools do that are not among these; with `None` there are no others.
    pub others: Option<ToolConfig>,
    /// Milliseconds that a connection, and a look at its tools, may take.
    pub connect_ms: u64,
    /// Milliseconds for which what it tells of its tools is believed.
    pub tools_ttl_ms: u64,
}

/// Where a server is.
#[derive(Debug, Clone)]
pub enum Place {
    /// At a URL, by streamable HTTP.
    Http {
        /// The URL.
        url: String,
        /// Headers of every request.
        headers: BTreeMap<String, SecretString>,
        /// Whether it may have a private or loopback address.
        allow_private: bool,
    },
    /// A program that is started here, spoken to through its standard input and output.
    Program {
        /// The program and its arguments.
        command: Vec<String>,
        /// All of its environment.
        env: BTreeMap<String, SecretString>,
        /// Where it is started.
        folder: PathBuf,
    },
}

/// A tool of a server, as the operator describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolConfig {
    /// Its name at the server, where that differs from the one that definitions use.
    pub name: Option<String>,
    /// What running it twice would do.
    pub effects: ToolEffects,
    /// How often one step may call it.
    pub max_calls: Option<u32>,
    /// How far one call may go.
    pub limits: ToolLimits,
}

/// Why a set of servers cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("mcp.servers.{server}: {reason}")]
pub struct ServersError {
    /// Which.
    pub server: String,
    /// What is wrong with it.
    pub reason: String,
}

/// All MCP servers of a process. Cheap to clone; connects to nobody before a step needs it.
#[derive(Debug, Clone, Default)]
pub struct Servers(Arc<BTreeMap<String, Arc<Server>>>);

impl Servers {
    /// Checks the servers. Sends and starts nothing. The process must have installed a rustls crypto provider before.
    pub fn new(configs: Vec<ServerConfig>) -> Result<Self, ServersError> {
        let mut servers = BTreeMap::new();
        for config in configs {
            let name = config.name.clone();
            let refused = |reason: String| ServersError { server: name.clone(), reason };
            if !bursar_domain::workflow::is_mcp_server(&name) {
                return Err(refused("the name must be 1 to 32 of a-z, 0-9 and -, a letter first".to_owned()));
            }
            let server = Server::new(config).map_err(refused)?;
            servers.insert(name.clone(), Arc::new(server));
        }
        Ok(Self(Arc::new(servers)))
    }

    /// The tool `tool` of `server`, which the definition calls `name`. Errors: the operator knows no such tool, the server
    /// has none, or it can't be asked.
    pub(crate) async fn find(&self, name: &str, server: &str, tool: &str) -> Result<Arc<dyn Tool>, StepError> {
        let Some(found) = self.0.get(server) else {
            let known: Vec<&str> = self.0.keys().map(String::as_str).take(20).collect();
            let known = if known.is_empty() { "this worker has none".to_owned() } else { known.join(", ") };
            let message =
                format!("the agent wants tool `{name}` of an MCP server that is not configured (known: {known})");
            return Err(StepError::new(ErrorClass::Permanent, "tool_unknown", message));
        };
        Ok(Arc::new(tool::find(found, name, tool).await?))
    }
}
