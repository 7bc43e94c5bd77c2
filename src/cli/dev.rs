//! `bursar dev`: everything in one process on one SQLite file, with a simulated model. Nothing to install.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use bursar_domain::credits::Ucr;
use bursar_domain::id::{TenantId, WalletId};
use bursar_domain::ledger::GrantRequest;
use bursar_domain::record::GrantKind;
use bursar_domain::workflow::{self, Syntax};
use clap::Args;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::client::Target;
use super::{server, watch, worker};
use crate::boot;
use crate::clock::new_id;
use crate::config::Config;
use crate::digest::sha256_hex;
use crate::engine::Engine;
use crate::http::{self, App};
use crate::store::{ApiKey, Role};

/// The sample workflows, as they stand in `workflows/`. Their agents use models of the simulated provider here.
const SAMPLES: &[&str] = &[
    include_str!("../../workflows/software-company.yaml"),
    include_str!("../../workflows/research-brief.yaml"),
    include_str!("../../workflows/hello.yaml"),
];

/// Options of `bursar dev`.
#[derive(Debug, Args)]
pub struct Dev {
    /// Where the data is kept.
    #[arg(long, value_name = "DIR", default_value = ".bursar")]
    data: PathBuf,
    /// The port [default: `PORT`, else 8080].
    #[arg(long)]
    port: Option<u16>,
    /// Submit a sample mission and show it live.
    #[arg(long)]
    demo: bool,
}

struct Keys {
    user: (ApiKey, String),
    admin: (ApiKey, String),
}

impl Dev {
    pub(super) async fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        super::start_logs("warn");
        std::fs::create_dir_all(&self.data).with_context(|| format!("{} can't be made", self.data.display()))?;
        let _lock = lock(&self.data)?;
        let url = format!("sqlite://{}", self.data.join("bursar.db").display());
        let embedded = Config { redis_url: None, ..config };
        let stop = CancellationToken::new();
        let engine = boot::engine(&embedded, &url, &stop).await?;
        let prices = boot::price_book(embedded.prices.as_deref())?;
        boot::migrate(&engine, &prices, embedded.prices.is_some()).await?;
        let (tenant, wallet) = boot::ensure_tenant(&engine, "demo").await?;
        first_credits(&engine, wallet).await?;
        let keys = self.keys(&engine, tenant).await?;
        let simulated = embedded.providers.is_empty();
        put_samples(&engine, tenant, simulated).await?;

        let listener = server::listen(&embedded, self.port, "127.0.0.1").await?;
        let app = server::app(&engine, &embedded, &listener)?;
        let workers = worker::start(&engine, &embedded, &worker::default_pools(&embedded, 16), &stop)?;
        let closing = CancellationToken::new();
        let served = tokio::spawn(http::serve(listener, server::router(&app), closing.clone(), Duration::from_secs(3)));
        self.welcome(&app, &keys, simulated);
        tokio::select! {
            () = boot::stop_signal() => {}
            () = self.demo(&app, &keys) => boot::stop_signal().await,
        }
        println!("\nstopping; `bursar dev` goes on with the same data");
        closing.cancel();
        worker::drain(workers, &Config { grace: Some("2s".to_owned()), ..embedded }).await?;
        let _ = served.await;
        stop.cancel();
        engine.store().close().await;
        Ok(ExitCode::SUCCESS)
    }

    /// The keys of an earlier start, or new ones.
    async fn keys(&self, engine: &Engine, tenant: TenantId) -> anyhow::Result<Keys> {
        let user = self.key(engine, tenant, "dev-api-key", Role::User).await?;
        let admin = self.key(engine, tenant, "dev-admin-key", Role::Admin).await?;
        Ok(Keys { user, admin })
    }

    async fn key(&self, engine: &Engine, tenant: TenantId, file: &str, role: Role) -> anyhow::Result<(ApiKey, String)> {
        let path = self.data.join(file);
        if let Ok(secret) = std::fs::read_to_string(&path) {
            let secret = secret.trim().to_owned();
            if let Some(key) = engine.store().key_by_hash(&sha256_hex(&secret)).await? {
                return Ok((key, secret));
            }
        }
        let now = engine.clock().now();
        let (key, secret) = boot::create_key(engine.store(), tenant, file, role, now).await?;
        write_secret(&path, &secret).with_context(|| format!("{} can't be written", path.display()))?;
        Ok((key, secret))
    }

    fn welcome(&self, app: &App, keys: &Keys, simulated: bool) {
        let url = &app.settings.public_url;
        println!("Bursar is running on {}", self.data.join("bursar.db").display());
        println!("  dashboard  {url}{}", crate::dashboard::login_link(app, &keys.admin.0, "/dashboard"));
        println!("  API        {url}/v1  (described at {url}/docs)");
        println!("  keys       {0}/dev-api-key  {0}/dev-admin-key", self.data.display());
        if simulated {
            println!("  model      simulated: its answers are made up; set OPENAI_API_KEY for a real one");
        }
        println!(
            "  try        curl -s {url}/v1/missions -H \"Authorization: Bearer $(cat {}/dev-api-key)\" \\",
            self.data.display()
        );
        println!("               -H 'Content-Type: application/json' \\");
        println!("               -d '{{\"workflow\": \"hello\", \"input\": {{\"name\": \"Ada\"}}}}'");
        println!("  stop       Ctrl-C");
    }

    /// Submits the sample mission and shows it live.
    async fn demo(&self, app: &App, keys: &Keys) {
        if !self.demo {
            return;
        }
        if let Err(error) = self.show_demo(app, keys).await {
            println!("the demo ended early: {error:#}");
        }
    }

    async fn show_demo(&self, app: &App, keys: &Keys) -> anyhow::Result<()> {
        let target = Target::of(&app.settings.public_url, &keys.user.1);
        let client = target.client(false)?;
        let before = client.get("/v1/wallet").await?;
        let body = json!({
            "workflow": "software-company",
            "input": {"idea": "a command-line tool that waters house plants"},
        });
        let request = client.request(reqwest::Method::POST, "/v1/missions").json(&body);
        let mission: serde_json::Value = client.send(request).await?.json().await?;
        let id = mission["id"].as_str().unwrap_or_default();
        let url = &app.settings.public_url;
        let link = crate::dashboard::login_link(app, &keys.admin.0, &format!("/dashboard/missions/{id}"));
        println!("\nThe sample mission {id} builds a small tool with a team of agents:");
        println!("  watch it   {url}{link}");
        println!(
            "  credits    {} available, {} held for its first step and its fee\n",
            before["available"].as_str().unwrap_or("?"),
            mission["budget"]["held"].as_str().unwrap_or("?")
        );
        watch::watch(&client, id).await?;
        let after = client.get("/v1/wallet").await?;
        println!(
            "wallet: {} available, {} held",
            after["available"].as_str().unwrap_or("?"),
            after["held"].as_str().unwrap_or("?")
        );
        println!("Everything keeps running; Ctrl-C stops.");
        Ok(())
    }
}

