//! A tool of a server, as the agent step knows tools.

use std::sync::Arc;

use async_trait::async_trait;
use bursar_domain::outcome::{ErrorClass, StepError, ToolEffects};
use rmcp::model::CallToolRequestParams;
use serde_json::Value;

use super::ToolConfig;
use super::content;
use super::failure::Failure;
use super::server::{Server, Told};
use crate::tools::{Tool, ToolError, ToolLimits};

/// The tool.
#[derive(Debug)]
pub(super) struct McpTool {
    server: Arc<Server>,
    /// What definitions and models call it.
    name: String,
    /// What the server calls it.
    remote: String,
    config: ToolConfig,
    told: Told,
}

/// Finds the tool `tool`, which the definition calls `name`, and what the server says of it.
pub(super) async fn find(server: &Arc<Server>, name: &str, tool: &str) -> Result<McpTool, StepError> {
    let unknown = |why: String| StepError::new(ErrorClass::Permanent, "tool_unknown", why);
    let config = server.config_of(tool).cloned().ok_or_else(|| {
        unknown(format!(
            "the agent wants tool `{name}`, which the operator does not list for MCP server `{}`",
            server.name
        ))
    })?;
    let remote = config.name.clone().unwrap_or_else(|| tool.to_owned());
    let told = server.told(&remote).await?;
    let told = told.ok_or_else(|| unknown(format!("MCP server `{}` has no usable tool `{remote}`", server.name)))?;
    Ok(McpTool { server: server.clone(), name: name.to_owned(), remote, config, told })
}

#[async_trait]
impl Tool for McpTool {
    fn name(&self) -> &str {
        &self.name
    }

    fn description(&self) -> &str {
        &self.told.description
    }

    fn parameters(&self) -> &Value {
        &self.told.parameters
    }

    fn effects(&self) -> ToolEffects {
        self.config.effects
    }

    fn limits(&self) -> ToolLimits {
        self.config.limits
    }

    fn max_calls(&self) -> Option<u32> {
        self.config.max_calls
    }

    async fn call(&self, arguments: &Value) -> Result<String, ToolError> {
        let failed = |failure: Failure| failure.into_tool_error(&self.server.name);
        let peer = self.server.peer().await.map_err(failed)?;
        let mut request = CallToolRequestParams::new(self.remote.clone());
        if let Some(arguments) = arguments.as_object() {
            request = request.with_arguments(arguments.clone());
        }
        // dropped before its end, this tells the server that nobody waits for the answer any more
        let result = peer.call_tool(request).await.map_err(|error| failed(Failure::of_request(&error)))?;
        content::read(&result)
    }
}
