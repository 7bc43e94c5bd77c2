//! Where books come from: files, the built-in one, the database, which is opened when it is needed and not before.

use std::path::Path;

use anyhow::{Context as _, bail};
use bursar_domain::id::PriceBookId;
use bursar_domain::pricing::PriceBook;
use tokio_util::sync::CancellationToken;

use crate::boot;
use crate::config::Config;
use crate::engine::Engine;

/// The database of `bursar dev`, where `DATABASE_URL` is not set.
const EMBEDDED: &str = ".bursar/bursar.db";

/// Finds books.
#[derive(Debug)]
pub(super) struct Desk<'c> {
    config: &'c Config,
    engine: Option<Engine>,
}

/// The id of a stored book.
pub(super) fn id(text: &str) -> anyhow::Result<PriceBookId> {
    text.parse()
        .map_err(|_| anyhow::anyhow!("`{text}` is not the id of a price book (prb_…); see `bursar prices list`"))
}

impl<'c> Desk<'c> {
    pub(super) fn new(config: &'c Config) -> Self {
        Self { config, engine: None }
    }

    /// The engine on the database that is configured.
    pub(super) async fn engine(&mut self) -> anyhow::Result<Engine> {
        if let Some(engine) = &self.engine {
            return Ok(engine.clone());
        }
        let url = match &self.config.database_url {
            None if Path::new(EMBEDDED).exists() => format!("sqlite://{EMBEDDED}"),
            _ => crate::cli::database_url(self.config)?,
        };
        let without_redis = Config { redis_url: None, ..self.config.clone() };
        let engine = boot::engine(&without_redis, &url, &CancellationToken::new()).await?;
        engine.store().check_schema().await?;
        self.engine = Some(engine.clone());
        Ok(engine)
    }

    /// Whether there is a database to ask.
    pub(super) fn has_database(&self) -> bool {
        self.config.database_url.is_some() || Path::new(EMBEDDED).exists()
    }

    /// The book that an argument names.
    pub(super) async fn book(&mut self, text: &str) -> anyhow::Result<PriceBook> {
        match text {
            "builtin" => Ok(boot::price_book(None)?),
            "active" => {
                let active = self.engine().await?.active_prices().await?;
                let (_, book) = active.context("no price book is active: run `bursar migrate`")?;
                Ok(book.as_ref().clone())
            }
            text if text.starts_with("prb_") => {
                let id = id(text)?;
                self.engine().await?.price_book(id).await?.with_context(|| format!("there is no price book {id}"))
            }
            path if Path::new(path).exists() => Ok(boot::price_book(Some(Path::new(path)))?),
            other => bail!("`{other}` is no price book: give an id (prb_…), `active`, `builtin` or a file"),
        }
    }

    /// What a new book is compared with: the active one, else the one that `migrate` would activate.
    pub(super) async fn base(&mut self) -> anyhow::Result<PriceBook> {
        if self.has_database() {
            self.book("active").await
        } else {
            Ok(boot::price_book(self.config.prices.as_deref())?)
        }
    }

    /// Lets go of the database.
    pub(super) async fn close(self) {
        if let Some(engine) = self.engine {
            engine.store().close().await;
        }
    }
}
