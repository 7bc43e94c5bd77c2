//! A Postgres database per test: cloned from a migrated template, dropped afterwards.
//!
//! The template is made once per server, whoever comes first: test processes agree through an advisory lock. Its
//! name carries a hash of the migrations, so that a server that lives longer never serves an old schema.

use std::str::FromStr;
use std::time::Duration;

use bursar::store::Store;
use bursar::store::postgres::PostgresStore;
use sha2::{Digest, Sha256};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

use super::{service, unique_name};

/// Any number: whoever makes the template holds this lock.
const TEMPLATE_LOCK: i64 = 0x6275_7273_6172;

/// A fresh, migrated database.
#[derive(Debug)]
pub(crate) struct TestDatabase {
    /// Its URL, as a user would configure it.
    pub(crate) url: String,
    name: String,
}

impl TestDatabase {
    /// A copy of the template.
    pub(crate) async fn migrated() -> Self {
        let template = template().await;
        Self::create(&format!("template {template}")).await
    }

    /// Without any table.
    pub(crate) async fn empty() -> Self {
        Self::create("").await
    }

    async fn create(how: &str) -> Self {
        let name = unique_name("test");
        let mut server = connect().await;
        run(&mut server, &format!("create database {name} {how}")).await;
        server.close().await.unwrap();
        let url = server_url();
        let (server, _) = url.rsplit_once('/').expect("the URL ends with a database");
        Self { url: format!("{server}/{name}"), name }
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let name = self.name.clone();
        // a thread of its own, because a drop cannot wait inside of the test's runtime
        let cleaner = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let drop = async {
                    let mut server = PgConnectOptions::from_str(&server_url())?.connect().await?;
                    server.execute(AssertSqlSafe(format!("drop database if exists {name} with (force)"))).await?;
                    Ok::<_, sqlx::Error>(())
                };
                // whatever is left goes with the server
                let _ = tokio::time::timeout(Duration::from_secs(20), drop).await;
            });
        });
        let _ = cleaner.join();
    }
}

fn server_url() -> String {
    service("BURSAR_TEST_DATABASE_URL")
}

async fn connect() -> PgConnection {
    PgConnectOptions::from_str(&server_url()).unwrap().connect().await.expect("the test server answers")
}

async fn run(server: &mut PgConnection, sql: &str) {
    server.execute(AssertSqlSafe(sql.to_owned())).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// The name of the template, which exists when this returns.
async fn template() -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let migrations: Vec<u8> = files.iter().flat_map(|file| std::fs::read(file).unwrap()).collect();
    let hash = Sha256::digest(&migrations);
    let name = format!("template_{:02x}{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2], hash[3]);
    let mut server = connect().await;
    run(&mut server, &format!("select pg_advisory_lock({TEMPLATE_LOCK})")).await;
    let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(&name)
        .fetch_one(&mut server)
        .await
        .unwrap();
    if !exists {
        // made under another name first: a process that dies half-way leaves no half-made template
        let draft = unique_name("draft");
        run(&mut server, &format!("create database {draft}")).await;
        let url = server_url();
        let (prefix, _) = url.rsplit_once('/').expect("the URL ends with a database");
        let store = PostgresStore::connect(&format!("{prefix}/{draft}"), 2).await.unwrap();
        store.migrate().await.unwrap();
        store.close().await;
        run(&mut server, &format!("alter database {draft} rename to {name}")).await;
    }
    // closing the session gives the lock up
    server.close().await.unwrap();
    name
}
