//! Workflows: put versions, read them, check a definition without putting it.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use bursar_domain::workflow::{self, Definition, Syntax};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::auth::Caller;
use super::conditional::{etag_of, json, tagged, with_header};
use super::json::{media_type, read_body};
use super::page::Page;
use super::params::{PathText, Query};
use super::problem::{Code, Problem};
use super::state::Site;
use super::types::{ShownWorkflow, Time};
use crate::engine::PutWorkflowError;
use crate::store::read::WorkflowView;

/// A version of a workflow. Versions never change.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Workflow {
    /// The version's id.
    id: ShownWorkflow,
    /// The workflow's name.
    name: String,
    /// 1, 2, 3…
    version: i64,
    /// SHA-256 of the canonical definition.
    content_hash: String,
    /// The canonical definition; left out in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    definition: Option<Value>,
    /// When it was put.
    created_at: Time,
}

impl From<WorkflowView> for Workflow {
    fn from(view: WorkflowView) -> Self {
        Self {
            id: view.id.into(),
            name: view.name,
            version: view.version,
            content_hash: view.content_hash,
            definition: view.definition.filter(|definition| !definition.is_null()),
            created_at: view.created_at.into(),
        }
    }
}

/// A node of a checked definition.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NodeSummary {
    /// Its key.
    key: String,
    /// Its kind, e.g. `agent`.
    kind: &'static str,
    /// The pool whose workers do it.
    pool: String,
    /// The nodes that must have ended before.
    needs: Vec<String>,
    /// The node that stands in for it when it fails.
    fallback: Option<String>,
}

/// A definition that could be put.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ValidWorkflow {
    /// Always true; what is not valid is answered with 422.
    valid: bool,
    /// The workflow's name.
    name: String,
    /// SHA-256 of the canonical definition.
    content_hash: String,
    /// Its nodes, in an order in which they could run.
    nodes: Vec<NodeSummary>,
    /// The names of what a run hands back.
    outputs: Vec<String>,
}

impl ValidWorkflow {
    fn of(definition: &Definition) -> Self {
        let key_of = |index: &u32| definition.node(*index).map(|node| node.key.clone());
        let nodes = definition.nodes.iter().map(|node| NodeSummary {
            key: node.key.clone(),
            kind: node.action.kind(),
            pool: node.pool.clone(),
            needs: node.needs.iter().filter_map(key_of).collect(),
            fallback: node.fallback.as_ref().and_then(key_of),
        });
        Self {
            valid: true,
            name: definition.name.clone(),
            content_hash: definition.content_hash(),
            nodes: nodes.collect(),
            outputs: definition.outputs.keys().cloned().collect(),
        }
    }
}

/// Reads and checks a definition in a body of either syntax.
async fn read_definition(request: Request) -> Result<Definition, Problem> {
    let syntax = match media_type(request.headers()).as_deref() {
        Some("application/json") => Syntax::Json,
        Some("application/yaml" | "application/x-yaml" | "text/yaml") => Syntax::Yaml,
        _ => {
            let words = "a workflow is Content-Type: application/yaml or application/json";
            return Err(Problem::new(Code::UnsupportedMediaType, words));
        }
    };
    let bytes = read_body(request).await?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Problem::invalid("", "not_utf8", "the text is not UTF-8"))?;
    workflow::parse(text, syntax).map_err(|problems| Problem::of_workflow("", &problems))
}

