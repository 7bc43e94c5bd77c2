//! The price book itself: reading, checking across models, the canonical form, looking up.
//!
//! A book never changes; another price is another book. The canonical JSON is what the store keeps, what the
//! hash is over and what rebuilds exactly this book, so everything optional is either always or never written.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::model::ModelPrice;
use super::read::{self, PriceProblem, Problems, Refused, Table};
use super::sell::Sell;
use super::unit::UnitPrice;
use crate::credits::Ucr;

/// An immutable set of prices: models, units, and what the operator asks for them.
///
/// Serialises as [`PriceBook::to_value`] and deserialises through [`PriceBook::from_value`], checks included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceBook {
    name: String,
    pub(super) sell: Sell,
    models: BTreeMap<String, ModelPrice>,
    /// Alias → name of the model.
    aliases: BTreeMap<String, String>,
    units: BTreeMap<String, UnitPrice>,
    /// The price of models that the book does not list, where the operator wants one.
    fallback: Option<ModelPrice>,
}

impl PriceBook {
    /// Reads a book in the shape of `prices/*.toml`, parsed to JSON by the caller.
    ///
    /// Prices are text. Counts are whole numbers or their digits in text. Reports all problems, in the order of
    /// the checks: each table by itself, then names taken twice and tiers without a markup.
    pub fn from_value(value: Value) -> Result<Self, Vec<PriceProblem>> {
        let problems = Problems::default();
        let book = Table::open(&value, String::new(), &problems).and_then(|table| Self::read(table, &problems));
        match book {
            Ok(book) if problems.is_empty() => Ok(book),
            _ => Err(problems.into_vec()),
        }
    }

    fn read(mut table: Table<'_>, problems: &Problems) -> Result<Self, Refused> {
        let name = table.required("name", read::name);
        let sell = table.table("sell").and_then(|sell| sell.map_or_else(|| Ok(Sell::default()), Sell::read));
        let models = read_all(table.tables("model"), ModelPrice::read);
        let units = read_all(table.tables("unit"), UnitPrice::read);
        let fallback = table.table("fallback").and_then(|fallback| fallback.map(pointed_fallback).transpose());
        table.close();
        check_model_names(&models, problems);
        check_unit_names(&units, problems);
        let (sell, fallback) = (sell?, fallback?);
        check_sell_tiers(models.iter().chain(&fallback), &sell, problems);
        let aliases = models
            .iter()
            .flat_map(|(_, model)| model.aliases().iter().map(|alias| (alias.clone(), model.name().to_owned())));
        Ok(Self {
            name: name?,
            sell,
            aliases: aliases.collect(),
            models: models.into_iter().map(|(_, model)| (model.name().to_owned(), model)).collect(),
            units: units.into_iter().map(|(_, unit)| (unit.name().to_owned(), unit)).collect(),
            fallback: fallback.map(|(_, fallback)| fallback),
        })
    }

    /// The canonical JSON: keys sorted, models and units by name, prices and counts as text in their shortest
    /// form, defaults stated. [`PriceBook::from_value`] rebuilds an equal book from it.
    pub fn to_value(&self) -> Value {
        let mut table = Map::new();
        table.insert("name".to_owned(), json!(self.name));
        table.insert("sell".to_owned(), self.sell.to_value());
        table.insert("model".to_owned(), self.models.values().map(ModelPrice::to_value).collect());
        table.insert("unit".to_owned(), self.units.values().map(UnitPrice::to_value).collect());
        if let Some(fallback) = &self.fallback {
            table.insert("fallback".to_owned(), fallback.to_fallback_value());
        }
        let mut value = Value::Object(table);
        value.sort_all_objects();
        value
    }

    /// SHA-256 (64 hex digits) of the canonical JSON without blanks. Order and notation in the file do not matter.
    pub fn content_hash(&self) -> String {
        format!("{:x}", Sha256::digest(self.to_value().to_string()))
    }

    /// The book's name, e.g. `default-2026-11`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The model of this name or alias; case matters.
    pub fn model(&self, name: &str) -> Option<&ModelPrice> {
        self.models.get(name).or_else(|| self.models.get(self.aliases.get(name)?))
    }

