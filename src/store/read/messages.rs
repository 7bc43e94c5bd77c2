//! Messages of missions as they are kept. What an agent said is its task's output; what a run said are its outputs.

use bursar_domain::id::{MessageId, MissionId, RunId, TaskId, TenantId, WorkflowId};
use bursar_domain::record::{MessageEffect, MessageRole};
use bursar_domain::time::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::super::{Arg, Store, StoreError};
use super::all;

/// Which messages of a mission to read.
#[derive(Debug, Clone, Copy)]
pub struct MessageFilter {
    /// The mission.
    pub mission: MissionId,
    /// Only of this tenant.
    pub tenant: Option<TenantId>,
    /// Only those with a larger number.
    pub after: i64,
    /// Only up to this number.
    pub upto: i64,
    /// The last ones instead of the first ones.
    pub latest: bool,
    /// How many at most.
    pub limit: i64,
}

/// A message.
#[derive(Clone, PartialEq, Deserialize)]
pub struct MessageView {
    /// Its id.
    pub id: MessageId,
    /// Its mission.
    pub mission_id: MissionId,
    /// The run that it steers or begins, or that answered.
    pub run_id: RunId,
    /// That run's workflow version.
    pub workflow_id: WorkflowId,
    /// Its number in the mission.
    pub number: i64,
    /// Who speaks.
    pub role: MessageRole,
    /// Who said it.
    pub author: String,
    /// The task of the agent that said it.
    pub task_id: Option<TaskId>,
    /// The text, where it is kept with the message.
    pub text: Option<String>,
    /// What the agent's task handed on.
    pub output: Option<Value>,
    /// What the agent had been asked.
    pub prompt: Option<String>,
    /// The sender's own data.
    pub metadata: Option<Value>,
    /// What it did when it came.
    pub effect: Option<MessageEffect>,
    /// When it came.
    pub created_at: Timestamp,
}

impl std::fmt::Debug for MessageView {
    /// Names the message; what it says stays out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} of {})", self.id, self.number, self.mission_id)
    }
}

impl dyn Store {
    /// Messages of a mission, in the order of their numbers.
    pub async fn messages(&self, filter: &MessageFilter) -> Result<Vec<MessageView>, StoreError> {
        let order = if filter.latest { "desc" } else { "asc" };
        let sql = format!(
            "select m.id, m.mission_id, m.run_id, r.workflow_id, m.number, m.role, m.author, m.task_id, m.content as text,
               t.output, m.prompt, m.metadata, m.effect, m.created_at
             from messages m
             join runs r on r.id = m.run_id
             left join tasks t on t.id = m.task_id
             where m.mission_id = $1 and ($2 is null or m.tenant_id = $2) and m.number > $3 and m.number <= $4
             order by m.number {order} limit $5"
        );
        let tenant = Arg::Text(filter.tenant.map(|id| id.to_string()));
        let args = [filter.mission.into(), tenant, filter.after.into(), filter.upto.into(), filter.limit.into()];
        let mut messages: Vec<MessageView> = all(self.rows(&sql, &args).await?)?;
        messages.sort_by_key(|message| message.number);
        Ok(messages)
    }

    /// What an agent was asked and answered in a mission up to a message's number, the last of it, in order.
    pub async fn exchanges(
        &self,
        mission: MissionId,
        agent: &str,
        upto: i64,
        limit: i64,
    ) -> Result<Vec<(String, Value)>, StoreError> {
        #[derive(Deserialize)]
        struct Row {
            prompt: String,
            output: Value,
        }
        let sql = "
            select m.prompt, t.output
            from messages m
            join tasks t on t.id = m.task_id
            where m.mission_id = $1 and m.author = $2 and m.role = 'assistant' and m.prompt is not null
              and m.number <= $3 and t.output is not null
            order by m.number desc limit $4";
        let rows = self.rows(sql, &[mission.into(), agent.into(), upto.into(), limit.into()]).await?;
        Ok(all::<Row>(rows)?.into_iter().rev().map(|row| (row.prompt, row.output)).collect())
    }

    /// What users said in a mission after a number and up to another, the last of it: at most so many messages, in order.
    pub async fn said(
        &self,
        mission: MissionId,
        (after, upto): (i64, i64),
        limit: i64,
    ) -> Result<Vec<String>, StoreError> {
        #[derive(Deserialize)]
        struct Row {
            text: String,
        }
        let sql = "
            select content as text from messages
            where mission_id = $1 and role = 'user' and number > $2 and number <= $3
            order by number desc limit $4";
        let rows = self.rows(sql, &[mission.into(), after.into(), upto.into(), limit.into()]).await?;
        Ok(all::<Row>(rows)?.into_iter().rev().map(|row| row.text).collect())
    }
}
