//! `bursar prices`: books as they are, what would change, and changing it.
//!
//! Works on the database like `migrate` and `keys`; what needs no database (files, the built-in book) asks for none.

mod convert;
mod cost;
mod desk;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use crate::config::Config;
use desk::Desk;

/// Whose catalogue a file is.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum From {
    /// `model_prices_and_context_window.json` of litellm.
    Litellm,
    /// `data.json` of genai-prices.
    GenaiPrices,
}

/// Options of `bursar prices import`.
#[derive(Debug, clap::Args)]
pub struct Import {
    /// Whose catalogue the file is.
    #[arg(long, value_enum)]
    from: From,
    /// The catalogue.
    file: PathBuf,
    /// Which models to take, with `*` for any text; may be repeated [default: all].
    #[arg(long, value_name = "GLOB")]
    models: Vec<String>,
    /// The new book's name [default: the catalogue's and the day's].
    #[arg(long)]
    name: Option<String>,
    /// The day whose prices to take, `YYYY-MM-DD` [default: today].
    #[arg(long, value_name = "DATE")]
    on: Option<String>,
    /// Keep the models and units of the active book that the catalogue does not have.
    #[arg(long)]
    keep: bool,
    /// The window of models whose window is not given; without it they are refused.
    #[arg(long, value_name = "N")]
    context_tokens: Option<u64>,
    /// Write the book to a file.
    #[arg(long, value_name = "FILE", conflicts_with = "store")]
    out: Option<PathBuf>,
    /// Store the book; nothing uses it until it is activated.
    #[arg(long)]
    store: bool,
}

/// `bursar prices …`. A BOOK is an id (`prb_…`), `active`, `builtin` or a file.
#[derive(Debug, Subcommand)]
pub enum Prices {
    /// List the stored books.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show a book: models with their prices per million tokens.
    Show {
        /// Which book.
        #[arg(default_value = "active")]
        book: String,
        /// Only models whose names fit, with `*` for any text.
        #[arg(long, value_name = "GLOB")]
        models: Option<String>,
        /// Print the whole book as JSON.
        #[arg(long, conflicts_with = "toml")]
        json: bool,
        /// Print the whole book as TOML.
        #[arg(long)]
        toml: bool,
    },
    /// Tell what changes from one book to another.
    Diff {
        /// The older book.
        before: String,
        /// The newer book.
        after: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Convert a public catalogue into a new book, and tell what it would change.
    Import(Import),
    /// Store a book from a file. Nothing uses it until it is activated.
    Publish {
        /// The book.
        file: PathBuf,
    },
    /// Make a stored book the one that new runs pin.
    Activate {
        /// Its id.
        id: String,
    },
    /// Price what was used in the last days by another book.
    Simulate {
        /// The other book.
        #[arg(long)]
        book: String,
        /// How many days.
        #[arg(long, default_value = "30", value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        /// One tenant's calls alone, by its name.
        #[arg(long)]
        tenant: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Price calls: reads `{"model", "usage", "variant"}` a line, writes what each costs.
    Cost {
        /// By which book.
        #[arg(long, default_value = "active")]
        book: String,
    },
}

impl Prices {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let mut desk = Desk::new(config);
        let result = self.at(&mut desk).await;
        desk.close().await;
        result.map(|()| ExitCode::SUCCESS)
    }

    async fn at(self, desk: &mut Desk<'_>) -> anyhow::Result<()> {
        match self {
            Self::List { json } => show::list(&desk.engine().await?, json).await,
            Self::Show { book, models, json, toml } => {
                let book = desk.book(&book).await?;
                if json {
                    println!("{}", serde_json::to_string_pretty(&book.to_value())?);
                } else if toml {
                    print!("{}", convert::toml(&book)?);
                } else {
                    print!("{}", show::book(&book, models.as_deref()));
                }
                Ok(())
            }
            Self::Diff { before, after, json } => {
                let changes = desk.book(&before).await?.diff(&desk.book(&after).await?);
                if json {
                    println!("{}", serde_json::to_string_pretty(&show::changes_json(&changes))?);
                } else {
                    print!("{}", show::changes(&changes));
                }
                Ok(())
            }
            Self::Import(import) => convert::import(import, desk).await,
            Self::Publish { file } => {
                let book = crate::boot::price_book(Some(&file))?;
                let published = desk.engine().await?.publish_prices(&book).await?;
                let word = if published.created { "stored" } else { "is stored already" };
                println!(
                    "{} `{}` {word}; `bursar prices activate {}` takes it",
                    published.id,
                    book.name(),
                    published.id
                );
                Ok(())
            }
            Self::Activate { id } => {
                let engine = desk.engine().await?;
                let id = desk::id(&id)?;
                engine.activate_price_book(id).await?;
                println!("{id} is active; runs that started before keep their own book");
                Ok(())
            }
            Self::Simulate { book, days, tenant, json } => simulate(desk, &book, days, tenant, json).await,
            Self::Cost { book } => cost::run(&desk.book(&book).await?),
        }
    }
}

async fn simulate(
    desk: &mut Desk<'_>,
    book: &str,
    days: u32,
    tenant: Option<String>,
    as_json: bool,
) -> anyhow::Result<()> {
    let engine = desk.engine().await?;
    let tenant = match tenant {
        None => None,
        Some(name) => {
            let tenant = engine.store().tenant_named(&name).await?;
            Some(tenant.ok_or_else(|| anyhow::anyhow!("there is no tenant `{name}`"))?)
        }
    };
    let book = desk.book(book).await?;
    let since = engine.clock().now().plus_ms(-i64::from(days).saturating_mul(86_400_000));
    let simulation = engine.simulate_prices(&book, tenant, since, None).await?;
    if as_json {
        println!(
            "{}",
            serde_json::to_string_pretty(&json!({
                "book": book.name(),
                "days": days,
                "total": show::sum_json(&simulation.total()),
                "models": simulation.models.iter().map(|(model, sum)| (model.clone(), show::sum_json(sum)))
                    .collect::<serde_json::Map<_, _>>(),
            }))?
        );
    } else {
        print!("{}", show::simulation(&simulation, book.name(), days));
    }
    Ok(())
}
