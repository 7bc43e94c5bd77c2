//! A fresh, migrated store of either engine, and the macro that runs one test on both.

use std::sync::Arc;

use bursar::store::{self, Store};

use super::database::TestDatabase;
use super::embedded::TestFolder;

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Storage {
    /// The embedded engine.
    Sqlite,
    /// The production engine.
    Postgres,
}

/// Where a store lives; it goes with this value.
#[derive(Debug)]
pub(crate) enum Place {
    /// A file in a folder of its own.
    Folder(TestFolder),
    /// A database of its own.
    Database(TestDatabase),
}

impl Place {
    /// A place with the schema in it.
    pub(crate) async fn migrated(storage: Storage) -> Self {
        match storage {
            Storage::Sqlite => {
                let place = Self::Folder(TestFolder::new());
                let store = place.open(2).await;
                store.migrate().await.unwrap();
                store.close().await;
                place
            }
            Storage::Postgres => Self::Database(TestDatabase::migrated().await),
        }
    }

    /// A place without a schema.
    pub(crate) async fn empty(storage: Storage) -> Self {
        match storage {
            Storage::Sqlite => Self::Folder(TestFolder::new()),
            Storage::Postgres => Self::Database(TestDatabase::empty().await),
        }
    }

    /// Its URL, as a user would configure it.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Folder(folder) => folder.database_url(),
            Self::Database(database) => database.url.clone(),
        }
    }

    /// Opens it, as another process would.
    pub(crate) async fn open(&self, connections: u32) -> Arc<dyn Store> {
        store::open(&self.url(), connections).await.unwrap_or_else(|error| panic!("{}: {error}", self.url()))
    }
}

/// One test function over a fixture, two named tests: `…::sqlite::name` and `…::postgres::name`.
macro_rules! on_both_stores {
    ($fixture:path: $($name:ident),* $(,)?) => {
        mod sqlite {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                Box::pin(super::$name($fixture($crate::support::stores::Storage::Sqlite).await)).await;
            })*
        }
        mod postgres {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                Box::pin(super::$name($fixture($crate::support::stores::Storage::Postgres).await)).await;
            })*
        }
    };
}
pub(crate) use on_both_stores;
