//! MCP servers in the configuration: where they are, and what their tools do to the world.
//!
//! Only the operator says this. What cannot be decided here, e.g. whether an address may be called, the workers decide.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bursar_domain::outcome::ToolEffects;
use bursar_domain::workflow::is_mcp_server;
use serde::Deserialize;

use super::{ConfigError, Secret, duration_ms, read_secret};

/// MCP servers whose tools agents may call.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct McpConfig {
    /// The servers by name: 1 to 32 of `a-z`, `0-9` and `-`.
    pub servers: BTreeMap<String, McpServerConfig>,
}

/// An MCP server, either at a URL or as a program.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct McpServerConfig {
    /// Where it is reached by streamable HTTP.
    pub url: Option<String>,
    /// Headers of every request, e.g. `Authorization`.
    pub headers: BTreeMap<String, Secret>,
    /// Headers whose values stand in files.
    pub header_files: BTreeMap<String, PathBuf>,
    /// Whether the URL may lead to a private or loopback address; off by default.
    pub allow_private: bool,
    /// The program, by its absolute path, and its arguments: started by each worker, spoken to by its standard streams.
    pub command: Option<Vec<String>>,
    /// All of the program's environment; `PATH` is `/usr/local/bin:/usr/bin:/bin` where it is left out.
    pub env: BTreeMap<String, Secret>,
    /// Variables of the program whose values stand in files.
    pub env_files: BTreeMap<String, PathBuf>,
    /// Where the program is started, `/` by default.
    pub folder: Option<PathBuf>,
    /// What the tools do that are not listed; without it only listed ones can be called.
    pub effects: Option<ToolEffects>,
    /// The tools, by the names that workflows use.
    pub tools: BTreeMap<String, McpToolConfig>,
    /// How long one call may take, 30s by default.
    pub timeout: Option<String>,
    /// Bytes of a result that the model is told, 16384 by default.
    pub result_bytes: Option<usize>,
    /// How long it may take to begin a session or to list tools, 10s by default.
    pub connect_timeout: Option<String>,
    /// How long what the server says of its tools is believed, 5m by default.
    pub tools_ttl: Option<String>,
}

/// A tool of an MCP server.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct McpToolConfig {
    /// Its name at the server, where that is no name for a workflow.
    pub name: Option<String>,
    /// What running it twice would do: `none`, `idempotent` or `once`.
    pub effects: Option<ToolEffects>,
    /// How often one step may call it.
    pub max_calls: Option<u32>,
    /// How long one call may take, as the server's by default.
    pub timeout: Option<String>,
    /// Bytes of a result, as the server's by default.
    pub result_bytes: Option<usize>,
}

/// The most bytes of a result that a model may be told.
const MOST_RESULT_BYTES: usize = 1024 * 1024;

impl McpConfig {
    /// Checks everything and reads what stands in files.
    pub(super) fn check(&mut self) -> Result<(), ConfigError> {
        for (name, server) in &mut self.servers {
            let key = format!("mcp.servers.{name}");
            if !is_mcp_server(name) {
                return Err(wrong(&key, "the name must be 1 to 32 of a-z, 0-9 and -, a letter first"));
            }
            server.check(&key)?;
        }
        Ok(())
    }

    /// What definitions may name: of each server its listed tools, or `None` where any tool may be named.
    pub fn catalog(&self) -> BTreeMap<String, Option<Vec<String>>> {
        let of = |server: &McpServerConfig| {
            server.effects.is_none().then(|| server.tools.keys().cloned().collect::<Vec<String>>())
        };
        self.servers.iter().map(|(name, server)| (name.clone(), of(server))).collect()
    }
}

impl McpServerConfig {
    fn check(&mut self, key: &str) -> Result<(), ConfigError> {
        let at = |field: &str| format!("{key}.{field}");
        match (&self.url, &self.command) {
            (Some(url), None) if url.starts_with("http://") || url.starts_with("https://") => {}
            (Some(_), None) => return Err(wrong(&at("url"), "must begin with http:// or https://")),
            (None, Some(command)) if command.first().is_some_and(|program| program.starts_with('/')) => {}
            (None, Some(_)) => return Err(wrong(&at("command"), "must begin with the absolute path of a program")),
            _ => return Err(wrong(key, "must have either `url` or `command`")),
        }
        let (for_http, for_program) = (
            !self.headers.is_empty() || !self.header_files.is_empty() || self.allow_private,
            !self.env.is_empty() || !self.env_files.is_empty() || self.folder.is_some(),
        );
        if self.command.is_some() && for_http {
            return Err(wrong(key, "`headers`, `header_files` and `allow_private` belong to servers with a `url`"));
        }
        if self.url.is_some() && for_program {
            return Err(wrong(key, "`env`, `env_files` and `folder` belong to servers with a `command`"));
        }
        read_files(&mut self.headers, &self.header_files, &at("header_files"))?;
        read_files(&mut self.env, &self.env_files, &at("env_files"))?;
        if self.tools.is_empty() && self.effects.is_none() {
            return Err(wrong(key, "no tool can be called: list `tools`, or set `effects` for all of them"));
        }
        for field in [self.connect_ms(key)?, self.tools_ttl_ms(key)?, self.timeout_ms(key)?] {
            if field == 0 {
                return Err(wrong(key, "a time limit must not be zero"));
            }
        }
        check_bytes(&at("result_bytes"), self.result_bytes)?;
        for (name, tool) in &self.tools {
            let at = |field: &str| format!("{key}.tools.{name}.{field}");
            if bursar_domain::workflow::mcp_tool(&format!("mcp__x__{name}")).is_none() || !is_plain(name) {
                return Err(wrong(
                    &at("name"),
                    "a tool's name has letters, digits, _ and -: give it another, and its own as `name`",
                ));
            }
            if tool.effects.or(self.effects).is_none() {
                return Err(wrong(&at("effects"), "must be none, idempotent or once"));
            }
            if tool.max_calls == Some(0) {
                return Err(wrong(&at("max_calls"), "must be at least 1"));
            }
            if self.tool_timeout_ms(key, name)? == 0 {
                return Err(wrong(&at("timeout"), "must not be zero"));
            }
            check_bytes(&at("result_bytes"), tool.result_bytes)?;
        }
        Ok(())
    }

