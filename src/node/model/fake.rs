//! The model's broker behind the node's ports.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::broker::{Answer, Broker, Deliveries, Method, Unconfirmed, lost};
use super::stored::take_settled;
use crate::broker::{BrokerError, Intake, QueueFacts, Write};
use crate::config::{NodeSettings, QueueType};
use crate::delivery::Message;
use crate::node::port::{BrokerChannel, BrokerLink, CopyPublisher};
use crate::settlement::Call;

type Asked<T> = Pin<Box<dyn Future<Output = Result<T, BrokerError>> + Send>>;

#[derive(Debug, Clone)]
pub(super) struct FakeLink {
    broker: Broker,
    number: u64,
}

#[derive(Debug)]
pub(super) struct FakeChannel {
    broker: Broker,
    number: u64,
    consumer: Option<Deliveries>,
    cancelling: bool,
}

impl FakeLink {
    pub(super) fn new(broker: Broker, number: u64) -> Self {
        Self { broker, number }
    }

    fn is_up(&self) -> bool {
        let state = self.broker.state();
        let number = Some(self.number);
        state.consume_link == number || state.publish_link == number
    }

    fn answer<T>(&self, answer: T) -> Result<T, BrokerError> {
        if self.is_up() {
            Ok(answer)
        } else {
            Err(lost())
        }
    }
}

impl BrokerLink for FakeLink {
    type Channel = FakeChannel;
    type Publisher = Self;

    fn generation(&self) -> u64 {
        self.number
    }

    fn frame_max(&self) -> u32 {
        131_072
    }

    fn was_closed_by_broker(&self) -> bool {
        !self.is_up() && self.broker.state().closed_by_broker
    }

    fn note_answer<T>(&self, _answer: &Result<T, BrokerError>) {}

    async fn consumers(&self, _queue: &str) -> Result<u32, BrokerError> {
        Ok(1)
    }

    fn takes_turn(&self, _now: Instant, _pause: Duration) -> bool {
        true
    }

    fn give_up(&self) {}

    async fn lost(&self) -> String {
        let mut publish = self.broker.publish.subscribe();
        loop {
            if !self.is_up() {
                return "it is cut".to_owned();
            }
            crate::wait::changed(&mut publish).await;
        }
    }

    async fn ensure(
        &self,
        _settings: &NodeSettings,
        _known: Option<QueueFacts>,
    ) -> Result<QueueFacts, BrokerError> {
        let state = self.broker.state();
        let facts = QueueFacts {
            is_new: false,
            messages: 0,
            consumers: 0,
            single_active_consumer: state.single_active_consumer,
            delayed_retry: state.delayed_retry,
            delivery_limit: false,
            kind: Some(QueueType::Quorum),
            differences: Vec::new(),
        };
        drop(state);
        self.answer(facts)
    }

    async fn ensure_delay_queue(
        &self,
        _settings: &NodeSettings,
        _step: Duration,
    ) -> Result<(), BrokerError> {
        self.answer(())
    }

    async fn ensure_dead_queue(
        &self,
        _settings: &NodeSettings,
        _name: &str,
    ) -> Result<(), BrokerError> {
        self.answer(())
    }

    async fn open_channel(
        &self,
        _queue: &Arc<str>,
        _priority: i32,
        _consumer_tag: String,
    ) -> Result<FakeChannel, BrokerError> {
        self.answer(())?;
        let number = self.broker.state().open_channel();
        Ok(FakeChannel {
            broker: self.broker.clone(),
            number,
            consumer: None,
            cancelling: false,
        })
    }

    async fn open_publisher(&self) -> Result<Self, BrokerError> {
        self.answer(self.clone())
    }
}

impl CopyPublisher for FakeLink {
    fn is_open(&self) -> bool {
        self.is_up()
    }

    async fn publish_confirmed(&self, message: &Message) -> Result<(), BrokerError> {
        self.answer(())?;
        let (answer, confirmed) = oneshot::channel();
        let message = message.clone();
        let copy = Unconfirmed { message, answer };
        self.broker.state().unconfirmed.push_back(copy);
        confirmed.await.unwrap_or_else(|_gone| Err(lost()))
    }
}

