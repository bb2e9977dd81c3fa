//! One pass over the dead letters of a queue: take each letter, settle it or hold it, and put back what is held.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{Export, Filter, Letter, QueueReport, dead_queue};
use tidegate::internal::broker::{
    BrokerError, DeliveryLimit, Link, PullChannel, delivery_limit, find_queue, queue_type,
};

/// How long the broker may take to close the channel of a pass.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);
/// How long letters that were handed back may take to be in the queue again.
const BACK_LIMIT: Duration = Duration::from_secs(2);
/// How often we look for them.
const BACK_INTERVAL: Duration = Duration::from_millis(20);
/// How many letters one `fsync` exports; they are removed after it.
const EXPORT_BATCH: usize = 100;
/// The default delivery limit of a quorum queue, from RabbitMQ 4.0 on.
const DEFAULT_DELIVERY_LIMIT: u64 = 20;

/// Takes each dead letter that is in the queue when the pass begins, once. However the pass ends, letters that are not
/// acknowledged go back.
///
/// They go back to their old place. A quorum queue delivers returned messages first, and puts a message that is returned
/// again behind all other returned messages. So a pass that ends early takes the other returned messages too, and hands
/// all of them back in order. Before RabbitMQ 4.0 a quorum queue delivers new messages first: there a pass that ends
/// early leaves the letters that it has read at the end of the queue.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) channel: PullChannel,
    queue: String,
    dead_queue: Arc<str>,
    waiting: u64,
    taken: u64,
    removed: u64,
    link: Link,
    /// Whether the last letter had been returned to a quorum queue before.
    was_returned: bool,
}

/// Headers by which quorum queues count deliveries: the first until RabbitMQ 4.2, the second from 4.3 on.
const COUNTS: [&str; 2] = ["x-delivery-count", "x-acquired-count"];

impl Pass {
    /// Begins a pass over the dead letters of `queue`.
    ///
    /// # Errors
    /// As [`check_readable`].
    pub(super) async fn begin(link: &Link, queue: &str) -> Result<Self, BrokerError> {
        check_readable(link, &dead_queue(queue)).await?;
        let channel = PullChannel::open(link).await?;
        Self::begin_on(channel, link, queue).await
    }

    pub(super) async fn begin_on(
        channel: PullChannel,
        link: &Link,
        queue: &str,
    ) -> Result<Self, BrokerError> {
        let dead = dead_queue(queue);
        let facts = find_queue(link, &dead).await?;
        Ok(Self {
            channel,
            queue: queue.to_owned(),
            dead_queue: dead.into(),
            waiting: facts.messages.into(),
            taken: 0,
            removed: 0,
            link: link.clone(),
            was_returned: false,
        })
    }

    /// Dead letters that were there when the pass began.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// The next letter and its tag, until every letter that was there has been taken.
    ///
    /// # Errors
    /// If the channel is lost.
    pub(super) async fn next(&mut self) -> Result<Option<(u64, Letter)>, BrokerError> {
        if self.taken >= self.waiting {
            return Ok(None);
        }
        let Some((tag, delivery)) = self.channel.get(&self.dead_queue).await? else {
            return Ok(None);
        };
        self.taken += 1;
        let headers = &delivery.properties.headers;
        let counted = COUNTS.iter().any(|count| headers.contains_key(*count));
        self.was_returned = delivery.redelivered && counted;
        Ok(Some((tag, Letter::new(self.queue.clone(), delivery))))
    }

    /// Removes the letter with `tag`.
    ///
    /// # Errors
    /// If the channel is lost.
    pub(super) async fn remove(&mut self, tag: u64) -> Result<(), BrokerError> {
        self.channel.ack(tag).await?;
        self.removed += 1;
        Ok(())
    }

    /// Removes the letter with `tag` and takes `entries` of the journal, all at once.
    ///
    /// # Errors
    /// If the channel is lost: then all of it has happened, or nothing.
    pub(super) async fn finish(&mut self, tag: u64, entries: &[u64]) -> Result<(), BrokerError> {
        self.remove(tag).await?;
        self.take_entries(entries).await
    }

