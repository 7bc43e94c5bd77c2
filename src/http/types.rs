//! Values as the API writes them: ids, credits, times. Each describes itself in the `OpenAPI` document.
//!
//! Only spelling lives here; what an id, an amount or a time means is the domain's.

use std::borrow::Cow;

use bursar_domain::credits::{Credits, Ucr};
use bursar_domain::id::{self, Id, Kind};
use bursar_domain::time::Timestamp;
use serde::{Serialize, Serializer};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::clock;

/// An id as the API shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown<K: Kind>(pub Id<K>);

impl<K: Kind> From<Id<K>> for Shown<K> {
    fn from(id: Id<K>) -> Self {
        Self(id)
    }
}

impl<K: Kind> Serialize for Shown<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<K: Kind> PartialSchema for Shown<K> {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some(format!("^{}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$", K::PREFIX)))
            .description(Some(format!("The id of a {}.", K::NAME)))
            .into()
    }
}

impl<K: Kind> ToSchema for Shown<K> {
    fn name() -> Cow<'static, str> {
        Cow::Owned(format!("{}_id", K::NAME.replace(' ', "_").to_lowercase()))
    }
}

macro_rules! shown_ids {
    ($($(#[$doc:meta])* $name:ident = $kind:ident;)*) => { $($(#[$doc])* pub(super) type $name = Shown<id::$kind>;)* };
}

shown_ids! {
    /// A mission's id.
    ShownMission = MissionKind;
    /// A run's id.
    ShownRun = RunKind;
    /// A message's id.
    ShownMessage = MessageKind;
    /// A task's id.
    ShownTask = TaskKind;
    /// An event's id.
    ShownEvent = EventKind;
    /// A workflow version's id.
    ShownWorkflow = WorkflowKind;
    /// A wallet's id.
    ShownWallet = WalletKind;
    /// A ledger entry's id.
    ShownOp = OpKind;
    /// A hold's id.
    ShownHold = HoldKind;
    /// A grant's id.
    ShownGrant = GrantKind;
    /// An API key's id.
    ShownKey = KeyKind;
    /// A worker's id.
    ShownWorker = WorkerKind;
    /// A signal's id.
    ShownSignal = SignalKind;
    /// A callback link's id.
    ShownLink = LinkKind;
    /// A usage call's id.
    ShownCall = CallKind;
    /// A schedule's id.
    ShownSchedule = ScheduleKind;
    /// A project's id.
    ShownProject = ProjectKind;
    /// A bulk action's id.
    ShownBulkAction = BulkActionKind;
    /// A tenant's id.
    ShownTenant = TenantKind;
    /// A price book's id.
    ShownPriceBook = PriceBookKind;
}

/// An amount of credits: a decimal string with six places.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amount(pub Ucr);

impl From<Ucr> for Amount {
    fn from(amount: Ucr) -> Self {
        Self(amount)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Credits(self.0).serialize(serializer)
    }
}

impl PartialSchema for Amount {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some("^-?[0-9]+\\.[0-9]{6}$"))
            .description(Some("Credits as a decimal string with six places."))
            .examples(["12.500000"])
            .into()
    }
}

impl ToSchema for Amount {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("credits")
    }
}

/// A point in time: RFC 3339 in UTC with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Time(pub Timestamp);

impl From<Timestamp> for Time {
    fn from(time: Timestamp) -> Self {
        Self(time)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&clock::rfc3339(self.0))
    }
}

impl PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("A point in time: RFC 3339, UTC, with milliseconds."))
            .examples(["2026-01-31T12:34:56.789Z"])
            .into()
    }
}

impl ToSchema for Time {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("time")
    }
}
