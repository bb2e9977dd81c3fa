//! What a node needs of the broker.
//!
//! The node's task is generic over these traits, so that its tests drive it with a broker that does what a test says, in
//! any order. The compiler makes one task for each implementation: nothing is dispatched at run time.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::broker::{
    BrokerError, ConsumeChannel, Consumer, Intake, Link, Publisher, QueueFacts, Write,
    ensure_aside, ensure_dead_queue, ensure_delay_queue, ensure_known_queue, ensure_queue,
    find_queue, queue_type,
};
use crate::config::NodeSettings;
use crate::delivery::Message;
use crate::settlement::Call;

/// One connection to the broker. See [`Link`].
pub(crate) trait BrokerLink: Clone + Debug + Send + Sync + 'static {
    /// A channel that consumes.
    type Channel: BrokerChannel;
    /// A channel that publishes copies.
    type Publisher: CopyPublisher;

    /// Its number; every connection of a process has another.
    fn generation(&self) -> u64;

    /// The largest frame in bytes; 0 for no limit.
    fn frame_max(&self) -> u32;

    /// Whether it is lost because the broker could not go on with it.
    fn was_closed_by_broker(&self) -> bool;

    /// How many consumers the queue has, as this connection's broker node counts them.
    fn consumers(&self, queue: &str) -> impl Future<Output = Result<u32, BrokerError>> + Send;

    /// Whether one of those who share the connection may do something that all of them together do once in `pause`.
    fn takes_turn(&self, now: Instant, pause: Duration) -> bool;

    /// Has the connection be lost.
    fn give_up(&self);

    /// Notes whether a request was answered.
    fn note_answer<T>(&self, answer: &Result<T, BrokerError>);

    /// Resolves with the cause when it is lost. Cancel safe.
    fn lost(&self) -> impl Future<Output = String> + Send;

    /// Makes sure of the node's queue, and of what stands beside it. What is `known` of the queue is not asked again: each
    /// question leaves a line in the broker's log.
    fn ensure(
        &self,
        settings: &NodeSettings,
        known: Option<QueueFacts>,
    ) -> impl Future<Output = Result<QueueFacts, BrokerError>> + Send;

    /// Makes sure of the delay queue for `step`.
    fn ensure_delay_queue(
        &self,
        settings: &NodeSettings,
        step: Duration,
    ) -> impl Future<Output = Result<(), BrokerError>> + Send;

    /// Makes sure of the queue for dead letters.
    fn ensure_dead_queue(
        &self,
        settings: &NodeSettings,
        name: &str,
    ) -> impl Future<Output = Result<(), BrokerError>> + Send;

    /// Opens a channel, without consuming yet.
    fn open_channel(
        &self,
        queue: &Arc<str>,
        priority: i32,
        consumer_tag: String,
    ) -> impl Future<Output = Result<Self::Channel, BrokerError>> + Send;

    /// Opens a channel in confirm mode.
    fn open_publisher(&self) -> impl Future<Output = Result<Self::Publisher, BrokerError>> + Send;
}

/// A channel that consumes one queue. See [`ConsumeChannel`], which has methods of the same names.
pub(crate) trait BrokerChannel: Debug + Send + 'static {
    /// A started consumer.
    type Consumer: Debug + Send;

    fn generation(&self) -> u64;
    fn is_open(&self) -> bool;
    fn is_consuming(&self) -> bool;
    fn consume(
        &self,
        prefetch: u16,
    ) -> impl Future<Output = Result<Self::Consumer, BrokerError>> + Send + use<Self>;
    fn attach(&mut self, consumer: Self::Consumer);
    fn detach(&mut self);
    fn next(&mut self) -> impl Future<Output = Intake> + Send;
    fn cancel(
        &mut self,
        limit: Duration,
    ) -> impl Future<Output = Result<(), BrokerError>> + Send + use<Self>;
    fn settle(&mut self, call: Call) -> Write;
    fn hand_back_all(&self);
    fn may_be_kept_back(&self) -> bool;
    fn pass_on(&mut self, limit: Duration) -> impl Future<Output = Result<(), BrokerError>> + Send;
    fn close(self, limit: Duration) -> impl Future<Output = Result<(), BrokerError>> + Send;
}