    /// What prices calls of a model: its own entry, else the fallback where the book has one.
    pub fn price_of(&self, name: &str) -> Option<&ModelPrice> {
        self.model(name).or(self.fallback.as_ref())
    }

    /// The price of models that the book does not list; without one they are refused.
    pub const fn fallback(&self) -> Option<&ModelPrice> {
        self.fallback.as_ref()
    }

    /// The models whose prices hold only from a day after `today` (`YYYY-MM-DD`).
    pub fn not_yet_valid(&self, today: &str) -> impl Iterator<Item = &ModelPrice> {
        // dates of this form are ordered as text
        self.models().filter(move |model| model.valid_from().is_some_and(|from| from > today))
    }

    /// All models, by name.
    pub fn models(&self) -> impl Iterator<Item = &ModelPrice> {
        self.models.values()
    }

    /// The unit of this name; case matters.
    pub fn unit(&self, name: &str) -> Option<&UnitPrice> {
        self.units.get(name)
    }

    /// All units, by name.
    pub fn units(&self) -> impl Iterator<Item = &UnitPrice> {
        self.units.values()
    }

    /// The flat fee of one successful run of a workflow: its own in `sell.flat_fees`, else `sell.flat_fee`.
    pub fn flat_fee(&self, workflow: &str) -> Ucr {
        self.sell.flat_fee(workflow)
    }
}

impl Serialize for PriceBook {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PriceBook {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_value(Value::deserialize(deserializer)?).map_err(|problems| {
            let problems = problems.iter().map(ToString::to_string).collect::<Vec<_>>();
            serde::de::Error::custom(format!("not a price book: {}", problems.join("; ")))
        })
    }
}

/// Reads every table that could be opened, each with its pointer.
fn read_all<'v, T>(
    tables: Vec<Result<Table<'v>, Refused>>,
    read: impl Fn(Table<'v>) -> Result<T, Refused>,
) -> Vec<(String, T)> {
    let pointed = tables.into_iter().flatten().map(|table| (table.pointer(), table));
    pointed.filter_map(|(pointer, table)| Some((pointer, read(table).ok()?))).collect()
}

fn pointed_fallback(table: Table<'_>) -> Result<(String, ModelPrice), Refused> {
    Ok((table.pointer(), ModelPrice::read_fallback(table)?))
}

fn check_sell_tiers<'m>(models: impl Iterator<Item = &'m (String, ModelPrice)>, sell: &Sell, problems: &Problems) {
    for (pointer, model) in models {
        if let Some(tier) = model.sell_tier().filter(|tier| !sell.has_tier(tier)) {
            let message = format!("`{tier}` has no markup in `sell.tier_markup_ppm`");
            problems.add(&read::child(pointer, "sell_tier"), message);
        }
    }
}

fn check_model_names(models: &[(String, ModelPrice)], problems: &Problems) {
    let names = models.iter().flat_map(|(pointer, model)| {
        let aliases = read::child(pointer, "aliases");
        let alias = move |(at, alias): (usize, &'_ String)| (read::child(&aliases, &at.to_string()), alias.clone());
        std::iter::once((read::child(pointer, "name"), model.name().to_owned()))
            .chain(model.aliases().iter().enumerate().map(alias))
    });
    check_distinct(names, problems);
}

fn check_unit_names(units: &[(String, UnitPrice)], problems: &Problems) {
    check_distinct(units.iter().map(|(at, unit)| (read::child(at, "name"), unit.name().to_owned())), problems);
}

/// Reports every `(pointer, name)` whose name came up before.
fn check_distinct(names: impl Iterator<Item = (String, String)>, problems: &Problems) {
    let mut taken = BTreeMap::<String, String>::new();
    for (pointer, name) in names {
        if let Some(first) = taken.get(&name) {
            problems.add(&pointer, format!("`{name}` is already taken by {first}"));
        } else {
            taken.insert(name, pointer);
        }
    }
}
