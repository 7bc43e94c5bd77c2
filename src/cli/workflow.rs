//! `bursar workflow`: check files here, put them into a server.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use bursar_domain::workflow::{self, Definition, Syntax};
use clap::Subcommand;
use reqwest::Method;
use serde_json::Value;

use super::client::Target;

/// `bursar workflow …`
#[derive(Debug, Subcommand)]
pub enum Workflow {
    /// Check files without a server. Exits 1 when one is broken; every problem is named with its place.
    Validate {
        /// YAML or JSON files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Print the JSON Schema of the format, for an editor. A file that keeps to it may still be broken: validate it.
    Schema,
    /// Put a file as a new version; the same content again changes nothing.
    Put {
        /// A YAML or JSON file.
        file: PathBuf,
        #[command(flatten)]
        target: Target,
    },
}

impl Workflow {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Validate { files } => validate(&files),
            Self::Schema => {
                println!("{}", serde_json::to_string_pretty(&workflow::json_schema())?);
                Ok(ExitCode::SUCCESS)
            }
            Self::Put { file, target } => {
                let Some(definition) = read(&file)? else { return Ok(ExitCode::FAILURE) };
                let client = target.client(false)?;
                let path = format!("/v1/workflows/{}", definition.name);
                let request = client.request(Method::PUT, &path).json(&definition.source);
                let put: Value = client.send(request).await?.json().await?;
                println!("{} version {}", definition.name, put["version"]);
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

fn validate(files: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for file in files {
        match read(file)? {
            Some(definition) => println!("{}: ok, {} nodes", file.display(), definition.nodes.len()),
            None => code = ExitCode::FAILURE,
        }
    }
    Ok(code)
}

/// Parses a file; prints its problems when it is broken.
pub(super) fn read(file: &Path) -> anyhow::Result<Option<Definition>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} can't be read", file.display()))?;
    let syntax =
        if file.extension().is_some_and(|extension| extension == "json") { Syntax::Json } else { Syntax::Yaml };
    match workflow::parse(&text, syntax) {
        Ok(definition) => Ok(Some(definition)),
        Err(problems) => {
            for problem in problems {
                eprintln!("{}: {problem}", file.display());
            }
            Ok(None)
        }
    }
}
