//! From a link to a consumer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::broker::{
    BrokerError, ConsumeChannel, Consumer, Link, QueueFacts, ensure_aside, ensure_known_queue,
    ensure_queue, queue_type,
};
use crate::config::NodeSettings;

/// A consumer about to be; dropping it closes what it opened.
pub(crate) type Opening = Pin<Box<dyn Future<Output = Result<Box<Opened>, BrokerError>> + Send>>;

/// A consumer that has started.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, in a box"
)]
pub(crate) enum Opened {
    /// On a channel of its own.
    Channel(ConsumeChannel, Consumer, QueueFacts),
    /// On the channel there is.
    Consumer(Consumer, QueueFacts),
}

/// Makes sure of the queue, and of what stands beside it. What is `known` of the queue is not asked again: each question
/// leaves a line in the broker's log.
async fn ensure(
    link: &Link,
    settings: &NodeSettings,
    known: Option<QueueFacts>,
) -> Result<QueueFacts, BrokerError> {
    let mut facts = match &known {
        Some(known) => ensure_known_queue(link, settings, known).await?,
        None => ensure_queue(link, settings).await?,
    };
    if facts.kind.is_none() {
        facts.kind = queue_type(link, &settings.queue).await?;
    }
    let kind = facts.kind.unwrap_or(settings.kind);
    ensure_aside(link, settings, kind, facts.delayed_retry).await?;
    Ok(facts)
}

/// Makes sure that the queue is there, opens a channel and consumes with `prefetch`.
pub(crate) fn open(
    link: Link,
    settings: Arc<NodeSettings>,
    queue: Arc<str>,
    consumer_tag: String,
    known: Option<QueueFacts>,
    prefetch: u16,
) -> Opening {
    Box::pin(async move {
        let facts = ensure(&link, &settings, known).await?;
        let priority = settings.priority;
        let channel = ConsumeChannel::open(&link, &queue, priority, consumer_tag).await?;
        let consumer = channel.consume(prefetch).await?;
        Ok(Box::new(Opened::Channel(channel, consumer, facts)))
    })
}

/// Makes sure that the queue is there and consumes again on `channel`, whose consumer has ended; its
/// deliveries under way stay settleable.
pub(crate) fn reopen(
    link: Link,
    settings: Arc<NodeSettings>,
    channel: &ConsumeChannel,
    known: Option<QueueFacts>,
) -> Opening {
    let consume = channel.consume(settings.prefetch);
    Box::pin(async move {
        let facts = ensure(&link, &settings, known).await?;
        Ok(Box::new(Opened::Consumer(consume.await?, facts)))
    })
}
