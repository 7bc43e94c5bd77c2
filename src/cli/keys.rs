//! `bursar keys`: API keys, made on the database itself, so that there can be a first one.

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use tokio_util::sync::CancellationToken;

use crate::boot;
use crate::config::Config;
use crate::store::Role;

/// What a key may do.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum RoleArg {
    /// Missions, workflows and the wallet of its tenant.
    User,
    /// Everything.
    Admin,
    /// The worker protocol.
    Worker,
}

/// `bursar keys …`
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Create a key and print its secret, once. The tenant and its wallet are made when they do not exist.
    Create {
        /// The tenant's name.
        #[arg(long)]
        tenant: String,
        /// What it may do.
        #[arg(long, value_enum, default_value = "user")]
        role: RoleArg,
        /// What people call it.
        #[arg(long, default_value = "created by bursar keys")]
        name: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

impl Keys {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let Self::Create { tenant, role, name, json } = self;
        let url = super::database_url(config)?;
        let without_redis = Config { redis_url: None, ..config.clone() };
        let engine = boot::engine(&without_redis, &url, &CancellationToken::new()).await?;
        engine.store().check_schema().await?;
        let (tenant_id, wallet_id) = boot::ensure_tenant(&engine, &tenant).await?;
        let role = match role {
            RoleArg::User => Role::User,
            RoleArg::Admin => Role::Admin,
            RoleArg::Worker => Role::Worker,
        };
        let (key, secret) = boot::create_key(engine.store(), tenant_id, &name, role, engine.clock().now()).await?;
        if json {
            let shown =
                serde_json::json!({"id": key.id, "tenant_id": tenant_id, "wallet_id": wallet_id, "secret": secret});
            println!("{shown}");
        } else {
            println!("{secret}");
            eprintln!(
                "key {} of tenant {tenant} ({tenant_id}), role {}; the secret is shown only now",
                key.id,
                role.as_str()
            );
        }
        engine.store().close().await;
        Ok(ExitCode::SUCCESS)
    }
}
