//! From a link to a consumer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::port::{BrokerChannel, BrokerLink};
use crate::broker::{BrokerError, QueueFacts};
use crate::config::NodeSettings;

/// A consumer about to be; dropping it closes what it opened.
pub(crate) type Opening<L> =
    Pin<Box<dyn Future<Output = Result<Box<Opened<L>>, BrokerError>> + Send>>;

type ConsumerOf<L> = <<L as BrokerLink>::Channel as BrokerChannel>::Consumer;

/// A consumer that has started.
#[derive(Debug)]
pub(crate) enum Opened<L: BrokerLink> {
    /// On a channel of its own.
    Channel(L::Channel, ConsumerOf<L>, QueueFacts),
    /// On the channel there is.
    Consumer(ConsumerOf<L>, QueueFacts),
}

/// Makes sure that the queue is there, opens a channel and consumes with `prefetch`.
pub(crate) fn open<L: BrokerLink>(
    link: L,
    settings: Arc<NodeSettings>,
    queue: Arc<str>,
    consumer_tag: String,
    known: Option<QueueFacts>,
    prefetch: u16,
) -> Opening<L> {
    Box::pin(async move {
        let facts = link.ensure(&settings, known).await?;
        let priority = settings.priority;
        let channel = link.open_channel(&queue, priority, consumer_tag).await?;
        let consumer = channel.consume(prefetch).await?;
        Ok(Box::new(Opened::Channel(channel, consumer, facts)))
    })
}

/// Makes sure that the queue is there and consumes again on `channel`, whose consumer has ended; its
/// deliveries under way stay settleable.
pub(crate) fn reopen<L: BrokerLink>(
    link: L,
    settings: Arc<NodeSettings>,
    channel: &L::Channel,
    known: Option<QueueFacts>,
) -> Opening<L> {
    let consume = channel.consume(settings.prefetch);
    Box::pin(async move {
        let facts = link.ensure(&settings, known).await?;
        Ok(Box::new(Opened::Consumer(consume.await?, facts)))
    })
}
