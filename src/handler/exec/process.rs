//! One child process and the group that it leads.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};

use super::capture::Capture;

/// How long the output may take once the child has exited. A process that it left behind can hold the pipes
/// open for ever; the child's word is its exit code.
const DRAIN_AFTER_EXIT: Duration = Duration::from_millis(500);

/// What a child left when it exited.
#[derive(Debug)]
pub(super) struct Exit {
    pub(super) status: ExitStatus,
    pub(super) stdout: Capture,
    pub(super) stderr: Capture,
}

/// Runs `command` in a process group of its own with `input` on its stdin, and reads its stdout and stderr
/// into the captures at the same time, so that neither side can wait for the other.
///
/// A child that exits or closes its stdin without reading all of it is not an error. Dropping the future
/// kills the whole group with SIGKILL and reaps the child. Processes that the child leaves behind when it exits
/// by itself are its own business.
///
/// # Errors
/// The program cannot be started, or the child cannot be waited for.
pub(super) async fn run(
    mut command: Command,
    input: &[u8],
    mut stdout: Capture,
    mut stderr: Capture,
) -> io::Result<Exit> {
    command
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut group = Group(Some(command.spawn()?));
    let child = group.child();
    let stdin = child.stdin.take().expect("stdin is piped");
    let out = child.stdout.take().expect("stdout is piped");
    let err = child.stderr.take().expect("stderr is piped");

    let status = {
        let pipes = async {
            tokio::join!(feed(stdin, input), stdout.fill(out), stderr.fill(err));
        };
        tokio::pin!(pipes);
        let mut open = true;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status?,
                () = &mut pipes, if open => open = false,
            }
        };
        if open && tokio::time::timeout(DRAIN_AFTER_EXIT, pipes).await.is_err() {
            tracing::debug!(
                "a child has exited, but its output is held open by a process it left behind"
            );
        }
        status
    };
    Ok(Exit {
        status,
        stdout,
        stderr,
    })
}

/// Writes `input` and closes the pipe. The reader may go away when it likes (EPIPE).
async fn feed(mut stdin: ChildStdin, input: &[u8]) {
    if let Err(error) = stdin.write_all(input).await {
        tracing::trace!(%error, "a child did not read all of its stdin");
    }
}

/// The leader of a process group. Dropped while the leader is not yet reaped, it kills the group.
struct Group(Option<Child>);

impl Group {
    fn child(&mut self) -> &mut Child {
        self.0.as_mut().expect("only drop takes the child")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(mut child) = self.0.take() else {
            return;
        };
        // A reaped child has no id here. Its number may belong to a stranger by now: never signal it.
        let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) else {
            return;
        };
        if let Err(error) = killpg(Pid::from_raw(id), Signal::SIGKILL) {
            tracing::warn!(%error, "the process group of a cancelled child cannot be killed");
        }
        // Nothing survives SIGKILL for long, so this ends soon. Without a runtime the process is about to
        // end itself, and the system reaps.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { child.wait().await });
        }
    }
}
