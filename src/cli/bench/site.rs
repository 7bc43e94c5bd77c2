//! Where a repetition happens: a database of its own, a pool, a tenant with credits.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bursar_domain::credits::Ucr;
use bursar_domain::id::{TenantId, WalletId, WorkflowId};
use bursar_domain::ledger::GrantRequest;
use bursar_domain::record::GrantKind;
use bursar_domain::workflow::{self, Syntax};
use bursar_workers::Providers;
use sqlx::{AssertSqlSafe, Connection};
use tokio_util::sync::CancellationToken;

use crate::boot;
use crate::clock::{new_id, new_token};
use crate::config::Config;
use crate::engine::{Engine, PoolConfig, Sweeper, WorkerPool};

/// One repetition's place.
pub(super) struct Site {
    pub(super) engine: Engine,
    pub(super) tenant: TenantId,
    pub(super) wallet: WalletId,
    /// The name of this site's pool.
    pub(super) pool: String,
    /// Processes other than this one whose CPU time counts, by name.
    pub(super) servers: Vec<(&'static str, u32)>,
    slots: usize,
    stop: CancellationToken,
    /// `(server, database)` to drop, or the folder to remove.
    database: Result<(String, String), std::path::PathBuf>,
}

impl Site {
    pub(super) async fn open(postgres: bool, config: &Config, slots: usize) -> anyhow::Result<Self> {
        let name = format!("bursar_bench_{}", &new_token()[..12]);
        let stop = CancellationToken::new();
        let (url, database, config) = if postgres {
            let url = config.database_url.as_deref().context("DATABASE_URL is needed with --storage postgres")?;
            if !url.starts_with("postgres") {
                bail!("DATABASE_URL must name a Postgres server with --storage postgres");
            }
            let mut admin = sqlx::PgConnection::connect(url).await?;
            sqlx::raw_sql(AssertSqlSafe(format!("create database {name}"))).execute(&mut admin).await?;
            (with_database(url, &name), Ok((url.to_owned(), name.clone())), config.clone())
        } else {
            let folder = std::env::temp_dir().join(&name);
            let config = Config { redis_url: None, ..config.clone() };
            (format!("sqlite://{}", folder.join("bursar.db").display()), Err(folder), config)
        };
        let engine = boot::engine(&config, &url, &stop).await?;
        boot::migrate(&engine, &boot::price_book(None)?, false).await?;
        let (tenant, wallet) = tenant_with_credits(&engine, "bench").await?;
        tokio::spawn(Sweeper::new(engine.clone(), Duration::from_secs(15)).run(stop.clone()));
        let servers =
            if postgres { super::measure::servers(&url, config.redis_url.as_deref()).await } else { Vec::new() };
        Ok(Self { engine, tenant, wallet, pool: format!("p{}", &name[13..]), servers, slots, stop, database })
    }

    /// Another tenant with credits.
    pub(super) async fn guest(&self, name: &str) -> anyhow::Result<(TenantId, WalletId)> {
        tenant_with_credits(&self.engine, name).await
    }

    /// Starts the workers.
    pub(super) fn work(&self) -> anyhow::Result<WorkerPool> {
        let providers = Arc::new(Providers::builder().simulated().build()?);
        let pools = [PoolConfig { name: self.pool.clone(), slots: self.slots }];
        Ok(WorkerPool::start(&self.engine, providers, &pools, "bench".to_owned(), Duration::from_secs(15)))
    }

    /// Puts a workflow whose nodes run in this site's pool (`POOL` in the text).
    pub(super) async fn put(&self, text: &str) -> anyhow::Result<WorkflowId> {
        self.put_for(self.tenant, text).await
    }

    /// The same for another tenant.
    pub(super) async fn put_for(&self, tenant: TenantId, text: &str) -> anyhow::Result<WorkflowId> {
        let text = text.replace("POOL", &self.pool);
        let definition = workflow::parse(&text, Syntax::Yaml)
            .map_err(|problems| anyhow::anyhow!("{}", problems.iter().map(ToString::to_string).collect::<String>()))?;
        Ok(self.engine.put_workflow(tenant, &definition).await?.workflow.id)
    }

    pub(super) async fn close(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.engine.store().close().await;
        match self.database {
            Ok((url, name)) => {
                let mut admin = sqlx::PgConnection::connect(&url).await?;
                sqlx::raw_sql(AssertSqlSafe(format!("drop database {name} with (force)"))).execute(&mut admin).await?;
            }
            Err(folder) => std::fs::remove_dir_all(folder)?,
        }
        Ok(())
    }
}

async fn tenant_with_credits(engine: &Engine, name: &str) -> anyhow::Result<(TenantId, WalletId)> {
    let (tenant, wallet) = boot::ensure_tenant(engine, name).await?;
    let grant = GrantRequest {
        id: new_id(),
        op_id: new_id(),
        wallet_id: wallet,
        kind: GrantKind::Paid,
        priority: 50,
        amount: Ucr::from_credits(1_000_000),
        expires_at: None,
        reason: None,
        cost_basis_uusd: None,
        actor: None,
        reference: format!("bench:{name}"),
    };
    engine.grant(&grant).await?;
    Ok((tenant, wallet))
}

/// The same URL with another database.
fn with_database(url: &str, name: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, ""), |(base, query)| (base, query));
    let slash = base.rfind('/').filter(|slash| *slash > "postgres://".len());
    let server = slash.map_or(base, |slash| &base[..slash]);
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    format!("{server}/{name}{query}")
}
