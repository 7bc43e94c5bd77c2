//! The limits of a program, set by a small shell that then becomes the program.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tokio::process::Command;

/// What the operator says about programs.
#[derive(Debug, Clone)]
pub struct ExecConfig {
    /// Where working folders are made.
    pub folder: PathBuf,
    /// Environment variables that every program sees, e.g. `PATH`.
    pub env: BTreeMap<String, String>,
    /// How far a program may go.
    pub limits: ExecLimits,
}

/// How far a program may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecLimits {
    /// Seconds of processor time.
    pub cpu_seconds: u64,
    /// Bytes of address space.
    pub memory_bytes: u64,
    /// Bytes of the largest file it may write.
    pub file_bytes: u64,
    /// Processes and threads of the worker's user, all of them counted; does not bind root.
    pub processes: u64,
}

impl Default for ExecLimits {
    /// A minute of processor time, 1 GiB of memory, files of 256 MiB, 512 processes of the user.
    fn default() -> Self {
        Self { cpu_seconds: 60, memory_bytes: 1024 * 1024 * 1024, file_bytes: 256 * 1024 * 1024, processes: 512 }
    }
}

/// The second clock, of coreutils or busybox.
const TIMEOUT: &str = "/usr/bin/timeout";
/// The shell that sets the limits.
const SHELL: &str = "/bin/sh";

/// Sets the limits and becomes the program. A limit that cannot be set ends it: nothing runs without its limits. The
/// number of processes is `-u` in most shells and `-p` in dash.
const SCRIPT: &str =
    "ulimit -c 0 && ulimit -t \"$1\" && ulimit -v \"$2\" && ulimit -f \"$3\" && ulimit -n 256 || exit 126
ulimit -u \"$4\" 2>/dev/null || ulimit -p \"$4\" 2>/dev/null || exit 126
shift 4
exec \"$@\"";

impl ExecLimits {
    /// The program under its limits, with a second clock that also ends it when this process is gone.
    pub(super) fn command(&self, program: &[String], allowed_ms: i64) -> Command {
        let mut command = Command::new(TIMEOUT);
        // one second more than the step's own clock, which has the better words
        let seconds = allowed_ms.unsigned_abs().div_ceil(1_000).saturating_add(1);
        command.args(["-s", "KILL", &seconds.to_string(), SHELL, "-c", SCRIPT, "sh"]);
        command.args([
            self.cpu_seconds.to_string(),
            self.memory_bytes.div_ceil(1_024).to_string(),
            self.file_bytes.div_ceil(512).to_string(),
            self.processes.to_string(),
        ]);
        command.args(program);
        command
    }
}
