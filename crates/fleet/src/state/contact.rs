//! The contact with a worker: what is known of it beside its own messages. Pure.

use std::time::Duration;

use super::super::clock::Moment;

/// How long after the first sign that the control queue is gone the worker is asked once more. By then a drain report
/// that was under way has come, and a worker that only connected anew has its queue again.
pub(super) const SETTLE: Duration = Duration::from_millis(500);
/// The time limit for a worker's answer while its control queue is there.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long before the end of its lease a worker is asked: a sixth of the lease, and at least this. By then two
/// beats are missing, and if the question comes back there is time to ask again before the lease ends.
const EARLY: Duration = Duration::from_secs(1);
/// The interval of questions to a silent worker.
pub(super) const SILENT_AGAIN: Duration = Duration::from_secs(30);
/// The longest way of a message. One that comes later than this after its sender's queue was gone was sent later.
const LATE_LIMIT: Duration = Duration::from_secs(10);

const _: () = assert!(
    SETTLE.as_millis() < ANSWER_LIMIT.as_millis()
        && ANSWER_LIMIT.as_millis() < LATE_LIMIT.as_millis()
        && LATE_LIMIT.as_millis() < SILENT_AGAIN.as_millis(),
    "a question is over before the next one is put"
);

/// The conclusion from the contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The worker is what it says it is.
    Fine,
    /// Its control queue is there, and it does not answer.
    Silent,
    /// Its control queue is gone.
    Lost,
}

/// A question to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Is the control queue there? The broker answers by returning the message, or not; the worker need not.
    Present,
    /// Does the worker answer?
    Ping,
    /// What is its whole state?
    Report,
}

/// The next step of the contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    /// Nothing until then.
    Rest(Moment),
    /// It is to be asked.
    Ask,
    /// It was asked, and has until then to answer.
    Asked(Moment),
    /// Its queue is to be looked for; after that nothing until then.
    Check(Moment),
    /// The broker was asked whether its queue is there, and has until the first moment; after that as above.
    Checking(Moment, Moment),
    /// Nothing.
    Never,
}

/// The contact with one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Contact {
    verdict: Verdict,
    probe: Probe,
    /// Until when its lease holds.
    held: Option<Moment>,
    /// When the control queue was last known to be there.
    seen: Option<Moment>,
    /// When the first sign came that the control queue is gone, unless it was there again since.
    gone: Option<Moment>,
}

impl Contact {
    /// Nothing is known: it is to be asked.
    pub(super) fn unknown() -> Self {
        Self {
            verdict: Verdict::Fine,
            probe: Probe::Ask,
            held: None,
            seen: None,
            gone: None,
        }
    }

    pub(super) fn verdict(self) -> Verdict {
        self.verdict
    }

    /// Until when its lease holds.
    pub(super) fn held_until(self) -> Option<Moment> {
        self.held
            .filter(|_| self.verdict == Verdict::Fine && self.gone.is_none())
    }

    pub(super) fn is_asked(self) -> bool {
        matches!(self.probe, Probe::Asked(_) | Probe::Checking(..))
    }

    pub(super) fn wants_asking(self) -> bool {
        matches!(self.probe, Probe::Ask | Probe::Check(_))
    }

    /// When to [look](Self::look) next. `check` is how long a control queue counts as there without a look for it;
    /// nothing if the broker's events tell when it goes.
    pub(super) fn next_look(self, check: Option<Duration>) -> Option<Moment> {
        match self.probe {
            Probe::Rest(at) => Some(self.next_check(check).map_or(at, |check| check.min(at))),
            Probe::Asked(at) | Probe::Checking(at, _) => Some(at),
            Probe::Ask | Probe::Check(_) | Probe::Never => None,
        }
    }

    fn next_check(self, check: Option<Duration>) -> Option<Moment> {
        let seen = self
            .seen
            .filter(|_| self.verdict == Verdict::Fine && self.gone.is_none());
        Some(seen?.after(check?))
    }

    /// A message came that is newer than all before.
    pub(super) fn heard(&mut self, now: Moment, lease: Duration) {
        match self.gone {
            // It may have been sent before the queue was gone.
            Some(gone) if now.since(gone) <= LATE_LIMIT => {
                if self.verdict == Verdict::Lost && !self.is_asked() {
                    self.probe = Probe::Ask;
                }
            }
            _ => self.answered(now, lease),
        }
    }

