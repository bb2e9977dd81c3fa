//! The control queues of simulated workers.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use tidegate::internal::broker::{
    BrokerError, ExclusiveConsumer, ExclusiveQueue, Link, Taken, delete_queue,
};
use tidegate::internal::status::control::{
    ALL_KEY, QUEUE_BYTES, QUEUE_LENGTH, QUEUE_PREFETCH, control_queue, worker_key,
};

/// Queues that are being declared or deleted at a time.
const OPENING_LIMIT: usize = 32;
/// Commands that may wait for the simulation.
const EVENTS: usize = 10_000;

/// An event of a control queue.
#[derive(Debug)]
pub(super) enum Event {
    /// It is there: the worker can begin.
    Open,
    /// A command came.
    Command(Box<Taken>),
    /// It could not be made, or was lost.
    Failed(String),
}

/// An event of the worker `number`, in its life with the id `id`.
#[derive(Debug)]
pub(super) struct ControlEvent {
    pub(super) number: usize,
    pub(super) id: Arc<str>,
    pub(super) event: Event,
}

/// Makes and deletes control queues.
pub(super) struct Controls {
    links: Vec<Link>,
    count: usize,
    exchange: Arc<str>,
    opening: Arc<Semaphore>,
    events: mpsc::Sender<ControlEvent>,
}

/// A control queue; it is deleted when this is dropped.
#[derive(Debug)]
pub(super) struct ControlQueue {
    _end: DropGuard,
}

impl Controls {
    /// For the first `count` workers, on `links`, of which each takes
    /// [`WORKERS_PER_CONNECTION`](super::WORKERS_PER_CONNECTION); what happens comes out of the receiver.
    pub(super) fn new(
        links: Vec<Link>,
        count: usize,
        exchange: &str,
    ) -> (Self, mpsc::Receiver<ControlEvent>) {
        let (events, receiver) = mpsc::channel(EVENTS);
        let controls = Self {
            links,
            count,
            exchange: exchange.into(),
            opening: Arc::new(Semaphore::new(OPENING_LIMIT)),
            events,
        };
        (controls, receiver)
    }

    /// Makes the queue of worker `number`, whose id is `id`. [`Event::Open`] follows; without a connection for it,
    /// at once.
    pub(super) fn open(&self, number: usize, id: &str) -> ControlQueue {
        let end = CancellationToken::new();
        let link = self.links.get(number / super::WORKERS_PER_CONNECTION);
        let link = link.filter(|_| number < self.count);
        let serving = Serving {
            link: link.cloned(),
            exchange: Arc::clone(&self.exchange),
            opening: Arc::clone(&self.opening),
            events: self.events.clone(),
            number,
            id: id.into(),
            end: end.clone(),
        };
        tokio::spawn(serving.run());
        ControlQueue {
            _end: end.drop_guard(),
        }
    }
}

struct Serving {
    link: Option<Link>,
    exchange: Arc<str>,
    opening: Arc<Semaphore>,
    events: mpsc::Sender<ControlEvent>,
    number: usize,
    id: Arc<str>,
    end: CancellationToken,
}

impl Serving {
    async fn run(self) {
        let Some(link) = &self.link else {
            self.tell(Event::Open).await;
            return;
        };
        let served = self.serve(link).await;
        if let Err(error) = served {
            self.tell(Event::Failed(error.to_string())).await;
        }
    }

    async fn serve(&self, link: &Link) -> Result<(), BrokerError> {
        let name = control_queue(&self.id);
        let mut queue = {
            let _turn = self.turn().await;
            let keys = [&*worker_key(&self.id), ALL_KEY];
            let queue = ExclusiveQueue {
                name: &name,
                max_length: QUEUE_LENGTH,
                max_bytes: QUEUE_BYTES,
                prefetch: QUEUE_PREFETCH,
                exchange: &self.exchange,
                keys: &keys,
            };
            ExclusiveConsumer::open(link, &queue).await?
        };
        self.tell(Event::Open).await;
        loop {
            let taken = tokio::select! {
                biased;
                () = self.end.cancelled() => break,
                taken = queue.next() => taken,
            };
            let Some(taken) = taken else {
                self.tell(Event::Failed(format!("{name:?} is lost"))).await;
                return Ok(());
            };
            queue.settle(taken.tag);
            self.tell(Event::Command(Box::new(taken))).await;
        }
        let _turn = self.turn().await;
        delete_queue(link, &name).await
    }

    async fn turn(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.opening.acquire().await.ok()
    }

    async fn tell(&self, event: Event) {
        let event = ControlEvent {
            number: self.number,
            id: Arc::clone(&self.id),
            event,
        };
        // Without a receiver the simulation is over.
        let _ = self.events.send(event).await;
    }
}
