//! Which tools of MCP servers definitions may name, as the operator configured them.
//!
//! Asks no server: what a server has, its workers find out. A name that nobody configured is refused where the definition
//! is put or submitted, before anything is spent on it.

use std::collections::BTreeMap;

use bursar_domain::workflow::{Definition, Problem, mcp_tool};
use serde_json::Value;

use super::Engine;

/// Of each server the tools that may be named; `None` is any.
pub type Catalog = BTreeMap<String, Option<Vec<String>>>;

impl Engine {
    /// From now on definitions may name these tools of MCP servers. Said once.
    pub fn know_mcp(&self, catalog: Catalog) {
        // a second one would change what running steps were checked against
        let _ = self.parts.mcp.set(catalog);
    }

    /// Names of tools in the definition that nobody configured, each as a problem.
    pub(super) fn unknown_mcp_tools(&self, definition: &Definition) -> Vec<Problem> {
        let nothing = Catalog::new();
        let catalog = self.parts.mcp.get().unwrap_or(&nothing);
        let mut problems = Vec::new();
        for part in ["agents", "nodes"] {
            let owners = definition.source.get(part).and_then(Value::as_object).into_iter().flatten();
            for (owner, told) in owners {
                let tools = told.get("tools").and_then(Value::as_array).into_iter().flatten();
                for (index, name) in tools.enumerate() {
                    let Some((server, tool)) = name.as_str().and_then(mcp_tool) else { continue };
                    problems.extend(unknown(catalog, server, tool, &format!("/{part}/{owner}/tools/{index}")));
                }
            }
        }
        problems
    }
}

fn unknown(catalog: &Catalog, server: &str, tool: &str, pointer: &str) -> Option<Problem> {
    let (code, message, known) = match catalog.get(server) {
        None => {
            let known: Vec<&str> = catalog.keys().map(String::as_str).collect();
            ("unknown_mcp_server", format!("there is no MCP server `{server}` here"), known)
        }
        Some(Some(tools)) if !tools.iter().any(|known| known == tool) => {
            let known: Vec<&str> = tools.iter().map(String::as_str).collect();
            ("unknown_mcp_tool", format!("of MCP server `{server}`, no tool `{tool}` may be called"), known)
        }
        Some(_) => return None,
    };
    let hint = if known.is_empty() {
        "its operator adds one under `mcp.servers` in the configuration".to_owned()
    } else {
        format!("known here: {}", known.into_iter().take(20).collect::<Vec<_>>().join(", "))
    };
    Some(Problem::new(pointer, code, message).with_hint(hint))
}
