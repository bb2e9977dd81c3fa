//! One run of a child process: its input, its output and its end.

use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;

use super::capture::Capture;
use crate::process::{self, Program, Starter, Variables};

/// The time limit for the output after the child has exited. A process that it left behind can hold the pipes
/// open for ever; the child's word is its exit code.
const DRAIN_AFTER_EXIT: Duration = Duration::from_millis(500);

/// A child's exit status and output.
#[derive(Debug)]
pub(super) struct Exit {
    pub(super) status: ExitStatus,
    pub(super) stdout: Capture,
    pub(super) stderr: Capture,
}

/// Why there is no exit status.
#[derive(Debug)]
pub(super) enum Failure {
    /// The child never ran its program.
    NotStarted(io::Error),
    /// The child ran, and its end is not known.
    Lost(io::Error),
}

/// Runs `program` with `input` on its stdin, and reads its stdout and stderr into the captures at the same time,
/// so that neither side can wait for the other.
///
/// A child that exits or closes its stdin without reading all of it is not an error. Dropping the future
/// kills the whole group with SIGKILL and reaps the child. Processes that the child leaves behind when it exits
/// by itself are its own business.
pub(super) async fn run(
    starter: &Starter,
    program: &Arc<Program>,
    variables: Variables,
    input: &[u8],
    (mut stdout, mut stderr): (Capture, Capture),
) -> Result<Exit, Failure> {
    let not_started = Failure::NotStarted;
    let stdin = process::input().map_err(not_started)?;
    let out = process::output().map_err(not_started)?;
    let err = process::output().map_err(not_started)?;
    let stdin_rest = prefill(stdin.ours, input).map_err(not_started)?;
    let output = pipe::Receiver::from_owned_fd_unchecked(out.ours).map_err(not_started)?;
    let errors = pipe::Receiver::from_owned_fd_unchecked(err.ours).map_err(not_started)?;
    // Held to the child's end, these keep the ends of its streams from waking this task before.
    let held = (Arc::clone(&out.theirs), Arc::clone(&err.theirs));
    let inherited = vec![(stdin.theirs, 0), (out.theirs, 1), (err.theirs, 2)];
    let mut child = starter
        .start(program, variables, inherited)
        .await
        .map_err(not_started)?;
    let status = {
        let pipes = async {
            tokio::join!(feed(stdin_rest), stdout.fill(output), stderr.fill(errors));
        };
        tokio::pin!(pipes);
        let mut open = true;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status.map_err(Failure::Lost)?,
                () = &mut pipes, if open => open = false,
            }
        };
        drop(held);
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

/// The part of the input that did not fit into the pipe.
type Rest<'a> = Option<(pipe::Sender, &'a [u8])>;

/// Writes as much of `input` as fits into the pipe, which is all of most bodies, before the child starts.
fn prefill(stdin: std::os::fd::OwnedFd, input: &[u8]) -> io::Result<Rest<'_>> {
    let mut rest = input;
    while !rest.is_empty() {
        match rustix::io::write(&stdin, rest) {
            Ok(written) => rest = &rest[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                return Ok(Some((pipe::Sender::from_owned_fd_unchecked(stdin)?, rest)));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// Writes the rest and closes the pipe. The reader may go away when it likes (EPIPE).
async fn feed(rest: Rest<'_>) {
    let Some((mut stdin, rest)) = rest else {
        return;
    };
    if let Err(error) = stdin.write_all(rest).await {
        tracing::trace!(%error, "a child did not read all of its stdin");
    }
}
