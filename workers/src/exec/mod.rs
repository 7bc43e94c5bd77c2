//! The exec step: runs a program with a scrubbed environment, in a folder of its own that is removed, within limits.
//!
//! What is limited: time (ours, and `timeout` of coreutils behind it, so that a program outlives a vanished worker by its
//! timeout at most), processor time, memory, size of files, open files and processes (`ulimit`), and what is read of its
//! output. It is ended with its process group. What is not limited: the network, what the worker's user may read, and a
//! process that leaves its group; the limit on processes counts all of the user's and does not bind root. Whoever
//! enables `exec` for people they do not trust gives its workers a container and a user of their own.

use std::process::Stdio;
use std::time::Duration;

use bursar_domain::limits::EXEC_OUTPUT_BYTES;
use bursar_domain::outcome::{ErrorClass, Outcome, StepError};
use bursar_domain::workflow::ExecStep;
use bursar_domain::workflow::template::render_text;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::job::Job;
use crate::stop::Stop;
use crate::transform::template_failed;

mod group;
mod limits;

pub(crate) use group::Group;
pub use limits::{ExecConfig, ExecLimits};

/// How long output may still arrive after the program and its group ended. Only a process that left the group can hold
/// it open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs programs, where the operator allows it.
#[derive(Debug, Clone)]
pub struct ExecService {
    config: ExecConfig,
}

impl ExecService {
    /// With what the operator says.
    pub fn new(config: ExecConfig) -> Self {
        Self { config }
    }
}

/// Runs the program, until it ends, its time is over or `stop` says so.
pub(crate) async fn run(job: &Job, step: &ExecStep, service: Option<&ExecService>, stop: &Stop<'_>) -> Outcome {
    match perform(job, step, service, stop).await {
        Ok(output) => Outcome::Succeeded { output, calls: Vec::new() },
        Err(error) => Outcome::Failed { error, calls: Vec::new() },
    }
}

/// What a program is started with.
struct Rendered {
    command: Vec<String>,
    stdin: String,
    env: Vec<(String, String)>,
}

async fn perform(
    job: &Job,
    step: &ExecStep,
    service: Option<&ExecService>,
    stop: &Stop<'_>,
) -> Result<Value, StepError> {
    let config = service.map(|service| &service.config).ok_or_else(|| {
        let message = "this worker runs no programs: set `exec.enabled = true` in its configuration, or give the node \
                       a pool whose workers do";
        permanent("exec_off", message)
    })?;
    let rendered = render(job, step)?;
    let folder = tempfile::Builder::new().prefix("bursar-exec-").tempdir_in(&config.folder).map_err(|error| {
        let message = format!("no working folder can be made in {}: {error}", config.folder.display());
        StepError::new(ErrorClass::Retryable, "exec_no_folder", message)
    })?;
    let allowed_ms = step.timeout_ms.unwrap_or(job.timeout_ms).min(job.timeout_ms).max(1);
    let mut command = config.limits.command(&rendered.command, allowed_ms);
    command
        .env_clear()
        .envs(&config.env)
        .env("HOME", folder.path())
        .env("TMPDIR", folder.path())
        .envs(rendered.env)
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let ended = supervise(command, rendered.stdin, Duration::from_millis(allowed_ms.unsigned_abs()), stop).await;
    // what is left of the folder is removed wherever the step ended; the last word is the program's
    if let Err(error) = folder.close() {
        return ended.and(Err(StepError::new(
            ErrorClass::Permanent,
            "exec_folder_left",
            format!("the working folder cannot be removed: {error}"),
        )));
    }
    judge(step, &ended?)
}

/// A program that ended.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn judge(step: &ExecStep, ended: &Ended) -> Result<Value, StepError> {
    let Some(code) = ended.code else {
        let message =
            "the program was ended by a signal: it broke a limit (memory, processor time, file size) or itself";
        return Err(permanent("exec_killed", message));
    };
    if !u8::try_from(code).is_ok_and(|code| step.ok_codes.contains(&code)) {
        let message = format!("the program ended with exit code {code}, which is not among `ok_codes`");
        return Err(permanent("exec_failed", message));
    }
    Ok(json!({"exit_code": code, "stdout": ended.stdout, "stderr": ended.stderr}))
}

