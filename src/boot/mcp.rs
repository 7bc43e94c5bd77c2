//! The MCP servers that the configuration names, as workers take them.

use std::collections::BTreeMap;

use bursar_workers::mcp::{Place, ServerConfig, Servers, ToolConfig};
use bursar_workers::tools::ToolLimits;

use super::BootError;
use crate::config::{McpConfig, McpServerConfig, Secret};

/// What a program finds other programs by.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Checks the servers; connects to none.
pub(super) fn servers(config: &McpConfig) -> Result<Servers, BootError> {
    let servers = config.servers.iter().map(|(name, server)| described(name, server));
    Ok(Servers::new(servers.collect::<Result<_, BootError>>()?)?)
}

fn described(name: &str, server: &McpServerConfig) -> Result<ServerConfig, BootError> {
    let key = format!("mcp.servers.{name}");
    let usual = ToolLimits::default();
    let result_bytes = server.result_bytes.unwrap_or(usual.result_bytes);
    let others = server.effects.map(|effects| -> Result<ToolConfig, BootError> {
        let limits = ToolLimits { result_bytes, timeout_ms: server.timeout_ms(&key)? };
        Ok(ToolConfig { name: None, effects, max_calls: None, limits })
    });
    let mut tools = BTreeMap::new();
    for (name, tool) in &server.tools {
        let result_bytes = tool.result_bytes.unwrap_or(result_bytes);
        let limits = ToolLimits { result_bytes, timeout_ms: server.tool_timeout_ms(&key, name)? };
        // the check of the configuration leaves no tool without
        let Some(effects) = tool.effects.or(server.effects) else { continue };
        let described = ToolConfig { name: tool.name.clone(), effects, max_calls: tool.max_calls, limits };
        tools.insert(name.clone(), described);
    }
    Ok(ServerConfig {
        name: name.to_owned(),
        place: place(server),
        tools,
        others: others.transpose()?,
        connect_ms: server.connect_ms(&key)?,
        tools_ttl_ms: server.tools_ttl_ms(&key)?,
    })
}

fn place(server: &McpServerConfig) -> Place {
    let secrets = |values: &BTreeMap<String, Secret>| {
        values.iter().map(|(name, value)| (name.clone(), value.expose().to_owned().into())).collect::<BTreeMap<_, _>>()
    };
    match &server.command {
        Some(command) => {
            let mut env = secrets(&server.env);
            env.entry("PATH".to_owned()).or_insert_with(|| PATH.to_owned().into());
            let folder = server.folder.clone().unwrap_or_else(|| "/".into());
            Place::Program { command: command.clone(), env, folder }
        }
        None => Place::Http {
            url: server.url.clone().unwrap_or_default(),
            headers: secrets(&server.headers),
            allow_private: server.allow_private,
        },
    }
}
