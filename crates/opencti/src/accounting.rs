//! What the platform has to be told about a work, each thing once.
//!
//! A work is complete when as many expectations were reported as were declared: one report too many completes
//! it too early, one too few leaves it open. So reports are kept here until the platform has taken them, and
//! all of a message's imports end before its first report: a message that is handed back in between is
//! imported again, but it was not reported.

use std::collections::VecDeque;

use crate::schedule::{Rejection, source};

/// An error as the platform takes it (`WorkErrorInput`).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct WorkError {
    /// What went wrong.
    pub error: String,
    /// The object it went wrong with, as JSON.
    pub source: String,
}

/// One thing to tell the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// So many more expectations will be reported (`addExpectations`).
    Add(u64),
    /// One expectation is met, or failed (`reportExpectation`).
    Report {
        /// `None` means success.
        error: Option<WorkError>,
        /// Whether the request leaves the draft header out.
        without_draft: bool,
    },
}

/// The account of one message.
#[derive(Debug, Clone, Default)]
pub struct Account {
    work: Option<String>,
    calls: VecDeque<Call>,
    sent: u64,
}

impl Account {
    /// The account of a message that belongs to `work`. Without a work nothing is ever told.
    pub fn new(work: Option<String>) -> Self {
        Self {
            work,
            ..Self::default()
        }
    }

    /// Which work.
    pub fn work(&self) -> Option<&str> {
        self.work.as_deref()
    }

    /// Notes that `count` more expectations have to be declared.
    pub fn declare(&mut self, count: u64) {
        if count > 0 {
            self.note(Call::Add(count));
        }
    }

    /// Notes that an object was imported.
    pub fn imported(&mut self) {
        self.note(Call::Report {
            error: None,
            without_draft: false,
        });
    }

    /// Notes that an object was given up.
    pub fn rejected(&mut self, rejection: &Rejection, object: &str) {
        let source = rejection.source.unwrap_or_else(|| source(object));
        self.note(Call::Report {
            error: Some(WorkError {
                error: rejection.error.clone(),
                source: source.to_owned(),
            }),
            without_draft: rejection.without_draft,
        });
    }

    /// Notes that an object has too many references.
    pub fn too_large(&mut self, id: &str) {
        self.failed(
            "Too large element in bundle",
            format!("Element {id} is too large and couldn't be processed"),
        );
    }

    /// Notes that the splitter set an object aside.
    pub fn incompatible(&mut self, id: &str) {
        self.failed(
            "Incompatible element in bundle",
            format!("Element {id} is incompatible and couldn't be processed"),
        );
    }

    /// Notes that the whole message cannot be imported.
    pub fn poison(&mut self, reason: &str, body: &str) {
        self.failed(reason, source(body).to_owned());
    }

    fn failed(&mut self, error: &str, source: String) {
        self.note(Call::Report {
            error: Some(WorkError {
                error: error.to_owned(),
                source,
            }),
            without_draft: false,
        });
    }

    fn note(&mut self, call: Call) {
        if self.work.is_some() {
            self.calls.push_back(call);
        }
    }

    /// What has to be told next.
    pub fn next(&self) -> Option<&Call> {
        self.calls.front()
    }

    /// The work, and what has to be told next.
    pub fn next_call(&self) -> Option<(&str, &Call)> {
        Some((self.work()?, self.next()?))
    }

    /// Whether there is nothing left to tell.
    pub fn is_settled(&self) -> bool {
        self.calls.is_empty()
    }

    /// The platform has taken the call that [`Account::next`] gave, or will never take it.
    pub fn settled(&mut self) {
        self.sent += u64::from(self.calls.pop_front().is_some());
    }

    /// How many calls wait, and how many the platform has taken.
    pub fn progress(&self) -> (usize, u64) {
        (self.calls.len(), self.sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Action, MissingReferenceDelays, Runs};
    use crate::signs::Sign;

    fn calls(mut account: Account) -> Vec<Call> {
        let mut calls = Vec::new();
        while let Some(call) = account.next() {
            calls.push(call.clone());
            account.settled();
        }
        calls
    }

    #[test]
    fn without_a_work_nothing_is_told() {
        let mut account = Account::new(None);
        account.declare(3);
        account.imported();
        account.too_large("a");
        account.poison("p", "b");
        assert_eq!(account.next(), None);
    }

    #[test]
    fn the_declaration_comes_before_the_reports() {
        let mut account = Account::new(Some("work".into()));
        account.declare(0);
        account.declare(2);
        account.imported();
        account.incompatible("x--1");
        let calls = calls(account);
        assert_eq!(calls[0], Call::Add(2));
        assert!(matches!(calls[1], Call::Report { error: None, .. }));
        let Call::Report {
            error: Some(error), ..
        } = &calls[2]
        else {
            panic!("{calls:?}");
        };
        assert_eq!(error.error, "Incompatible element in bundle");
        assert_eq!(
            error.source,
            "Element x--1 is incompatible and couldn't be processed"
        );
        assert_eq!(calls.len(), 3);
    }

    #[test]
    fn a_call_stays_until_it_is_settled() {
        let mut account = Account::new(Some("work".into()));
        account.imported();
        assert_eq!(account.next(), account.next());
        account.settled();
        assert_eq!(account.progress(), (0, 1));
        account.settled();
        assert_eq!(account.progress(), (0, 1));
    }

    #[test]
    fn a_locked_draft_is_reported_without_it() {
        let sign = Sign {
            name: Some("DRAFT_LOCKED".into()),
            text: "locked".into(),
            ..Sign::default()
        };
        let action = Runs::default().failed(&sign, MissingReferenceDelays::default(), 0.0);
        let Action::Reject(rejection) = action else {
            panic!("{action:?}");
        };
        let mut account = Account::new(Some("work".into()));
        account.rejected(&rejection, "{}");
        assert_eq!(
            calls(account),
            [Call::Report {
                error: Some(WorkError {
                    error: "locked".into(),
                    source: "Draft in read only".into()
                }),
                without_draft: true
            }]
        );
    }
}
