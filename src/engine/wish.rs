//! From a wish to a submission: what must be looked up before the transaction, for clients and schedules alike.

use bursar_domain::credits::Ucr;
use bursar_domain::flow::{Dedupe, Submission};
use bursar_domain::id::{ProjectId, TenantId};
use bursar_domain::workflow::{OnExhausted, Problem};
use serde_json::Value;

use super::Engine;
use crate::clock::new_id;
use crate::store::StoreError;

/// A mission that somebody wishes for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Who.
    pub tenant_id: TenantId,
    /// The workflow: `name`, which stands for the newest version, or `name@3`.
    pub workflow: String,
    /// Its input.
    pub input: Value,
    /// The client's own data.
    pub metadata: Option<Value>,
    /// The words by which usage is reported.
    pub tags: Vec<String>,
    /// The client's idempotency key.
    pub idempotency_key: Option<String>,
    /// SHA-256 of what was sent.
    pub request_hash: String,
    /// −100 to 100.
    pub priority: i16,
    /// The most to spend.
    pub budget_ucr: Option<Ucr>,
    /// What happens then.
    pub on_exhausted: Option<OnExhausted>,
    /// What makes it the same wish as another one.
    pub dedupe: Option<Dedupe>,
    /// The project that it is to belong to.
    pub project_id: Option<ProjectId>,
}

/// Why a wish can't be submitted.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It is neither `name` nor `name@version`.
    #[error("`workflow` must be a workflow's name, or name@version")]
    WorkflowName,
    /// There is no such workflow.
    #[error("there is no such workflow, or not in this version")]
    UnknownWorkflow,
    /// The input is not what the workflow takes.
    #[error("the input is not what the workflow takes: {}", first(.0))]
    Input(Vec<Problem>),
    /// No prices.
    #[error("no price book is active")]
    NoPrices,
    /// No wallet.
    #[error("the tenant has no wallet")]
    NoWallet,
    /// No project.
    #[error("there is no such project")]
    UnknownProject,
    /// A project that takes no missions.
    #[error("the project is archived and takes no missions")]
    ArchivedProject,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn first(problems: &[Problem]) -> String {
    problems.first().map(|problem| format!("{}: {}", problem.pointer, problem.message)).unwrap_or_default()
}

impl Engine {
    /// Looks up what a wish names and checks its input. Ids are new on each call.
    pub async fn fit(&self, wish: Wish) -> Result<Submission, Unfit> {
        let (name, version) = workflow_ref(&wish.workflow).ok_or(Unfit::WorkflowName)?;
        let workflow_id = self.store().workflow_id(wish.tenant_id, name, version).await?;
        let workflow_id = workflow_id.ok_or(Unfit::UnknownWorkflow)?;
        let definition = self.definition(workflow_id).await?.ok_or(Unfit::UnknownWorkflow)?;
        definition.check_input(&wish.input).map_err(Unfit::Input)?;
        if let Some(project) = wish.project_id {
            let project = self.store().project(Some(wish.tenant_id), project).await?.ok_or(Unfit::UnknownProject)?;
            if project.archived_at.is_some() {
                return Err(Unfit::ArchivedProject);
            }
        }
        let (price_book_id, _) = self.active_prices().await?.ok_or(Unfit::NoPrices)?;
        let wallet = self.store().wallet_of(wish.tenant_id, self.clock().now()).await?.ok_or(Unfit::NoWallet)?;
        Ok(Submission {
            mission_id: new_id(),
            run_id: new_id(),
            tenant_id: wish.tenant_id,
            wallet_id: wallet.id,
            workflow_id,
            price_book_id,
            input: wish.input,
            metadata: wish.metadata,
            tags: wish.tags,
            idempotency_key: wish.idempotency_key,
            request_hash: wish.request_hash,
            priority: wish.priority,
            budget_ucr: wish.budget_ucr,
            on_exhausted: wish.on_exhausted,
            dedupe: wish.dedupe,
            project_id: wish.project_id,
        })
    }
}

/// `name` or `name@3`.
fn workflow_ref(text: &str) -> Option<(&str, Option<i64>)> {
    match text.split_once('@') {
        None => Some((text, None)),
        Some((name, version)) => {
            let version = version.parse().ok().filter(|version| *version > 0 && !name.is_empty())?;
            Some((name, Some(version)))
        }
    }
}
