//! Tells the items of a map: what they are, what they are called, and which wait for which.
//!
//! Pure, over what was read before; done outside of any transaction, because a list may be long. Doing it again gives
//! the same items in the same order: results do not change.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use minijinja::value::{Serde, merge_maps};
use serde_json::{Value, json};

use super::layers::Map;
use super::template::{self, TemplateError};
use crate::limits::{MAX_ITEM_BYTES, MAX_ITEM_FOLLOWERS, MAX_ITEM_KEY_BYTES, MAX_ITEMS, MAX_ITEMS_BYTES};

/// One item of a map.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// What it is called; no two items of a map are called the same.
    pub key: String,
    /// What it is.
    pub value: Value,
    /// How many items must be over before it begins.
    pub needs: usize,
    /// The items, by their places, that wait for this one, ascending.
    pub followers: Vec<u32>,
}

/// Why a map has no items that could be worked on. No other attempt will do better.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpreadError {
    /// An expression or template has no answer.
    #[error("`{of}` of the map can't be told: {error}")]
    Template {
        /// `over`, `key` or `after`.
        of: &'static str,
        /// Why.
        error: TemplateError,
    },
    /// What `over` gives is no list.
    #[error("`over` gives {0}, and a map goes over a list")]
    NoList(&'static str),
    /// There are too many items.
    #[error("`over` gives {0} items, and a map has at most {MAX_ITEMS}")]
    TooMany(usize),
    /// An item is too large.
    #[error("item {index} has {bytes} bytes, and an item has at most {MAX_ITEM_BYTES}: hand on less, or a reference")]
    TooLarge {
        /// The item's place, counted from 0.
        index: usize,
        /// Its size as JSON.
        bytes: usize,
    },
    /// Two items have the same key, or one has none.
    #[error("items {first} and {second} have the same key `{key}`")]
    SameKey {
        /// The place of the first.
        first: usize,
        /// The place of the second.
        second: usize,
        /// The key.
        key: String,
    },
    /// A key is empty or too long.
    #[error("item {0} has no key of 1 to {MAX_ITEM_KEY_BYTES} bytes")]
    NoKey(usize),
    /// `after` names an item that there is not.
    #[error("item `{item}` is to begin after `{after}`, and no item is called so")]
    UnknownItem {
        /// Who waits.
        item: String,
        /// What is not there.
        after: String,
    },
    /// `after` gives no list of keys.
    #[error("`after` of item `{0}` gives no list of keys")]
    NoKeys(String),
    /// Too many items wait for one.
    #[error(
        "more than {MAX_ITEM_FOLLOWERS} items are to begin after `{0}`: put what they wait for into a node before the map"
    )]
    TooManyFollowers(String),
    /// Items wait for each other in a circle.
    #[error("these items wait for each other in a circle: {0}")]
    Circle(String),
}

/// The items of the map. `context` is what its expressions see: `{"inputs", "nodes"}`, and what an outer workflow
/// bound.
pub fn spread(map: &Map, context: &Value) -> Result<Vec<Item>, SpreadError> {
    let of = |of: &'static str| move |error| SpreadError::Template { of, error };
    let values = match template::evaluate(&map.over, context, MAX_ITEMS_BYTES).map_err(of("over"))? {
        Value::Array(items) => items,
        other => return Err(SpreadError::NoList(kind_of(&other))),
    };
    if values.len() > MAX_ITEMS {
        return Err(SpreadError::TooMany(values.len()));
    }
    for (index, value) in values.iter().enumerate() {
        let bytes = value.to_string().len();
        if bytes > MAX_ITEM_BYTES {
            return Err(SpreadError::TooLarge { index, bytes });
        }
    }
    let base = minijinja::Value::from(Serde(context));
    let keys = keys_of(map, &base, &values)?;
    let mut items: Vec<Item> = Vec::with_capacity(values.len());
    for (key, value) in keys.iter().zip(&values) {
        items.push(Item { key: key.clone(), value: value.clone(), needs: 0, followers: Vec::new() });
    }
    if let Some(after) = &map.after {
        link(after, map, &base, &mut items)?;
    }
    Ok(items)
}

