//! What a fork is asked for, checked against workflow and input, before anything is decided.

use bursar_domain::flow::{ForkRequest, RunFrom};
use bursar_domain::id::MissionId;
use bursar_domain::merge_patch::merge_patch;
use bursar_domain::workflow::Problem;
use serde_json::Value;

use super::Engine;
use crate::clock::new_id;
use crate::store::StoreError;

/// What somebody wants of a fork.
#[derive(Debug, Clone, Default)]
pub struct ForkWish {
    /// The node from which on everything runs anew.
    pub from_node: String,
    /// Another version of the workflow; that of the latest run where `None`.
    pub version: Option<i64>,
    /// What to change about the latest run's input (RFC 7396).
    pub input_patch: Option<Value>,
}

/// Why a fork can't be asked for.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    /// There is no such mission.
    #[error("there is no such mission")]
    NoMission,
    /// The workflow has no such version.
    #[error("the workflow has no such version")]
    NoVersion,
    /// The workflow has no such node.
    #[error("the workflow has no node `{0}`")]
    NoNode(String),
    /// The input does not match the workflow's schema.
    #[error("the input does not match the workflow's schema")]
    Input(Vec<Problem>),
    /// No price book is active.
    #[error("no price book is active")]
    NoPrices,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Engine {
    /// The request that a wish stands for: version, node and input are checked, the prices are those of today.
    pub async fn fork_request(&self, id: MissionId, wish: &ForkWish) -> Result<ForkRequest, ForkError> {
        let store = self.store();
        let mission = store.mission(None, id).await?.ok_or(ForkError::NoMission)?;
        let workflow_id = match wish.version {
            None => mission.workflow_id,
            Some(version) => {
                let known = store.workflow_id(mission.tenant_id, &mission.workflow_name, Some(version)).await?;
                known.ok_or(ForkError::NoVersion)?
            }
        };
        let definition = self.definition(workflow_id).await?.ok_or(ForkError::NoVersion)?;
        if definition.node_by_key(&wish.from_node).is_none() {
            return Err(ForkError::NoNode(wish.from_node.clone()));
        }
        let before = mission.input.unwrap_or_default();
        let input = match &wish.input_patch {
            Some(patch) => merge_patch(before, patch),
            None => before,
        };
        definition.check_input(&input).map_err(ForkError::Input)?;
        let (price_book_id, _) = self.active_prices().await?.ok_or(ForkError::NoPrices)?;
        // a run whose input is the mission's own needs none of its own
        let has_own = wish.input_patch.is_some() || mission.run_number > 1;
        Ok(ForkRequest {
            mission_id: id,
            of_run: mission.run_id,
            run_id: new_id(),
            from: RunFrom::Node(wish.from_node.clone()),
            workflow_id,
            price_book_id,
            input: has_own.then_some(input),
        })
    }
}
