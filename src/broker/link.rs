//! One connection to the broker, from its handshake to its end.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_rs::Runtime;
use futures_util::StreamExt as _;
use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Connection, ConnectionProperties, Event};
use secrecy::ExposeSecret as _;
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, watch};
use tokio_util::task::AbortOnDropHandle;

use super::{AmqpRuntime, BrokerError, RPC_LIMIT, Server, bounded, hello};
use crate::config::BrokerSettings;

/// The largest frame asked for. A broker without a limit of its own (`frame_max` 0) would otherwise make
/// the client library reserve buffers of 4 GiB.
const FRAME_MAX: u32 = 131_072;
/// How often the connection's own state is looked at beside its events.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// One connection. Cheap to clone; the connection closes when the last clone is gone.
#[derive(Debug, Clone)]
pub struct Link(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connection: Connection,
    generation: u64,
    state: watch::Receiver<LinkState>,
    settings: BrokerSettings,
    handle: Handle,
    server: OnceCell<Server>,
    _watcher: AbortOnDropHandle<()>,
}

/// How a link is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// It works.
    Up,
    /// The broker does not read from connections that publish (memory or disk alarm); the client library
    /// then writes nothing at all on it, not even a close.
    Blocked {
        /// The broker's words.
        reason: String,
    },
    /// It is gone for good.
    Lost {
        /// What ended it.
        cause: String,
    },
}

/// The limits of a connection (`connection.tune`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiated {
    /// The most channels there may be; 0 for no limit.
    pub channel_max: u16,
    /// The largest frame in bytes; 0 for no limit.
    pub frame_max: u32,
    /// The AMQP heartbeat; zero where there is none.
    pub heartbeat: Duration,
}

/// Connects and logs in, within `settings.connect_timeout`.
///
/// # Errors
/// [`BrokerError::Unreachable`] for the network and TLS, [`BrokerError::Refused`] for what the broker does
/// not accept (403 credentials, 530 virtual host), [`BrokerError::TimedOut`], [`BrokerError::File`].
pub async fn connect(
    settings: &BrokerSettings,
    name: &str,
    runtime: &AmqpRuntime,
) -> Result<Link, BrokerError> {
    static GENERATION: AtomicU64 = AtomicU64::new(1);

    let tls = tls(settings).await?;
    let executor = runtime.executor();
    let handle = executor
        .handle()
        .expect("the executor was made from a handle");
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connecting = Connection::connect_uri_with_config(
        uri(settings),
        properties,
        tls,
        Runtime::tokio_with_handle(handle.clone()),
    );
    let connection = bounded("connecting", settings.connect_timeout, connecting)
        .await
        .map_err(|error| match error {
            BrokerError::Lost { cause, .. } => BrokerError::Unreachable {
                address: format!("{}:{}", settings.host, settings.port),
                cause,
            },
            other => other,
        })?;
    let (sender, state) = watch::channel(LinkState::Up);
    let watcher = handle.spawn(watch_events(
        connection.events_listener(),
        connection.status().clone(),
        sender,
    ));
    Ok(Link(Arc::new(Inner {
        connection,
        generation: GENERATION.fetch_add(1, Ordering::Relaxed),
        state,
        settings: settings.clone(),
        handle: handle.clone(),
        server: OnceCell::new(),
        _watcher: AbortOnDropHandle::new(watcher),
    })))
}

impl Link {
    /// This link's number; every link of a process has another.
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// How the link is now.
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
            Ok(LinkState::Lost { cause }) => cause.clone(),
            _ => "its watcher is gone".to_owned(),
        }
    }

    /// Resolves when [`state`](Self::state) has changed since this was called. Cancel safe.
    pub async fn changed(&self) {
        let mut state = self.0.state.clone();
        state.mark_unchanged();
        crate::wait::changed(&mut state).await;
    }

    /// Who is at the other end. The client library does not tell, so that it is asked on a connection of its
    /// own, once.
    ///
    /// # Errors
    /// As [`server`](super::server).
    pub async fn server(&self) -> Result<&Server, BrokerError> {
        let ask = || hello::server_on(&self.0.settings, &self.0.handle);
        self.0.server.get_or_try_init(ask).await
    }

    /// Whether the broker blocks publishes on this link.
    pub fn is_blocked(&self) -> bool {
        matches!(*self.0.state.borrow(), LinkState::Blocked { .. })
    }

    /// What both sides agreed on.
    pub fn negotiated(&self) -> Negotiated {
        let configuration = self.0.connection.configuration();
        Negotiated {
            channel_max: configuration.channel_max(),
            frame_max: configuration.frame_max(),
            heartbeat: Duration::from_secs(configuration.heartbeat().into()),
        }
    }

    /// Opens a channel.
    pub(super) async fn channel(&self) -> Result<lapin::Channel, BrokerError> {
        bounded(
            "channel.open",
            RPC_LIMIT,
            self.0.connection.create_channel(),
        )
        .await
    }

    /// Closes the connection in order (`connection.close`, awaiting `connection.close-ok`), for at most
    /// `limit`.
    ///
    /// # Errors
    /// Where the connection was lost before, or no answer came in time.
    pub async fn close(&self, limit: Duration) -> Result<(), BrokerError> {
        let close = self.0.connection.close(200, "OK".into());
        bounded("connection.close", limit, close).await
    }
}

async fn watch_events(
    events: impl futures_util::Stream<Item = Event>,
    status: lapin::ConnectionStatus,
    state: watch::Sender<LinkState>,
) {
    let mut events = std::pin::pin!(events);
    let mut check = tokio::time::interval(CHECK_INTERVAL);
    let cause = loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Event::ConnectionBlocked(reason)) => {
                    state.send_replace(LinkState::Blocked { reason });
                }
                Some(Event::ConnectionUnblocked) => {
                    state.send_replace(LinkState::Up);
                }
                // A channel's error is reported here too; only the connection's own state decides.
                Some(Event::Error(error)) if !status.connected() => break error.to_string(),
                Some(_) => {}
                None => break "the client library ended".to_owned(),
            },
            _ = check.tick() => if !status.connected() {
                break "the connection is closed".to_owned();
            },
        }
    };
    state.send_replace(LinkState::Lost { cause });
}

pub(super) fn uri(settings: &BrokerSettings) -> AMQPUri {
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

pub(super) async fn tls(settings: &BrokerSettings) -> Result<OwnedTLSConfig, BrokerError> {
    let mut tls = OwnedTLSConfig::default();
    if let Some(ca) = &settings.ca {
        let pem = read(ca).await?;
        tls.cert_chain = Some(String::from_utf8_lossy(&pem).into_owned());
    }
    if let Some((certificate, key)) = &settings.identity {
        tls.identity = Some(OwnedIdentity::PKCS8 {
            pem: read(certificate).await?,
            key: read(key).await?,
        });
    }
    Ok(tls)
}

async fn read(path: &Path) -> Result<Vec<u8>, BrokerError> {
    tokio::fs::read(path)
        .await
        .map_err(|error| BrokerError::File {
            path: path.display().to_string(),
            cause: error.to_string(),
        })
}