/// Put a workflow
///
/// Makes a new version, which new missions run from then on. The content of the newest version again makes none.
#[utoipa::path(
    put, path = "/v1/workflows/{name}", operation_id = "workflows.put", tag = "workflows",
    params(("name" = String, Path, description = "The workflow's name, as in the definition")),
    request_body(
        description = "The definition", content((Object = "application/json"), (String = "application/yaml")),
    ),
    responses(
        (status = 200, description = "The newest version has this content already", body = Workflow, headers(("ETag" = String))),
        (status = 201, description = "The new version", body = Workflow, headers(("ETag" = String), ("Location" = String))),
    ),
)]
pub(super) async fn put(
    State(site): State<Site>,
    caller: Caller,
    PathText(name): PathText,
    query: Query,
    request: Request,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let definition = read_definition(request).await?;
    if definition.name != name {
        return Err(Problem::invalid("/workflow", "wrong_name", "the name must be the one in the address"));
    }
    let put = site.engine().put_workflow(caller.tenant_id, &definition).await.map_err(|error| match error {
        PutWorkflowError::NotPriced(problems) | PutWorkflowError::NotAllowed(problems) => {
            Problem::of_workflow("", &problems)
        }
        PutWorkflowError::NoPrices => Problem::new(Code::NoPrices, "no price book is active"),
        PutWorkflowError::Store(error) => error.into(),
    })?;
    let workflow = Workflow::from(put.workflow);
    let status = if put.created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = with_header(json(status, &workflow), header::ETAG, &etag_of(&workflow));
    if put.created {
        let location = format!("/v1/workflows/{}?version={}", workflow.name, workflow.version);
        response = with_header(response, header::LOCATION, &location);
    }
    Ok(response)
}

/// Check a definition
///
/// The same checks as a put makes before it looks at prices; nothing is stored.
#[utoipa::path(
    post, path = "/v1/workflows/validate", operation_id = "workflows.validate", tag = "workflows",
    request_body(
        description = "The definition", content((Object = "application/json"), (String = "application/yaml")),
    ),
    responses((status = 200, description = "It is valid", body = ValidWorkflow)),
)]
pub(super) async fn validate(_caller: Caller, query: Query, request: Request) -> Result<Response<Body>, Problem> {
    query.done()?;
    let definition = read_definition(request).await?;
    Ok(json(StatusCode::OK, &ValidWorkflow::of(&definition)))
}

/// List workflows
///
/// The newest version of each, by name.
#[utoipa::path(
    get, path = "/v1/workflows", operation_id = "workflows.list", tag = "workflows",
    params(
        ("cursor" = Option<String>, Query, description = "next_cursor of the previous page"),
        ("limit" = Option<u32>, Query, description = "Rows per page, 20 by default", minimum = 1, maximum = 100),
    ),
    responses((status = 200, description = "A page of workflows", body = Page<Workflow>)),
)]
pub(super) async fn list(
    State(site): State<Site>,
    caller: Caller,
    mut query: Query,
) -> Result<Response<Body>, Problem> {
    let list = format!("{}/workflows", caller.tenant_id);
    let after = query.cursor(&list)?;
    let limit = query.limit()?;
    query.done()?;
    let rows = site.store().workflows(caller.tenant_id, after.as_deref(), limit + 1).await?;
    let page = Page::cut(rows, limit, &list, |row| row.name.clone(), Workflow::from);
    Ok(json(StatusCode::OK, &page))
}

/// Read a workflow
#[utoipa::path(
    get, path = "/v1/workflows/{name}", operation_id = "workflows.get", tag = "workflows",
    params(
        ("name" = String, Path, description = "The workflow's name"),
        ("version" = Option<i64>, Query, description = "The newest where left out", minimum = 1),
        ("If-None-Match" = Option<String>, Header, description = "The tag that the client has"),
    ),
    responses(
        (status = 200, description = "The version", body = Workflow, headers(("ETag" = String))),
        (status = 304, description = "It is as the client has it"),
    ),
)]
pub(super) async fn get(
    State(site): State<Site>,
    caller: Caller,
    PathText(name): PathText,
    mut query: Query,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    let version = query.number("version", 1, i64::MAX)?;
    query.done()?;
    let view = site.store().workflow(caller.tenant_id, &name, version).await?;
    let workflow = Workflow::from(view.ok_or_else(|| Problem::not_found("workflow"))?);
    Ok(tagged(&headers, &etag_of(&workflow), &workflow))
}
