//! What became of an approval, as it is kept with its task.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// How an approval ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Somebody said yes.
    Approved,
    /// Somebody said no.
    Rejected,
    /// Nobody decided in time.
    Expired,
}

impl Verdict {
    /// The word used in tables and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
        }
    }
}

/// The end of an approval. Once made it never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// How it ended.
    pub decision: Verdict,
    /// Who decided: the id of an API key; `None` when nobody did.
    pub by: Option<String>,
    /// What they said about it.
    pub comment: Option<String>,
    /// When.
    pub at: Timestamp,
}