    /// How long a connection may take.
    pub fn connect_ms(&self, key: &str) -> Result<u64, ConfigError> {
        duration_ms(&format!("{key}.connect_timeout"), self.connect_timeout.as_deref(), 10_000)
    }

    /// How long what it says of its tools is believed.
    pub fn tools_ttl_ms(&self, key: &str) -> Result<u64, ConfigError> {
        duration_ms(&format!("{key}.tools_ttl"), self.tools_ttl.as_deref(), 300_000)
    }

    /// How long a call may take.
    pub fn timeout_ms(&self, key: &str) -> Result<u64, ConfigError> {
        duration_ms(&format!("{key}.timeout"), self.timeout.as_deref(), 30_000)
    }

    /// How long a call of a listed tool may take.
    pub fn tool_timeout_ms(&self, key: &str, tool: &str) -> Result<u64, ConfigError> {
        let timeout = self.tools.get(tool).and_then(|tool| tool.timeout.as_deref());
        duration_ms(&format!("{key}.tools.{tool}.timeout"), timeout, self.timeout_ms(key)?)
    }
}

fn wrong(name: &str, reason: &str) -> ConfigError {
    ConfigError::Value { name: name.to_owned(), reason: reason.to_owned() }
}

fn is_plain(name: &str) -> bool {
    name.len() <= 48 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

fn check_bytes(name: &str, bytes: Option<usize>) -> Result<(), ConfigError> {
    if bytes.is_some_and(|bytes| bytes == 0 || bytes > MOST_RESULT_BYTES) {
        return Err(wrong(name, "must be between 1 and 1048576"));
    }
    Ok(())
}

/// Adds what stands in files.
fn read_files(
    values: &mut BTreeMap<String, Secret>,
    files: &BTreeMap<String, PathBuf>,
    key: &str,
) -> Result<(), ConfigError> {
    for (name, path) in files {
        if values.insert(name.clone(), read_secret(path)?).is_some() {
            return Err(wrong(&format!("{key}.{name}"), "the value stands in place as well: leave one of them out"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn check(text: &str) -> Result<McpConfig, String> {
        let mut config: McpConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn servers_are_checked_before_anything_starts() {
        for (text, why) in [
            ("[servers.Files]\nurl='https://a/'\neffects='none'", "mcp.servers.Files: the name must be"),
            ("[servers.a]\neffects='none'", "mcp.servers.a: must have either `url` or `command`"),
            ("[servers.a]\nurl='https://a/'\ncommand=['/bin/x']\neffects='none'", "must have either"),
            ("[servers.a]\nurl='a.example'\neffects='none'", "mcp.servers.a.url: must begin with http"),
            ("[servers.a]\ncommand=['x']\neffects='none'", "mcp.servers.a.command: must begin with the absolute path"),
            ("[servers.a]\ncommand=['/x']\nallow_private=true\neffects='none'", "belong to servers with a `url`"),
            ("[servers.a]\nurl='https://a/'\nfolder='/tmp'\neffects='none'", "belong to servers with a `command`"),
            ("[servers.a]\nurl='https://a/'", "no tool can be called"),
            ("[servers.a]\nurl='https://a/'\n[servers.a.tools.t]", "mcp.servers.a.tools.t.effects: must be none"),
            ("[servers.a]\nurl='https://a/'\n[servers.a.tools.'x.y']\neffects='none'", "give it another, and its own"),
            ("[servers.a]\nurl='https://a/'\neffects='twice'", "unknown variant"),
            ("[servers.a]\nurl='https://a/'\neffects='none'\ntimeout='soon'", "mcp.servers.a.timeout: `soon`"),
            ("[servers.a]\nurl='https://a/'\neffects='none'\nresult_bytes=0", "mcp.servers.a.result_bytes: must be"),
            ("[servers.a]\nurl='https://a/'\neffects='none'\ntool_ttl='1m'", "unknown field `tool_ttl`"),
            (
                "[servers.a]\nurl='https://a/'\neffects='none'\n[servers.a.tools.t]\nmax_calls=0",
                "max_calls: must be at least 1",
            ),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn definitions_may_name_what_is_listed_or_anything_where_effects_are_told_for_all() {
        let text = "[servers.a]\nurl='https://a/'\nheaders={Authorization='Bearer hidden'}\n[servers.a.tools.t]\n\
            effects='once'\nname='x.t'\n[servers.b]\ncommand=['/bin/b']\neffects='none'";
        let config = check(text).unwrap();
        let expected = [("a".to_owned(), Some(vec!["t".to_owned()])), ("b".to_owned(), None)];
        assert_eq!(config.catalog(), BTreeMap::from(expected));
        assert!(!format!("{config:?}").contains("hidden"));
    }
}
