//! The mission's conversation, and a box to say something: it steers what runs, or begins the next run.

use axum::extract::{Form, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use bursar_domain::limits::MAX_MESSAGE_BYTES;
use bursar_domain::record::MessageRole;
use maud::{Markup, html};
use serde::Deserialize;

use super::super::failure::Failure;
use super::super::session::Viewer;
use super::super::show;
use super::super::state::Dashboard;
use super::Shown;
use super::control::changeable;
use super::output::simulated_nodes;
use crate::digest::sha256_hex;
use crate::engine::{MessageError, MessageWish, Spoken};

/// Messages shown: the latest.
pub(super) const MOST_MESSAGES: i64 = 50;

/// The messages and the box; nothing where the workflow is no conversation and nobody spoke.
pub(super) fn section(viewer: &Viewer, shown: &Shown) -> Markup {
    let state = shown.mission.state;
    let is_conversation = shown.definition.is_conversational() || !shown.messages.is_empty();
    let is_heard = shown.definition.is_conversational() || state.is_open() && shown.definition.has_agents();
    let may_say = viewer.may_change() && is_heard && (state.is_open() || state.is_final());
    // one look at the latest run is enough: a mission's runs ask the same models
    let is_simulated = !simulated_nodes(shown).is_empty();
    html! {
        section #conversation data-swap aria-label="Conversation" {
            @if is_conversation || may_say {
                article.card {
                    div.card-head { h2 { "Conversation" } }
                    @if !shown.messages.is_empty() {
                        div.talk tabindex="0" aria-label="what was said" {
                            @for spoken in &shown.messages { (message(spoken, is_simulated)) }
                        }
                    }
                    @if may_say { (say_form(&shown.mission.id.to_string(), state.is_final())) }
                }
            }
        }
    }
}

fn message(spoken: &Spoken, is_simulated: bool) -> Markup {
    let row = &spoken.message;
    let who = if row.role == MessageRole::User { "user" } else { row.author.as_str() };
    html! {
        div.said {
            p.muted {
                (who) " · " (show::date_time(row.created_at)) " UTC "
                @if is_simulated && row.role == MessageRole::Assistant { (show::simulated()) }
            }
            pre { (spoken.text.as_deref().unwrap_or("(pruned)")) }
        }
    }
}

fn say_form(id: &str, begins_run: bool) -> Markup {
    let word = if begins_run { "Say it and run again" } else { "Say it" };
    html! {
        form.decide method="post" action={ "/dashboard/missions/" (id) "/messages" } {
            label for="say" { "Message" }
            textarea id="say" name="content" rows="2" maxlength="4000" required {}
            button.main type="submit" { (word) }
        }
    }
}

/// What the form sends.
#[derive(Debug, Deserialize)]
pub(in crate::dashboard) struct Say {
    content: String,
}

/// Says it, then shows the mission.
pub(in crate::dashboard) async fn say(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Path(id): Path<String>,
    Form(wish): Form<Say>,
) -> Result<Response, Failure> {
    let mission_id = changeable(&dashboard, &viewer, &id).await?;
    let content = wish.content.trim().replace("\r\n", "\n");
    if content.is_empty() || content.len() > MAX_MESSAGE_BYTES {
        return Err(Failure::Refused(StatusCode::UNPROCESSABLE_ENTITY, "Say something, not too much.".to_owned()));
    }
    let request_hash = sha256_hex(&format!("say {content}"));
    let author = viewer.key.id.to_string();
    let wish = MessageWish { mission_id, author, content, metadata: None, key: None, request_hash };
    match dashboard.app.engine.say(&wish).await {
        Ok(_) => Ok(Redirect::to(&format!("/dashboard/missions/{mission_id}")).into_response()),
        Err(MessageError::Store(error)) => Err(error.into()),
        Err(refusal) => Err(Failure::Refused(StatusCode::CONFLICT, format!("Your message was not taken: {refusal}."))),
    }
}
