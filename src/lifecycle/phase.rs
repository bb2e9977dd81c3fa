//! The phases of a worker's life and the events that move it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The phase of a worker. A lost connection to the broker does not change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Started, and not consuming yet.
    Starting,
    /// Consuming.
    Running,
    /// Not consuming, because a command paused it.
    Paused,
    /// Stopping in order: it takes no new work and finishes what runs.
    Draining,
    /// Its drain has ended.
    Stopped,
}

/// What moves a worker from one phase to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// Every node consumes for the first time.
    Ready,
    /// A pause was asked for.
    Pause,
    /// A resumption was asked for.
    Resume,
    /// A signal or a command asked for a drain.
    Drain,
    /// The drain is over.
    Drained,
}

/// An event that cannot happen in a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a worker that is {phase} cannot take {event:?}")]
pub struct IllegalTransition {
    /// The phase it happened in.
    pub phase: Phase,
    /// What happened.
    pub event: Event,
}

impl Phase {
    /// The phase after `event`.
    ///
    /// # Errors
    /// [`IllegalTransition`] where the event cannot happen in this phase; the phase stays as it is.
    ///
    /// ```
    /// use tidegate::lifecycle::{Event, Phase};
    ///
    /// assert_eq!(Phase::Running.next(Event::Drain), Ok(Phase::Draining));
    /// assert!(Phase::Draining.next(Event::Resume).is_err());
    /// ```
    pub fn next(self, event: Event) -> Result<Self, IllegalTransition> {
        match (self, event) {
            (Self::Starting, Event::Ready) | (Self::Paused, Event::Resume) => Ok(Self::Running),
            (Self::Running, Event::Pause) => Ok(Self::Paused),
            (Self::Starting | Self::Running | Self::Paused, Event::Drain) => Ok(Self::Draining),
            (Self::Draining, Event::Drained) => Ok(Self::Stopped),
            (Self::Starting, Event::Pause | Event::Resume | Event::Drained)
            | (Self::Running, Event::Ready | Event::Resume | Event::Drained)
            | (Self::Paused, Event::Ready | Event::Pause | Event::Drained)
            | (Self::Draining, Event::Ready | Event::Pause | Event::Resume | Event::Drain)
            | (
                Self::Stopped,
                Event::Ready | Event::Pause | Event::Resume | Event::Drain | Event::Drained,
            ) => Err(IllegalTransition { phase: self, event }),
        }
    }

    /// The phase's word, as in status messages and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [Phase; 5] = [
        Phase::Starting,
        Phase::Running,
        Phase::Paused,
        Phase::Draining,
        Phase::Stopped,
    ];
    const EVENTS: [Event; 5] = [
        Event::Ready,
        Event::Pause,
        Event::Resume,
        Event::Drain,
        Event::Drained,
    ];

    #[test]
    fn every_pair_of_phase_and_event_is_decided() {
        let legal = [
            (Phase::Starting, Event::Ready, Phase::Running),
            (Phase::Starting, Event::Drain, Phase::Draining),
            (Phase::Running, Event::Pause, Phase::Paused),
            (Phase::Running, Event::Drain, Phase::Draining),
            (Phase::Paused, Event::Resume, Phase::Running),
            (Phase::Paused, Event::Drain, Phase::Draining),
            (Phase::Draining, Event::Drained, Phase::Stopped),
        ];
        for phase in PHASES {
            for event in EVENTS {
                let expected = legal
                    .iter()
                    .find(|(from, on, _)| (*from, *on) == (phase, event))
                    .map(|(_, _, to)| *to)
                    .ok_or(IllegalTransition { phase, event });
                assert_eq!(phase.next(event), expected, "{phase} on {event:?}");
            }
        }
    }

    #[test]
    fn the_table_in_the_documentation_is_the_code() {
        let documentation = include_str!("../lib.rs");
        for phase in PHASES {
            let cells: Vec<String> = EVENTS
                .iter()
                .map(|&event| {
                    phase
                        .next(event)
                        .map_or(" |".into(), |to| format!(" {to} |"))
                })
                .collect();
            let row = format!("//! | {phase} |{}", cells.concat());
            assert!(documentation.contains(&row), "the table has no row {row:?}");
        }
    }

    #[test]
    fn nothing_leaves_a_drain_but_its_end() {
        for event in EVENTS {
            if event != Event::Drained {
                assert!(Phase::Draining.next(event).is_err());
            }
            assert!(Phase::Stopped.next(event).is_err());
        }
    }
}
