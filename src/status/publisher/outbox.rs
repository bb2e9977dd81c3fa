//! The channel that status messages go out on: opened when there is a connection, replaced when it is lost.
//!
//! Nothing here waits in anybody's way: what takes time is a future that its owner polls beside others.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use crate::broker::{
    Backoff, BrokerError, Link, LinkState, Message, Publisher, SessionState, ensure_topic_exchange,
};
use crate::wait;

/// The time limit for the broker to confirm a status message.
pub(super) const CONFIRM_LIMIT: Duration = Duration::from_secs(5);

type Work<T> = Pin<Box<dyn Future<Output = Result<T, BrokerError>> + Send>>;

/// A message on its way; it resolves when the broker has taken it, or at [`CONFIRM_LIMIT`].
pub(super) type Sending = Work<()>;

/// The channel, as far as there is one.
pub(super) struct Outbox {
    exchange: String,
    session: watch::Receiver<SessionState>,
    /// The channel, and the generation of the link that it is on.
    channel: Option<(u64, Publisher)>,
    opening: Option<Work<(u64, Publisher)>>,
    backoff: Backoff,
    retry_at: Option<Instant>,
}

impl Outbox {
    pub(super) fn new(exchange: String, session: watch::Receiver<SessionState>) -> Self {
        Self {
            exchange,
            session,
            channel: None,
            opening: None,
            backoff: Backoff::default(),
            retry_at: None,
        }
    }

    /// Whether a connection is there that the broker reads from.
    pub(super) fn is_connected(&self) -> bool {
        self.link()
            .is_some_and(|link| link.state() == LinkState::Up)
    }

    /// The channel, with the generation of its link, where a message can go out now. Where there is none but
    /// could be, one is on its way after this; see [`changed`](Self::changed).
    ///
    /// A blocked connection has none: what is written on it would queue up and come late.
    pub(super) fn ready(&mut self) -> Option<(u64, Publisher)> {
        let link = self.link().filter(|link| link.state() == LinkState::Up)?;
        if let Some((generation, publisher)) = &self.channel {
            if *generation == link.generation() && publisher.is_open() {
                return self.channel.clone();
            }
            self.channel = None;
        }
        let may_try = self.retry_at.is_none_or(|at| at <= Instant::now());
        if self.opening.is_none() && may_try {
            self.retry_at = None;
            self.opening = Some(Box::pin(open(link, self.exchange.clone())));
        }
        None
    }

    /// Resolves when [`ready`](Self::ready) may say something else. Cancel safe.
    pub(super) async fn changed(&mut self) {
        let link = self.link();
        tokio::select! {
            opened = wait::some(self.opening.as_mut()) => {
                self.opening = None;
                match opened {
                    Ok(channel) => self.channel = Some(channel),
                    Err(error) => self.failed("channel", &error),
                }
            }
            () = wait::changed(&mut self.session) => {
                // A channel on its way belongs to the connection before.
                self.opening = None;
                self.retry_at = None;
            }
            () = blocked_or_unblocked(link) => {}
            () = wait::reached(self.retry_at) => self.retry_at = None,
        }
    }

    /// Something went wrong with the channel: there is another after a while. It is logged once until
    /// something has gone well.
    pub(super) fn failed(&mut self, what: &'static str, error: &BrokerError) {
        self.channel = None;
        if self.backoff.attempts() == 0 {
            warn!(kind = what, %error, "a status message could not be sent; work goes on");
        }
        self.retry_at = Some(Instant::now() + self.backoff.next(rand::random()));
    }

    /// A message has arrived.
    pub(super) fn succeeded(&mut self) {
        self.backoff.reset();
    }

    /// Closes the channel, within `limit`; at once if the broker blocks the connection.
    pub(super) async fn close(self, limit: Duration) {
        let Some((_, publisher)) = &self.channel else {
            return;
        };
        let closed = tokio::select! {
            biased;
            blocked = blocked(self.link(), "channel.close") => Err(blocked),
            closed = publisher.close(limit) => closed,
        };
        if let Err(error) = closed {
            debug!(%error, "the status channel did not close cleanly");
        }
    }

    pub(super) fn link(&self) -> Option<Link> {
        self.session.borrow().link().cloned()
    }
}

async fn open(link: Link, exchange: String) -> Result<(u64, Publisher), BrokerError> {
    ensure_topic_exchange(&link, &exchange).await?;
    let publisher = Publisher::open(&link).await?;
    Ok((link.generation(), publisher))
}

async fn blocked_or_unblocked(link: Option<Link>) {
    match link {
        Some(link) => link.changed().await,
        None => std::future::pending().await,
    }
}

/// Resolves while the broker blocks the connection of `link`, as the error of `what`. Cancel safe.
pub(super) async fn blocked(link: Option<Link>, what: &'static str) -> BrokerError {
    match link {
        Some(link) => BrokerError::blocked(what, &link.blocked().await),
        None => std::future::pending().await,
    }
}

/// Sends `message` on `publisher`. It is in line when this returns: messages go out in the order of these calls.
pub(super) fn send(publisher: Publisher, message: Message) -> Sending {
    let mut sending: Sending = Box::pin(async move {
        let confirmed = async { publisher.publish(&message).await?.accepted().await };
        let what = "publishing a status message";
        let limit = CONFIRM_LIMIT;
        let timed_out = |_elapsed| BrokerError::TimedOut { what, limit };
        timeout(limit, confirmed).await.map_err(timed_out)?
    });
    // The client library queues a message when its future is first polled.
    match sending
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(sent) => Box::pin(std::future::ready(sent)),
        Poll::Pending => sending,
    }
}
