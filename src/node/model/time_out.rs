//! A consumer time-out of RabbitMQ 4.3: the queue takes back what it had delivered, and the channel goes on.

use super::broker::{Channel, Method, State};
use super::records::Records;
use super::stored::{Stored, count_delivery};

impl Channel {
    /// Whether the broker would tell the client: it does so only if there is a consumer that the client has not cancelled.
    pub(super) fn tells_of_time_out(&mut self) -> bool {
        let mut methods = self.methods.iter();
        let cancels = methods.any(|method| matches!(method, Method::Cancel(_)));
        self.consumer.is_some() && !cancels
    }
}

impl State {
    /// The queue takes back all that it has delivered on the channel, and passes over what was settled there and has not
    /// arrived. The broker cancels the consumer.
    pub(super) fn time_out(&mut self) {
        let open = self.channels.iter_mut().rev().find(|(_, it)| it.open);
        let Some((&number, channel)) = open else {
            return;
        };
        channel.consumer = None;
        let unacked = std::mem::take(&mut channel.unacked);
        channel.taken_back = channel.unsettled.keys().copied().collect();
        let is_settled = |tag: &u64| !channel.taken_back.contains(tag);
        let taken: Vec<_> = unacked
            .into_iter()
            .map(|(tag, stored)| (is_settled(&tag), stored))
            .collect();
        for (was_settled, mut stored) in taken.into_iter().rev() {
            self.records.taken_back(number, &stored, was_settled);
            count_delivery(&mut stored.delivery);
            self.requeue(stored);
        }
    }
}

impl Records {
    /// The queue has taken a message back; if it `was_settled` on `channel`, that came too late.
    pub(super) fn taken_back(&mut self, channel: u64, stored: &Stored, was_settled: bool) {
        self.requeued(channel, stored, was_settled);
        if was_settled {
            self.group_of(stored).too_late(channel);
        }
    }
}
