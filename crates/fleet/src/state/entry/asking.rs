//! When a worker is asked, and what.

use std::time::Duration;

use super::Entry;
use crate::clock::Moment;
use crate::state::contact::{Question, Verdict};

/// The least time between two requests for a whole state.
const REPORT_AGAIN: Duration = Duration::from_secs(60);

impl Entry {
    /// Another worker of its name has begun: it may have replaced this one.
    pub(in super::super) fn doubt(&mut self) {
        self.contact.doubt();
    }

    /// Room is scarce: it has to show that somebody has its control queue.
    pub(in super::super) fn must_answer(&mut self) {
        if !self.has_stopped() && !self.is_proven() {
            self.contact.must_answer();
        }
    }

    /// It is being asked; returns what.
    pub(in super::super) fn ask(&mut self, now: Moment) -> Question {
        let report = self.report_next.is_some_and(|at| at <= now);
        if report {
            self.report_next = Some(now.after(REPORT_AGAIN));
        }
        self.contact.ask(now, report)
    }

    pub(in super::super) fn unasked(&mut self) {
        self.contact.unasked();
    }

    pub(in super::super) fn is_asked(&self) -> bool {
        !self.has_stopped() && self.contact.is_asked()
    }

    pub(in super::super) fn wants_asking(&self, now: Moment) -> bool {
        if self.has_stopped() || self.contact.is_asked() {
            return false;
        }
        let fine = self.contact.verdict() == Verdict::Fine;
        let report = fine && self.report_next.is_some_and(|at| at <= now);
        self.contact.wants_asking() || report
    }

    /// When to [look](Self::look) next; nothing if it is to be asked first.
    pub(in super::super) fn next_look(&self, now: Moment, checks: bool) -> Option<Moment> {
        if self.has_stopped() || self.wants_asking(now) {
            return None;
        }
        let may_report = self.contact.verdict() == Verdict::Fine && !self.contact.is_asked();
        let report = self.report_next.filter(|_| may_report);
        let looks = [self.contact.next_look(self.check_after(checks)), report];
        looks.into_iter().flatten().min()
    }
}
