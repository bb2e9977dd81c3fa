//! Whether a worker is there: what is known of it beside what it says of itself. Pure.

use std::time::Duration;

use super::super::clock::Moment;

/// How long after the first sign that the control queue is gone the worker is asked once more: a drain report
/// that was under way has come by then, and a worker that only connected anew has its queue again.
pub(super) const SETTLE: Duration = Duration::from_millis(500);
/// How long a worker whose control queue is there may take to answer.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long before the end of its lease a worker is asked: a sixth of the lease, and at least this. By then two
/// beats are missing, and where the question comes back there is time to ask again before the lease ends.
const EARLY: Duration = Duration::from_secs(1);
/// How often a silent worker is asked.
pub(super) const SILENT_AGAIN: Duration = Duration::from_secs(30);
/// How late a message may come. One that comes later after its sender's queue was gone was sent later.
const LATE_LIMIT: Duration = Duration::from_secs(10);

/// What the contact comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is what it says it is.
    Fine,
    /// Its control queue is there, and it does not answer.
    Silent,
    /// Its control queue is gone.
    Lost,
}

/// What is done about it next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    /// Nothing until then.
    Rest(Moment),
    /// It is to be asked.
    Ask,
    /// It was asked, and has until then.
    Asked(Moment),
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
        matches!(self.probe, Probe::Asked(_))
    }

    pub(super) fn wants_asking(self) -> bool {
        self.probe == Probe::Ask
    }

    /// When to [look](Self::look) next.
    pub(super) fn next_look(self) -> Option<Moment> {
        match self.probe {
            Probe::Rest(at) | Probe::Asked(at) => Some(at),
            Probe::Ask | Probe::Never => None,
        }
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
            gone: None,
        };
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

    /// Time has passed.
    pub(super) fn look(&mut self, now: Moment) {
        match self.probe {
            Probe::Rest(until) if until <= now => self.probe = Probe::Ask,
            Probe::Asked(until) if until <= now => {
                // The question was routed, or it would have come back: the queue is there.
                self.gone = None;
                match self.held {
                    // Nobody is silent whose lease holds: it is asked once more at its end.
                    Some(held) if held > now => self.probe = Probe::Rest(held),
                    _ => {
                        self.verdict = Verdict::Silent;
                        self.probe = Probe::Rest(now.after(SILENT_AGAIN));
                    }
                }
            }
            Probe::Rest(_) | Probe::Asked(_) | Probe::Ask | Probe::Never => {}
        }
    }

    /// The question is sent.
    pub(super) fn ask(&mut self, now: Moment) {
        self.probe = Probe::Asked(now.after(ANSWER_LIMIT));
    }

    /// The question was not sent, or its answer cannot be heard.
    pub(super) fn unasked(&mut self) {
        if self.is_asked() {
            self.probe = Probe::Ask;
        }
    }
}