/// A channel in confirm mode. See [`Publisher`].
pub(crate) trait CopyPublisher: Clone + Debug + Send + 'static {
    fn is_open(&self) -> bool;

    /// Publishes `message` and awaits the broker's confirm.
    fn publish_confirmed(
        &self,
        message: &Message,
    ) -> impl Future<Output = Result<(), BrokerError>> + Send;
}

impl BrokerLink for Link {
    type Channel = ConsumeChannel;
    type Publisher = Publisher;

    fn generation(&self) -> u64 {
        self.generation()
    }

    fn frame_max(&self) -> u32 {
        self.negotiated().frame_max
    }

    fn was_closed_by_broker(&self) -> bool {
        self.was_closed_by_broker()
    }

    async fn consumers(&self, queue: &str) -> Result<u32, BrokerError> {
        Ok(find_queue(self, queue).await?.consumers)
    }

    fn takes_turn(&self, now: Instant, pause: Duration) -> bool {
        self.takes_turn(now, pause)
    }

    fn give_up(&self) {
        self.give_up();
    }

    fn note_answer<T>(&self, answer: &Result<T, BrokerError>) {
        self.note_answer(answer);
    }

    async fn lost(&self) -> String {
        self.lost().await
    }

    async fn ensure(
        &self,
        settings: &NodeSettings,
        known: Option<QueueFacts>,
    ) -> Result<QueueFacts, BrokerError> {
        let mut facts = match &known {
            Some(known) => ensure_known_queue(self, settings, known).await?,
            None => ensure_queue(self, settings).await?,
        };
        if facts.kind.is_none() {
            facts.kind = queue_type(self, &settings.queue).await?;
        }
        let kind = facts.kind.unwrap_or(settings.kind);
        ensure_aside(self, settings, kind, facts.delayed_retry).await?;
        Ok(facts)
    }

    async fn ensure_delay_queue(
        &self,
        settings: &NodeSettings,
        step: Duration,
    ) -> Result<(), BrokerError> {
        ensure_delay_queue(self, settings, step).await
    }

    async fn ensure_dead_queue(
        &self,
        settings: &NodeSettings,
        name: &str,
    ) -> Result<(), BrokerError> {
        ensure_dead_queue(self, name, settings.kind).await
    }

    async fn open_channel(
        &self,
        queue: &Arc<str>,
        priority: i32,
        consumer_tag: String,
    ) -> Result<ConsumeChannel, BrokerError> {
        ConsumeChannel::open(self, queue, priority, consumer_tag).await
    }

    async fn open_publisher(&self) -> Result<Publisher, BrokerError> {
        Publisher::open(self).await
    }
}

impl BrokerChannel for ConsumeChannel {
    type Consumer = Consumer;

    fn generation(&self) -> u64 {
        self.generation()
    }

    fn is_open(&self) -> bool {
        self.is_open()
    }

    fn is_consuming(&self) -> bool {
        self.is_consuming()
    }

    fn consume(
        &self,
        prefetch: u16,
    ) -> impl Future<Output = Result<Consumer, BrokerError>> + Send + use<> {
        self.consume(prefetch)
    }

    fn attach(&mut self, consumer: Consumer) {
        self.attach(consumer);
    }

    fn detach(&mut self) {
        self.detach();
    }

    fn next(&mut self) -> impl Future<Output = Intake> + Send {
        self.next()
    }

    fn cancel(
        &mut self,
        limit: Duration,
    ) -> impl Future<Output = Result<(), BrokerError>> + Send + use<> {
        self.cancel(limit)
    }

    fn settle(&mut self, call: Call) -> Write {
        self.settle(call)
    }

    fn hand_back_all(&self) {
        self.hand_back_all();
    }

    fn may_be_kept_back(&self) -> bool {
        self.may_be_kept_back()
    }

    fn pass_on(&mut self, limit: Duration) -> impl Future<Output = Result<(), BrokerError>> + Send {
        self.pass_on(limit)
    }

    fn close(self, limit: Duration) -> impl Future<Output = Result<(), BrokerError>> + Send {
        self.close(limit)
    }
}

impl CopyPublisher for Publisher {
    fn is_open(&self) -> bool {
        self.is_open()
    }

    async fn publish_confirmed(&self, message: &Message) -> Result<(), BrokerError> {
        self.publish(message).await?.accepted().await
    }
}
