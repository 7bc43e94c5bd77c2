//! What a task that stands for many knows about them, and what each of the many sees of its own.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::credits::Ucr;
use crate::id::{TaskId, TenantId, WorkflowId};
use crate::outcome::StepError;
use crate::time::Timestamp;

/// The tasks that a layer made of one, counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Fan {
    /// How many there will be, where that is known before they are made.
    pub total: Option<i32>,
    /// How many were made.
    pub made: i32,
    /// How many of these left `pending`.
    pub begun: i32,
    /// How many of these are in a final state.
    pub done: i32,
    /// Bytes that they hand on together, as JSON.
    pub bytes: i64,
    /// Why the task will fail, once none of them is under way any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<StepError>,
    /// What they hold, where the node has a budget of its own.
    #[serde(default)]
    pub held_ucr: Ucr,
    /// What they were charged, those below them included.
    #[serde(default)]
    pub spent_ucr: Ucr,
    /// The workflow inside of the run that it opened, besides its first child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
}

/// A workflow inside of a run: tasks of another version than the run's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// That version.
    pub workflow_id: WorkflowId,
    /// The number in the run of its first node.
    pub base: i32,
}

/// A workflow version that was made by a plan, for one scope of one run alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedWorkflow {
    /// Its id.
    pub id: WorkflowId,
    /// Whose.
    pub tenant_id: TenantId,
    /// The name of the definition around it, and the task that planned it.
    pub name: String,
    /// Always 1.
    pub version: i32,
    /// SHA-256 of its content.
    pub content_hash: String,
    /// The definition.
    pub definition: Value,
    /// When it was made.
    pub created_at: Timestamp,
    /// The task whose plan it is.
    pub planned_by: TaskId,
}

impl Fan {
    /// How many are under way.
    pub fn open(&self) -> i32 {
        self.begun.saturating_sub(self.done)
    }

    /// Whether all that were made are over.
    pub fn is_over(&self) -> bool {
        self.done >= self.made
    }

    /// Whether all that there will be were made.
    pub fn is_complete(&self) -> bool {
        self.total.is_some_and(|total| self.made >= total)
    }
}

/// What one of many sees besides what its node sees.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// Values by name: the item, its place, the round.
    pub values: Map<String, Value>,
    /// Outputs of other tasks, read when an attempt begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<BoundOutput>,
    /// Items of the same map, by their numbers, that wait for this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub followers: Vec<i32>,
}

/// The output of one of many, as another sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundOutput {
    /// The name at the top, e.g. `review`.
    pub name: String,
    /// The field below it, e.g. `draft`.
    pub field: String,
    /// Whose.
    pub parent_id: TaskId,
    /// Which.
    pub item: i32,
}

impl Bound {
    /// Sets `name.field`.
    pub fn set(&mut self, name: &str, field: &str, value: Value) {
        let entry = self.values.entry(name.to_owned()).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(fields) = entry {
            fields.insert(field.to_owned(), value);
        }
    }
}
