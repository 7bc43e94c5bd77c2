//! Public price catalogues become price books.
//!
//! Two are known: the file of litellm and the one of genai-prices. Numbers are taken from the text of the file,
//! exactly; what has no exact counterpart in a book is listed with its reason and never rounded, guessed or left
//! out in silence. The result is a new book: nothing here touches one that exists.

mod draft;
mod genai;
mod litellm;
mod number;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{PriceBook, PriceProblem};

/// Where a catalogue comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Catalogue {
    /// `model_prices_and_context_window.json` of litellm: an object of models, USD per token.
    Litellm,
    /// `data.json` of genai-prices: an array of providers, USD per million tokens.
    GenaiPrices,
}

/// What to make of a catalogue.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The new book's name.
    pub name: String,
    /// The day (`YYYY-MM-DD`) whose prices to take, where a catalogue has several.
    pub on: String,
    /// Which names to take, with `*` for any text; all where it is empty.
    pub models: Vec<String>,
    /// The window of models whose window is not given; without it they are refused.
    pub default_context: Option<u64>,
}

/// Something about a model that a person should know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// The model's name.
    pub subject: String,
    /// What is the matter.
    pub reason: String,
}

/// What became of a catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The new book.
    pub book: PriceBook,
    /// Models that are not in the book.
    pub refused: Vec<Remark>,
    /// Parts of the price of models in the book that the book does not say.
    pub partly: Vec<Remark>,
}

/// Why a catalogue could not be read at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// It is not JSON of the catalogue's shape.
    #[error("the file is not such a catalogue: {0}")]
    Shape(String),
    /// The models do not make a book together.
    #[error("the models do not make a price book together: {0}")]
    Book(PriceProblem),
}

/// What was found so far.
#[derive(Debug, Default)]
struct Found {
    models: Vec<Value>,
    units: Vec<Value>,
    refused: Vec<Remark>,
    partly: Vec<Remark>,
}

impl Found {
    fn refuse(&mut self, subject: &str, reason: impl Into<String>) {
        self.refused.push(Remark { subject: subject.to_owned(), reason: reason.into() });
    }
}

impl Wanted {
    fn takes(&self, name: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|pattern| matches(pattern, name))
    }
}

/// Converts a catalogue. `base` gives the new book what catalogues do not know: how prices are sold and the
/// fallback; with `keep` also the models and units that the catalogue does not have.
pub fn import(
    catalogue: Catalogue,
    text: &str,
    wanted: &Wanted,
    base: Option<&PriceBook>,
    keep: bool,
) -> Result<Imported, ImportError> {
    let mut found = Found::default();
    match catalogue {
        Catalogue::Litellm => litellm::read(text, wanted, &mut found)?,
        Catalogue::GenaiPrices => genai::read(text, wanted, &mut found)?,
    }
    let mut book = json!({ "name": wanted.name });
    let base = base.map(PriceBook::to_value);
    if let Some(base) = &base {
        for part in ["sell", "fallback"] {
            if let (Some(book), Some(value)) = (book.as_object_mut(), base.get(part)) {
                book.insert(part.to_owned(), value.clone());
            }
        }
        if keep {
            let kept = |part| base.get(part).and_then(Value::as_array).cloned().unwrap_or_default();
            let (models, units) = (left(kept("model"), &found.models), left(kept("unit"), &found.units));
            found.models.extend(models);
            found.units.extend(units);
        }
    }
    let models = distinct_aliases(found.models);
    if let Some(book) = book.as_object_mut() {
        book.insert("model".to_owned(), Value::Array(models));
        book.insert("unit".to_owned(), Value::Array(found.units));
    }
    let first = |problems: Vec<PriceProblem>| {
        let nothing = || PriceProblem { pointer: String::new(), message: String::new() };
        ImportError::Book(problems.into_iter().next().unwrap_or_else(nothing))
    };
    found.refused.sort();
    found.partly.sort();
    let book = PriceBook::from_value(book).map_err(first)?;
    Ok(Imported { book, refused: found.refused, partly: found.partly })
}

/// The entries of a base book whose names the new entries do not take.
fn left(mut base: Vec<Value>, new: &[Value]) -> Vec<Value> {
    let taken = new.iter().flat_map(names).collect::<BTreeSet<_>>();
    base.retain(|entry| entry.get("name").and_then(Value::as_str).is_none_or(|name| !taken.contains(name)));
    base
}

/// An entry's name and aliases.
fn names(entry: &Value) -> impl Iterator<Item = &str> {
    let aliases = entry.get("aliases").and_then(Value::as_array).into_iter().flatten();
    entry.get("name").into_iter().chain(aliases).filter_map(Value::as_str)
}

/// Takes away aliases that another model has as its name, or had as its alias before.
fn distinct_aliases(mut models: Vec<Value>) -> Vec<Value> {
    let name = |model: &Value| model.get("name").and_then(Value::as_str).map(str::to_owned);
    let mut taken = models.iter().filter_map(name).collect::<BTreeSet<_>>();
    for model in &mut models {
        let Some(aliases) = model.get_mut("aliases").and_then(Value::as_array_mut) else { continue };
        aliases.retain(|alias| alias.as_str().is_some_and(|alias| taken.insert(alias.to_owned())));
    }
    models
}

/// Whether the whole of `text` is the pattern with any text for each `*`.
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let mut pieces = rest.split('*').peekable();
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return text.ends_with(piece);
        }
        let Some((_, after)) = text.split_once(piece) else { return false };
        text = after;
    }
    true
}
