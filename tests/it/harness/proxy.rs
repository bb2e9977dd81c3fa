//! A recording AMQP proxy: it stands between a client and the broker, writes down every frame in one total
//! order, and lets a test cut, refuse, freeze, hold back and inject.
//!
//! It passes on exactly the bytes that came. An event is recorded just before its frame is written to the
//! other side, so that of two events of one connection the earlier can be the other's cause, never the reverse.
//! Plain TCP only.

mod control;
mod event;
mod frames;
mod log;
mod pump;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use amq_protocol::frame::AMQPFrame;
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

pub(crate) use event::{Direction, Event, Side, What};
pub(crate) use log::Log;

use super::wait::eventually;
use control::{Control, Gate};
use frames::Frame;

/// Lines of the log that a failed test prints.
const PRINTED: usize = 300;

/// The proxy; it ends when this is dropped, and its log is printed when the test fails.
pub(crate) struct Proxy {
    address: SocketAddr,
    control: Arc<Control>,
    _accepting: AbortOnDropHandle<()>,
}

/// Frames are held back while this exists.
#[must_use = "dropping it releases the frames"]
pub(crate) struct Hold {
    control: Arc<Control>,
    gate: Arc<Gate>,
}

impl Proxy {
    /// Listens on a free loopback port and forwards to the broker of `upstream`, an AMQP URL.
    pub(crate) async fn start(upstream: &Url) -> Self {
        let host = upstream.host_str().expect("the broker's URL has a host");
        let port = upstream.port().unwrap_or(5672);
        let upstream = lookup_host((host.trim_matches(['[', ']']), port))
            .await
            .expect("the broker's host has an address")
            .collect();
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let control = Arc::new(Control::new());
        let accepting = tokio::spawn(accept(listener, upstream, Arc::clone(&control)));
        Self {
            address,
            control,
            _accepting: AbortOnDropHandle::new(accepting),
        }
    }

    /// `upstream`, led through the proxy.
    pub(crate) fn url(&self, upstream: &Url) -> Url {
        let mut url = upstream.clone();
        url.set_ip_host(self.address.ip())
            .expect("AMQP URLs have a host");
        url.set_port(Some(self.address.port()))
            .expect("AMQP URLs have a port");
        url
    }

    /// Resets all connections now. New ones are accepted.
    pub(crate) fn cut(&self) {
        self.control.cuts.send_modify(|count| *count += 1);
    }

    /// Whether new connections are reset as soon as they are made.
    pub(crate) fn refuse(&self, refuse: bool) {
        self.control.refusing.store(refuse, Ordering::SeqCst);
    }

    /// Stops forwarding in `direction`, on all connections and new ones; sockets stay open. What was read
    /// before is forwarded still.
    pub(crate) fn freeze(&self, direction: Direction, freeze: bool) {
        self.control.frozen(direction).send_replace(freeze);
    }

    /// Holds back frames for which `predicate` holds, and with each everything behind it on its channel; other
    /// channels go on. The event that `predicate` sees has no place yet: its `seq` is `usize::MAX`.
    pub(crate) fn hold(
        &self,
        direction: Direction,
        predicate: impl Fn(&Event) -> bool + Send + Sync + 'static,
    ) -> Hold {
        Hold {
            control: Arc::clone(&self.control),
            gate: self.control.add_gate(direction, Box::new(predicate)),
        }
    }

    /// Sends `frame` to the client on `connection` as if it came from the broker, between two frames of
    /// the broker's; it must not split a message on its channel.
    ///
    /// # Panics
    /// If the connection is not open.
    pub(crate) fn inject(&self, connection: u32, frame: AMQPFrame) {
        let injected = self.inject_if_open(connection, frame);
        assert!(injected, "connection {connection} is not open");
    }

    /// As [`Self::inject`], for a connection that may end at any moment; whether it was open still.
    pub(crate) fn inject_if_open(&self, connection: u32, frame: AMQPFrame) -> bool {
        self.control.inject(connection, Frame::made(frame))
    }

    /// What is recorded so far.
    pub(crate) fn log(&self) -> Log {
        Log(self.control.events())
    }

    /// The place in the log that the next event will take.
    pub(crate) fn now(&self) -> usize {
        self.control.events().len()
    }

    /// Waits until an event for which `wanted` holds is recorded, and gives the first.
    pub(crate) async fn seen(&self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        eventually(format_args!("the proxy sees {what}"), async || {
            let found = self.control.find(&wanted);
            found.ok_or_else(|| format!("{} other events", self.now()))
        })
        .await
    }

    /// Waits until the method `name` is recorded, and gives the first.
    pub(crate) async fn seen_method(&self, name: &str) -> Event {
        self.seen(name, |event| event.is(name)).await
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut log = self.log();
            let left_out = log.0.len().saturating_sub(PRINTED);
            log.0.drain(..left_out);
            eprintln!("--- the proxy's log, without the first {left_out} events:\n{log}---");
        }
    }
}

impl Hold {
    /// How many frames it has caught; those that wait behind one are not counted.
    pub(crate) fn caught(&self) -> usize {
        self.gate.caught.load(Ordering::SeqCst)
    }

    /// Waits until it has caught a frame.
    pub(crate) async fn holds_one(&self) {
        eventually("a frame is held", async || match self.caught() {
            0 => Err("none came".to_owned()),
            _ => Ok(()),
        })
        .await;
    }

    /// Lets the frames go.
    pub(crate) fn release(self) {
        drop(self);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.control.release(&self.gate);
    }
}

async fn accept(listener: TcpListener, upstream: Vec<SocketAddr>, control: Arc<Control>) {
    // Connections end with the proxy.
    let mut connections = tokio::task::JoinSet::new();
    for number in 1.. {
        let Ok((client, _)) = listener.accept().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        let cuts = control.cuts.subscribe();
        control.record(control.event(number, 0, What::Opened));
        let broker = if control.refusing.load(Ordering::SeqCst) {
            None
        } else {
            TcpStream::connect(upstream.as_slice()).await.ok()
        };
        if let Some(broker) = broker {
            connections.spawn(pump::run(
                number,
                client,
                broker,
                cuts,
                Arc::clone(&control),
            ));
        } else {
            control.record(control.event(number, 0, What::Closed(Side::Proxy)));
            // A reset; a client that is gone already needs none.
            let _ = client.set_zero_linger();
        }
    }
}
