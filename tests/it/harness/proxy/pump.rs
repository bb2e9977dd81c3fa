//! One connection through the proxy: two pumps that forward whole frames and record each just before it is written.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};

use super::control::{Control, Gate};
use super::event::{Direction, Side, What};
use super::frames::{Frame, Frames};

const BUFFER: usize = 64 * 1024;

/// What both pumps of a connection know.
struct Connection<'a> {
    number: u32,
    control: &'a Control,
    closed: AtomicBool,
}

impl Connection<'_> {
    /// Records the first end of the connection; the others follow from it.
    fn closed_by(&self, side: Side) {
        if !self.closed.swap(true, Ordering::SeqCst) {
            let event = self.control.event(self.number, 0, What::Closed(side));
            self.control.record(event);
        }
    }
}

/// Forwards between `client` and `broker` until both have ended, one was reset, or the proxy cuts.
pub(super) async fn run(
    number: u32,
    mut client: TcpStream,
    mut broker: TcpStream,
    mut cuts: watch::Receiver<u64>,
    control: Arc<Control>,
) {
    let connection = Connection {
        number,
        control: &control,
        closed: AtomicBool::new(false),
    };
    // Each frame goes out as it came: no waiting for more.
    let nodelay = client.set_nodelay(true).and(broker.set_nodelay(true));
    let injections = control.accept_injections(number);
    let orderly = {
        let (from_client, to_client) = client.split();
        let (from_broker, to_broker) = broker.split();
        let up = Pump::new(&connection, Direction::ToBroker, to_broker, None);
        let down = Pump::new(
            &connection,
            Direction::ToClient,
            to_client,
            Some(injections),
        );
        tokio::select! {
            biased;
            _ = cuts.changed() => {
                connection.closed_by(Side::Proxy);
                false
            }
            ended = async { tokio::try_join!(up.run(from_client), down.run(from_broker)) } => {
                ended.is_ok() && nodelay.is_ok()
            }
        }
    };
    control.refuse_injections(number);
    if !orderly {
        // A reset: whoever reads gets an error, at once. A socket that is gone already needs none.
        let _ = client.set_zero_linger();
        let _ = broker.set_zero_linger();
    }
}

/// A channel's frames in order, each with the gate that holds it.
type Waiting = VecDeque<(Option<Arc<Gate>>, Frame)>;

/// One direction.
struct Pump<'a> {
    connection: &'a Connection<'a>,
    direction: Direction,
    write: WriteHalf<'a>,
    injections: Option<mpsc::Receiver<Frame>>,
    /// Per channel: a frame that a gate holds, and everything behind it.
    held: BTreeMap<u16, Waiting>,
}

impl<'a> Pump<'a> {
    fn new(
        connection: &'a Connection<'a>,
        direction: Direction,
        write: WriteHalf<'a>,
        injections: Option<mpsc::Receiver<Frame>>,
    ) -> Self {
        Self {
            connection,
            direction,
            write,
            injections,
            held: BTreeMap::new(),
        }
    }

    fn sender(&self) -> Side {
        match self.direction {
            Direction::ToBroker => Side::Client,
            Direction::ToClient => Side::Broker,
        }
    }

    async fn run(mut self, mut read: ReadHalf<'a>) -> io::Result<()> {
        let control = self.connection.control;
        let mut releases = control.releases.subscribe();
        let mut freeze = control.frozen(self.direction).subscribe();
        let mut frames = Frames::default();
        let mut buffer = vec![0; BUFFER];
        let mut ended = false;
        while !(ended && self.held.is_empty()) {
            let frozen = *freeze.borrow_and_update();
            tokio::select! {
                biased;
                _ = freeze.changed() => {}
                _ = releases.changed(), if !frozen => self.flush().await?,
                Some(frame) = injected(&mut self.injections), if !frozen => self.forward(frame).await?,
                size = read.read(&mut buffer), if !frozen && !ended => {
                    let size = size.inspect_err(|_| self.connection.closed_by(self.sender()))?;
                    if size == 0 {
                        self.connection.closed_by(self.sender());
                        ended = true;
                    }
                    frames.feed(&buffer[..size]);
                    while let Some(frame) = frames.next() {
                        self.pass(frame).await?;
                    }
                }
            }
        }
        self.write.write_all(frames.rest()).await?;
        self.write.shutdown().await
    }

    /// Forwards `frame`, or holds it where a gate stops it or its channel is held already.
    async fn pass(&mut self, frame: Frame) -> io::Result<()> {
        if let Some(channel) = self.held.get_mut(&frame.channel()) {
            channel.push_back((None, frame));
            return Ok(());
        }
        if let Some(gate) = self.gate_for(&frame) {
            let waiting = VecDeque::from([(Some(gate), frame)]);
            let channel = waiting[0].1.channel();
            self.held.insert(channel, waiting);
            return Ok(());
        }
        self.forward(frame).await
    }

    fn gate_for(&self, frame: &Frame) -> Option<Arc<Gate>> {
        let control = self.connection.control;
        let what = What::of(self.direction, frame);
        let event = control.event(self.connection.number, frame.channel(), what);
        control.gate_for(self.direction, &event)
    }

    /// Forwards what no gate holds any more, in the order of each channel.
    async fn flush(&mut self) -> io::Result<()> {
        for (channel, mut waiting) in std::mem::take(&mut self.held) {
            while let Some((gate, frame)) = waiting.pop_front() {
                let gate = match gate {
                    Some(gate) => Some(gate).filter(|gate| !gate.is_released()),
                    None => self.gate_for(&frame),
                };
                if gate.is_some() {
                    waiting.push_front((gate, frame));
                    self.held.insert(channel, waiting);
                    break;
                }
                self.forward(frame).await?;
            }
        }
        Ok(())
    }

    async fn forward(&mut self, frame: Frame) -> io::Result<()> {
        let control = self.connection.control;
        let what = What::of(self.direction, &frame);
        let event = control.event(self.connection.number, frame.channel(), what);
        control.record(event);
        self.write.write_all(&frame.bytes).await
    }
}

/// The next frame to inject; pends where none will come.
async fn injected(frames: &mut Option<mpsc::Receiver<Frame>>) -> Option<Frame> {
    match frames {
        Some(frames) => match frames.recv().await {
            Some(frame) => Some(frame),
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}
