//! Listens to the broker's own events, if there are any: a control queue that is deleted tells of a crash at once.
//!
//! They come from `RabbitMQ`'s event exchange plugin (<https://www.rabbitmq.com/docs/event-exchange>).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{debug, info};
use ulid::Ulid;

use crate::shared::Shared;
use tidegate::delivery::Delivery;
use tidegate::internal::broker::{
    Backoff, Batch, BrokerError, Feed, FeedQueue, Link, SessionState, find_exchange,
};
use tidegate::internal::status::control::control_queue;

/// The plugin's exchange.
const EXCHANGE: &str = "amq.rabbitmq.event";
const KEYS: [&str; 1] = ["queue.deleted"];
/// The interval of looks for an exchange that is not there.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
const PREFETCH: u16 = 1_000;
const BATCH: usize = 1_000;
/// Events that may wait, and their bytes; the oldest make room. A lease's end tells what is missed.
const WAITING: u32 = 50_000;
const WAITING_BYTES: u32 = 32 << 20;
const TTL: Duration = Duration::from_secs(60);

/// Follows events on the session's virtual host, until it is dropped. `vhost` is that of the workers.
pub(crate) async fn follow(
    shared: Arc<Shared>,
    mut session: watch::Receiver<SessionState>,
    id: String,
    vhost: String,
) {
    let mut backoff = Backoff::default();
    loop {
        let linked = session.wait_for(|state| state.link().is_some());
        let linked = linked.await.map(|state| state.link().cloned());
        // An error says that the session has ended, and this task is about to.
        let Ok(Some(link)) = linked else {
            return;
        };
        let ended = listen(&shared, &link, &id, &vhost).await;
        shared.set_broker(|broker| broker.events = false);
        match ended {
            Err(error) if error.code() == Some(404) => {
                debug!("there is no event exchange; crashes show when leases end");
                // A new link is looked at at once.
                let _ = timeout(LOOK_AGAIN, link.lost()).await;
            }
            Err(error) => {
                debug!(%error, "the broker's events cannot be followed; trying again");
                let _ = timeout(LOOK_AGAIN, link.lost()).await;
                sleep(backoff.next(rand::random())).await;
            }
            Ok(never) => match never {},
        }
    }
}

async fn listen(
    shared: &Shared,
    link: &Link,
    id: &str,
    vhost: &str,
) -> Result<std::convert::Infallible, BrokerError> {
    find_exchange(link, EXCHANGE).await?;
    let feed_queue = FeedQueue {
        name: &format!("tidegate.fleet.{id}.{}.events", Ulid::new()),
        max_length: WAITING,
        max_bytes: WAITING_BYTES,
        ttl: TTL,
        binding: Some((EXCHANGE, &KEYS)),
    };
    let mut feed = Feed::exclusive(link, &feed_queue, PREFETCH).await?;
    shared.set_broker(|broker| broker.events = true);
    info!("the broker's events tell of crashes at once");
    loop {
        let batch = feed.batch(BATCH).await?;
        take(shared, &batch, vhost);
        feed.ack(&batch).await?;
    }
}

fn take(shared: &Shared, batch: &Batch, vhost: &str) {
    let workers = batch.messages.iter();
    let workers: Vec<&str> = workers.filter_map(|event| worker(event, vhost)).collect();
    if workers.is_empty() {
        return;
    }
    let now = shared.now();
    let mut fleet = shared.fleet();
    for worker in workers {
        fleet.queue_gone(worker, now);
    }
}

/// The worker whose control queue the event is about.
fn worker<'e>(event: &'e Delivery, vhost: &str) -> Option<&'e str> {
    let header = |name: &str| event.properties.headers.get(name)?.as_str();
    let prefix = control_queue("");
    let here = header("vhost").is_none_or(|its| its == vhost);
    header("name")
        .filter(|_| here)
        .and_then(|name| name.strip_prefix(&prefix))
}