impl FakeChannel {
    /// Queues a method that the broker answers, and awaits the answer.
    fn ask<T>(
        &self,
        what: &'static str,
        limit: Duration,
        method: impl FnOnce(Answer<T>) -> Method,
    ) -> Asked<T>
    where
        T: Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let queued = self.queue(method(answer));
        Box::pin(async move {
            if !queued {
                return Err(lost());
            }
            match timeout(limit, answered).await {
                Ok(answer) => answer.unwrap_or_else(|_gone| Err(lost())),
                Err(_elapsed) => Err(BrokerError::TimedOut { what, limit }),
            }
        })
    }

    fn note_close(&self) {
        let mut state = self.broker.state();
        let state = &mut *state;
        let channel = &state.channels[&self.number];
        if channel.open {
            let left = channel.unsettled.iter();
            let left = left.map(|(tag, stored)| (*tag <= channel.taken, stored));
            state.records.closes(self.number, left);
        }
    }

    /// Queues a method; `false` if the channel is gone.
    fn queue(&self, method: Method) -> bool {
        let mut state = self.broker.state();
        let channel = state.channels.get_mut(&self.number).expect("it was opened");
        if channel.open {
            channel.methods.push_back(method);
        }
        channel.open
    }
}

impl BrokerChannel for FakeChannel {
    type Consumer = Deliveries;

    fn generation(&self) -> u64 {
        self.number
    }

    fn is_open(&self) -> bool {
        self.broker.state().channels[&self.number].open
    }

    fn is_consuming(&self) -> bool {
        self.consumer.is_some()
    }

    fn consume(
        &self,
        prefetch: u16,
    ) -> impl Future<Output = Result<Deliveries, BrokerError>> + Send + use<> {
        let channel = Self {
            broker: self.broker.clone(),
            consumer: None,
            ..*self
        };
        // As with the real channel, nothing is sent before the future is polled.
        async move {
            let limit = crate::broker::RPC_LIMIT;
            let consume = |answer| Method::Consume(prefetch, answer);
            channel.ask("basic.consume", limit, consume).await
        }
    }

    fn attach(&mut self, consumer: Deliveries) {
        self.consumer = Some(consumer);
        self.cancelling = false;
    }

    fn detach(&mut self) {
        self.consumer = None;
    }

    async fn next(&mut self) -> Intake {
        let Some(consumer) = &mut self.consumer else {
            return std::future::pending().await;
        };
        match consumer.recv().await {
            Some(Intake::Delivery(tag, delivery)) => {
                let mut state = self.broker.state();
                let state = &mut *state;
                let channel = state.channels.get_mut(&self.number);
                let channel = channel.expect("it was opened");
                channel.taken = tag;
                if let Some(stored) = channel.unsettled.get(&tag) {
                    state.records.taken_in(stored);
                }
                Intake::Delivery(tag, delivery)
            }
            Some(end) => {
                self.consumer = None;
                end
            }
            None => {
                self.consumer = None;
                if self.cancelling {
                    Intake::Ended
                } else {
                    Intake::Cancelled
                }
            }
        }
    }

    fn cancel(
        &mut self,
        limit: Duration,
    ) -> impl Future<Output = Result<(), BrokerError>> + Send + use<> {
        self.cancelling = true;
        let channel = Self {
            broker: self.broker.clone(),
            consumer: None,
            ..*self
        };
        async move { channel.ask("basic.cancel", limit, Method::Cancel).await }
    }

    fn settle(&mut self, call: Call) -> Write {
        let (answer, written) = oneshot::channel();
        let mut state = self.broker.state();
        let number = self.number;
        let state = &mut *state;
        let channel = state.channels.get_mut(&number).expect("it was opened");
        if !channel.open {
            return Box::pin(std::future::ready(Err(lost())));
        }
        let settled = take_settled(&mut channel.unsettled, call);
        channel.methods.push_back(Method::Settle(call));
        channel.writes.push(answer);
        let (late, in_time): (Vec<_>, Vec<_>) = settled
            .into_iter()
            .partition(|(tag, _)| channel.taken_back.remove(tag));
        if late.is_empty() || !in_time.is_empty() {
            state.records.settled(number, call, &in_time);
        }
        // The queue has already taken back what is handed back late.
        if !late.is_empty() && !matches!(call, Call::HandBack { .. }) {
            state.records.settled(number, call, &late);
            for (_, stored) in late {
                state.records.taken_back(number, &stored, true);
            }
        }
        Box::pin(async move { written.await.unwrap_or_else(|_gone| Err(lost())) })
    }

    fn hand_back_all(&self) {
        self.queue(Method::HandBackAll);
    }

    fn may_be_kept_back(&self) -> bool {
        self.broker.state().kept_back
    }

    async fn pass_on(&mut self, limit: Duration) -> Result<(), BrokerError> {
        self.ask("basic.get", limit, Method::Get).await
    }

    async fn close(self, limit: Duration) -> Result<(), BrokerError> {
        self.note_close();
        self.ask("channel.close", limit, Method::Close).await
    }
}