/// What an item's tasks see of it, by name.
pub fn item_values(map: &Map, index: usize, item: &Item) -> serde_json::Map<String, Value> {
    let place = json!({"index": index, "key": item.key});
    [(map.item.clone(), item.value.clone()), ("map".to_owned(), place)].into_iter().collect()
}

fn seen(map: &Map, base: &minijinja::Value, index: usize, key: Option<&str>, value: &Value) -> minijinja::Value {
    let own = json!({map.item.clone(): value, "map": {"index": index, "key": key}});
    merge_maps([minijinja::Value::from(Serde(&own)), base.clone()])
}

fn keys_of(map: &Map, base: &minijinja::Value, values: &[Value]) -> Result<Vec<String>, SpreadError> {
    let Some(template) = &map.key else {
        return Ok((0..values.len()).map(|index| index.to_string()).collect());
    };
    let environment = template::environment();
    let error =
        |error: minijinja::Error| SpreadError::Template { of: "key", error: template::convert(&error, template) };
    let compiled = environment.template_from_str(template).map_err(error)?;
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut keys = Vec::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        let key = compiled.render(seen(map, base, index, None, value)).map_err(error)?;
        if key.is_empty() || key.len() > MAX_ITEM_KEY_BYTES {
            return Err(SpreadError::NoKey(index));
        }
        if let Some(first) = places.insert(key.clone(), index) {
            return Err(SpreadError::SameKey { first, second: index, key });
        }
        keys.push(key);
    }
    Ok(keys)
}

/// Fills in who waits for whom, and makes sure that all of them can begin some day.
fn link(after: &str, map: &Map, base: &minijinja::Value, items: &mut [Item]) -> Result<(), SpreadError> {
    let places: BTreeMap<String, usize> =
        items.iter().enumerate().map(|(index, item)| (item.key.clone(), index)).collect();
    let environment = template::environment();
    let error =
        |error: minijinja::Error| SpreadError::Template { of: "after", error: template::convert(&error, after) };
    let compiled = environment.compile_expression(after).map_err(error)?;
    let mut followers: Vec<Vec<u32>> = vec![Vec::new(); items.len()];
    for (index, item) in items.iter_mut().enumerate() {
        let value = compiled.eval(seen(map, base, index, Some(&item.key), &item.value)).map_err(error)?;
        let named = match serde_json::to_value(&value) {
            Ok(Value::Array(names)) => names,
            Ok(Value::Null) => Vec::new(),
            _ => return Err(SpreadError::NoKeys(item.key.clone())),
        };
        let mut before = BTreeSet::new();
        for name in named {
            let name = match name {
                Value::String(name) => name,
                Value::Number(number) => number.to_string(),
                _ => return Err(SpreadError::NoKeys(item.key.clone())),
            };
            let unknown = || SpreadError::UnknownItem { item: item.key.clone(), after: name.clone() };
            before.insert(*places.get(&name).ok_or_else(unknown)?);
        }
        item.needs = before.len();
        for place in before {
            if let Some(list) = followers.get_mut(place) {
                list.push(u32::try_from(index).unwrap_or(u32::MAX));
            }
        }
    }
    for (item, list) in items.iter_mut().zip(followers) {
        if list.len() > MAX_ITEM_FOLLOWERS {
            return Err(SpreadError::TooManyFollowers(item.key.clone()));
        }
        item.followers = list;
    }
    refuse_circles(items)
}