    /// It answered: its control queue is there, and it lives.
    pub(super) fn answered(&mut self, now: Moment, lease: Duration) {
        *self = Self {
            verdict: Verdict::Fine,
            probe: Probe::Rest(now.after(lease.saturating_sub(early(lease)))),
            held: Some(now.after(lease)),
            seen: Some(now),
            gone: None,
        };
    }

    /// The log says whether it was lost after its last message. That holds until the worker is heard or asked.
    pub(super) fn told_by_log(&mut self, lost: bool) {
        let unknown = self.held.is_none() && self.seen.is_none() && self.gone.is_none();
        if unknown && self.probe == Probe::Ask {
            self.verdict = if lost { Verdict::Lost } else { Verdict::Fine };
        }
    }

    /// There is a reason to look for the control queue soon.
    pub(super) fn doubt(&mut self) {
        if let Probe::Rest(until) = self.probe
            && self.verdict == Verdict::Fine
            && self.gone.is_none()
        {
            self.probe = Probe::Check(until);
        }
    }

    /// It is to be asked soon, whatever its lease.
    pub(super) fn must_answer(&mut self) {
        if let Probe::Rest(_) | Probe::Check(_) = self.probe
            && self.verdict == Verdict::Fine
        {
            self.probe = Probe::Ask;
        }
    }

    /// The broker says that the control queue is there.
    pub(super) fn present(&mut self, now: Moment) {
        if let Probe::Checking(_, rest) = self.probe {
            self.probe = Probe::Rest(rest);
            self.seen = Some(now);
        }
    }

    /// The control queue is not there.
    pub(super) fn queue_gone(&mut self, now: Moment) {
        let first = *self.gone.get_or_insert(now);
        let settled = first.after(SETTLE);
        if self.verdict == Verdict::Lost || settled <= now {
            self.verdict = Verdict::Lost;
            self.probe = Probe::Never;
        } else {
            self.probe = Probe::Rest(settled);
        }
    }

    /// Time has passed; `check` is as in [`next_look`](Self::next_look).
    pub(super) fn look(&mut self, now: Moment, check: Option<Duration>) {
        match self.probe {
            Probe::Rest(until) if until <= now => self.probe = Probe::Ask,
            Probe::Rest(until) if self.next_check(check).is_some_and(|check| check <= now) => {
                self.probe = Probe::Check(until);
            }
            Probe::Asked(until) if until <= now => {
                // The question was routed, or it would have come back: the queue is there.
                self.gone = None;
                self.seen = Some(now);
                match self.held {
                    // Nobody is silent while its lease holds: it is asked once more at its end.
                    Some(held) if held > now => self.probe = Probe::Rest(held),
                    _ => {
                        self.verdict = Verdict::Silent;
                        self.probe = Probe::Rest(now.after(SILENT_AGAIN));
                    }
                }
            }
            Probe::Checking(until, rest) if until <= now => self.probe = Probe::Check(rest),
            Probe::Rest(_)
            | Probe::Asked(_)
            | Probe::Ask
            | Probe::Check(_)
            | Probe::Checking(..)
            | Probe::Never => {}
        }
    }

    /// A question is sent; returns which. If `report`, it asks for the whole state.
    pub(super) fn ask(&mut self, now: Moment, report: bool) -> Question {
        let until = now.after(ANSWER_LIMIT);
        match self.probe {
            Probe::Check(rest) if !report => {
                self.probe = Probe::Checking(until, rest);
                Question::Present
            }
            _ => {
                self.probe = Probe::Asked(until);
                if report {
                    Question::Report
                } else {
                    Question::Ping
                }
            }
        }
    }

    /// The question was not sent, or its answer cannot be heard.
    pub(super) fn unasked(&mut self) {
        match self.probe {
            Probe::Asked(_) => self.probe = Probe::Ask,
            Probe::Checking(_, rest) => self.probe = Probe::Check(rest),
            Probe::Rest(_) | Probe::Ask | Probe::Check(_) | Probe::Never => {}
        }
    }
}

fn early(lease: Duration) -> Duration {
    (lease / 6).max(EARLY).min(lease / 2)
}

#[cfg(test)]
mod tests;
