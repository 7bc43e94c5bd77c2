//! Spread: the items of a map become tasks, a chunk in each transaction.
//!
//! What the items are is told outside of any transaction, from results that do not change. A crash between two chunks
//! leaves a map that knows how many of its tasks were made; the sweep goes on from there.

use bursar_domain::flow;
use bursar_domain::outcome::{ErrorClass, StepError};
use bursar_domain::workflow::{self, Definition, Item, Layer, Node, SpreadError};
use serde_json::{Map, Value, json};

use super::Engine;
use crate::store::StoreError;
use crate::store::read::Due;

impl Engine {
    /// Makes the tasks of maps. One that can't be made is left to the next sweep, with a word.
    pub(super) async fn spread(&self, maps: Vec<Due>) -> Result<(), StoreError> {
        for map in maps {
            match self.spread_one(&map).await {
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => tracing::error!(task = %map.id, %error, "a map can't be spread"),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    async fn spread_one(&self, task: &Due) -> Result<(), StoreError> {
        let definition = self.parts.facts.workflow(&self.parts.store, task.workflow_id).await?;
        let unknown = || StoreError::Corrupt(format!("task {} is no map of its workflow", task.id));
        let definition = definition.ok_or_else(unknown)?;
        let place = task.place();
        let node = definition.node_for(place).ok_or_else(unknown)?;
        let layer = usize::try_from(place.layer).ok().and_then(|layer| node.layers.get(layer));
        let Some(Layer::Map(map)) = layer.cloned() else { return Err(unknown()) };
        let context = self.spread_context(task, &definition, node).await?;
        let told = tokio::task::spawn_blocking(move || workflow::spread(&map, &context)).await;
        let told =
            told.map_err(|error| StoreError::Corrupt(format!("the items of {} can't be told: {error}", task.id)))?;
        match told {
            Ok(items) => while self.add_items(task, &items).await? {},
            Err(error) => self.refuse_items(task, &error).await?,
        }
        Ok(())
    }

    /// What the expressions of the map see.
    async fn spread_context(&self, task: &Due, definition: &Definition, node: &Node) -> Result<Value, StoreError> {
        let base = task.base;
        let number = |index: &u32| u32::try_from(base).unwrap_or_default().saturating_add(*index);
        let wanted: Vec<_> = node.spread.nodes.iter().map(|index| (task.run_id, number(index))).collect();
        let outputs = if wanted.is_empty() { Vec::new() } else { self.store().outputs(&wanted).await? };
        let mut nodes = Map::new();
        for output in outputs {
            let index = u32::try_from(output.node_index.saturating_sub(base)).ok();
            if let Some(node) = index.and_then(|index| definition.node(index)) {
                nodes.insert(node.key.clone(), json!({"output": output.output}));
            }
        }
        let inputs =
            if node.spread.input { self.store().inputs(&[(task.mission_id, base)]).await? } else { Vec::new() };
        let mut context = task.bound.as_ref().map(|bound| bound.values.clone()).unwrap_or_default();
        context.insert("inputs".to_owned(), inputs.into_iter().next().map_or(Value::Null, |found| found.input));
        context.insert("nodes".to_owned(), Value::Object(nodes));
        Ok(Value::Object(context))
    }

    async fn add_items(&self, task: &Due, items: &[Item]) -> Result<bool, StoreError> {
        let want = self.want(std::slice::from_ref(task)).await?;
        let added = self.decide(&want, &mut |turn| flow::add_items(turn, task.id, items)).await?;
        added.map_err(|refusal| StoreError::Corrupt(refusal.to_string()))
    }

    async fn refuse_items(&self, task: &Due, error: &SpreadError) -> Result<(), StoreError> {
        let error = StepError::new(ErrorClass::Permanent, "map_failed", error.to_string());
        let want = self.want(std::slice::from_ref(task)).await?;
        let refused = self.decide(&want, &mut |turn| flow::refuse_items(turn, task.id, error.clone())).await?;
        refused.map_err(|refusal| StoreError::Corrupt(refusal.to_string()))
    }
}
