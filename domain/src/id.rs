//! Typed identifiers: a prefix that names the kind, `_`, and a base32 `UUIDv7` ([TypeID]).
//!
//! The same text stands in the API, in the tables and in the logs, so that what an operator copies from
//! one works in the others. Ids are made outside the domain (they need time and chance) and only parsed here.
//!
//! [TypeID]: https://github.com/jetify-com/typeid/tree/main/spec

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use type_safe_id::{DynamicType, TypeSafeId};
use uuid::Uuid;

/// A kind of object that has ids.
pub trait Kind {
    /// The text before the underscore, e.g. `tsk`.
    const PREFIX: &'static str;
    /// The word for people, e.g. `task`.
    const NAME: &'static str;
}

/// The id of an object of kind `K`. 16 bytes; ordered by time of creation.
pub struct Id<K> {
    uuid: Uuid,
    kind: PhantomData<fn() -> K>,
}

/// Why a text is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The id is well formed but names another kind of object.
    #[error("`{given}` is not the id of a {expected}: it must begin with `{prefix}_`")]
    WrongKind {
        /// What was given.
        given: String,
        /// The kind's name.
        expected: &'static str,
        /// The kind's prefix.
        prefix: &'static str,
    },
    /// The text is no id at all.
    #[error("`{given}` is not an id: expected `{prefix}_` and 26 characters of base32")]
    Malformed {
        /// What was given, cut to 80 characters.
        given: String,
        /// The kind's prefix.
        prefix: &'static str,
    },
}

impl<K: Kind> Id<K> {
    /// Wraps a UUID (version 7 wherever Bursar makes one).
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self { uuid, kind: PhantomData }
    }

    /// The UUID inside.
    pub const fn uuid(self) -> Uuid {
        self.uuid
    }
}

impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DynamicType::new(K::PREFIX) {
            Ok(kind) => TypeSafeId::from_type_and_uuid(kind, self.uuid).fmt(f),
            Err(_) => Err(fmt::Error),
        }
    }
}

impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<K: Kind> FromStr for Id<K> {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let malformed = || IdError::Malformed { given: text.chars().take(80).collect(), prefix: K::PREFIX };
        let id: TypeSafeId<DynamicType> = text.parse().map_err(|_| malformed())?;
        if id.type_prefix() != K::PREFIX {
            return Err(IdError::WrongKind { given: text.to_owned(), expected: K::NAME, prefix: K::PREFIX });
        }
        Ok(Self::from_uuid(id.uuid()))
    }
}

impl<K: Kind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, K: Kind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.uuid == other.uuid
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.uuid.cmp(&other.uuid)
    }
}
impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.uuid.hash(state);
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident, $alias:ident, $prefix:literal, $name:literal;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub enum $kind {}
            impl Kind for $kind {
                const PREFIX: &'static str = $prefix;
                const NAME: &'static str = $name;
            }
            #[doc = concat!("The id of a ", $name, ", `", $prefix, "_…`.")]
            pub type $alias = Id<$kind>;
        )*
        /// Every prefix with the kind it stands for.
        pub const PREFIXES: &[(&str, &str)] = &[$(($prefix, $name)),*];
    };
}

kinds! {
    /// Who owns data and wallets.
    TenantKind, TenantId, "ten", "tenant";
    /// What a user asked for.
    MissionKind, MissionId, "mis", "mission";
    /// One execution of a workflow version.
    RunKind, RunId, "run", "run";
    /// One node in one run.
    TaskKind, TaskId, "tsk", "task";
    /// One row of a mission's event log.
    EventKind, EventId, "evt", "event";
    /// One version of a workflow.
    WorkflowKind, WorkflowId, "wfl", "workflow";
    /// A tenant's credits.
    WalletKind, WalletId, "wal", "wallet";
    /// One business operation of the ledger.
    OpKind, OpId, "ent", "ledger entry";
    /// Reserved credits.
    HoldKind, HoldId, "hld", "hold";
    /// Given credits.
    GrantKind, GrantId, "grt", "grant";
    /// An API key.
    KeyKind, KeyId, "key", "API key";
    /// A worker process.
    WorkerKind, WorkerId, "wrk", "worker";
    /// A call that used something that costs.
    CallKind, CallId, "cal", "usage call";
    /// A message from outside to a mission.
    SignalKind, SignalId, "sig", "signal";
    /// A link by which somebody decides once.
    LinkKind, LinkId, "lnk", "callback link";
    /// What somebody said to a mission, or what it answered.
    MessageKind, MessageId, "msg", "message";
    /// A call of a tool by an agent.
    ToolCallKind, ToolCallId, "tlc", "tool call";
    /// An immutable set of prices.
    PriceBookKind, PriceBookId, "prb", "price book";
    /// A container of missions.
    ProjectKind, ProjectId, "prj", "project";
    /// What is submitted again and again.
    ScheduleKind, ScheduleId, "sch", "schedule";
    /// A name for what must not be done twice.
    DedupeKeyKind, DedupeKeyId, "ddk", "dedupe key";
    /// Something that is done to many missions.
    BulkActionKind, BulkActionId, "blk", "bulk action";
    /// One HTTP request.
    RequestKind, RequestId, "req", "request";
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_id_survives_text_and_back() {
        let id = TaskId::from_uuid(Uuid::from_u128(0x0192_3456_789a_7bcd_8ef0_1234_5678_9abc));
        assert_eq!(id.to_string().parse::<TaskId>(), Ok(id));
        assert!(id.to_string().starts_with("tsk_"));
        assert_eq!(id.to_string().len(), 30);
    }

    #[test]
    fn the_id_of_another_kind_is_refused_by_name() {
        let id = TaskId::from_uuid(Uuid::from_u128(7)).to_string();
        let refused = id.parse::<MissionId>().expect_err("a task is no mission");
        assert!(matches!(refused, IdError::WrongKind { prefix: "mis", .. }));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "tsk", "tsk_", "tsk_zzz", "0192-…", "tsk_8zzzzzzzzzzzzzzzzzzzzzzzzz"] {
            assert!(matches!(text.parse::<TaskId>(), Err(IdError::Malformed { .. })), "{text}");
        }
    }

    #[test]
    fn no_two_kinds_share_a_prefix() {
        let mut prefixes: Vec<_> = PREFIXES.iter().map(|(prefix, _)| prefix).collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        assert_eq!(prefixes.len(), PREFIXES.len());
    }
}