    /// Takes `entries` of the journal, all at once.
    ///
    /// # Errors
    /// If the channel is lost.
    pub(super) async fn take_entries(&self, entries: &[u64]) -> Result<(), BrokerError> {
        for entry in entries {
            self.channel.ack(*entry).await?;
        }
        self.channel.commit().await
    }

    /// Puts back what is held, and makes sure that the removals have arrived. Until `stop` it takes the time to put the
    /// letters back in order.
    ///
    /// # Errors
    /// If the channel is lost: then the held letters are back all the same, and the last removals are not certain.
    pub(super) async fn end(mut self, stop: &CancellationToken) -> Result<(), BrokerError> {
        while self.was_returned && !stop.is_cancelled() {
            if self.next().await?.is_none() {
                break;
            }
        }
        self.channel.hand_back().await?;
        self.channel.close(CLOSE_LIMIT).await?;
        self.until_back().await;
        Ok(())
    }

    /// Waits until the queue has the letters that were handed back: some brokers answer earlier, and the next command
    /// would find nothing. Other consumers may take the letters meanwhile, so the wait is short.
    async fn until_back(&self) {
        let held = self.taken - self.removed;
        let dead = &self.dead_queue;
        let back = async {
            while let Ok(facts) = find_queue(&self.link, dead).await
                && u64::from(facts.messages) < held
            {
                sleep(BACK_INTERVAL).await;
            }
        };
        if timeout(BACK_LIMIT, back).await.is_err() {
            debug!(
                queue = &**dead,
                "the letters that were handed back have not appeared again"
            );
        }
    }
}

/// Finds out whether the queue `dead` is one that can be read. The broker answers a `basic.get` to a stream by closing the
/// whole connection (540), so a pass must not even try.
///
/// # Errors
/// [`BrokerError::Refused`] with 404 if there is no such queue; [`BrokerError::Stream`] and [`BrokerError::Unworkable`].
pub(super) async fn check_readable(link: &Link, dead: &str) -> Result<(), BrokerError> {
    find_queue(link, dead).await?;
    queue_type(link, dead).await.map(drop)
}

/// Called with each letter that the filter picked.
pub(super) type Listed<'a> = dyn FnMut(&Letter) + Send + 'a;

/// Which letters a command picks, and how many at most.
#[derive(Debug)]
pub struct Picking<'a> {
    /// The filter.
    pub filter: &'a Filter,
    /// How many more letters, over all queues.
    pub left: Option<u64>,
}

impl Picking<'_> {
    /// Counts `letter`, and says whether it is picked.
    pub(super) fn pick(&mut self, letter: &Letter, report: &mut QueueReport) -> bool {
        report.seen += 1;
        if !self.filter.picks(letter) {
            return false;
        }
        report.matched += 1;
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
        }
        true
    }

    /// Whether the limit is reached.
    pub(super) fn is_over(&self) -> bool {
        self.left == Some(0)
    }
}

/// Calls `each` with every letter that is picked; removes nothing.
pub async fn list(
    link: &Link,
    queue: &str,
    picking: &mut Picking<'_>,
    stop: &CancellationToken,
    each: &mut Listed<'_>,
) -> QueueReport {
    let mut report = QueueReport::new(queue);
    let mut returns = None;
    let looked = async {
        let mut pass = Pass::begin(link, queue).await?;
        report.waiting = pass.waiting();
        while !stop.is_cancelled() && !picking.is_over() {
            let Some((_tag, letter)) = pass.next().await? else {
                break;
            };
            returns = returns.max(letter.returns());
            if picking.pick(&letter, &mut report) {
                each(&letter);
            }
        }
        pass.end(stop).await
    };
    let looked = looked.await;
    report.ended(looked);
    report.warn_of_returns(link, returns).await;
    report
}

