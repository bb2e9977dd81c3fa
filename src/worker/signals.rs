//! The action of each signal. Pure but for the listening.
//!
//! | signal | what it does |
//! | --- | --- |
//! | SIGTERM, SIGINT, SIGQUIT | drains; another of them aborts the drain |
//! | SIGHUP | has the configuration read again, if there is a file; else as SIGTERM |
//! | SIGUSR1, SIGUSR2, SIGALRM | nothing |
//!
//! A signal within [`SAME_SIGNAL`] of the one before counts as the same: shells and process supervisors often send
//! each signal twice, to the process and to its group.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::process::let_signals_through;

/// Two signals within this time are one, sent twice.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

const HANGUP: &str = "SIGHUP";

/// The action that a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalAction {
    /// Drain, with this reason.
    Drain(&'static str),
    /// Read the configuration again.
    Reload,
    /// End the drain at once.
    Abort,
    /// Nothing.
    Ignore,
}

/// Decides what each signal asks for, by those that came before.
#[derive(Debug, Default)]
struct SignalPolicy {
    /// Whether there is a configuration to read again.
    reloads: bool,
    last: Option<Instant>,
    draining: bool,
}

impl SignalPolicy {
    /// The decision for the signal of this name that arrives `now`.
    fn decide(&mut self, name: &'static str, now: Instant) -> SignalAction {
        if name == HANGUP && self.reloads {
            return if self.draining {
                SignalAction::Ignore
            } else {
                SignalAction::Reload
            };
        }
        let is_repeat = self
            .last
            .is_some_and(|last| now.saturating_duration_since(last) < SAME_SIGNAL);
        self.last = Some(now);
        if !self.draining {
            self.draining = true;
            SignalAction::Drain(name)
        } else if is_repeat {
            SignalAction::Ignore
        } else {
            SignalAction::Abort
        }
    }
}

/// Listens for signals from the moment it is made. What the process inherited, ignored or blocked signals, does not
/// matter.
#[derive(Debug)]
pub struct Signals {
    ends: [(&'static str, Signal); 4],
    policy: SignalPolicy,
}

impl Signals {
    /// Takes over the signals of the table above for the whole process.
    ///
    /// # Errors
    /// When the operating system refuses to tell of a signal.
    pub fn listen() -> io::Result<Self> {
        // Their default is to end the process with everything in flight. Once somebody has listened, they do nothing.
        for idle in [
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
            SignalKind::alarm(),
        ] {
            drop(signal(idle)?);
        }
        let signals = Self {
            ends: [
                ("SIGTERM", signal(SignalKind::terminate())?),
                ("SIGINT", signal(SignalKind::interrupt())?),
                (HANGUP, signal(SignalKind::hangup())?),
                ("SIGQUIT", signal(SignalKind::quit())?),
            ],
            policy: SignalPolicy::default(),
        };
        // Last, so that one that has come already finds its listener.
        let_signals_through()?;
        Ok(signals)
    }

    /// Whether SIGHUP has the configuration read again from now on, instead of draining.
    pub fn reload_at_hangup(&mut self, reloads: bool) {
        self.policy.reloads = reloads;
    }

    /// Resolves at the next signal that asks for something. Cancel safe.
    pub async fn next(&mut self) -> SignalAction {
        loop {
            let [term, int, hup, quit] = &mut self.ends;
            let name = tokio::select! {
                Some(()) = term.1.recv() => term.0,
                Some(()) = int.1.recv() => int.0,
                Some(()) = hup.1.recv() => hup.0,
                Some(()) = quit.1.recv() => quit.0,
                else => return std::future::pending().await,
            };
            match self.policy.decide(name, Instant::now()) {
                SignalAction::Ignore => {}
                action => return action,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_signal_drains_and_a_later_one_aborts() {
        let mut policy = SignalPolicy::default();
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let drain = SignalAction::Drain("SIGTERM");
        assert_eq!(policy.decide("SIGTERM", at(0)), drain);
        assert_eq!(policy.decide("SIGTERM", at(99)), SignalAction::Ignore);
        // Each repeat starts the time anew: a supervisor that sends a burst is still one supervisor.
        assert_eq!(policy.decide("SIGINT", at(198)), SignalAction::Ignore);
        assert_eq!(policy.decide("SIGINT", at(298)), SignalAction::Abort);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hangup_reloads_if_there_is_something_to_read_again() {
        let now = Instant::now();
        let drain = SignalAction::Drain(HANGUP);
        assert_eq!(SignalPolicy::default().decide(HANGUP, now), drain);
        let mut policy = SignalPolicy {
            reloads: true,
            ..SignalPolicy::default()
        };
        assert_eq!(policy.decide(HANGUP, now), SignalAction::Reload);
        let term = SignalAction::Drain("SIGTERM");
        assert_eq!(policy.decide("SIGTERM", now), term, "it is no repetition");
        assert_eq!(policy.decide(HANGUP, now), SignalAction::Ignore);
    }

    #[tokio::test(start_paused = true)]
    async fn a_quit_drains_first_and_aborts_a_drain() {
        let mut policy = SignalPolicy::default();
        let now = Instant::now();
        assert_eq!(
            policy.decide("SIGQUIT", now),
            SignalAction::Drain("SIGQUIT")
        );
        let later = now + SAME_SIGNAL;
        assert_eq!(policy.decide("SIGQUIT", later), SignalAction::Abort);
    }
}
