//! Redrive: dead letters with the same fingerprint are tried again in bulk, a few each second.
//!
//! An action is a row with its missions. Any process takes the next second of it, tries that second's missions again and
//! notes what came of each. A crash between a retry and its note repeats nothing: the retry carries the action as its
//! order, and each mission is redriven only from where it stood when the action was ordered. Whoever dies in the middle
//! of a second is given up when his lease is over; the next goes on with what is not noted.

use std::collections::BTreeMap;
use std::time::Duration;

use bursar_domain::credits::Ucr;
use bursar_domain::flow::{DeadLetter, Order, Plan, Redriven, Refusal, redrive};
use bursar_domain::id::{BulkActionId, KeyId, MissionId, TenantId};
use bursar_domain::time::Timestamp;
use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::cancel::ControlError;
use super::renew::NOT_SUCCEEDED;
use super::schedule::name_refusal;
use crate::clock::new_id;
use crate::digest::sha256_hex;
use crate::store::{BulkAction, BulkItem, BulkNote, BulkOutcome, BulkScope, BulkState, Conflict, StoreError};

/// How often it looks; also the second in which an action's missions are spread.
const PASS: Duration = Duration::from_secs(1);
/// How long one second's missions may take before others take over.
const LEASE: Duration = Duration::from_secs(10);
/// Actions that one pass works on.
const CHUNK: i64 = 20;
/// Actions worked on at once.
const ACTIONS_AT_ONCE: usize = 4;
/// Missions of one action tried at once. More would only stand in line for the tenant's wallet.
const AT_ONCE: usize = 4;

/// The reason of a mission that somebody else had go on.
const ELSEWHERE: &str = "no-longer-dead";

/// Which missions are to be tried again, and how fast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedriveOrder {
    /// The tenant of the key that orders it.
    pub owner_id: TenantId,
    /// The key that orders it.
    pub actor: KeyId,
    /// Whose missions; `None` is those of all tenants.
    pub tenant_id: Option<TenantId>,
    /// What their failures have in common.
    pub fingerprint: String,
    /// Missions a second.
    pub per_second: i64,
    /// The most missions; the oldest go first.
    pub limit: i64,
    /// Makes it safe to ask twice.
    pub idempotency_key: Option<String>,
}

/// Why a redrive was not ordered.
#[derive(Debug, thiserror::Error)]
pub enum RedriveError {
    /// No mission failed so.
    #[error("there is no such group of dead letters")]
    NoGroup,
    /// The idempotency key was used for something else.
    #[error("the idempotency key was used for another redrive")]
    KeyReused,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a mission would not be tried again: a stable code, and words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hindrance {
    /// The code.
    pub code: String,
    /// The words.
    pub message: String,
}

/// What a redrive would do to one mission.
#[derive(Debug)]
pub struct Rehearsed {
    /// The mission.
    pub mission_id: MissionId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// What would run and be held; none where its state forbids a retry.
    pub plan: Option<Plan>,
    /// Why it would not be tried again.
    pub hindrance: Option<Hindrance>,
}

/// What a redrive would do now.
#[derive(Debug)]
pub struct Rehearsal {
    /// Missions that it would be about.
    pub total: i64,
    /// The first of them, the oldest first.
    pub missions: Vec<Rehearsed>,
}

/// Works on bulk actions until it is stopped.
#[derive(Debug)]
pub struct Redriver {
    engine: Engine,
}

impl Redriver {
    /// A redriver.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// Looks every second, until `stop`. Missions that are being tried then are noted first.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.engine.redrive_due(&stop).await {
                tracing::warn!(%error, "bulk actions could not be looked at");
            }
            tokio::select! {
                () = tokio::time::sleep(PASS) => {}
                () = stop.cancelled() => {}
            }
        }
    }
}

