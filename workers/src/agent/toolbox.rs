//! The tools of one attempt: found once, before the first call, and the same until the step is over.
//!
//! A server that tells other things of its tools meanwhile is heard by the next attempt.

use bursar_domain::outcome::StepError;
use futures::future::try_join_all;
use serde_json::json;

use super::Performance;
use crate::providers::ToolDefinition;
use crate::tools::KnownTool;

/// What the agent may have done, by name, in the definition's order.
#[derive(Default)]
pub(super) struct Toolbox(Vec<(String, KnownTool)>);

impl Performance<'_> {
    /// Finds the agent's tools. Refuses names that nobody has.
    pub(super) async fn fetch_tools(&self) -> Result<Toolbox, StepError> {
        let tools = self.providers.tools();
        let find = async |name: &String| Ok::<_, StepError>((name.clone(), tools.find(name).await?));
        tokio::select! {
            biased;
            reason = self.stop.wait() => Err(reason),
            found = try_join_all(self.step.tools.iter().map(find)) => Ok(Toolbox(found?)),
        }
    }
}

impl Toolbox {
    /// The tool of that name.
    pub(super) fn get(&self, name: &str) -> Option<&KnownTool> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, tool)| tool)
    }

    /// What the model is told about them.
    pub(super) fn definitions(&self) -> Vec<ToolDefinition> {
        self.0.iter().map(|(name, known)| define(name, known)).collect()
    }

    /// Whether some of them are somebody else's.
    pub(super) fn has_remote(&self) -> bool {
        self.0.iter().any(|(_, known)| known.is_remote())
    }

    /// What is sure to be the same in every attempt: of somebody else's tools their names.
    pub(super) fn lasting_definitions(&self) -> Vec<ToolDefinition> {
        let lasting = |(name, known): &(String, KnownTool)| {
            let told = define(name, known);
            if known.is_remote() {
                ToolDefinition { description: String::new(), parameters: json!({}), ..told }
            } else {
                told
            }
        };
        self.0.iter().map(lasting).collect()
    }
}

fn define(name: &str, known: &KnownTool) -> ToolDefinition {
    ToolDefinition {
        name: name.to_owned(),
        description: known.tool.description().to_owned(),
        parameters: known.tool.parameters().clone(),
    }
}
