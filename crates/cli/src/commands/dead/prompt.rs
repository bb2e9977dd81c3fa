//! The question before letters are dropped.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use tokio_util::sync::CancellationToken;

use super::DropArgs;

impl DropArgs {
    /// Whether the command may run: it need not ask, or there is a terminal to ask on.
    pub(super) fn may_ask(&self) -> bool {
        let terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
        self.yes || self.dry_run || (terminal && !self.pick.json)
    }
}

/// Asks whether to drop `count` letters. A signal means no.
pub(super) async fn agrees_to_drop(
    count: u64,
    queues: &[String],
    stop: &CancellationToken,
) -> anyhow::Result<bool> {
    let noun = if count == 1 {
        "dead letter"
    } else {
        "dead letters"
    };
    let queues = queues.join(", ");
    let mut output = io::stderr().lock();
    write!(output, "drop {count} {noun} of {queues} for good? [y/N] ")?;
    output.flush()?;
    drop(output);
    // On a thread of its own: the read ends with a line, not with a signal.
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map(|_bytes| line)
    });
    tokio::select! {
        biased;
        () = stop.cancelled() => {
            // The prompt stands in a line without an end.
            let _ = writeln!(io::stderr().lock());
            Ok(false)
        }
        answer = answer => {
            let answer = answer??;
            Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
        }
    }
}
