//! Tells any number of observers that a drain has begun, and when it must end.

use tokio::sync::watch;
use tokio::time::Instant;

/// Makes a pair: the trigger begins the drain, the signal observes it.
#[derive(Debug)]
pub struct DrainTrigger(watch::Sender<Option<Instant>>);

impl DrainTrigger {
    /// A trigger that has not fired.
    pub fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// An observer of this trigger.
    pub fn signal(&self) -> DrainSignal {
        DrainSignal(self.0.subscribe())
    }

    /// Begins the drain. The first deadline stands; a later call changes nothing.
    pub fn begin(&self, deadline: Instant) {
        self.0.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(deadline);
            }
            first
        });
    }
}

impl Default for DrainTrigger {
    fn default() -> Self {
        Self::new()
    }
}

/// Observes whether a drain has begun.
#[derive(Debug, Clone)]
pub struct DrainSignal(watch::Receiver<Option<Instant>>);

impl DrainSignal {
    /// The drain's deadline; `None` while no drain has begun.
    pub fn deadline(&self) -> Option<Instant> {
        *self.0.borrow()
    }

    /// Resolves with the deadline when a drain has begun; at once if it has. Never resolves when the
    /// trigger is gone without having fired. Cancel safe.
    pub async fn begun(&self) -> Instant {
        let mut receiver = self.0.clone();
        // The guard that `wait_for` gives must not live across the other await.
        let deadline = receiver.wait_for(Option::is_some).await.map(|begun| *begun);
        match deadline {
            Ok(deadline) => deadline.expect("wait_for returned because a deadline is set"),
            Err(_trigger_gone) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_first_deadline_stands() {
        let trigger = DrainTrigger::new();
        let signal = trigger.signal();
        assert_eq!(signal.deadline(), None);
        let first = Instant::now() + Duration::from_secs(5);
        trigger.begin(first);
        trigger.begin(first + Duration::from_secs(5));
        assert_eq!(signal.begun().await, first);
    }
}
