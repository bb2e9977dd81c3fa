//! One connection to the broker, from its handshake to its end.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_rs::Runtime;
use lapin::tcp::AsyncTcpStream;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Connection, ConnectionProperties};
use secrecy::ExposeSecret as _;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::channels::Channels;
use super::publish::BodyLimit;
use super::runtime::Borrower;
use super::server::{self, Server};
use super::socket::{Kit, Socket, SocketHandle, dial};
use super::{AmqpRuntime, BrokerError, RPC_LIMIT, bounded};
use crate::config::BrokerSettings;

mod state;

pub use state::LinkState;
use state::watch_events;

/// The largest frame asked for. A broker without a limit of its own (`frame_max` 0) would otherwise make
/// the client library reserve buffers of 4 GiB.
pub(crate) const FRAME_MAX: u32 = 131_072;
/// After so many requests in a row without an answer the connection is given up: another node of the broker may answer.
const SILENCE_LIMIT: usize = 3;

/// One connection. Cheap to clone; the connection closes when the last clone is gone.
#[derive(Debug, Clone)]
pub struct Link(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connection: Connection,
    generation: u64,
    state: watch::Receiver<LinkState>,
    socket: Arc<SocketHandle>,
    server: Server,
    /// Requests since the last answer.
    unanswered: AtomicUsize,
    /// When somebody on the link last took a turn.
    turn: Mutex<Option<Instant>>,
    /// Every consumer on the link has a clone.
    consuming: Arc<Consuming>,
    channels: Channels,
    body_limit: Arc<BodyLimit>,
    _watcher: AbortOnDropHandle<()>,
}

/// A sign that a consumer lives on a link.
#[derive(Debug, Default)]
pub(super) struct Consuming;

/// The limits of a connection (`connection.tune`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiated {
    /// The most channels there may be; 0 for no limit.
    pub channel_max: u16,
    /// The largest frame in bytes; 0 for no limit.
    pub frame_max: u32,
    /// The AMQP heartbeat; zero if there is none.
    pub heartbeat: Duration,
}

/// Connects to the first of the hosts of `settings` that lets the client in; each has `settings.connect_timeout`.
///
/// # Errors
/// The last host's: [`BrokerError::Unreachable`] for the network and TLS, [`BrokerError::Refused`] for what the
/// broker does not accept (403 credentials, 530 virtual host), [`BrokerError::TimedOut`], [`BrokerError::File`].
pub async fn connect(
    settings: &BrokerSettings,
    name: &str,
    runtime: &AmqpRuntime,
) -> Result<Link, BrokerError> {
    let mut turn = 0;
    loop {
        let attempt = settings.at_host(turn);
        turn += 1;
        match connect_to(&attempt, name, runtime, None, &mut Vec::new()).await {
            Err(error) if turn < settings.hosts() && !error.is_refusal() => {
                warn!(host = attempt.address(), %error, "trying the next host");
            }
            connected => return connected,
        }
    }
}

/// Connects to the host of `settings` and logs in, within `settings.connect_timeout`. An address that accepts the
/// connection and then does not answer is added to `silent`; those are tried after the host's others.
///
/// # Errors
/// As [`connect`].
pub(super) async fn connect_to(
    settings: &BrokerSettings,
    name: &str,
    runtime: &AmqpRuntime,
    borrower: Option<Borrower>,
    silent: &mut Vec<SocketAddr>,
) -> Result<Link, BrokerError> {
    let limit = settings.connect_timeout;
    let settings = refreshed(settings).await?;
    let mut dialled = None;
    let connecting = async {
        let (mut socket, address) = dial(&settings, silent, FRAME_MAX).await?;
        if let Some(borrower) = borrower {
            socket.borrow(borrower);
        }
        dialled = Some(address);
        log_in(&settings, name, runtime, socket).await
    };
    let connected = tokio::time::timeout(limit, connecting).await;
    let what = "connecting";
    let connected = connected.unwrap_or(Err(BrokerError::TimedOut { what, limit }));
    match (&connected, dialled) {
        (Err(BrokerError::TimedOut { .. }), Some(address)) if !silent.contains(&address) => {
            silent.push(address);
        }
        _ => {}
    }
    connected
}

