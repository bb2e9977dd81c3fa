//! How much the next request to the platform carries, decided from the answers to those before. Pure.
//!
//! A request that the platform refuses for its content is halved until one change is left. Then a request without any
//! change tells whether that change is at fault, or whether the platform refuses everything.

use http::StatusCode;

/// Changes that one request carries at most.
const CHANGES_MOST: usize = 2_000;

/// Refusals that are about the address, the token or the time: nothing is wrong with the content.
const NOT_THE_CONTENT: [u16; 10] = [401, 403, 404, 405, 407, 408, 410, 421, 425, 429];

/// How a platform took a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reception {
    /// It was taken.
    Taken,
    /// It was not taken, and the same request may be taken later.
    Unavailable,
    /// The platform refuses its content: the same request would be refused again.
    Refused,
    /// The platform refuses its size.
    TooLarge,
    /// The platform refuses its coding.
    CodingRefused,
}

impl Reception {
    /// The meaning of a status.
    pub(super) fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            200..=299 => Self::Taken,
            413 => Self::TooLarge,
            415 => Self::CodingRefused,
            code @ 400..=499 if !NOT_THE_CONTENT.contains(&code) => Self::Refused,
            _ => Self::Unavailable,
        }
    }
}

/// The next step after the platform has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The changes are told.
    Told,
    /// The changes are told later, after a wait.
    Wait,
    /// The changes are told by another request, at once.
    Again,
    /// The platform takes requests, but not the one change that was kept aside.
    GiveUp,
}

/// The size and the coding of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Portions {
    most: usize,
    /// One change was refused, and is kept aside until a request without changes is answered.
    testing: bool,
    gzip: bool,
    /// The platform has accepted a request with this content coding.
    proven: bool,
}

impl Default for Portions {
    fn default() -> Self {
        Self {
            most: CHANGES_MOST,
            testing: false,
            gzip: true,
            proven: false,
        }
    }
}

impl Portions {
    /// How many changes the next request carries at most.
    pub(super) fn most(&self) -> usize {
        if self.testing { 0 } else { self.most }
    }

    /// Whether the next request is compressed.
    pub(super) fn gzip(&self) -> bool {
        self.gzip
    }

    /// Whether the last change is kept aside, until it is known whether it is at fault.
    pub(super) fn is_testing(&self) -> bool {
        self.testing
    }

    /// A request with so many changes was answered.
    pub(super) fn answered(&mut self, carried: usize, reception: Reception) -> Next {
        match reception {
            Reception::Taken => {
                self.proven = true;
                if std::mem::take(&mut self.testing) {
                    return Next::GiveUp;
                }
                self.most = (self.most * 2).min(CHANGES_MOST);
                Next::Told
            }
            Reception::Unavailable => {
                self.testing = false;
                Next::Wait
            }
            Reception::CodingRefused if self.gzip => self.uncompress(),
            // A platform that does not know the coding may say that it cannot read the content.
            Reception::Refused if self.gzip && !self.proven && carried <= 1 => self.uncompress(),
            Reception::Refused | Reception::TooLarge | Reception::CodingRefused => {
                self.refused(carried)
            }
        }
    }

    fn uncompress(&mut self) -> Next {
        self.gzip = false;
        self.proven = false;
        self.testing = false;
        Next::Again
    }

    fn refused(&mut self, carried: usize) -> Next {
        match carried {
            0 => {
                self.testing = false;
                Next::Wait
            }
            1 => {
                self.testing = true;
                Next::Again
            }
            more => {
                self.most = more / 2;
                Next::Again
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Tells changes to a platform, until all are told or given up: the requests, and what was given up. Waits end it.
    fn tell(
        portions: &mut Portions,
        count: usize,
        platform: impl Fn(&[usize], bool) -> Reception,
    ) -> (usize, Vec<usize>) {
        let mut left: BTreeSet<usize> = (0..count).collect();
        let (mut aside, mut given_up) = (None, Vec::new());
        for requests in 1..1_000 {
            let carried: Vec<usize> = left.iter().copied().take(portions.most()).collect();
            let reception = platform(&carried, portions.gzip());
            match portions.answered(carried.len(), reception) {
                Next::Told => left.retain(|change| !carried.contains(change)),
                Next::GiveUp => given_up.extend(aside.take()),
                Next::Again if portions.is_testing() => aside = left.pop_first(),
                Next::Again => left.extend(aside.take()),
                Next::Wait => {
                    left.extend(aside.take());
                    assert_eq!(left.len(), count, "nothing is lost");
                    return (requests, given_up);
                }
            }
            if left.is_empty() && aside.is_none() {
                return (requests, given_up);
            }
        }
        panic!("it never ends");
    }

    const fn taken_if(takes: bool) -> Reception {
        if takes {
            Reception::Taken
        } else {
            Reception::Refused
        }
    }

    #[test]
    fn a_request_that_is_too_large_is_split_until_it_is_taken() {
        let small = |carried: &[usize], _gzip| match carried.len() {
            0..=300 => Reception::Taken,
            _ => Reception::of(StatusCode::PAYLOAD_TOO_LARGE),
        };
        let mut portions = Portions::default();
        let (requests, given_up) = tell(&mut portions, 2_000, small);
        assert!(requests < 30, "{requests}");
        assert!(given_up.is_empty());
        assert!(portions.gzip(), "the size is at fault, not the coding");
    }

    #[test]
    fn a_change_that_is_refused_does_not_stop_the_others() {
        let bad = [7, 700, 701];
        let platform =
            |carried: &[usize], _gzip| taken_if(!carried.iter().any(|change| bad.contains(change)));
        let mut portions = Portions::default();
        portions.answered(0, Reception::Taken);
        let (requests, given_up) = tell(&mut portions, 2_000, platform);
        assert_eq!(given_up, bad);
        assert!(requests < 120, "{requests}");
    }

    #[test]
    fn a_platform_that_refuses_everything_costs_no_change() {
        let mut portions = Portions::default();
        let (_, given_up) = tell(&mut portions, 10, |_, _| Reception::Refused);
        assert!(given_up.is_empty());
        for status in [401, 403, 404, 429, 500, 503, 302] {
            let status = StatusCode::from_u16(status).unwrap();
            let (requests, given_up) = tell(&mut portions, 10, |_, _| Reception::of(status));
            assert_eq!((requests, given_up), (1, Vec::new()), "{status}");
        }
        let (requests, _) = tell(&mut portions, 1, |_, _| Reception::Taken);
        assert_eq!(requests, 1);
    }

    #[test]
    fn a_platform_that_reads_no_gzip_is_sent_plain_text() {
        for refusal in [Reception::CodingRefused, Reception::Refused] {
            let mut portions = Portions::default();
            let platform = |_: &[usize], gzip| if gzip { refusal } else { Reception::Taken };
            let (_, given_up) = tell(&mut portions, 100, platform);
            assert!(given_up.is_empty());
            assert!(!portions.gzip());
        }
    }
}