fn early(lease: Duration) -> Duration {
    (lease / 6).max(EARLY).min(lease / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    fn at(ms: i64) -> Moment {
        Moment::from_ms(ms)
    }

    fn heard() -> Contact {
        let mut contact = Contact::unknown();
        contact.heard(at(0), LEASE);
        contact
    }

    fn lost(mut contact: Contact) -> Contact {
        contact.queue_gone(at(1_000));
        contact.look(at(1_500));
        contact.ask(at(1_500));
        contact.queue_gone(at(1_502));
        assert_eq!(contact.verdict(), Verdict::Lost);
        contact
    }

    #[test]
    fn a_worker_is_asked_shortly_before_its_lease_runs_out() {
        let mut contact = heard();
        contact.look(at(24_999));
        assert!(!contact.wants_asking());
        contact.look(at(25_000));
        assert!(contact.wants_asking());
        assert_eq!(contact.verdict(), Verdict::Fine, "asking is no verdict");
        assert_eq!(contact.held_until(), Some(at(30_000)));
        contact.ask(at(25_000));
        assert_eq!(contact.held_until(), Some(at(30_000)));
        contact.answered(at(25_005), LEASE);
        assert_eq!(contact, {
            let mut fresh = Contact::unknown();
            fresh.heard(at(25_005), LEASE);
            fresh
        });
    }

    #[test]
    fn a_crash_shows_within_the_lease() {
        for lease in [3_600, 30_000, 180_000] {
            let mut contact = Contact::unknown();
            contact.heard(at(0), Duration::from_millis(lease));
            let asked = contact.next_look().unwrap();
            contact.look(asked);
            contact.ask(asked);
            contact.queue_gone(asked.shifted(20));
            let again = contact.next_look().unwrap();
            contact.look(again);
            contact.ask(again);
            contact.queue_gone(again.shifted(20));
            assert_eq!(contact.verdict(), Verdict::Lost);
            let lease = i64::try_from(lease).unwrap();
            assert!(again.shifted(20) < at(lease), "{lease}: {again:?}");
        }
    }

    #[test]
    fn the_shortest_leases_are_not_asked_about_at_once() {
        let mut contact = Contact::unknown();
        contact.heard(at(0), Duration::from_secs(1));
        assert_eq!(contact.next_look(), Some(at(500)));
    }

    #[test]
    fn nobody_is_silent_whose_lease_holds() {
        let lease = Duration::from_secs(180);
        let mut contact = Contact::unknown();
        contact.heard(at(0), lease);
        contact.look(at(150_000));
        contact.ask(at(150_000));
        contact.look(at(155_000));
        assert!(!contact.is_asked(), "others may be asked");
        assert_eq!(contact.verdict(), Verdict::Fine);
        contact.look(at(180_000));
        assert!(contact.wants_asking());
        contact.ask(at(180_000));
        contact.look(at(185_000));
        assert_eq!(contact.verdict(), Verdict::Silent);
    }

    #[test]
    fn a_worker_whose_queue_is_gone_is_asked_once_more_before_it_is_lost() {
        let mut contact = heard();
        contact.queue_gone(at(1_000));
        assert_eq!(contact.verdict(), Verdict::Fine);
        assert_eq!(contact.next_look(), Some(at(1_500)));
        contact.queue_gone(at(1_200));
        assert_eq!(contact.verdict(), Verdict::Fine, "twice told is not asked");
        lost(heard());
    }

    #[test]
    fn a_worker_that_connected_anew_is_never_called_lost() {
        let mut contact = heard();
        contact.queue_gone(at(1_000));
        contact.look(at(1_500));
        contact.ask(at(1_500));
        contact.answered(at(1_502), LEASE);
        assert_eq!(contact.verdict(), Verdict::Fine);
        assert_eq!(contact.next_look(), Some(at(26_502)));
        assert_eq!(contact.held_until(), Some(at(31_502)));
    }

    #[test]
    fn a_late_message_does_not_revive_a_lost_worker_but_asks_it() {
        let mut contact = lost(heard());
        contact.heard(at(2_000), LEASE);
        assert_eq!(contact.verdict(), Verdict::Lost);
        assert!(contact.wants_asking());
        contact.ask(at(2_000));
        contact.queue_gone(at(2_001));
        assert_eq!(contact.verdict(), Verdict::Lost);
        assert!(!contact.wants_asking());
        contact.heard(at(30_000), LEASE);
        assert_eq!(
            contact.verdict(),
            Verdict::Fine,
            "no message is as late as that"
        );
    }

    #[test]
    fn a_worker_that_does_not_answer_is_silent_until_it_does_or_its_queue_is_gone() {
        let mut contact = heard();
        contact.look(at(30_000));
        contact.ask(at(30_000));
        contact.look(at(34_999));
        assert_eq!(contact.verdict(), Verdict::Fine);
        contact.look(at(35_000));
        assert_eq!(contact.verdict(), Verdict::Silent);
        contact.look(at(65_000));
        assert!(contact.wants_asking());
        let asked = {
            contact.ask(at(65_000));
            contact
        };
        let mut back = asked;
        back.heard(at(65_001), LEASE);
        assert_eq!(back.verdict(), Verdict::Fine);
        let mut gone = asked;
        gone.queue_gone(at(65_001));
        assert_eq!(gone.verdict(), Verdict::Silent);
        gone.look(at(65_501));
        gone.ask(at(65_501));
        gone.queue_gone(at(65_502));
        assert_eq!(gone.verdict(), Verdict::Lost);
    }

    #[test]
    fn a_question_that_was_not_sent_is_asked_again() {
        let mut contact = Contact::unknown();
        contact.ask(at(0));
        assert!(contact.is_asked());
        contact.unasked();
        assert!(contact.wants_asking());
        let mut rested = heard();
        rested.unasked();
        assert_eq!(rested, heard());
    }
}
