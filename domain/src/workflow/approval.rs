//! Reads the nodes that wait for a person's decision: what they are shown, how long that may take, and what follows when
//! nobody answers or somebody says no.

use super::condition;
use super::reader::Fields;
use super::scan::Mention;
use crate::limits::{MAX_DEADLINE_MS, MAX_SHOW_BYTES};

/// A decision may take three days unless the definition says otherwise.
const DEFAULT_EXPIRES_MS: i64 = 72 * 60 * 60 * 1_000;

/// A decision that a person is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// What they are shown, as a template (see [`condition::render`]); rendered once, when they are asked.
    pub show: String,
    /// How long they have, in milliseconds.
    pub expires_ms: i64,
    /// What happens when they do not answer.
    pub on_expire: OnExpire,
    /// What a rejection does.
    pub on_reject: OnReject,
}

/// What happens when nobody decided in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnExpire {
    /// It counts as a rejection.
    #[default]
    Reject,
    /// It counts as an approval.
    Approve,
    /// The node fails, whatever a rejection would do.
    Fail,
}

/// What a rejection does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnReject {
    /// The node fails.
    #[default]
    Fail,
    /// The node hands the decision on.
    Continue,
}

/// The words of `on_expire`.
pub(super) const EXPIRE_WORDS: [(&str, OnExpire); 3] =
    [("reject", OnExpire::Reject), ("approve", OnExpire::Approve), ("fail", OnExpire::Fail)];

/// The words of `on_reject`.
pub(super) const REJECT_WORDS: [(&str, OnReject); 2] = [("fail", OnReject::Fail), ("continue", OnReject::Continue)];

/// Reads `approval` and notes what it refers to.
pub(super) fn read<'v>(fields: &mut Fields<'v, '_>, mentions: &mut Vec<(Mention<'v>, String)>) -> Option<Approval> {
    let mut section = fields.section("approval")?;
    if !section.has_any(&["show"]) {
        section.missing("show", "it is what whoever decides is shown");
    }
    let show = section.text("show", MAX_SHOW_BYTES);
    if let Some(show) = show {
        let at = section.at("show");
        condition::read_template(show, &at, mentions, section.problems);
    }
    let expires_ms = section.duration_ms("expires", 1, MAX_DEADLINE_MS).unwrap_or(DEFAULT_EXPIRES_MS);
    let on_expire = section.choice("on_expire", &EXPIRE_WORDS).unwrap_or_default();
    let on_reject = section.choice("on_reject", &REJECT_WORDS).unwrap_or_default();
    section.close(&[]);
    Some(Approval { show: show?.to_owned(), expires_ms, on_expire, on_reject })
}
