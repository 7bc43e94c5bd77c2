//! What a mission waits for somebody to decide, with the buttons to decide it.

use axum::Form;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use bursar_domain::flow::Answer;
use bursar_domain::id::TaskId;
use bursar_domain::limits::MAX_COMMENT_BYTES;
use maud::{Markup, html};
use serde::Deserialize;

use super::super::failure::Failure;
use super::super::session::Viewer;
use super::super::show;
use super::super::state::Dashboard;
use super::Shown;
use crate::engine::ApprovalError;
use crate::store::read::ApprovalView;

/// What is to be decided, one card each.
pub(super) fn section(viewer: &Viewer, shown: &Shown) -> Markup {
    html! {
        section #approvals data-swap aria-label="To decide" {
            @for approval in &shown.approvals { (card(viewer, approval)) }
        }
    }
}

fn card(viewer: &Viewer, approval: &ApprovalView) -> Markup {
    let comment = format!("comment-{}", approval.node);
    html! {
        article.card.approval id={ "approval-" (approval.node) } {
            div.card-head {
                h2 { "To decide: " code { (approval.node) } }
                @if let Some(due) = approval.due_at { span.muted { "until " (show::date_time(due)) " UTC" } }
            }
            pre.words tabindex="0" aria-label={ "what " (approval.node) " shows" } {
                (approval.shown.as_deref().unwrap_or_default())
            }
            @if viewer.may_change() {
                form.decide method="post" action={ "/dashboard/approvals/" (approval.id) "/decide" } {
                    label for=(comment) { "Comment" }
                    input id=(comment) type="text" name="comment" maxlength="1000" autocomplete="off";
                    button.main type="submit" name="decision" value="approved" { "Approve" }
                    button.danger type="submit" name="decision" value="rejected" { "Reject" }
                }
            }
        }
    }
}

/// What the form sends.
#[derive(Debug, Deserialize)]
pub(in crate::dashboard) struct Decide {
    decision: String,
    #[serde(default)]
    comment: String,
}

/// Decides, then shows the mission.
pub(in crate::dashboard) async fn decide(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Path(id): Path<String>,
    Form(wish): Form<Decide>,
) -> Result<Response, Failure> {
    let id: TaskId = id.parse().map_err(|_| Failure::NotFound)?;
    let engine = &dashboard.app.engine;
    let view = engine.store().approval(viewer.scope(), id).await?.ok_or(Failure::NotFound)?;
    if !viewer.may_change() {
        return Err(Failure::Forbidden("A worker's key may look, not decide."));
    }
    let is_approved = match wish.decision.as_str() {
        "approved" => true,
        "rejected" => false,
        _ => return Err(Failure::Refused(StatusCode::UNPROCESSABLE_ENTITY, "Approve it or reject it.".to_owned())),
    };
    if wish.comment.len() > MAX_COMMENT_BYTES {
        return Err(Failure::Refused(StatusCode::UNPROCESSABLE_ENTITY, "The comment is too long.".to_owned()));
    }
    let comment = Some(wish.comment).filter(|comment| !comment.trim().is_empty());
    let answer = Answer { task_id: id, is_approved, by: viewer.key.id.to_string(), comment };
    match engine.decide_approval(&view, &answer).await {
        Ok(_) => Ok(Redirect::to(&format!("/dashboard/missions/{}", view.mission_id)).into_response()),
        Err(ApprovalError::Refused(refusal)) => {
            Err(Failure::Refused(StatusCode::CONFLICT, format!("Your decision was not taken: {refusal}.")))
        }
        Err(ApprovalError::Store(error)) => Err(error.into()),
    }
}
