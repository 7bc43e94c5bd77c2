//! Schedules are made, changed, paused, removed, and run out of turn.

use bursar_domain::flow;
use bursar_domain::id::{ScheduleId, TenantId};
use bursar_domain::limits::MAX_SCHEDULES;
use bursar_domain::record::{Overlap, Schedule};

use super::Engine;
use super::schedule::{first_slot, wish_of};
use super::submit::{SubmitError, Submitted};
use super::wish::Unfit;
use crate::cron::CronError;
use crate::store::{Conflict, StoreError, Want};

/// How often a change is tried that others overtake.
const MOST_RACES: u32 = 8;

/// Why a schedule is not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// It does not exist (for this tenant).
    #[error("there is no such schedule")]
    NotFound,
    /// Its expression or zone.
    #[error(transparent)]
    Cron(#[from] CronError),
    /// What it submits.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// Another one has the name.
    #[error("the tenant has a schedule of this name")]
    NameTaken,
    /// The tenant has too many.
    #[error("a tenant has at most {MAX_SCHEDULES} schedules")]
    TooMany,
    /// It changed all the time.
    #[error("the schedule changes too often")]
    Busy,
    /// The store.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for ScheduleError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict(Conflict::ScheduleName) => Self::NameTaken,
            error => Self::Store(error),
        }
    }
}

impl Engine {
    /// Makes a schedule. Its times are worked out here; what it submits must be fit to be submitted now.
    pub async fn create_schedule(&self, mut schedule: Schedule) -> Result<Schedule, ScheduleError> {
        self.time(&mut schedule)?;
        self.fit(wish_of(&schedule, None)).await?;
        if self.store().schedule_count(schedule.tenant_id, MAX_SCHEDULES).await? >= MAX_SCHEDULES {
            return Err(ScheduleError::TooMany);
        }
        self.decide(&Want::default(), &mut |turn| flow::add_schedule(turn, schedule.clone())).await?;
        Ok(schedule)
    }

    /// Changes a tenant's schedule. `change` gets it as it stands, perhaps more than once; what it does about times is
    /// worked out again when the expression, the zone, the jitter or a pause differ.
    pub async fn change_schedule(
        &self,
        tenant: TenantId,
        id: ScheduleId,
        change: impl Fn(&mut Schedule),
    ) -> Result<Schedule, ScheduleError> {
        for _ in 0..MOST_RACES {
            let seen = self.store().schedule(Some(tenant), id).await?.ok_or(ScheduleError::NotFound)?;
            let mut changed = seen.clone();
            change(&mut changed);
            if changed == seen {
                return Ok(seen);
            }
            let clockwork = |row: &Schedule| (row.cron.clone(), row.zone.clone(), row.jitter_ms, row.paused);
            if clockwork(&changed) != clockwork(&seen) {
                self.time(&mut changed)?;
            }
            if changed.paused || changed.overlap != Overlap::Queue {
                changed.waiting_for = None;
            }
            if (&changed.workflow, &changed.input) != (&seen.workflow, &seen.input) {
                self.fit(wish_of(&changed, None)).await?;
            }
            let want = Want { schedules: vec![id], ..Want::default() };
            if self.decide(&want, &mut |turn| flow::change_schedule(turn, &changed)).await? {
                return self.store().schedule(Some(tenant), id).await?.ok_or(ScheduleError::NotFound);
            }
        }
        Err(ScheduleError::Busy)
    }

    /// Removes a tenant's schedule. Missions that it made go on.
    pub async fn remove_schedule(&self, tenant: TenantId, id: ScheduleId) -> Result<(), ScheduleError> {
        if self.store().remove_schedule(tenant, id).await? { Ok(()) } else { Err(ScheduleError::NotFound) }
    }

    /// Submits a schedule's mission now, beside its times: neither they nor `overlap` know of it.
    pub async fn run_schedule(
        &self,
        tenant: TenantId,
        id: ScheduleId,
        idempotency_key: Option<String>,
    ) -> Result<Result<Submitted, SubmitError>, ScheduleError> {
        let schedule = self.store().schedule(Some(tenant), id).await?.ok_or(ScheduleError::NotFound)?;
        let submission = self.fit(wish_of(&schedule, idempotency_key)).await?;
        Ok(self.submit(submission).await)
    }

    /// Sets when it fires next.
    fn time(&self, schedule: &mut Schedule) -> Result<(), CronError> {
        let slot = first_slot(schedule, self.clock().now())?.filter(|_| !schedule.paused);
        schedule.next_at = slot.map(|slot| slot.fire_at);
        schedule.due_at = slot.map(|slot| slot.due_at);
        Ok(())
    }
}
