//! `bursar mission`: submit, watch, list, get, why, signal, say, messages, pause, cancel, retry, fork, over the HTTP API.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Target, json_argument};
use super::renew::{Fork, Renewal, preview_cancel};
use super::{conversation, watch, why, workflow};

/// `bursar mission …`
#[derive(Debug, Subcommand)]
pub enum Mission {
    /// Submit a mission.
    Submit {
        /// The workflow's name, `name@version`, or a file (which is put first).
        workflow: String,
        /// The input: a JSON object, or @FILE.
        #[arg(long, default_value = "{}")]
        input: String,
        /// The most it may spend, in credits.
        #[arg(long, value_name = "CREDITS")]
        max_credits: Option<String>,
        /// What usage is grouped by later; may be given more than once.
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<String>,
        /// The project that it is to belong to, prj_….
        #[arg(long, value_name = "PROJECT")]
        project: Option<String>,
        /// Makes the submit safe to repeat.
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
        #[command(flatten)]
        dedupe: Dedupe,
        /// Stay and show it live.
        #[arg(long)]
        watch: bool,
        /// Print the answer as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Show a mission live until it is over. Exits 1 when it does not succeed.
    Watch {
        /// mis_…
        id: String,
        #[command(flatten)]
        target: Target,
    },
    /// List missions, newest first.
    List {
        /// Only in this state, e.g. running or failed.
        #[arg(long)]
        status: Option<String>,
        /// Only of this project, prj_….
        #[arg(long, value_name = "PROJECT")]
        project: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Show one mission as JSON.
    Get {
        /// mis_…
        id: String,
        #[command(flatten)]
        target: Target,
    },
    /// Show what a mission waits for, with its place in line.
    Why {
        /// mis_…
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Send a signal to a mission.
    Signal {
        /// mis_…
        id: String,
        /// The signal's name, as the workflow has it.
        name: String,
        /// What it says: a JSON object, or @FILE.
        #[arg(long, default_value = "{}")]
        payload: String,
        /// Makes the signal safe to repeat.
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Say something to a mission: it steers what runs, or begins the next run.
    Say {
        /// mis_…
        id: String,
        /// What to say.
        text: String,
        /// Makes it safe to repeat.
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Show a mission's conversation.
    Messages {
        /// mis_…
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Pause a mission: what runs goes on, nothing new begins.
    Pause {
        /// mis_…
        id: String,
        /// Why, for the record.
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Let a paused mission go on.
    Resume {
        /// mis_…
        id: String,
        #[command(flatten)]
        target: Target,
    },
    /// Let a mission that failed, expired or was cancelled go on from there.
    Retry(Renewal),
    /// Run a mission that is over anew from a node on.
    Fork(Fork),
    /// Cancel a mission.
    Cancel {
        /// mis_…
        id: String,
        /// Only show what would happen.
        #[arg(long)]
        preview: bool,
        /// Why, for the record.
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        target: Target,
    },
}

/// What makes two missions the same wish.
#[derive(Debug, clap::Args)]
pub struct Dedupe {
    /// What names the wish: a second mission with the same key is not made while the first one runs.
    #[arg(long, value_name = "KEY")]
    dedupe_key: Option<String>,
    /// How long the key stays taken after the mission was made, e.g. 10m.
    #[arg(long, value_name = "DURATION", requires = "dedupe_key")]
    dedupe_window: Option<String>,
    /// Whether a second one is refused or answered with the first.
    #[arg(long, value_name = "MODE", requires = "dedupe_key", value_parser = ["reject", "return_existing"])]
    dedupe_mode: Option<String>,
}

impl Dedupe {
    fn body(self) -> Option<Value> {
        let mut body = json!({"key": self.dedupe_key?});
        if let Some(window) = self.dedupe_window {
            body["window"] = json!(window);
        }
        if let Some(mode) = self.dedupe_mode {
            body["mode"] = json!(mode);
        }
        Some(body)
    }
}

impl Mission {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Submit {
                workflow,
                input,
                max_credits,
                tags,
                project,
                idempotency_key,
                dedupe,
                watch,
                json,
                target,
            } => {
                let client = target.client(false)?;
                let workflow = put_if_file(&workflow, &target).await?;
                let mut body = json!({"workflow": workflow, "input": json_argument(&input)?, "tags": tags});
                if let Some(credits) = max_credits {
                    body["budget"] = json!({"max_credits": credits});
                }
                if let Some(project) = project {
                    body["project_id"] = json!(project);
                }
                if let Some(dedupe) = dedupe.body() {
                    body["dedupe"] = dedupe;
                }
                let mut request = client.request(Method::POST, "/v1/missions").json(&body);
                if let Some(key) = idempotency_key {
                    request = request.header("Idempotency-Key", key);
                }
                let mission: Value = client.send(request).await?.json().await?;
                let id = mission["id"].as_str().unwrap_or_default();
                if json {
                    println!("{}", serde_json::to_string_pretty(&mission)?);
                } else {
                    println!("{id}");
                }
                if watch { watch::watch(&client, id).await } else { Ok(ExitCode::SUCCESS) }
            }
            Self::Watch { id, target } => watch::watch(&target.client(false)?, &id).await,
            Self::List { status, project, json, target } => list(&target, status, project, json).await,
            Self::Get { id, target } => {
                let mission = target.client(false)?.get(&format!("/v1/missions/{id}")).await?;
                println!("{}", serde_json::to_string_pretty(&mission)?);
                Ok(ExitCode::SUCCESS)
            }
            Self::Why { id, json, target } => why::why(&target, &id, json).await,
            Self::Signal { id, name, payload, idempotency_key, target } => {
                signal(&target, &id, &name, &payload, idempotency_key).await
            }
            Self::Say { id, text, idempotency_key, target } => {
                conversation::say(&target, &id, &text, idempotency_key).await
            }
            Self::Messages { id, json, target } => conversation::messages(&target, &id, json).await,
            Self::Pause { id, reason, target } => order(&target, &id, "pause", reason).await,
            Self::Resume { id, target } => order(&target, &id, "resume", None).await,
            Self::Retry(renewal) => renewal.retry().await,
            Self::Fork(fork) => fork.fork().await,
            Self::Cancel { id, preview: true, target, .. } => preview_cancel(&target, &id).await,
            Self::Cancel { id, reason, target, .. } => order(&target, &id, "cancel", reason).await,
        }
    }
}

async fn signal(
    target: &Target,
    id: &str,
    name: &str,
    payload: &str,
    idempotency_key: Option<String>,
) -> anyhow::Result<ExitCode> {
    let client = target.client(false)?;
    let path = format!("/v1/missions/{id}/signals/{name}");
    let mut request = client.request(Method::POST, &path).json(&json_argument(payload)?);
    if let Some(key) = idempotency_key {
        request = request.header("Idempotency-Key", key);
    }
    let signal: Value = client.send(request).await?.json().await?;
    let id = signal["id"].as_str().unwrap_or_default();
    match signal["task_id"].as_str() {
        Some(task) => println!("{id} was taken by {task}"),
        None => println!("{id} waits for a node to take it"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Has something done to a mission and says how it stands then.
async fn order(target: &Target, id: &str, action: &str, reason: Option<String>) -> anyhow::Result<ExitCode> {
    let client = target.client(false)?;
    let path = format!("/v1/missions/{id}/{action}");
    let body = reason.map_or_else(|| json!({}), |reason| json!({"reason": reason}));
    let mission: Value = client.send(client.request(Method::POST, &path).json(&body)).await?.json().await?;
    println!("{id} is {}", mission["status"].as_str().unwrap_or("?"));
    Ok(ExitCode::SUCCESS)
}

/// A workflow given as a file is put first; its name and version are what is submitted.
async fn put_if_file(workflow: &str, target: &Target) -> anyhow::Result<String> {
    let path = PathBuf::from(workflow);
    let looks_like_file = [".yaml", ".yml", ".json"].iter().any(|ending| workflow.ends_with(ending));
    if !looks_like_file {
        return Ok(workflow.to_owned());
    }
    let Some(definition) = workflow::read(&path)? else { anyhow::bail!("{workflow} is not valid") };
    let client = target.client(false)?;
    let request = client.request(Method::PUT, &format!("/v1/workflows/{}", definition.name)).json(&definition.source);
    let put: Value = client.send(request).await?.json().await?;
    Ok(format!("{}@{}", definition.name, put["version"]))
}

async fn list(
    target: &Target,
    status: Option<String>,
    project: Option<String>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let filters = [("status", status), ("project_id", project)];
    let filter: String = filters.into_iter().filter_map(|(name, value)| Some(format!("&{name}={}", value?))).collect();
    let page = target.client(false)?.get(&format!("/v1/missions?limit=50{filter}")).await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&page)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!("{:<31} {:<11} {:<22} {:>7} {:>14}  CREATED", "MISSION", "STATUS", "WORKFLOW", "DONE", "SPENT");
    for mission in page["data"].as_array().or_else(|| page["items"].as_array()).into_iter().flatten() {
        let text = |pointer: &str| mission.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
        let number = |pointer: &str| mission.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
        let workflow = format!("{}@{}", text("/workflow/name"), number("/workflow/version"));
        let done = format!("{}/{}", number("/progress/done"), number("/progress/total"));
        let (id, status, spent, created) = (text("/id"), text("/status"), text("/budget/spent"), text("/created_at"));
        println!("{id:<31} {status:<11} {workflow:<22} {done:>7} {spent:>14}  {created}");
    }
    if page["has_more"] == true {
        println!("(more: use the API with next_cursor)");
    }
    Ok(ExitCode::SUCCESS)
}
