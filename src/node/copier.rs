//! Publishes the copies that retries and dead letters become.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::{AbortHandle, Abortable};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, interval_at, sleep, sleep_until};
use tracing::warn;

use super::ages::QueueAges;
use super::port::{BrokerLink, CopyPublisher as _};
use crate::broker::{BrokerError, FRAME_MAX, SessionState};
use crate::config::NodeSettings;
use crate::retry::{self, Pending, Target};

/// A queue is declared again after this time. An unused delay queue is kept for much longer.
const DECLARED_FOR: Duration = Duration::from_mins(30);
/// How often the log names a copy that waits for the broker.
const WARN_EVERY: Duration = Duration::from_secs(15);

/// Publishes copies for one node, on a channel of its own on the publishing connection: a broker in alarm
/// blocks connections that publish, and the node's acknowledgements must not be on one.
#[derive(Debug, Clone)]
pub(crate) struct Copier<L: BrokerLink> {
    node: Arc<NodeSettings>,
    session: watch::Receiver<SessionState<L>>,
    channel: Arc<Mutex<Option<Open<L>>>>,
    ages: Arc<QueueAges>,
    /// The largest frame of the last connection.
    frame_max: Arc<AtomicU32>,
}

#[derive(Debug)]
struct Open<L: BrokerLink> {
    link: L,
    publisher: L::Publisher,
    /// The queues that were declared on this link, and when.
    declared: HashMap<String, Instant>,
}

/// One try to publish a copy.
#[derive(Debug)]
pub(crate) struct Try {
    /// Whether it may have reached the broker.
    published: Arc<AtomicBool>,
    abort: AbortHandle,
}

impl Try {
    /// Whether the copy may have reached the broker.
    pub(crate) fn may_be_published(&self) -> bool {
        self.published.load(Ordering::Acquire)
    }

    /// Gives the try up: it will end as aborted.
    pub(crate) fn abort(&self) {
        self.abort.abort();
    }
}

impl<L: BrokerLink> Copier<L> {
    /// A copier of `node` on the connection of `session`; opens its channel when it is needed.
    pub(crate) fn new(node: Arc<NodeSettings>, session: watch::Receiver<SessionState<L>>) -> Self {
        Self {
            node,
            session,
            channel: Arc::default(),
            ages: Arc::default(),
            frame_max: Arc::new(AtomicU32::new(FRAME_MAX)),
        }
    }

    /// This copier with other settings of its node.
    pub(crate) fn of(&self, node: &Arc<NodeSettings>) -> Self {
        Self {
            node: Arc::clone(node),
            ..self.clone()
        }
    }

    /// The largest frame that the broker takes; 0 for no limit. Without a connection it is that of the last one.
    pub(crate) fn frame_max(&self) -> u32 {
        if let Some(link) = self.session.borrow().link() {
            let frame_max = link.frame_max();
            self.frame_max.store(frame_max, Ordering::Relaxed);
        }
        self.frame_max.load(Ordering::Relaxed)
    }

    /// The node has consumed, and so has made sure of its dead letters; with `declare = false` of its delay queues, too.
    pub(crate) fn queues_are_there(&self) {
        let now = Instant::now();
        self.ages.seen(&self.node.dead_letter.routing_key, now);
        if !self.node.declare {
            for step in retry::delays(&self.node.retry) {
                let name = retry::delay_queue(&self.node.queue, step);
                self.ages.seen(&name, now);
            }
        }
    }

    /// Declares the delay queues, so that they are old enough once they are needed.
    pub(crate) async fn prepare(self) {
        for step in retry::delays(&self.node.retry) {
            let not_before = None;
            if let Err(error) = self.channel(&Target::Delay { step, not_before }).await {
                warn!(
                    queue = self.node.queue,
                    delay = ?step,
                    %error,
                    "a delay queue cannot be declared; it is tried again when it is needed"
                );
                return;
            }
        }
    }

    /// Tries to publish `copy` once, after `wait`. The future resolves when the broker has confirmed it, when
    /// it has not taken it, or when the channel is lost; until then it waits, and says so.
    pub(crate) fn publish(
        &self,
        copy: Arc<Pending>,
        wait: Duration,
    ) -> (
        Try,
        Abortable<impl Future<Output = Result<(), BrokerError>> + Send + use<L>>,
    ) {
        let published = Arc::new(AtomicBool::new(false));
        let (abort, registration) = AbortHandle::new_pair();
        let copier = self.clone();
        let begun = Arc::clone(&published);
        let publish = async move {
            sleep(wait).await;
            copier
                .warn_while_waiting(&copy, copier.try_once(&copy, &begun))
                .await
        };
        (
            Try { published, abort },
            Abortable::new(publish, registration),
        )
    }

