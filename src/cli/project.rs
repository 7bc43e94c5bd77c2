//! `bursar project`: create, list, show, archive, unarchive, delete, over the HTTP API.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::Target;

/// `bursar project …`
#[derive(Debug, Subcommand)]
pub enum Project {
    /// Make a project; `bursar mission submit --project` puts missions into it.
    Create {
        /// What people call it; unique among the tenant's.
        name: String,
        /// What it is about.
        #[arg(long)]
        description: Option<String>,
        #[command(flatten)]
        how: How,
    },
    /// List projects, newest first.
    List {
        #[command(flatten)]
        how: How,
    },
    /// Show one project.
    Show(One),
    /// Let it take no more missions; those that it has go on.
    Archive(One),
    /// Let it take missions again.
    Unarchive(One),
    /// Remove one that is archived and has no missions.
    Delete(One),
}

/// Where, and how answers are shown.
#[derive(Debug, Args)]
pub struct How {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// A project.
#[derive(Debug, Args)]
pub struct One {
    /// prj_…
    id: String,
    #[command(flatten)]
    how: How,
}

impl How {
    fn print(&self, answer: &Value, lines: impl Fn(&Value) -> Vec<String>) -> anyhow::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(answer)?);
        } else {
            for line in lines(answer) {
                println!("{line}");
            }
        }
        Ok(())
    }
}

impl Project {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Create { name, description, how } => {
                let client = how.target.client(false)?;
                let mut body = json!({"name": name});
                if let Some(description) = description {
                    body["description"] = json!(description);
                }
                let request = client.request(Method::POST, "/v1/projects").json(&body);
                let made: Value = client.send(request).await?.json().await?;
                how.print(&made, |made| vec![text(made, "id")])?;
            }
            Self::List { how } => {
                let page = how.target.client(false)?.get("/v1/projects?limit=100").await?;
                how.print(&page, list)?;
            }
            Self::Show(one) => {
                let project = one.how.target.client(false)?.get(&one.path()).await?;
                one.how.print(&project, show)?;
            }
            Self::Archive(one) => one.archive(true).await?,
            Self::Unarchive(one) => one.archive(false).await?,
            Self::Delete(one) => {
                let client = one.how.target.client(false)?;
                client.send(client.request(Method::DELETE, &one.path())).await?;
                println!("{} is gone", one.id);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl One {
    fn path(&self) -> String {
        format!("/v1/projects/{}", self.id)
    }

    async fn archive(self, archived: bool) -> anyhow::Result<()> {
        let client = self.how.target.client(false)?;
        let request = client.request(Method::PATCH, &self.path()).json(&json!({"archived": archived}));
        let project: Value = client.send(request).await?.json().await?;
        self.how.print(&project, show)
    }
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or("-").to_owned()
}

fn state(project: &Value) -> &'static str {
    if project["archived"] == true { "archived" } else { "active" }
}

fn list(page: &Value) -> Vec<String> {
    let mut lines = vec![format!("{:<31} {:<9} {:<25} NAME", "PROJECT", "STATE", "CREATED")];
    for row in page["data"].as_array().into_iter().flatten() {
        let (id, created, name) = (text(row, "id"), text(row, "created_at"), text(row, "name"));
        lines.push(format!("{id:<31} {:<9} {created:<25} {name}", state(row)));
    }
    if page["has_more"] == true {
        lines.push("(more: use the API with next_cursor)".to_owned());
    }
    lines
}

fn show(project: &Value) -> Vec<String> {
    let mut lines = vec![format!("{} ({}), {}", text(project, "name"), text(project, "id"), state(project))];
    lines.extend(project["description"].as_str().map(|about| format!("  {about}")));
    lines.push(format!("  created {}, changed {}", text(project, "created_at"), text(project, "updated_at")));
    lines
}
