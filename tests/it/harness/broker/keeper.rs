//! Who removes a broker that tests have started: a small process of its own, so that nothing is left behind
//! however the tests end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

/// Removes a broker once nobody holds the lock `$1` for `$2` seconds: the rest of the arguments is what to run,
/// under the lock, so that whoever comes meanwhile waits and finds it gone. A lock file that somebody deleted
/// counts as nobody's.
const SCRIPT: &str = r#"
lock=$1 quiet=$2 free=0
shift 2
while sleep 1; do
  [ -e "$lock" ] || exec "$@"
  if [ "$free" -lt "$quiet" ]; then
    if flock -x -n "$lock" true; then free=$((free + 1)); else free=0; fi
  else
    flock -x -n -E 75 "$lock" "$@"
    [ $? = 75 ] || exit 0
    free=0
  fi
done
"#;

/// A lock on a file, for as long as this exists. The operating system lets go of it when the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// The directory that all test processes of a build directory share.
pub(super) fn directory() -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let target = tmp.parent().expect("the directory is inside target/");
    let directory = target.join("tidegate-test");
    fs::create_dir_all(&directory).expect("target/ can be written");
    directory
}

impl Lock {
    /// Waits until nobody else holds the lock at `path`.
    pub(super) async fn exclusive(path: &Path) -> Self {
        Self::take(path, File::lock).await
    }

    /// Waits until nobody holds the lock at `path` exclusively.
    pub(super) async fn shared(path: &Path) -> Self {
        Self::take(path, File::lock_shared).await
    }

    /// The lock at `path`, if nobody else holds it.
    pub(super) fn try_exclusive(path: &Path) -> Option<Self> {
        let file = open(path);
        match file.try_lock() {
            Ok(()) => Some(Self { _file: file }),
            Err(fs::TryLockError::WouldBlock) => None,
            Err(fs::TryLockError::Error(error)) => panic!("{}: {error}", path.display()),
        }
    }

    async fn take(path: &Path, lock: fn(&File) -> std::io::Result<()>) -> Self {
        let file = open(path);
        let locked = tokio::task::spawn_blocking(move || lock(&file).map(|()| file))
            .await
            .expect("locking does not panic");
        Self {
            _file: locked.expect("the file system has locks"),
        }
    }
}

fn open(path: &Path) -> File {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Starts a keeper: once nobody has held `lock` for `quiet` seconds it runs `cleanup` (a shell command, with
/// `arguments` as `$1` and on) and ends. In a session of its own, for a Ctrl-C must not reach it.
pub(super) async fn start(lock: &Path, quiet: u32, cleanup: &str, arguments: &[&str]) {
    let started = Command::new("setsid")
        .args(["--fork", "sh", "-c", SCRIPT, "tidegate-test-keeper"])
        .arg(lock)
        .arg(quiet.to_string())
        .args(["sh", "-c", cleanup, "tidegate-test-cleanup"])
        .args(arguments)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await
        .expect("util-linux (setsid, flock) is installed");
    assert!(started.success(), "the keeper does not start: {started}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::wait::{eventually, expect_that};

    #[tokio::test]
    async fn a_keeper_cleans_up_when_the_lock_is_let_go_and_not_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let mark = directory.path().join("cleaned");
        let first = Lock::shared(&path).await;
        let second = Lock::shared(&path).await;
        start(&path, 0, "touch \"$1\"", &[mark.to_str().unwrap()]).await;
        drop(first);
        assert!(Lock::try_exclusive(&path).is_none(), "the second holds it");
        assert!(!mark.exists());
        drop(second);
        eventually("the keeper has cleaned up", async || {
            expect_that(mark.exists(), || "no mark".to_owned())
        })
        .await;
    }
}
