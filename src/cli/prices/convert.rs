//! `bursar prices import`: a public catalogue becomes a new book, with what it changes and what it leaves out.

use anyhow::Context as _;
use bursar_domain::pricing::PriceBook;
use bursar_domain::pricing::import::{self, Catalogue, Remark, Wanted};

use super::desk::Desk;
use super::{From, Import, show};
use crate::clock::{Clock, rfc3339};

/// A book as TOML.
pub(super) fn toml(book: &PriceBook) -> anyhow::Result<String> {
    toml::to_string(&book.to_value()).context("the book can't be written as TOML")
}

pub(super) async fn import(import: Import, desk: &mut Desk<'_>) -> anyhow::Result<()> {
    let today = rfc3339(Clock::new().now());
    let today = today.get(..10).unwrap_or(&today).to_owned();
    let (catalogue, word) = match import.from {
        From::Litellm => (Catalogue::Litellm, "litellm"),
        From::GenaiPrices => (Catalogue::GenaiPrices, "genai-prices"),
    };
    let path = &import.file;
    let text = std::fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))?;
    let wanted = Wanted {
        name: import.name.unwrap_or_else(|| format!("{word}-{today}")),
        on: import.on.unwrap_or(today),
        models: import.models,
        default_context: import.context_tokens,
    };
    let base = desk.base().await?;
    let imported = import::import(catalogue, &text, &wanted, Some(&base), import.keep)?;
    let book = &imported.book;
    eprint!("{}", remarks("not in the new book", &imported.refused));
    eprint!("{}", remarks("not told in whole", &imported.partly));
    eprintln!("What `{}` changes in `{}`:", book.name(), base.name());
    eprint!("{}", show::changes(&base.diff(book)));
    eprintln!(
        "{} models and {} units; {} refused, {} remarks",
        book.models().count(),
        book.units().count(),
        imported.refused.len(),
        imported.partly.len()
    );
    if import.store {
        let published = desk.engine().await?.publish_prices(book).await?;
        println!("{}", published.id);
        eprintln!("stored; `bursar prices activate {}` takes it", published.id);
    } else if let Some(out) = &import.out {
        std::fs::write(out, toml(book)?).with_context(|| format!("{} can't be written", out.display()))?;
    } else {
        print!("{}", toml(book)?);
    }
    Ok(())
}

fn remarks(title: &str, remarks: &[Remark]) -> String {
    let lines = remarks.iter().map(|remark| format!("  {}: {}\n", remark.subject, remark.reason));
    if remarks.is_empty() { String::new() } else { format!("{title}:\n{}", lines.collect::<String>()) }
}