impl Engine {
    /// Orders a redrive of the missions that are dead letters by now. The action, and whether it is that of an earlier
    /// order under the same idempotency key.
    pub async fn order_redrive(&self, order: &RedriveOrder) -> Result<(BulkAction, bool), RedriveError> {
        let hash = hash_of(order);
        if let Some(action) = self.ordered_before(order, &hash).await? {
            return Ok((action, true));
        }
        if self.store().dead_letter_group(order.tenant_id, &order.fingerprint).await?.is_none() {
            return Err(RedriveError::NoGroup);
        }
        let now = self.clock().now();
        let action = BulkAction {
            id: new_id(),
            owner_id: order.owner_id,
            tenant_id: order.tenant_id,
            fingerprint: order.fingerprint.clone(),
            state: BulkState::Running,
            actor: order.actor,
            per_second: order.per_second,
            total: 0,
            step: 0,
            next_at: Some(now),
            idempotency_key: order.idempotency_key.clone(),
            request_hash: hash.clone(),
            created_at: now,
            ended_at: None,
        };
        match self.store().add_bulk_action(&action, order.limit).await {
            Ok(()) => {}
            Err(StoreError::Conflict(Conflict::BulkActionKey)) => {
                // the same order came twice at the same moment
                let twin = self.ordered_before(order, &hash).await?.ok_or(RedriveError::KeyReused)?;
                return Ok((twin, true));
            }
            Err(error) => return Err(error.into()),
        }
        let made = self.store().bulk_action(BulkScope::All, action.id).await?;
        Ok((made.ok_or_else(|| StoreError::Corrupt(format!("{} is gone", action.id)))?, false))
    }

    async fn ordered_before(&self, order: &RedriveOrder, hash: &str) -> Result<Option<BulkAction>, RedriveError> {
        let Some(key) = &order.idempotency_key else { return Ok(None) };
        match self.store().bulk_action_by_key(order.owner_id, key).await? {
            Some(action) if action.request_hash != hash => Err(RedriveError::KeyReused),
            found => Ok(found),
        }
    }

    /// What a redrive would do now, for its first `most` missions. Credits are shared out in the order in which the
    /// missions would go, as if none of them ended meanwhile.
    pub async fn rehearse_redrive(&self, order: &RedriveOrder, most: i64) -> Result<Rehearsal, RedriveError> {
        let group = self.store().dead_letter_group(order.tenant_id, &order.fingerprint).await?;
        let total = group.ok_or(RedriveError::NoGroup)?.missions.min(order.limit);
        let letters = self.store().oldest_dead_letters(order.tenant_id, &order.fingerprint, total.min(most)).await?;
        let looks = futures::stream::iter(letters)
            .map(|(mission, tenant)| async move { (mission, tenant, self.preview_retry(mission).await) });
        let previews: Vec<_> = looks.buffered(AT_ONCE).collect().await;
        let mut purses: BTreeMap<TenantId, Ucr> = BTreeMap::new();
        let mut missions = Vec::with_capacity(previews.len());
        for (mission_id, tenant_id, preview) in previews {
            let (plan, refusal) = match preview {
                Ok(preview) => (Some(preview.plan), preview.refusal),
                Err(ControlError::Refused(refusal)) => (None, Some(refusal)),
                Err(ControlError::Store(error)) => return Err(error.into()),
            };
            let mut hindrance = refusal.as_ref().map(hindrance);
            if let Some(plan) = plan.as_ref().filter(|_| hindrance.is_none()) {
                let left = match purses.get(&tenant_id) {
                    Some(left) => *left,
                    None => self.available(tenant_id).await?,
                };
                if plan.hold_needed > left {
                    hindrance = Some(too_late_for_credits(plan.hold_needed, left));
                }
                let taken = if hindrance.is_none() { plan.hold_needed } else { Ucr::ZERO };
                purses.insert(tenant_id, left.minus_or_zero(taken));
            }
            missions.push(Rehearsed { mission_id, tenant_id, plan, hindrance });
        }
        Ok(Rehearsal { total, missions })
    }

    async fn available(&self, tenant: TenantId) -> Result<Ucr, StoreError> {
        let wallet = self.store().wallet_of(tenant, self.clock().now()).await?;
        Ok(wallet.map(|wallet| wallet.available_ucr).unwrap_or_default())
    }

    /// Stops an action of which the caller knows that it may. Missions that were tried again go on.
    pub async fn abort_bulk_action(&self, id: BulkActionId) -> Result<bool, StoreError> {
        self.store().abort_bulk_action(id, self.clock().now()).await
    }

    /// Works on every bulk action for the second that is due.
    pub async fn redrive_due(&self, stop: &CancellationToken) -> Result<(), StoreError> {
        let due = self.store().due_bulk_actions(self.clock().now(), CHUNK).await?;
        futures::stream::iter(due)
            .for_each_concurrent(ACTIONS_AT_ONCE, |action| async move {
                if stop.is_cancelled() {
                    return;
                }
                if let Err(error) = self.redrive_second(&action, stop).await {
                    tracing::warn!(%error, action = %action.id, "a bulk action is left to whoever looks next");
                }
            })
            .await;
        Ok(())
    }