    async fn try_once(&self, copy: &Pending, published: &AtomicBool) -> Result<(), BrokerError> {
        // In a box, which is gone before the long wait for the confirm.
        let (link, channel) = Box::pin(self.channel(&copy.target)).await?;
        let frame_max = link.frame_max();
        let fitting = retry::fit(copy.message.clone(), &copy.target, frame_max);
        let message = fitting.ok_or_else(|| BrokerError::NotAccepted {
            cause: format!("its headers do not fit a frame of {frame_max} bytes"),
        })?;
        published.store(true, Ordering::Release);
        let confirmed = tokio::select! {
            confirmed = channel.publish_confirmed(&message) => confirmed,
            cause = link.lost() => Err(BrokerError::Lost { what: "publishing a copy", cause }),
        };
        if let Err(BrokerError::NotAccepted { .. }) = &confirmed {
            // Its queue may be gone: it is to be declared again.
            if let Some(open) = &mut *self.channel.lock().await {
                open.declared.clear();
            }
            self.ages.forget();
        }
        confirmed?;
        if let Some(name) = self.queue_of(&copy.target) {
            // Until then a broker that is killed may forget the queue, and the copy with it.
            sleep_until(self.ages.proven_at(&name, Instant::now())).await;
        }
        Ok(())
    }

    /// The queue that a copy for `target` goes to, if it is the node's own.
    fn queue_of(&self, target: &Target) -> Option<String> {
        match target {
            Target::Delay { step, .. } => Some(retry::delay_queue(&self.node.queue, *step)),
            Target::Dead {
                exchange,
                routing_key,
            } => exchange.is_empty().then(|| routing_key.clone()),
        }
    }

    /// The channel, once there is a connection, and once the queue that `target` names is there.
    async fn channel(&self, target: &Target) -> Result<(L, L::Publisher), BrokerError> {
        let mut session = self.session.clone();
        let connected = session.wait_for(|state| state.link().is_some()).await;
        let link = connected.ok().and_then(|state| state.link().cloned());
        let link = link.ok_or_else(|| BrokerError::Lost {
            what: "publishing a copy",
            cause: "the worker ends".to_owned(),
        })?;
        let mut channel = self.channel.lock().await;
        let usable = |open: &Open<L>| {
            open.link.generation() == link.generation() && open.publisher.is_open()
        };
        if !channel.as_ref().is_some_and(usable) {
            let publisher = link.open_publisher().await?;
            *channel = Some(Open {
                link: link.clone(),
                publisher,
                declared: HashMap::new(),
            });
        }
        let open = channel.as_mut().expect("it was opened above");
        if self.node.declare {
            self.ensure(open, target).await?;
        }
        Ok((link, open.publisher.clone()))
    }

    async fn ensure(&self, open: &mut Open<L>, target: &Target) -> Result<(), BrokerError> {
        let Some(name) = self.queue_of(target) else {
            return Ok(());
        };
        if open
            .declared
            .get(&name)
            .is_some_and(|at| at.elapsed() < DECLARED_FOR)
        {
            return Ok(());
        }
        match target {
            Target::Delay { step, .. } => {
                open.link.ensure_delay_queue(&self.node, *step).await?;
            }
            Target::Dead { .. } => open.link.ensure_dead_queue(&self.node, &name).await?,
        }
        let now = Instant::now();
        self.ages.seen(&name, now);
        open.declared.insert(name, now);
        Ok(())
    }

    /// Awaits `publishing`, and warns from time to time that it takes long. A late confirm is waited for: publishing again
    /// would make two copies.
    async fn warn_while_waiting<T>(
        &self,
        copy: &Pending,
        publishing: impl Future<Output = T>,
    ) -> T {
        let mut publishing = std::pin::pin!(publishing);
        let begun = Instant::now();
        let mut warning = interval_at(begun + WARN_EVERY, WARN_EVERY);
        loop {
            tokio::select! {
                value = &mut publishing => return value,
                _ = warning.tick() => warn!(
                    queue = self.node.queue,
                    to = copy.message.routing_key,
                    waited = ?begun.elapsed(),
                    "a copy waits for the broker to take it; its delivery is kept"
                ),
            }
        }
    }
}
