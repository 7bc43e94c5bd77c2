//! How a session begins: by streamable HTTP through the guarded client, or with a program that is started for it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use reqwest::Client;
use rmcp::model::{ClientCapabilities, ClientConfig, Implementation};
use rmcp::service::RunningService;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::common::client_side_sse::ExponentialBackoff;
use rmcp::transport::streamable_http_client::{StreamableHttpClientTransport, StreamableHttpClientTransportConfig};
use rmcp::{Peer, RoleClient, ServiceExt};
use secrecy::{ExposeSecret, SecretString};
use tokio::process::{Child, Command};

use super::Place;
use super::failure::Failure;
use crate::exec::Group;
use crate::limits::MCP_MESSAGE_BYTES;
use crate::outbound;

/// How often a broken event stream of a server is taken up again.
const STREAM_RETRIES: usize = 5;

/// A way to a server that was found to be in order.
#[derive(Debug)]
pub(super) enum Way {
    Http { url: String, headers: HashMap<HeaderName, HeaderValue>, client: Client },
    Program { command: Vec<String>, env: BTreeMap<String, SecretString>, folder: std::path::PathBuf },
}

/// A session with a server. Dropping it ends the session, and the program with all of its group.
#[derive(Debug)]
pub(super) struct Session {
    running: RunningService<RoleClient, ClientConfig>,
    _program: Option<(Child, Group)>,
}

impl Session {
    /// Whether nothing can be asked any more.
    pub(super) fn is_over(&self) -> bool {
        self.running.is_closed() || self.running.peer().is_transport_closed()
    }

    /// Whom to ask.
    pub(super) fn peer(&self) -> Peer<RoleClient> {
        self.running.peer().clone()
    }
}

impl Way {
    /// Checks the place. Errors: what is wrong with it.
    pub(super) fn to(place: Place, connect_ms: u64) -> Result<Self, String> {
        match place {
            Place::Http { url, headers, allow_private } => {
                let client = outbound::fixed(&url, allow_private, connect_ms).map_err(|why| format!("url: {why}"))?;
                let headers = headers.iter().map(|(name, value)| header(name, value)).collect::<Result<_, _>>()?;
                Ok(Self::Http { url, headers, client })
            }
            Place::Program { command, env, folder } => {
                if command.first().is_none_or(|program| !Path::new(program).is_absolute()) {
                    return Err("command: must begin with the absolute path of a program".to_owned());
                }
                Ok(Self::Program { command, env, folder })
            }
        }
    }

    /// Begins a session.
    pub(super) async fn open(&self) -> Result<Session, Failure> {
        let us =
            ClientConfig::new(ClientCapabilities::default(), Implementation::new("bursar", env!("CARGO_PKG_VERSION")));
        match self {
            Self::Http { url, headers, client } => {
                let mut retries = ExponentialBackoff::default();
                retries.max_times = Some(STREAM_RETRIES);
                let mut config = StreamableHttpClientTransportConfig::with_uri(url.as_str())
                    .custom_headers(headers.clone())
                    .max_sse_event_size(MCP_MESSAGE_BYTES)
                    .max_json_response_size(MCP_MESSAGE_BYTES);
                config.retry_config = Arc::new(retries);
                let transport = StreamableHttpClientTransport::with_client(client.clone(), config);
                let running = us.serve(transport).await.map_err(|error| Failure::of_beginning(&error))?;
                Ok(Session { running, _program: None })
            }
            Self::Program { command, env, folder } => {
                let (mut child, group) = start(command, env, folder).map_err(|error| Failure::not_started(&error))?;
                let (Some(output), Some(input)) = (child.stdout.take(), child.stdin.take()) else {
                    return Err(Failure::unreachable("its pipes are missing"));
                };
                let transport = AsyncRwTransport::new_client(output, input).with_max_line_length(MCP_MESSAGE_BYTES);
                let running = us.serve(transport).await.map_err(|error| Failure::of_beginning(&error))?;
                Ok(Session { running, _program: Some((child, group)) })
            }
        }
    }
}

/// Starts the program as the leader of a group, with nothing of our environment. What it writes to its standard error
/// is nobody's: it could tell what people ask for.
fn start(
    command: &[String],
    env: &BTreeMap<String, SecretString>,
    folder: &Path,
) -> Result<(Child, Group), std::io::Error> {
    let mut parts = command.iter();
    let program = parts.next().ok_or_else(|| std::io::Error::other("it has no name"))?;
    let child = Command::new(program)
        .args(parts)
        .env_clear()
        .envs(env.iter().map(|(name, value)| (name, value.expose_secret())))
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let group = Group::of(&child);
    Ok((child, group))
}

fn header(name: &str, value: &SecretString) -> Result<(HeaderName, HeaderValue), String> {
    let parsed: HeaderName = name.parse().map_err(|_| format!("headers.{name}: this is no name of a header"))?;
    let ours = ["accept", "content-type", "last-event-id", "mcp-session-id", "mcp-protocol-version"];
    if ours.contains(&parsed.as_str()) {
        return Err(format!("headers.{name}: the protocol sets this one"));
    }
    let mut value: HeaderValue = value
        .expose_secret()
        .parse()
        .map_err(|_| format!("headers.{name}: the value has characters that no header can carry (a line break?)"))?;
    value.set_sensitive(true);
    Ok((parsed, value))
}
