//! Caution after the broker closed a connection for trouble of its own.
//!
//! RabbitMQ closes a connection (541) when it cannot deliver one message on it, and counts that as a failed delivery of
//! everything that was prefetched beside it. With a delivery limit it would then set good messages aside, too. So a node
//! takes deliveries one by one until as many have come as it would have prefetched.

use super::port::BrokerLink;
use super::task::{Mode, Task};

/// Whether deliveries are taken one by one.
#[derive(Debug)]
pub(super) struct Caution<L> {
    /// The link of the last channel.
    link: Option<L>,
    /// How many more deliveries have to come before it ends; `None` without caution.
    left: Option<u16>,
}

impl<L: BrokerLink> Caution<L> {
    /// No caution.
    pub(super) fn none() -> Self {
        Self {
            link: None,
            left: None,
        }
    }

    /// The prefetch of a channel that is opened on `link`, of a node that would have `usual`.
    pub(super) fn prefetch(&mut self, link: &L, mode: Mode, usual: u16) -> u16 {
        let before = self.link.replace(link.clone());
        if before.is_some_and(|before| before.was_closed_by_broker()) {
            self.left = Some(usual);
        }
        // A drain asks for its last deliveries, and has no time to lose.
        if self.left.is_some() && mode == Mode::Running {
            1
        } else {
            usual
        }
    }

    /// Whether deliveries are taken one by one.
    pub(super) fn is_on(&self) -> bool {
        self.left.is_some()
    }

    /// A delivery has come.
    pub(super) fn delivered(&mut self) {
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
        }
    }
}

impl<L: BrokerLink> Task<L> {
    /// Enough deliveries have come in peace: consumes anew, with the usual prefetch. A single active consumer that ended
    /// would hand the queue over, so it stays as it is until its next channel.
    pub(super) async fn end_caution(&mut self) {
        let over = self.caution.left == Some(0);
        if !over || self.mode != Mode::Running || !self.is_consuming() {
            return;
        }
        self.caution.left = None;
        if self.single_active_consumer {
            return;
        }
        if let Err(error) = self.cancel_consumer().await {
            self.lose(&error);
        }
    }
}