/// The settings with what their files say now.
async fn refreshed(settings: &BrokerSettings) -> Result<BrokerSettings, BrokerError> {
    let settings = settings.clone();
    if settings.url_file.is_none() && settings.password_file.is_none() {
        return Ok(settings);
    }
    let what = "reading the credentials";
    match tokio::task::spawn_blocking(move || settings.refreshed()).await {
        Ok(Ok(settings)) => Ok(settings),
        Ok(Err(error)) => Err(BrokerError::File {
            path: error.path.display().to_string(),
            cause: error.cause,
        }),
        Err(error) => Err(BrokerError::Lost {
            what,
            cause: error.to_string(),
        }),
    }
}

/// Has a handshake that is given up end: the client library would wait for it forever.
struct Handshake(Option<Arc<SocketHandle>>);

impl Drop for Handshake {
    fn drop(&mut self) {
        if let Some(socket) = self.0.take() {
            socket.abandon();
        }
    }
}

/// The handshake of AMQP on an open socket.
async fn log_in(
    settings: &BrokerSettings,
    name: &str,
    runtime: &AmqpRuntime,
    socket: Socket,
) -> Result<Link, BrokerError> {
    static GENERATION: AtomicU64 = AtomicU64::new(1);

    let socket_handle = socket.handle();
    let mut handshake = Handshake(Some(socket.handle()));
    let socket = Mutex::new(Some(socket));
    let hand_over = async move |_: AMQPUri, _: Runtime<Kit>| {
        let socket = socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        let used = || std::io::Error::other("the broker hung up during the handshake");
        Ok(AsyncTcpStream::Plain(socket.ok_or_else(used)?))
    };
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let kit = Runtime::new(Kit::new(&runtime.executor()));
    let connection = Connection::connector(uri(settings), kit, hand_over, properties)
        .await
        .map_err(
            |error| match BrokerError::from_lapin("connecting", &error) {
                BrokerError::Lost { cause, .. } => BrokerError::Unreachable {
                    address: settings.address(),
                    cause: server::hint(cause, &socket_handle, settings.tls),
                },
                other => other,
            },
        )?;
    handshake.0 = None;
    let (sender, state) = watch::channel(LinkState::Up);
    let watcher = runtime.spawn_unwatched(watch_events(
        connection.events_listener(),
        connection.status().clone(),
        sender,
    ));
    let greeting = socket_handle.greeting();
    Ok(Link(Arc::new(Inner {
        connection,
        generation: GENERATION.fetch_add(1, Ordering::Relaxed),
        state,
        server: greeting.and_then(Server::parse).unwrap_or_default(),
        socket: socket_handle,
        unanswered: AtomicUsize::new(0),
        turn: Mutex::default(),
        consuming: Arc::default(),
        channels: Channels::default(),
        body_limit: Arc::default(),
        _watcher: AbortOnDropHandle::new(watcher),
    })))
}

impl Link {
    /// This link's number; every link of a process has another.
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// The state of the link now.
    pub fn state(&self) -> LinkState {
        self.0.state.borrow().clone()
    }

    /// Resolves with the cause when the link is lost. Cancel safe.
    pub async fn lost(&self) -> String {
        let mut state = self.0.state.clone();
        let lost = state
            .wait_for(|state| matches!(state, LinkState::Lost { .. }))
            .await;
        match lost.as_deref() {
            Ok(LinkState::Lost { cause, .. }) => cause.clone(),
            _ => "its watcher is gone".to_owned(),
        }
    }

    /// Whether it is lost because the broker could not go on with it.
    pub(crate) fn was_closed_by_broker(&self) -> bool {
        matches!(
            *self.0.state.borrow(),
            LinkState::Lost {
                by_broker: true,
                ..
            }
        )
    }

    /// Resolves while the broker blocks publishes on the link, with its words. Cancel safe.
    pub(crate) async fn blocked(&self) -> String {
        let mut state = self.0.state.clone();
        loop {
            if let LinkState::Blocked { reason } = &*state.borrow_and_update() {
                return reason.clone();
            }
            crate::wait::changed(&mut state).await;
        }
    }

    /// Resolves when [`state`](Self::state) has changed since this was called. Cancel safe.
    pub async fn changed(&self) {
        let mut state = self.0.state.clone();
        state.mark_unchanged();
        crate::wait::changed(&mut state).await;
    }