/// Renders everything before anything starts.
fn render(job: &Job, step: &ExecStep) -> Result<Rendered, StepError> {
    let text = |field: String, template: &str| {
        let rendered = render_text(template, &job.context);
        let rendered = rendered.map_err(|error| template_failed(&format!("exec.{field}"), &error))?;
        if rendered.contains('\0') {
            return Err(permanent("exec_invalid", format!("`exec.{field}` has the character U+0000")));
        }
        Ok(rendered)
    };
    let argument = |(index, template): (usize, &String)| text(format!("command.{index}"), template);
    let command: Vec<String> = step.command.iter().enumerate().map(argument).collect::<Result<_, _>>()?;
    let variable =
        |(name, template): (&String, &String)| text(format!("env.{name}"), template).map(|value| (name.clone(), value));
    Ok(Rendered {
        command,
        stdin: step.stdin.as_ref().map_or(Ok(String::new()), |template| text("stdin".to_owned(), template))?,
        env: step.env.iter().map(variable).collect::<Result<_, _>>()?,
    })
}

/// Starts the program and sees it end, with all of its group, whatever happens.
async fn supervise(
    mut command: Command,
    stdin: String,
    allowed: Duration,
    stop: &Stop<'_>,
) -> Result<Ended, StepError> {
    let mut child = command.spawn().map_err(|error| {
        let message = format!("the program cannot be started: {error}");
        StepError::new(ErrorClass::Retryable, "exec_not_started", message)
    })?;
    // dropped, and so ended, even when this future is
    let group = Group::of(&child);
    let reading = Pipes::take(&mut child, stdin).read();
    let over = tokio::time::sleep(allowed);
    tokio::pin!(reading, over);
    let mut output = None;
    let status = loop {
        tokio::select! {
            biased;
            reason = stop.wait() => break Err(reason),
            () = &mut over => break Err(timed_out(allowed)),
            read = &mut reading, if output.is_none() => match read {
                Ok(read) => output = Some(read),
                // more than is allowed
                Err(error) => break Err(error),
            },
            status = child.wait() => break Ok(status),
        }
    };
    group.end();
    let status = match status {
        Ok(status) => status.map_err(|error| permanent("exec_lost", format!("its end was not seen: {error}")))?,
        Err(error) => {
            let _ = child.wait().await;
            return Err(error);
        }
    };
    let (stdout, stderr) = match output {
        Some(output) => output,
        None => tokio::time::timeout(LAST_WORDS, reading)
            .await
            .map_err(|_| permanent("exec_escaped", "a process of the program outlived it with its output open"))??,
    };
    Ok(Ended { code: status.code(), stdout, stderr })
}

/// The ends of a program's pipes.
struct Pipes {
    input: Option<(tokio::process::ChildStdin, String)>,
    stdout: Option<tokio::process::ChildStdout>,
    stderr: Option<tokio::process::ChildStderr>,
}

impl Pipes {
    fn take(child: &mut Child, stdin: String) -> Self {
        let input = child.stdin.take().filter(|_| !stdin.is_empty()).map(|pipe| (pipe, stdin));
        Self { input, stdout: child.stdout.take(), stderr: child.stderr.take() }
    }

    /// Writes what the program reads and reads what it writes, side by side, so that neither waits for the other.
    async fn read(self) -> Result<(String, String), StepError> {
        let write = async {
            if let Some((mut pipe, text)) = self.input {
                // a program that does not read its input is free not to
                let _ = pipe.write_all(text.as_bytes()).await;
            }
            Ok(())
        };
        let (stdout, stderr, ()) =
            tokio::try_join!(read_some("stdout", self.stdout), read_some("stderr", self.stderr), write)?;
        Ok((stdout, stderr))
    }
}

async fn read_some(what: &str, pipe: Option<impl AsyncRead + Unpin>) -> Result<String, StepError> {
    let Some(pipe) = pipe else { return Ok(String::new()) };
    let mut bytes = Vec::new();
    let most = EXEC_OUTPUT_BYTES;
    let read = pipe.take(most.saturating_add(1)).read_to_end(&mut bytes).await;
    read.map_err(|error| permanent("exec_lost", format!("its {what} was not read: {error}")))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
        let message = format!("the program wrote more than {most} bytes to {what}; have it write less");
        return Err(permanent("exec_output_too_large", message));
    }
    Ok(String::from_utf8_lossy(&bytes).replace('\0', "\u{FFFD}"))
}

fn timed_out(allowed: Duration) -> StepError {
    let message = format!("the program did not end within {} ms; raise the `timeout`", allowed.as_millis());
    StepError::new(ErrorClass::Retryable, "exec_timeout", message)
}

fn permanent(code: &str, message: impl Into<String>) -> StepError {
    StepError::new(ErrorClass::Permanent, code, message)
}