/// One process per data folder: two would hand out the same work from two memories.
fn lock(data: &Path) -> anyhow::Result<std::fs::File> {
    let path = data.join("lock");
    let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
    file.try_lock().map_err(|_| {
        anyhow::anyhow!("another `bursar dev` uses {}; stop it, or choose another folder with --data", data.display())
    })?;
    Ok(file)
}

/// Writes a secret that only this user may read.
fn write_secret(path: &Path, secret: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    writeln!(file, "{secret}")
}

/// 1,000 credits for the demo tenant, once.
async fn first_credits(engine: &Engine, wallet: WalletId) -> anyhow::Result<()> {
    let grant = GrantRequest {
        id: new_id(),
        op_id: new_id(),
        wallet_id: wallet,
        kind: GrantKind::Promo,
        priority: 50,
        amount: Ucr::from_credits(1_000),
        expires_at: None,
        reason: Some("credits to try it out".to_owned()),
        cost_basis_uusd: None,
        actor: Some("bursar dev".to_owned()),
        reference: "dev-first-credits".to_owned(),
    };
    engine.grant(&grant).await?;
    Ok(())
}

/// Puts the sample workflows. Without a real provider their models are replaced by simulated ones.
async fn put_samples(engine: &Engine, tenant: TenantId, simulated: bool) -> anyhow::Result<()> {
    for text in SAMPLES {
        let parsed = workflow::parse(text, Syntax::Yaml).and_then(|definition| {
            if simulated { workflow::parse_value(&with_simulated_models(definition.source)) } else { Ok(definition) }
        });
        let definition = parsed.map_err(|problems| {
            anyhow::anyhow!(
                "a sample workflow is broken: {}",
                problems.first().map(ToString::to_string).unwrap_or_default()
            )
        })?;
        engine.put_workflow(tenant, &definition).await?;
    }
    Ok(())
}

/// The same definition with every `model` replaced by one of the simulated provider.
fn with_simulated_models(mut value: serde_json::Value) -> serde_json::Value {
    match &mut value {
        serde_json::Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                let replaced = with_simulated_models(field.take());
                *field = match (name.as_str(), replaced.as_str()) {
                    ("model", Some(model)) if model.contains("mini") || model.contains("nano") => {
                        json!("simulated-small")
                    }
                    ("model", Some(_)) => json!("simulated-large"),
                    _ => replaced,
                };
            }
        }
        serde_json::Value::Array(items) => {
            for item in items.iter_mut() {
                *item = with_simulated_models(item.take());
            }
        }
        _ => {}
    }
    value
}
