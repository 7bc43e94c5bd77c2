//! The exec step runs real programs: what they see, what they leave, what ends them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bursar_domain::outcome::ErrorClass;
use bursar_workers::exec::{ExecConfig, ExecLimits, ExecService};
use bursar_workers::{Job, Providers, run};
use serde_json::json;

use crate::support::{Recorder, failed, node_job, soon, succeeded};

/// Providers that run programs, in a folder whose content can be looked at.
fn running(limits: ExecLimits) -> (Providers, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let env = BTreeMap::from([("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())]);
    let config = ExecConfig { folder: folder.path().to_owned(), env, limits };
    (Providers::builder().exec(ExecService::new(config)).build().unwrap(), folder)
}

fn left(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

async fn refused(job: &Job, limits: ExecLimits) -> (ErrorClass, String) {
    let (providers, folder) = running(limits);
    let (error, _) = failed(run(job, &Recorder::default(), &providers).await);
    assert_eq!(left(folder.path()), Vec::<PathBuf>::new(), "nothing is left of the working folder");
    (error.class, error.code)
}

fn shell(script: &str) -> Job {
    node_job("exec: { command: [sh, -c, '{{ inputs.script }}'] }", &json!({"script": script}))
}

#[tokio::test]
async fn a_program_sees_what_it_is_given_and_nothing_else() {
    let (providers, folder) = running(ExecLimits::default());
    let node = "exec: { command: [sh, -c, 'cat; echo; env | sort; pwd; echo \"$1\"; echo oops >&2; exit 3', sh, \
                '{{ inputs.text }}'], stdin: 'read {{ inputs.text }}', env: { COLOUR: '{{ inputs.text }}' }, ok_codes: [0, 3] }";
    let job = node_job(node, &json!({"text": "$(id) `id`; rm"}));
    let (output, _) = succeeded(run(&job, &Recorder::default(), &providers).await);
    assert_eq!((&output["exit_code"], &output["stderr"]), (&json!(3), &json!("oops\n")));
    let lines: Vec<&str> = output["stdout"].as_str().unwrap().lines().collect();
    assert_eq!(
        (lines[0], lines.last().unwrap()),
        ("read $(id) `id`; rm", &"$(id) `id`; rm"),
        "no shell reads arguments"
    );
    let names: Vec<&str> = lines.iter().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert_eq!(names, ["COLOUR", "HOME", "PATH", "PWD", "TMPDIR"]);
    let place = lines[lines.len() - 2];
    assert!(place.starts_with(folder.path().to_str().unwrap()) && !Path::new(place).exists(), "{place} is removed");
    assert_eq!(left(folder.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn how_a_program_ends_decides() {
    for (script, expected) in [
        ("exit 1", "exec_failed"),
        ("no-such-program", "exec_failed"),
        ("kill -SEGV $$", "exec_killed"),
        ("yes", "exec_output_too_large"),
        ("yes >&2", "exec_output_too_large"),
    ] {
        let found = refused(&shell(script), ExecLimits::default()).await;
        assert_eq!(found, (ErrorClass::Permanent, expected.to_owned()), "{script}");
    }
}

#[tokio::test]
async fn limits_are_set_by_the_system() {
    let small = ExecLimits { cpu_seconds: 1, memory_bytes: 64 << 20, file_bytes: 4_096, processes: 512 };
    let (class, _) = refused(&shell("while :; do :; done"), small).await;
    assert_eq!(class, ErrorClass::Permanent, "out of processor time");
    let (class, _) =
        refused(&shell("head -c 200000000 /dev/zero | tail -c 150000000 > /dev/null || exit 9"), small).await;
    assert_eq!(class, ErrorClass::Permanent, "out of memory");
    let (class, _) = refused(&shell("head -c 100000 /dev/zero > big"), small).await;
    assert_eq!(class, ErrorClass::Permanent, "a file that is too large");
    let (providers, _folder) = running(small);
    let (output, _) = succeeded(run(&shell("ulimit -p; ulimit -c; ulimit -n"), &Recorder::default(), &providers).await);
    assert_eq!(output["stdout"], "512\n0\n256\n");
}

#[tokio::test]
async fn time_ends_a_program_with_everything_it_started() {
    let (providers, folder) = running(ExecLimits::default());
    let beat = folder.path().with_extension("beat");
    let script = format!("(while :; do date +%N > {0}; sleep 0.05; done) & sleep 60", beat.display());
    let mut job = shell(&script);
    job.timeout_ms = 600;
    let started = Instant::now();
    let (error, _) = failed(run(&job, &Recorder::default(), &providers).await);
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Retryable, "attempt_timeout"));
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(beat.exists(), "it had begun");
    std::fs::remove_file(&beat).unwrap();
    let inner = node_job("exec: { command: [sleep, '60'], timeout: 200ms }", &json!({}));
    let (error, _) = failed(run(&inner, &Recorder::default(), &providers).await);
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Retryable, "exec_timeout"));
    assert!(!beat.exists(), "nobody writes it any more, though many of its pauses passed");
}

#[tokio::test]
async fn what_a_program_leaves_running_ends_with_it() {
    let (providers, _folder) = running(ExecLimits::default());
    let started = Instant::now();
    let (output, _) = succeeded(run(&shell("sleep 60 & echo done"), &Recorder::default(), &providers).await);
    assert_eq!(output["stdout"], "done\n");
    assert!(started.elapsed() < Duration::from_secs(10), "it does not wait for what holds the output open");
}

#[tokio::test]
async fn a_cancelled_step_ends_its_program() {
    let (providers, folder) = running(ExecLimits::default());
    let context = Recorder::default();
    let job = shell("sleep 60");
    let begun = async {
        while left(folder.path()).is_empty() {
            tokio::task::yield_now().await;
        }
        context.token.cancel();
    };
    let (outcome, ()) = soon("the end", async { tokio::join!(run(&job, &context, &providers), begun) }).await;
    let (error, _) = failed(outcome);
    assert_eq!(error.class, ErrorClass::Cancelled);
    assert_eq!(left(folder.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn without_the_operators_word_nothing_runs() {
    let (error, _) = failed(run(&shell("true"), &Recorder::default(), &Providers::default()).await);
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Permanent, "exec_off"));
    assert!(error.message.contains("exec.enabled = true"), "{}", error.message);
}
