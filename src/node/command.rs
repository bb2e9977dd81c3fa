//! Commands to a node.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::lifecycle::{ABORT_LIMIT, CLOSING_LIMIT};

/// A step that is under way at the deadline may take this much longer, before the runs are interrupted.
const LAST_CHANCE: Duration = Duration::from_millis(100);

/// A command to a node. It holds until the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// Consume.
    Run,
    /// Consume nothing; keep what runs.
    Pause,
    /// Stop in order; what still runs at the deadline is interrupted.
    Drain {
        /// When to interrupt.
        deadline: Instant,
    },
    /// Interrupt now.
    Abort {
        /// When this was commanded.
        at: Instant,
    },
}

impl Command {
    /// When a drain interrupts what still runs: now unless a deadline was given.
    pub(crate) fn deadline(self) -> Instant {
        match self {
            Self::Drain { deadline } => deadline,
            Self::Abort { at } => at,
            Self::Run | Self::Pause => Instant::now(),
        }
    }

    /// When everything has to be over: later than the interruption, for that has to be settled too.
    pub(crate) fn end(self) -> Option<Instant> {
        match self {
            Self::Run | Self::Pause => None,
            Self::Drain { deadline } => Some(deadline + CLOSING_LIMIT),
            Self::Abort { at } => Some(at + ABORT_LIMIT),
        }
    }

    /// `limit`, or the time that is left before [`end`](Self::end) if that is less.
    pub(crate) fn within(self, limit: Duration) -> Duration {
        self.end().map_or(limit, |end| {
            limit.min(end.saturating_duration_since(Instant::now()))
        })
    }
}

/// Awaits `step` for at most `limit`, and little longer than until what runs is to be interrupted: nothing may keep the
/// node from doing that. `None` if it was given up.
pub(crate) async fn unless_interrupted<T>(
    commands: watch::Receiver<Command>,
    limit: Duration,
    step: impl Future<Output = T>,
) -> Option<T> {
    let given_up = async {
        tokio::select! {
            () = sleep(limit) => {}
            () = interruption(commands.clone()) => {
                // Never beyond the end of the drain.
                let last_chance = commands.borrow().within(LAST_CHANCE);
                sleep(last_chance).await;
            }
        }
    };
    tokio::select! {
        biased;
        value = step => Some(value),
        () = given_up => None,
    }
}

/// Resolves when what runs is to be interrupted: at the deadline of a drain, or at once in an abort.
pub(crate) async fn interruption(mut commands: watch::Receiver<Command>) {
    loop {
        let command = *commands.borrow_and_update();
        let changed = match command {
            Command::Abort { .. } => return,
            Command::Drain { deadline } => tokio::select! {
                () = sleep_until(deadline) => return,
                changed = commands.changed() => changed,
            },
            Command::Run | Command::Pause => commands.changed().await,
        };
        if changed.is_err() {
            // Nobody is left to command anything: the worker is gone.
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_abort_interrupts_before_the_deadline() {
        let begin = Instant::now();
        let deadline = begin + Duration::from_secs(25);
        let (sender, receiver) = watch::channel(Command::Drain { deadline });
        let waiting = tokio::spawn(interruption(receiver));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        let at = Instant::now();
        sender.send_replace(Command::Abort { at });
        waiting.await.expect("it does not panic");
        assert_eq!(begin.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_interrupts_at_its_deadline() {
        let begin = Instant::now();
        let deadline = begin + Duration::from_secs(25);
        let (_sender, receiver) = watch::channel(Command::Drain { deadline });
        interruption(receiver).await;
        assert_eq!(Instant::now(), deadline);
    }

    #[tokio::test(start_paused = true)]
    async fn limits_shrink_towards_the_end() {
        let now = Instant::now();
        let limit = Duration::from_secs(2);
        assert_eq!(Command::Run.within(limit), limit);
        assert_eq!(Command::Drain { deadline: now }.within(limit), limit);
        assert_eq!(Command::Abort { at: now }.within(limit), ABORT_LIMIT);
    }
}
