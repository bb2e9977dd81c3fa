//! From a link to a consumer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::broker::{
    BrokerError, ConsumeChannel, Consumer, Link, QueueFacts, ensure_aside, ensure_queue, queue_type,
};
use crate::config::{NodeSettings, QueueType};

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

/// Makes sure of the queue, and of what stands beside it. `kind` is the queue's type if it is known already: to ask for
/// it leaves a line in the broker's log.
async fn ensure(
    link: &Link,
    settings: &NodeSettings,
    kind: Option<QueueType>,
) -> Result<QueueFacts, BrokerError> {
    let mut facts = ensure_queue(link, settings).await?;
    facts.kind = match facts.kind.or(kind) {
        None => queue_type(link, &settings.queue).await?,
        known => known,
    };
    ensure_aside(link, settings, facts.delayed_retry).await?;
    Ok(facts)
}

/// Makes sure that the queue is there, opens a channel and consumes.
pub(crate) fn open(
    link: Link,
    settings: Arc<NodeSettings>,
    queue: Arc<str>,
    consumer_tag: String,
    kind: Option<QueueType>,
) -> Opening {
    Box::pin(async move {
        let facts = ensure(&link, &settings, kind).await?;
        let prefetch = settings.prefetch;
        let channel = ConsumeChannel::open(&link, &queue, prefetch, consumer_tag).await?;
        let consumer = channel.consume().await?;
        Ok(Box::new(Opened::Channel(channel, consumer, facts)))
    })
}

/// Makes sure that the queue is there and consumes again on `channel`, whose consumer has ended; its
/// deliveries under way stay settleable.
pub(crate) fn reopen(
    link: Link,
    settings: Arc<NodeSettings>,
    channel: &ConsumeChannel,
    kind: Option<QueueType>,
) -> Opening {
    let consume = channel.consume();
    Box::pin(async move {
        let facts = ensure(&link, &settings, kind).await?;
        Ok(Box::new(Opened::Consumer(consume.await?, facts)))
    })
}