    /// The server at the other end, from its greeting.
    pub fn server(&self) -> &Server {
        &self.0.server
    }

    /// The guard that a consumer on this link keeps for as long as it lives.
    pub(super) fn consuming(&self) -> Arc<Consuming> {
        Arc::clone(&self.0.consuming)
    }

    /// Notes whether a request was answered. After [`SILENCE_LIMIT`] in a row that were not the link is lost, unless it
    /// has a consumer: one queue that does not answer is no reason to disturb the others.
    pub(crate) fn note_answer<T>(&self, answer: &Result<T, BrokerError>) {
        if !matches!(answer, Err(BrokerError::TimedOut { .. })) {
            self.0.unanswered.store(0, Ordering::Relaxed);
            return;
        }
        let unanswered = self.0.unanswered.fetch_add(1, Ordering::Relaxed) + 1;
        let consumers = Arc::strong_count(&self.0.consuming) - 1;
        if unanswered >= SILENCE_LIMIT && consumers == 0 && !self.is_blocked() {
            self.give_up();
        }
    }

    /// Whether the caller may do something that all who share the link together do once in `pause`.
    pub(crate) fn takes_turn(&self, now: Instant, pause: Duration) -> bool {
        let mut last = self.0.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = last.is_none_or(|last| now.saturating_duration_since(last) >= pause);
        if is_free {
            *last = Some(now);
        }
        is_free
    }

    /// Has the link be lost: it leads to a node of the broker that is of no use.
    pub(crate) fn give_up(&self) {
        self.0.socket.abandon();
    }

    /// Whether the broker blocks publishes on this link.
    pub fn is_blocked(&self) -> bool {
        matches!(*self.0.state.borrow(), LinkState::Blocked { .. })
    }

    /// The limits that both sides agreed on.
    pub fn negotiated(&self) -> Negotiated {
        let configuration = self.0.connection.configuration();
        Negotiated {
            channel_max: configuration.channel_max(),
            frame_max: configuration.frame_max(),
            heartbeat: Duration::from_secs(configuration.heartbeat().into()),
        }
    }

    /// The longest body that the broker takes, as far as it is known.
    pub(super) fn body_limit(&self) -> Arc<BodyLimit> {
        Arc::clone(&self.0.body_limit)
    }

    /// Opens a channel.
    pub(super) async fn channel(&self) -> Result<lapin::Channel, BrokerError> {
        let open = self.0.connection.create_channel();
        let channel = bounded("channel.open", RPC_LIMIT, open).await?;
        self.0.channels.opened(channel.status().clone());
        Ok(channel)
    }

    /// Closes the connection in order (`connection.close`, awaiting `connection.close-ok`), for at most
    /// `limit`. While the broker blocks it nothing is written, so there is no point in waiting.
    ///
    /// # Errors
    /// The connection was lost before or is blocked, or no answer came in time.
    pub async fn close(&self, limit: Duration) -> Result<(), BrokerError> {
        let what = "connection.close";
        let connection = &self.0.connection;
        let close = async {
            // The client library closes a dropped channel by itself, and fails if the connection's close overtakes
            // that. It serves requests in order: once another channel has opened, what was dropped is being closed.
            if self.0.channels.any_open()
                && let Ok(last) = connection.create_channel().await
            {
                let _ = last.close(200, "OK".into()).await;
            }
            connection.close(200, "OK".into()).await
        };
        tokio::select! {
            biased;
            reason = self.blocked() => Err(BrokerError::blocked(what, &reason)),
            closed = bounded(what, limit, close) => closed,
        }
    }
}

fn uri(settings: &BrokerSettings) -> AMQPUri {
    let heartbeat = u16::try_from(settings.heartbeat.as_secs()).unwrap_or(u16::MAX);
    AMQPUri {
        scheme: if settings.tls {
            AMQPScheme::AMQPS
        } else {
            AMQPScheme::AMQP
        },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: settings.username.clone(),
                password: settings.password.expose_secret().to_owned(),
            },
            host: settings.host.clone(),
            port: settings.port,
        },
        vhost: settings.vhost.clone(),
        query: AMQPQueryString {
            frame_max: Some(FRAME_MAX),
            heartbeat: Some(heartbeat),
            ..AMQPQueryString::default()
        },
    }
}