/// Removes every letter that is picked, for good. If there is an `export`, it removes a letter after it is on the disk.
/// Calls `observe` after each letter.
pub async fn drop_letters(
    link: &Link,
    queue: &str,
    picking: &mut Picking<'_>,
    dry_run: bool,
    export: Option<&mut Export>,
    stop: &CancellationToken,
    observe: &mut (dyn FnMut(&QueueReport) + Send),
) -> QueueReport {
    let mut report = QueueReport::new(queue);
    let mut remover = Remover {
        export,
        picked: Vec::new(),
    };
    let dropped = async {
        let mut pass = Pass::begin(link, queue).await?;
        report.waiting = pass.waiting();
        while !stop.is_cancelled() && !picking.is_over() {
            let Some((tag, letter)) = pass.next().await? else {
                break;
            };
            if picking.pick(&letter, &mut report) {
                if dry_run {
                    report.dropped += 1;
                } else if let Err(error) = remover.add(&mut pass, tag, &letter, &mut report).await?
                {
                    report.error = Some(error);
                    break;
                }
            }
            observe(&report);
        }
        if report.error.is_none()
            && let Err(error) = remover.flush(&mut pass, &mut report).await?
        {
            report.error = Some(error);
        }
        pass.end(stop).await
    };
    let dropped = dropped.await;
    report.ended(dropped);
    report
}

/// Removes letters; in batches if they must be exported first.
struct Remover<'a> {
    export: Option<&'a mut Export>,
    picked: Vec<u64>,
}

impl Remover<'_> {
    /// The outer error is the broker's, the inner one the file's.
    async fn add(
        &mut self,
        pass: &mut Pass,
        tag: u64,
        letter: &Letter,
        report: &mut QueueReport,
    ) -> Result<Result<(), String>, BrokerError> {
        self.picked.push(tag);
        if let Some(export) = &mut self.export
            && let Err(error) = export.write(letter)
        {
            return Ok(Err(not_exported(&error)));
        }
        if self.export.is_none() || self.picked.len() >= EXPORT_BATCH {
            return self.flush(pass, report).await;
        }
        Ok(Ok(()))
    }

    async fn flush(
        &mut self,
        pass: &mut Pass,
        report: &mut QueueReport,
    ) -> Result<Result<(), String>, BrokerError> {
        if let Some(export) = &mut self.export
            && let Err(error) = export.flush()
        {
            return Ok(Err(not_exported(&error)));
        }
        for tag in self.picked.drain(..) {
            pass.remove(tag).await?;
            report.dropped += 1;
        }
        Ok(Ok(()))
    }
}

fn not_exported(error: &std::io::Error) -> String {
    format!("nothing is dropped that could not be exported: {error}")
}

impl QueueReport {
    /// Records how the pass ended.
    pub(super) fn ended(&mut self, pass: Result<(), BrokerError>) {
        let Err(error) = pass else {
            return;
        };
        let dead = &self.dead_queue;
        self.error.get_or_insert_with(|| match &error {
            BrokerError::Stream { queue } if queue == dead => {
                format!("queue {dead:?} is a stream, and a stream cannot be read with basic.get")
            }
            BrokerError::Unworkable { queue, kind } if queue == dead => {
                format!("queue {dead:?} is of type {kind}, which cannot be read with basic.get")
            }
            error if error.code() == Some(404) => {
                format!("there is no queue {dead:?} on this virtual host: {error}")
            }
            error => error.to_string(),
        });
    }

    /// Warns if looking may lose letters: before 4.3 RabbitMQ counts a message that is handed back as a failed delivery,
    /// and a quorum queue with a delivery limit drops it in the end.
    pub(super) async fn warn_of_returns(&mut self, link: &Link, returns: Option<u64>) {
        let Some(returns) = returns.filter(|returns| *returns >= DEFAULT_DELIVERY_LIMIT / 4) else {
            return;
        };
        let limit = match delivery_limit(link, &self.dead_queue).await {
            Ok(DeliveryLimit::Default) => DEFAULT_DELIVERY_LIMIT,
            Ok(DeliveryLimit::Named(limit)) => limit,
            Ok(DeliveryLimit::None | DeliveryLimit::Unknown) | Err(_) => return,
        };
        if returns + 1 >= limit / 2 {
            self.warnings.push(format!(
                "a letter has been returned {returns} times, and {:?} drops a message that has been returned more than \
                 {limit} times (x-delivery-limit): before RabbitMQ 4.3 every look counts. Replay or \
                 drop what is there",
                self.dead_queue
            ));
        }
    }
}
