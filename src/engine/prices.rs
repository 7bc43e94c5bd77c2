//! Price books come in, are activated, and are tried on what was used.
//!
//! A book never changes and none becomes active by itself: runs stay with the one they pinned, and whoever
//! activates another decides for the runs that start afterwards.

use std::collections::BTreeMap;

use bursar_domain::credits::Ucr;
use bursar_domain::id::{CallId, Id, PriceBookId, TenantId};
use bursar_domain::pricing::PriceBook;
use bursar_domain::time::Timestamp;

use super::Engine;
use crate::clock::{new_id, rfc3339};
use crate::store::StoreError;
use crate::store::read::UsedCall;

/// Calls read at once by a simulation.
const PAGE: i64 = 1_000;
/// Ids are made by the clocks of workers: a call may have an id from a little before it was recorded.
const SKEW_MS: i64 = 24 * 3_600_000;

/// A book that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its id.
    pub id: PriceBookId,
    /// Whether it is new; the same content again is not.
    pub created: bool,
}

/// Why a book was not activated.
#[derive(Debug, thiserror::Error)]
pub enum ActivateError {
    /// There is none of this id.
    #[error("there is no such price book")]
    NotFound,
    /// Prices of these models hold only from a later day.
    #[error("prices hold only from a later day: {}", .0.join(", "))]
    NotYetValid(Vec<String>),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Calls of one model under two books.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelSum {
    /// Calls that both books price.
    pub calls: u64,
    /// What they were recorded at.
    pub before: Ucr,
    /// What they cost by the other book.
    pub after: Ucr,
    /// The part of `before` that tenants pay.
    pub billed_before: Ucr,
    /// The part of `after` that tenants would pay.
    pub billed_after: Ucr,
    /// Calls that the other book can't price.
    pub unpriced: u64,
    /// What those were recorded at.
    pub unpriced_before: Ucr,
}

/// What recorded calls would cost by another book.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Simulation {
    /// By model.
    pub models: BTreeMap<String, ModelSum>,
    /// Whether there were more calls than were looked at.
    pub truncated: bool,
}

impl ModelSum {
    fn add(&mut self, call: &UsedCall, book: &PriceBook) {
        let Ok(after) = book.call_cost(&call.model, &call.usage) else {
            self.unpriced = self.unpriced.saturating_add(1);
            self.unpriced_before = self.unpriced_before.saturating_add(call.cost_ucr);
            return;
        };
        self.calls = self.calls.saturating_add(1);
        self.before = self.before.saturating_add(call.cost_ucr);
        self.after = self.after.saturating_add(after);
        if call.billable {
            self.billed_before = self.billed_before.saturating_add(call.cost_ucr);
            self.billed_after = self.billed_after.saturating_add(after);
        }
    }

    fn join(mut self, other: &Self) -> Self {
        self.calls = self.calls.saturating_add(other.calls);
        self.before = self.before.saturating_add(other.before);
        self.after = self.after.saturating_add(other.after);
        self.billed_before = self.billed_before.saturating_add(other.billed_before);
        self.billed_after = self.billed_after.saturating_add(other.billed_after);
        self.unpriced = self.unpriced.saturating_add(other.unpriced);
        self.unpriced_before = self.unpriced_before.saturating_add(other.unpriced_before);
        self
    }
}

impl Simulation {
    /// All models together.
    pub fn total(&self) -> ModelSum {
        self.models.values().fold(ModelSum::default(), ModelSum::join)
    }

    fn add(&mut self, call: &UsedCall, book: &PriceBook) {
        self.models.entry(call.model.clone()).or_default().add(call, book);
    }
}

impl Engine {
    /// Stores a book. Nothing uses it until it is activated.
    pub async fn publish_prices(&self, book: &PriceBook) -> Result<Published, StoreError> {
        let hash = book.content_hash();
        let id = new_id();
        let now = self.clock().now();
        if self.store().add_prices(id, book.name(), &hash, &book.to_value(), now).await? {
            return Ok(Published { id, created: true });
        }
        let known = self.store().price_book_by_hash(&hash).await?;
        let known = known.ok_or_else(|| StoreError::Corrupt(format!("the price book {hash} is there and is not")))?;
        Ok(Published { id: known.id, created: false })
    }

    /// Makes a stored book the one that new runs pin.
    pub async fn activate_price_book(&self, id: PriceBookId) -> Result<(), ActivateError> {
        let book = self.price_book(id).await?.ok_or(ActivateError::NotFound)?;
        let now = self.clock().now();
        let today = rfc3339(now);
        let early = book.not_yet_valid(today.get(..10).unwrap_or(&today));
        let early = early.map(|model| format!("{} from {}", model.name(), model.valid_from().unwrap_or_default()));
        let early = early.collect::<Vec<_>>();
        if !early.is_empty() {
            return Err(ActivateError::NotYetValid(early));
        }
        if self.store().activate_price_book(id, now).await? { Ok(()) } else { Err(ActivateError::NotFound) }
    }

    /// A stored book.
    pub async fn price_book(&self, id: PriceBookId) -> Result<Option<PriceBook>, StoreError> {
        let Some(view) = self.store().price_book(id).await? else { return Ok(None) };
        let book = PriceBook::from_value(view.content.unwrap_or_default()).map_err(|problems| {
            let first = problems.first().map(ToString::to_string).unwrap_or_default();
            StoreError::Corrupt(format!("price book {id} is not valid any more: {first}"))
        })?;
        Ok(Some(book))
    }

    /// Prices the calls since `since` by another book: of one tenant, or of all. Looks at `most` calls at most.
    ///
    /// Calls without known usage (still running, or lost) are not among them.
    pub async fn simulate_prices(
        &self,
        book: &PriceBook,
        tenant: Option<TenantId>,
        since: Timestamp,
        most: Option<u64>,
    ) -> Result<Simulation, StoreError> {
        let mut simulation = Simulation::default();
        let mut after: Option<(Timestamp, CallId)> = None;
        let mut seen = 0_u64;
        loop {
            let calls = if let Some(tenant) = tenant {
                self.store().used_calls(tenant, since, after, PAGE).await?
            } else {
                let start = after.map_or_else(|| first_id(since.plus_ms(-SKEW_MS)), |(_, id)| id);
                self.store().all_used_calls(since, start, PAGE).await?
            };
            let Some(last) = calls.last() else { return Ok(simulation) };
            after = Some((last.created_at, last.id));
            for call in &calls {
                if most.is_some_and(|most| seen >= most) {
                    simulation.truncated = true;
                    return Ok(simulation);
                }
                seen = seen.saturating_add(1);
                simulation.add(call, book);
            }
        }
    }
}

/// The least id of a time.
fn first_id(at: Timestamp) -> CallId {
    let ms = u64::try_from(at.ms()).unwrap_or_default();
    Id::from_uuid(uuid::Builder::from_unix_timestamp_millis(ms, &[0; 10]).into_uuid())
}
