//! A node that stops consuming for a while: in a pause, and to go over to other settings.

use std::sync::Arc;

use super::NodeState;
use super::port::BrokerLink;
use super::task::{Mode, Task};
use crate::config::{NodeSettings, Slots};

/// Messages of lost channels that are remembered, beside twice the prefetch.
const REMEMBERED: usize = 256;

impl<L: BrokerLink> Task<L> {
    pub(super) async fn pause(&mut self) {
        self.keep_order();
        self.stop_consuming().await;
        self.state.send_replace(NodeState::Paused);
    }

    /// Cancels the consumer, unless it is the single active one, and hands back what has not started. A drain that was
    /// commanded meanwhile does that itself, and counts it.
    async fn stop_consuming(&mut self) {
        self.mode = Mode::Paused;
        self.take_ended();
        self.finish_opening().await;
        self.stop_intake();
        if !self.single_active_consumer {
            self.redelivered_after_opening().await;
            match self.cancel_consumer().await {
                Ok(()) if self.commands.borrow().end().is_some() => {}
                Ok(()) => self.hand_back_unstarted(),
                // Its consumer may still be there, so that the channel cannot be consumed on again.
                Err(error) => self.lose(&error),
            }
        }
    }

    /// Goes over to other settings. What runs goes on with those that it began with; what is in line goes back first, for a
    /// slot goes on with it under those of its last run. A single active consumer stays, and has another prefetch from its
    /// next channel on.
    pub(super) async fn renew(&mut self, settings: Arc<NodeSettings>) {
        let mode = self.mode;
        if mode == Mode::Running && !self.single_active_consumer {
            self.stop_consuming().await;
        }
        if let (Slots::Own(from), Slots::Own(to)) = (&self.settings.slots, &settings.slots) {
            self.slots.resize(*from, *to);
        }
        self.book.remember_at_most(remembered(&settings));
        self.copier = self.copier.of(&settings);
        self.settings = settings;
        self.preparing = None;
        if self.is_consuming() {
            self.prepare_delay_queues();
        }
        // The next turn consumes again.
        self.mode = mode;
    }

    /// The consumer of a queue with a single active consumer stays until its channel closes: then all goes back in order.
    pub(super) fn keep_order(&mut self) {
        if self.single_active_consumer {
            self.book.keep_hand_backs();
        }
    }

    /// In a pause a queue with a single active consumer goes over to another as in a drain: by the end of
    /// the channel, once nothing of it runs here.
    pub(super) async fn hand_over(&mut self) {
        let idle = self.book.running().is_empty() && self.book.copying() == 0;
        if self.single_active_consumer && self.channel.is_some() && idle {
            self.stop_intake();
            self.close().await;
        }
    }
}

/// How many messages of lost channels a node remembers.
pub(super) fn remembered(settings: &NodeSettings) -> usize {
    2 * usize::from(settings.prefetch) + REMEMBERED
}
