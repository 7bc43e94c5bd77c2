//! A real MCP server for tests (`server.py`), as a process of its own: over HTTP, or started by whoever speaks to it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use bursar_domain::outcome::ToolEffects;
use bursar_workers::mcp::{Place, ServerConfig, Servers, ToolConfig};
use bursar_workers::tools::ToolLimits;

/// The server's program, which speaks the protocol without any of our code.
const PROGRAM: &str = include_str!("server.py");

/// The absolute path of the interpreter.
fn python() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        let asked = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
        String::from_utf8(asked.expect("python3 is installed").stdout).unwrap().trim().to_owned()
    })
}

/// A folder with the program, and a server process over HTTP once one was started.
pub struct McpServer {
    pub folder: PathBuf,
    process: Option<Child>,
    pub port: u16,
}

impl McpServer {
    /// Makes the folder; starts nothing.
    pub fn prepare(folder: PathBuf) -> Self {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("server.py"), PROGRAM).unwrap();
        Self { folder, process: None, port: 0 }
    }

    /// Starts it over HTTP, at the port it had before; one that wants this header where `secret` says so.
    pub fn serve(&mut self, secret: Option<&str>) {
        let mut command = Command::new(python());
        command.arg(self.folder.join("server.py")).arg(&self.folder).args(["http", &self.port.to_string()]);
        if let Some(secret) = secret {
            command.env("MCP_TEST_SECRET", secret);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.port = line.trim().parse().unwrap();
        self.process = Some(child);
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.process.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// What it is reached at.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.port)
    }

    /// How to start it over standard input and output.
    pub fn command(&self) -> Vec<String> {
        let path = |name: &str| self.folder.join(name).display().to_string();
        vec![python().to_owned(), path("server.py"), self.folder.display().to_string(), "stdio".to_owned()]
    }

    /// What it did so far, a line each, sessions and lists left out.
    pub fn ran(&self) -> Vec<String> {
        self.journal().into_iter().filter(|line| line != "session" && line != "list").collect()
    }

    /// All of its journal.
    pub fn journal(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.join("journal")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Has it say this of its tools from now on.
    pub fn note(&self, text: &str) {
        std::fs::write(self.folder.join("note"), text).unwrap();
    }

    /// Its place as a program.
    pub fn over_stdio(&self) -> Place {
        Place::Program { command: self.command(), env: BTreeMap::new(), folder: "/".into() }
    }
}

impl Drop for McpServer {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A server called `t` at that place, all of whose tools have these effects.
pub fn config(place: Place, effects: ToolEffects) -> ServerConfig {
    let limits = ToolLimits { result_bytes: 1_000, timeout_ms: 10_000 };
    let others = ToolConfig { name: None, effects, max_calls: None, limits };
    ServerConfig {
        name: "t".into(),
        place,
        tools: BTreeMap::new(),
        others: Some(others),
        connect_ms: 10_000,
        tools_ttl_ms: 300_000,
    }
}

/// The one server.
pub fn servers(config: ServerConfig) -> Servers {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Servers::new(vec![config]).unwrap()
}