    /// Takes a second of an action and works on it; nothing when somebody else took it. A crash leaves the action to
    /// others after the lease.
    async fn redrive_second(&self, seen: &BulkAction, stop: &CancellationToken) -> Result<(), StoreError> {
        let began = self.clock().now();
        if !self.store().take_bulk_step(seen, after(began, LEASE)).await? {
            return Ok(());
        }
        let step = seen.step.saturating_add(1);
        let worked = self.redrive_items(seen, step, stop).await;
        let next_at = after(began, PASS).max(self.clock().now());
        if matches!(worked, Ok(true)) && self.store().finish_bulk_action(seen.id, self.clock().now()).await? {
            tracing::info!(action = %seen.id, missions = seen.total, "a bulk action is done");
            return Ok(());
        }
        self.store().leave_bulk_step(seen.id, step, next_at).await?;
        worked.map(drop)
    }

    /// Tries a second's missions again; whether they were the last.
    async fn redrive_items(
        &self,
        action: &BulkAction,
        step: i64,
        stop: &CancellationToken,
    ) -> Result<bool, StoreError> {
        let items = self.store().bulk_items(action.id, action.per_second).await?;
        let order = Order { key: format!("bulk:{}", action.id), hash: sha256_hex(&action.id.to_string()) };
        for some in items.chunks(AT_ONCE) {
            if stop.is_cancelled() || !self.store().holds_bulk_step(action.id, step).await? {
                return Ok(false);
            }
            let tried = futures::future::join_all(some.iter().map(|item| self.redrive_one(item, &order))).await;
            let mut failure = None;
            let mut notes = Vec::with_capacity(tried.len());
            for note in tried {
                match note {
                    Ok(note) => notes.push(note),
                    Err(error) => failure = Some(error),
                }
            }
            self.store().note_bulk_items(action.id, &notes, self.clock().now()).await?;
            notes.iter().for_each(|note| self.metrics().note_redriven(note.outcome));
            if let Some(error) = failure {
                return Err(error);
            }
        }
        Ok((items.len() as i64) < action.per_second)
    }

    /// Tries a mission again, once for the order. An error is one that may be over later.
    async fn redrive_one(&self, item: &BulkItem, order: &Order) -> Result<BulkNote, StoreError> {
        let letter = DeadLetter { mission_id: item.mission_id, run_id: item.run_id, retries: item.retries };
        let tried = async {
            let want = self.renewal(item.mission_id, &NOT_SUCCEEDED, false).await?;
            self.decide(&want, &mut |turn| redrive(turn, &letter, order)).await
        };
        let (outcome, reason) = match tried.await {
            Ok(Ok(Redriven::Now | Redriven::Before)) => (BulkOutcome::Retried, None),
            Ok(Ok(Redriven::Elsewhere)) => (BulkOutcome::Refused, Some(ELSEWHERE.to_owned())),
            Ok(Err(refusal)) => match hindrance(&refusal).code {
                code if code == "internal" => {
                    tracing::error!(%refusal, mission = %item.mission_id, "a dead letter can't be tried again");
                    (BulkOutcome::Failed, Some(code))
                }
                code => (BulkOutcome::Refused, Some(code)),
            },
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => {
                tracing::error!(%error, mission = %item.mission_id, "a dead letter can't be tried again");
                (BulkOutcome::Failed, Some("internal".to_owned()))
            }
        };
        Ok(BulkNote { mission_id: item.mission_id, outcome, reason })
    }
}

fn after(time: Timestamp, duration: Duration) -> Timestamp {
    time.plus_ms(duration.as_millis() as i64)
}

/// What the same order must have in common with itself.
fn hash_of(order: &RedriveOrder) -> String {
    let RedriveOrder { owner_id: _, actor: _, idempotency_key: _, tenant_id, fingerprint, per_second, limit } = order;
    let tenant = tenant_id.map(|id| id.to_string()).unwrap_or_default();
    sha256_hex(&format!("redrive {tenant} {fingerprint} {per_second} {limit}"))
}

/// The codes are those of the API's problems.
fn hindrance(refusal: &Refusal) -> Hindrance {
    let code = match refusal {
        Refusal::IllegalMove { .. } => "illegal-state".to_owned(),
        other => name_refusal(other).code,
    };
    Hindrance { code, message: refusal.to_string() }
}

fn too_late_for_credits(required: Ucr, left: Ucr) -> Hindrance {
    let message = format!("{required} credits are needed and the missions before it leave {left}");
    Hindrance { code: "insufficient-credits".to_owned(), message }
}
