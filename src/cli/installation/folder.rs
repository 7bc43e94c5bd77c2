//! The folder of a private installation, and who clears it up: a shell that holds a pipe from us. However we end, the
//! pipe closes; then it kills what carries the folder's mark and removes the folder. It touches nothing else.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;

use crate::clock::new_token;

/// The variable by which a process is known to belong to an installation: its folder.
pub(super) const MARK: &str = "BURSAR_INSTALLATION";

/// Waits for our end. Postgres writes over its environment, so it is known by the number in its own folder.
const GUARD: &str = r#"
cat >/dev/null
pid=$(head -n 1 "$1/postgres/data/postmaster.pid" 2>/dev/null) && kill -9 "$pid" 2>/dev/null
for process in /proc/[0-9]*; do
  if grep -qzx "BURSAR_INSTALLATION=$1" "$process/environ" 2>/dev/null; then kill -9 "${process#/proc/}" 2>/dev/null; fi
done
[ -e "$1/keep" ] && exit
for again in 1 2 3 4 5; do rm -rf -- "$1" 2>/dev/null && exit; sleep 0.2; done
"#;

/// A temporary folder that is gone when this is dropped, and everything that runs in it too.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    guard: Child,
}

impl Folder {
    /// Makes it where the owner of the database may enter and the path of a socket is short enough.
    pub(super) fn make() -> anyhow::Result<Self> {
        let path = Path::new("/tmp").join(format!("bursar-{}", &new_token()[..12]));
        std::fs::create_dir(&path).with_context(|| format!("{} can't be made", path.display()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o711))?;
        // a group of its own: a Ctrl-C is for us, and then for the guard to clear up after
        let guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("a shell is needed to clear up afterwards")?;
        for name in ["logs", "postgres", "redis"] {
            std::fs::create_dir(path.join(name))?;
        }
        Ok(Self { path, guard })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The files stay, for whoever wants to know what went wrong. The processes do not.
    pub(super) fn keep(&self) -> anyhow::Result<()> {
        Ok(std::fs::write(self.path.join("keep"), "")?)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}
