//! Works that the platform has ended: one log line for each, however many of their objects still come.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// How many works are remembered.
const REMEMBERED: usize = 1_000;

/// The works that ended last.
#[derive(Debug, Default)]
pub(crate) struct DeadWorks(Mutex<VecDeque<String>>);

impl DeadWorks {
    /// Whether this is the first object of the ended `work`, as far as it is remembered.
    pub(crate) fn is_first(&self, work: &str) -> bool {
        let mut works = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if works.iter().any(|known| known == work) {
            return false;
        }
        if works.len() == REMEMBERED {
            works.pop_front();
        }
        works.push_back(work.to_owned());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_work_is_first_once_and_memory_is_bounded() {
        let works = DeadWorks::default();
        assert!(works.is_first("a"));
        assert!(!works.is_first("a"));
        for number in 0..REMEMBERED {
            assert!(works.is_first(&number.to_string()));
        }
        assert!(works.is_first("a"), "it was forgotten");
        assert_eq!(works.0.lock().unwrap().len(), REMEMBERED);
    }
}
