//! Ends what a killed worker leaves running.
//!
//! The kernel kills a child when this process dies (`PR_SET_PDEATHSIG`, prctl(2)), but not what the child itself has
//! started: it would run on beside the redelivery. A *keeper*, a shell beside this process, waits for the end of a pipe that
//! this process alone holds. If the end comes without a word, the process was killed, and the keeper kills every process that
//! has this process's mark in its environment.

use std::ffi::{CStr, CString};
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread;

use ulid::Ulid;

use super::program::DEFAULT_PATH;

/// The variable whose value marks what this process has started, and what that has started in turn.
const MARK: &str = "TIDEGATE_PROCESS";

/// `$1` is the mark. Signals are for the worker. A process that starts others while it is looked for is found in the next pass.
const SCRIPT: &str = r#"
trap '' HUP INT QUIT TERM
read -r word && exit 0
pass=0
while [ $pass -lt 20 ]; do
  found=$(grep -l -F -e "$1" /proc/[0-9]*/environ 2>/dev/null)
  [ "$found" ] || exit 0
  for file in $found; do
    file=${file#/proc/}
    kill -KILL "${file%/environ}" 2>/dev/null
  done
  pass=$((pass + 1))
done
"#;

/// The mark, as an entry of an environment.
pub(super) fn mark() -> &'static CStr {
    static ENTRY: OnceLock<CString> = OnceLock::new();
    ENTRY.get_or_init(|| {
        let entry = format!("{MARK}={}", Ulid::new());
        CString::new(entry).expect("neither has a NUL")
    })
}

/// The keeper of this process. The last one to drop it tells it that all ended in order.
#[derive(Debug)]
pub(super) struct Keeper(Option<Child>);

impl Keeper {
    /// The keeper that there is, or a new one; nothing if there is no shell to be started.
    pub(super) fn of_this_process() -> Option<Arc<Self>> {
        static KEEPER: Mutex<Weak<Keeper>> = Mutex::new(Weak::new());
        let mut keeper = KEEPER.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keeper) = keeper.upgrade() {
            return Some(keeper);
        }
        match start() {
            Ok(child) => {
                let new = Arc::new(Self(Some(child)));
                *keeper = Arc::downgrade(&new);
                Some(new)
            }
            Err(error) => {
                tracing::warn!(%error, "no shell to start: what children start would outlive a kill -9 of this process");
                None
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let Some(mut child) = self.0.take() else {
            return;
        };
        if let Some(mut input) = child.stdin.take() {
            // Without a reader it has ended already.
            let _ = input.write_all(b"end\n");
        }
        // So that it does not stay as a zombie; nobody waits for that.
        let _ = thread::Builder::new()
            .name("tidegate-keeper".to_owned())
            .spawn(move || child.wait());
    }
}

fn start() -> io::Result<Child> {
    Command::new("/bin/sh")
        .args(["-c", SCRIPT, "tidegate-keeper"])
        .arg(mark().to_str().expect("it is ASCII"))
        // If this worker is the child of another one, the keeper must not have that one's mark.
        .env_clear()
        .env("PATH", DEFAULT_PATH)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}