fn refuse_circles(items: &[Item]) -> Result<(), SpreadError> {
    let mut waiting: Vec<usize> = items.iter().map(|item| item.needs).collect();
    let free = waiting.iter().enumerate().filter(|(_, needs)| **needs == 0);
    let mut open: VecDeque<usize> = free.map(|(index, _)| index).collect();
    let mut begun: usize = 0;
    while let Some(index) = open.pop_front() {
        begun = begun.saturating_add(1);
        for follower in items.get(index).into_iter().flat_map(|item| &item.followers) {
            let follower = usize::try_from(*follower).unwrap_or(usize::MAX);
            if let Some(needs) = waiting.get_mut(follower) {
                *needs = needs.saturating_sub(1);
                if *needs == 0 {
                    open.push_back(follower);
                }
            }
        }
    }
    if begun == items.len() {
        return Ok(());
    }
    let stuck = waiting.iter().zip(items).filter(|(needs, _)| **needs > 0);
    let keys: Vec<&str> = stuck.map(|(_, item)| item.key.as_str()).take(8).collect();
    Err(SpreadError::Circle(keys.join(", ")))
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::workflow::OnItemError;

    fn map(over: &str, key: Option<&str>, after: Option<&str>) -> Map {
        Map {
            over: over.to_owned(),
            item: "file".to_owned(),
            key: key.map(str::to_owned),
            after: after.map(str::to_owned),
            max_parallel: 16,
            on_item_error: OnItemError::FailFast,
        }
    }

    fn context() -> Value {
        json!({"inputs": {"none": null, "text": "abc"}, "nodes": {"plan": {"output": {"files": [
            {"path": "a", "uses": []}, {"path": "b", "uses": ["a"]}, {"path": "c", "uses": ["a", "b", "a"]},
        ]}}}})
    }

    #[test]
    fn a_list_becomes_items_that_are_called_by_their_numbers() {
        let items = spread(&map("nodes.plan.output.files", None, None), &context()).unwrap();
        let keys: Vec<&str> = items.iter().map(|item| item.key.as_str()).collect();
        assert_eq!(keys, ["0", "1", "2"]);
        assert_eq!(items[1].value, json!({"path": "b", "uses": ["a"]}));
        assert_eq!(spread(&map("range(3)", None, None), &context()).unwrap().len(), 3);
        assert_eq!(spread(&map("[]", None, None), &context()).unwrap(), []);
    }

    #[test]
    fn items_may_wait_for_items_by_their_keys() {
        let map = map("nodes.plan.output.files", Some("{{ file.path }}"), Some("file.uses"));
        let items = spread(&map, &context()).unwrap();
        let linked: Vec<(&str, usize, &[u32])> =
            items.iter().map(|item| (item.key.as_str(), item.needs, item.followers.as_slice())).collect();
        assert_eq!(linked, [("a", 0, [1, 2].as_slice()), ("b", 1, &[2]), ("c", 2, &[])]);
    }

    #[test]
    fn what_can_not_be_worked_on_is_refused_by_name() {
        let refused = |over, key, after| spread(&map(over, key, after), &context()).unwrap_err().to_string();
        let told = [
            refused("inputs.text", None, None),
            refused("inputs.none", None, None),
            refused("inputs.missing", None, None),
            refused("range(10001)", None, None),
            refused("['x' * 70000]", None, None),
            refused("[1, 2, 1]", Some("k{{ file }}"), None),
            refused("[1, 2]", Some("{{ '' }}"), None),
            refused("[1, 2]", None, Some("[7]")),
            refused("[1, 2]", None, Some("'1'")),
            refused("[1, 2, 3]", None, Some("[2] if map.index == 1 else ([1] if map.index == 2 else [])")),
            refused("range(300)", None, Some("[0] if map.index else []")),
        ];
        insta::assert_snapshot!(told.join("\n"), @r"
        `over` gives a text, and a map goes over a list
        `over` gives null, and a map goes over a list
        `over` of the map can't be told: line 1: `inputs.missing` is undefined
        `over` gives 10001 items, and a map has at most 10000
        item 0 has 70002 bytes, and an item has at most 65536: hand on less, or a reference
        items 0 and 2 have the same key `k1`
        item 0 has no key of 1 to 256 bytes
        item `0` is to begin after `7`, and no item is called so
        `after` of item `0` gives no list of keys
        these items wait for each other in a circle: 1, 2
        more than 256 items are to begin after `0`: put what they wait for into a node before the map
        ");
    }
}
