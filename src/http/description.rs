//! The description of the API: what the routes say of themselves, and what holds for all of them.

use std::sync::LazyLock;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Ref, RefOr,
    Response as Answer, ResponseBuilder, tag::TagBuilder,
};
use utoipa::{PartialSchema, ToSchema};

use super::conditional::json;
use super::problem::{FieldError, PROBLEM_JSON, ProblemBody};
use super::types::Amount;

/// What the tags mean.
const TAGS: [(&str, &str); 14] = [
    ("missions", "What users ask for: submit, look, wait, pause, cancel, fetch the result."),
    ("events", "What happened in a mission: as a log and as a live stream."),
    ("runs", "The execution of a mission: its tasks, and what their calls used and cost."),
    ("approvals", "What waits for a person's decision, and the decision."),
    ("callbacks", "Links by which somebody decides once, without an API key."),
    ("workflows", "Named, versioned, immutable definitions."),
    ("dead-letters", "Missions that failed, by what their failures have in common."),
    ("projects", "Containers of missions."),
    ("schedules", "Missions that are submitted again and again, by cron expressions in a time zone."),
    ("prices", "What things cost: immutable price books, and trying them out."),
    ("wallet", "A tenant's credits: every movement, hold and grant."),
    ("api-keys", "Credentials."),
    ("admin", "For operators: needs an admin's key."),
    ("ops", "Health, limits, documentation. Open to everybody."),
];

const DESCRIPTION: &str = "Runs AI-agent workflows durably and bills every token exactly.\n\n\
Credits are decimal strings with six places, times RFC 3339 in UTC with milliseconds. Unknown fields and parameters \
are refused; clients must tolerate new fields in answers. Errors are `application/problem+json` (RFC 9457), each \
`code` has a page under `/problems`. Lists continue with `next_cursor`. `X-Request-Id` is accepted and echoed.\n\n\
An admin's key acts for another tenant with the header `X-Bursar-Tenant: ten_…`; another tenant's objects are not found.";

/// The document with everything that all operations share.
pub(super) fn complete(mut api: OpenApi) -> OpenApi {
    let frame = OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Bursar")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(DESCRIPTION))
                .license(Some(LicenseBuilder::new().name("MIT OR Apache-2.0").build()))
                .build(),
        )
        .tags(Some(TAGS.map(|(name, about)| TagBuilder::new().name(name).description(Some(about)).build())))
        .build();
    api.info = frame.info;
    api.tags = frame.tags;
    let components = api.components.get_or_insert_with(|| ComponentsBuilder::new().build());
    components.schemas.insert("Problem".to_owned(), ProblemBody::schema());
    components.schemas.insert("FieldError".to_owned(), FieldError::schema());
    components.schemas.insert(Amount::name().into_owned(), Amount::schema());
    let bearer = Http::builder().scheme(HttpAuthScheme::Bearer).bearer_format("bsk_live_…");
    let bearer = bearer.description(Some("An API key.")).build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    let token =
        ApiKeyValue::with_description("access_token", "A stream token: opens one mission's stream for 15 minutes.");
    components.add_security_scheme("stream_token", SecurityScheme::ApiKey(ApiKey::Query(token)));
    for item in api.paths.paths.values_mut() {
        let operations =
            [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch].into_iter().flatten();
        operations.for_each(finish);
    }
    api
}

/// Every operation may be refused; all but the open ones need a key.
fn finish(operation: &mut Operation) {
    let is_open = operation.tags.as_ref().is_some_and(|tags| tags.iter().any(|tag| tag == "ops"));
    if operation.security.is_none() {
        operation.security = Some(vec![if is_open {
            SecurityRequirement::default()
        } else {
            SecurityRequirement::new("bearer", std::iter::empty::<String>())
        }]);
    }
    let mut refusals = vec![("default", "The request was refused; `code` says why")];
    if !is_open {
        refusals.push(("401", "No valid credential"));
        refusals.push(("403", "The credential may not do this"));
    }
    for (status, about) in refusals {
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(refusal(about)));
    }
}

fn refusal(about: &str) -> Answer {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new().description(about).content(PROBLEM_JSON, content).build()
}

/// Each operation with its method and path, in the order of the paths.
pub(super) fn operations(api: &OpenApi) -> Vec<(&'static str, &str, &Operation)> {
    let mut list = Vec::new();
    for (path, item) in &api.paths.paths {
        let methods = [
            ("GET", &item.get),
            ("POST", &item.post),
            ("PUT", &item.put),
            ("PATCH", &item.patch),
            ("DELETE", &item.delete),
        ];
        let present = methods.into_iter().filter_map(|(method, operation)| Some((method, operation.as_ref()?)));
        list.extend(present.map(|(method, operation)| (method, path.as_str(), operation)));
    }
    list
}

static DOCUMENT: LazyLock<OpenApi> = LazyLock::new(super::openapi);

/// The document that this process serves.
pub(super) fn document() -> &'static OpenApi {
    &DOCUMENT
}

/// Read the JSON Schema of workflows
///
/// For editors: keys, types, ranges and names. What nodes say about each other is checked when a workflow is put.
#[utoipa::path(
    get, path = "/schemas/workflow.json", operation_id = "ops.workflow_schema", tag = "ops",
    responses((status = 200, description = "JSON Schema 2020-12", body = Object)), security(()),
)]
pub(super) async fn workflow_schema() -> Response<Body> {
    json(StatusCode::OK, &bursar_domain::workflow::json_schema())
}

/// Read this description
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "ops.openapi", tag = "ops",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)), security(()),
)]
pub(super) async fn get() -> Response<Body> {
    json(StatusCode::OK, document())
}
