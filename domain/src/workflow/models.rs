//! Reads which models an agent asks: one, or a list of which the later ones stand in for the earlier ones.

use serde_json::Value;

use super::name::MODEL;
use super::problem::below;
use super::reader::{Fields, wrong_type};
use crate::limits::MAX_MODELS;

/// Reads `model` or `models`, in the order in which they are asked. `None` where neither is given.
pub(super) fn read(fields: &mut Fields<'_, '_>) -> Option<Vec<String>> {
    let one = fields.name("model", &MODEL).map(|model| vec![model.to_owned()]);
    let Some(value) = fields.value("models") else { return one };
    let at = fields.at("models");
    if fields.has_any(&["model"]) {
        fields.problems.add(at, "several_models", "`model` names one model and `models` a list: give one of them");
        return one;
    }
    let Value::Array(items) = value else {
        fields.problems.push(wrong_type(at, "a list of models", value));
        return None;
    };
    if items.is_empty() || items.len() > MAX_MODELS {
        let message = format!("`models` names 1 to {MAX_MODELS} models, this names {}", items.len());
        fields.problems.add(at, "out_of_range", message);
        return None;
    }
    let mut models: Vec<String> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let at = below(&at, index);
        match item.as_str() {
            None => fields.problems.push(wrong_type(at, "the name of a model", item)),
            Some(name) if !MODEL.allows(name) => {
                fields.problems.add(at, "invalid_name", format!("a model's name must be {}", MODEL.says));
            }
            Some(name) if models.iter().any(|known| known == name) => {
                fields.problems.add(at, "duplicate_model", format!("the model `{name}` is named twice"));
            }
            Some(name) => models.push(name.to_owned()),
        }
    }
    (models.len() == items.len()).then_some(models)
}
