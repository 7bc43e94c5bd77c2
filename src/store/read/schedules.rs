//! Schedules, as they stand: those of a tenant, and those that are due.

use bursar_domain::id::{ScheduleId, TenantId};
use bursar_domain::record::Schedule;
use bursar_domain::time::Timestamp;

use super::super::schema::SCHEDULES;
use super::super::{Arg, Store, StoreError};
use super::{all, first};

impl dyn Store {
    /// One schedule.
    pub async fn schedule(&self, tenant: Option<TenantId>, id: ScheduleId) -> Result<Option<Schedule>, StoreError> {
        let columns = SCHEDULES.loaded(true);
        let sql = format!("select {columns} from schedules where id = $1 and ($2 is null or tenant_id = $2)");
        let tenant = Arg::Text(tenant.map(|id| id.to_string()));
        first(self.rows(&sql, &[id.into(), tenant]).await?)
    }

    /// Schedules, newest first, those older than `before`.
    pub async fn schedules(
        &self,
        tenant: Option<TenantId>,
        before: Option<ScheduleId>,
        limit: i64,
    ) -> Result<Vec<Schedule>, StoreError> {
        let columns = SCHEDULES.loaded(true);
        let sql = format!(
            "select {columns} from schedules
             where ($1 is null or tenant_id = $1) and ($2 is null or id < $2)
             order by id desc limit $3"
        );
        let text = |id: Option<String>| Arg::Text(id);
        let args = [text(tenant.map(|id| id.to_string())), text(before.map(|id| id.to_string())), limit.into()];
        all(self.rows(&sql, &args).await?)
    }

    /// How many schedules a tenant has, counted up to `most`.
    pub async fn schedule_count(&self, tenant: TenantId, most: i64) -> Result<i64, StoreError> {
        let sql = "select count(*) as n from (select 1 as one from schedules where tenant_id = $1 limit $2) s";
        let rows = self.rows(sql, &[tenant.into(), most.into()]).await?;
        Ok(rows.first().and_then(|row| row["n"].as_i64()).unwrap_or(0))
    }

    /// Schedules whose time has come, the oldest first.
    pub async fn due_schedules(&self, now: Timestamp, limit: i64) -> Result<Vec<Schedule>, StoreError> {
        let columns = SCHEDULES.loaded(true);
        let sql = format!(
            "select {columns} from schedules
             where due_at is not null and due_at <= $1
             order by due_at limit $2"
        );
        all(self.rows(&sql, &[now.into(), limit.into()]).await?)
    }

    /// Schedules with a firing that waits and whose last mission is over.
    pub async fn released_schedules(&self, limit: i64) -> Result<Vec<Schedule>, StoreError> {
        let columns = SCHEDULES.loaded(true);
        let sql = format!(
            "select {columns} from schedules
             where waiting_for is not null
               and not exists (
                 select 1 from missions m join runs r on r.id = m.run_id
                 where m.id = schedules.last_mission_id and r.ended_at is null)
             order by waiting_for limit $1"
        );
        all(self.rows(&sql, &[limit.into()]).await?)
    }

    /// When the next schedule is due.
    pub async fn next_schedule(&self) -> Result<Option<Timestamp>, StoreError> {
        let rows = self.rows("select min(due_at) as due_at from schedules where due_at is not null", &[]).await?;
        Ok(rows.first().and_then(|row| row["due_at"].as_i64()).map(Timestamp::from_ms))
    }

    /// Removes a tenant's schedule; whether there was one.
    pub async fn remove_schedule(&self, tenant: TenantId, id: ScheduleId) -> Result<bool, StoreError> {
        let sql = "delete from schedules where tenant_id = $1 and id = $2";
        Ok(self.execute(sql, &[tenant.into(), id.into()]).await? > 0)
    }
}
