//! The publisher's task: it decides what is published next.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::figures::{self, Figures};
use super::outbox::{self, CONFIRM_LIMIT, Outbox, Sending, send};
use super::states::{StateContent, States};
use super::{Request, Snapshot, StatusParts};
use crate::broker::{BrokerError, Message, Publisher};
use crate::lifecycle::{CLOSING_LIMIT, Phase};
use crate::status::delta::{Delta, Encoded};
use crate::status::envelope::envelope;
use crate::status::heartbeat::{Heartbeat, Promise};
use crate::status::savings::Savings;
use crate::status::wire::{Beat, Drain, DrainReport, Head, Kind, State, VERSION, millis, rfc3339};
use crate::wait;

pub(super) struct Task {
    parts: StatusParts,
    started: Instant,
    started_at: String,
    requests: mpsc::Receiver<Request>,
    seq: u64,
    outbox: Outbox,
    /// The generation of the link that the last channel was on.
    generation: u64,
    figures: Figures,
    heartbeat: Heartbeat,
    delta: Delta,
    savings: Savings,
    states: States,
    /// A full beat was asked for, however long ago the last one was.
    beat_asked: bool,
    /// At most one state and one beat are on their way.
    state: Option<MessageInFlight<StateContent>>,
    beat: Option<MessageInFlight<Encoded>>,
}

struct MessageInFlight<T> {
    content: T,
    promise: Promise,
    sending: Sending,
}

enum TaskEvent {
    Request(Option<Request>),
    Snapshot(bool),
    State(Result<(), BrokerError>),
    Beat(Result<(), BrokerError>),
    Remarks,
    Outbox,
    Time,
}

impl Task {
    pub(super) fn new(parts: StatusParts, requests: mpsc::Receiver<Request>) -> Self {
        let now = Instant::now();
        Self {
            started: now,
            started_at: rfc3339(Timestamp::now()),
            outbox: Outbox::new(parts.settings.exchange.clone(), parts.session.clone()),
            figures: Figures::new(now),
            heartbeat: Heartbeat::new(&parts.heartbeat),
            parts,
            requests,
            seq: 0,
            generation: 0,
            delta: Delta::default(),
            savings: Savings::default(),
            states: States::default(),
            beat_asked: false,
            state: None,
            beat: None,
        }
    }

    /// Publishes what is new until it is told to close. It only ever awaits the next event: neither a broker that
    /// does not confirm nor one that is gone can hold back the newest state, or a drain's report.
    pub(super) async fn run(mut self) {
        loop {
            let wake = self.publish_due();
            let happening = tokio::select! {
                biased;
                request = self.requests.recv() => TaskEvent::Request(request),
                changed = self.parts.snapshot.changed() => TaskEvent::Snapshot(changed.is_ok()),
                () = wait::changed(&mut self.parts.remarks) => TaskEvent::Remarks,
                sent = arrival(&mut self.state) => TaskEvent::State(sent),
                sent = arrival(&mut self.beat) => TaskEvent::Beat(sent),
                () = self.outbox.changed() => TaskEvent::Outbox,
                () = wait::reached(wake) => TaskEvent::Time,
            };
            match happening {
                TaskEvent::Request(Some(Request::Renew)) => {
                    self.states.ask();
                    self.beat_asked = true;
                    self.delta.renew();
                }
                TaskEvent::Request(Some(Request::Cadence {
                    by,
                    interval,
                    lasting,
                })) => self.requested(&by, interval, lasting),
                TaskEvent::Request(Some(Request::Report(report, patience, reply))) => {
                    let reported = self.report(*report, patience).await;
                    // The asker may have stopped waiting.
                    let _ = reply.send(reported);
                    return self.wait_for_close().await;
                }
                TaskEvent::Request(Some(Request::Close(limit, reply))) => {
                    return self.close(limit, reply).await;
                }
                // The worker is gone.
                TaskEvent::Request(None) | TaskEvent::Snapshot(false) => return,
                TaskEvent::State(sent) => self.state_sent(&sent),
                TaskEvent::Beat(sent) => self.beat_sent(&sent),
                TaskEvent::Snapshot(true)
                | TaskEvent::Remarks
                | TaskEvent::Outbox
                | TaskEvent::Time => {}
            }
        }
    }

    fn requested(&mut self, by: &str, interval: Duration, lasting: Duration) {
        let now = Instant::now();
        let is_new = self
            .heartbeat
            .request(by, interval, lasting, now, rand::random());
        if is_new {
            // A new requester has no full beat to put later ones over.
            self.delta.renew();
        }
    }

    /// Begins to send what is due. Returns when to call this again.
    fn publish_due(&mut self) -> Option<Instant> {
        let now = Instant::now();
        // The newest is published; what it replaced is not.
        let snapshot = self.parts.snapshot.borrow_and_update().clone();
        let beating = matches!(
            snapshot.phase,
            Phase::Starting | Phase::Running | Phase::Paused
        );
        if beating {
            if let Some(load) = self.figures.recent_load(&snapshot, now) {
                self.heartbeat.observe(load, now);
            }
        } else {
            self.heartbeat.end();
            self.beat_asked = false;
        }
        let sample = beating.then(|| self.figures.next_sample());
        let remarks = self.parts.remarks.borrow_and_update().clone();
        let told = StateContent::of(&snapshot, &remarks, now - self.started);
        let state_due = self.states.due(&told, now);
        let Some((generation, publisher)) = self.outbox.ready() else {
            return sample;
        };
        self.new_channel(generation);
        if self.state.is_some() {
            return sample;
        }
        if let Some(due) = state_due {
            if due <= now {
                self.state = Some(self.send_state(publisher, told));
                return sample;
            }
            // The state will count as a beat.
            return sample.into_iter().chain([due]).min();
        }
        // A state counts as a beat, so that none is due while one is on its way.
        if self.beat.is_some() {
            return sample;
        }
        let due = self.heartbeat.due(now);
        if self.beat_asked || due.is_some_and(|due| due <= now) {
            self.beat_asked = false;
            self.beat = Some(self.send_beat(publisher, &snapshot));
            return sample;
        }
        due.into_iter().chain(sample).min()
    }

    /// After a new connection one current beat is due, and a full one: receivers may have missed others.
    fn new_channel(&mut self, generation: u64) {
        if generation != self.generation {
            self.generation = generation;
            self.heartbeat.renew();
            self.delta.renew();
            self.savings.disconnected();
        }
    }

    fn send_state(
        &mut self,
        publisher: Publisher,
        told: StateContent,
    ) -> MessageInFlight<StateContent> {
        let now = Instant::now();
        let promise = self.heartbeat.promise(now, rand::random());
        let left = |deadline: Instant| deadline.saturating_duration_since(now);
        // In a drain the lease reaches past the deadline and what follows it, because no beats come any more.
        let lease = told.deadline.map_or(promise.lease, |deadline| {
            left(deadline) + CLOSING_LIMIT + CONFIRM_LIMIT
        });
        let state = State {
            head: self.head(lease),
            phase: told.phase,
            deadline_ms: told.deadline.map(|deadline| millis(left(deadline))),
            host: self.parts.host.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at.clone(),
            reason: told.reason.clone(),
            note: told.note.clone(),
            nodes: told.nodes.clone(),
        };
        let message = self.message(Kind::State, &state, None);
        self.states.sending();
        MessageInFlight {
            content: told,
            promise,
            sending: send(publisher, message),
        }
    }

    fn state_sent(&mut self, sent: &Result<(), BrokerError>) {
        let Some(state) = self.state.take() else {
            return;
        };
        if self.arrived(Kind::State, sent) {
            self.heartbeat.sent(state.promise);
            self.states.sent(state.content);
        }
    }

    fn send_beat(&mut self, publisher: Publisher, worker: &Snapshot) -> MessageInFlight<Encoded> {
        let now = Instant::now();
        let promise = self.heartbeat.promise(now, rand::random());
        let nodes = worker.nodes.iter();
        let nodes = nodes.map(|node| figures::beat_node(node, now)).collect();
        let encoded = self.delta.encode(nodes, now);
        let beat = Beat {
            head: self.head(promise.lease),
            load: figures::load(worker),
            full: encoded.full,
            nodes: encoded.nodes.clone(),
        };
        // No queue keeps it longer than it is true.
        let message = self.message(Kind::Beat, &beat, Some(promise.lease));
        MessageInFlight {
            content: encoded,
            promise,
            sending: send(publisher, message),
        }
    }

    fn beat_sent(&mut self, sent: &Result<(), BrokerError>) {
        let Some(beat) = self.beat.take() else {
            return;
        };
        if self.arrived(Kind::Beat, sent) {
            self.heartbeat.sent(beat.promise);
            self.delta.sent(beat.content);
        } else {
            self.delta.renew();
        }
    }

    fn arrived(&mut self, kind: Kind, sent: &Result<(), BrokerError>) -> bool {
        let metrics = &self.parts.metrics;
        metrics.status_message(kind.as_str(), sent.is_ok());
        if let Err(error) = sent {
            self.outbox.failed(kind.as_str(), error);
            return false;
        }
        self.outbox.succeeded();
        let nodes = self.parts.snapshot.borrow().nodes.len();
        metrics.pings_saved(self.savings.sent(nodes, Instant::now()));
        true
    }

    /// Publishes the report as soon as there is a channel. It waits for one while there is a connection, and for
    /// `patience` while there is none.
    async fn report(&mut self, report: DrainReport, patience: Duration) -> Result<(), BrokerError> {
        let what = "publishing the drain report";
        let given_up = Instant::now() + patience;
        let publisher = loop {
            if let Some((_, publisher)) = self.outbox.ready() {
                break publisher;
            }
            let limit = (!self.outbox.is_connected()).then_some(given_up);
            let failed = tokio::select! {
                biased;
                // Nobody knows how long an alarm lasts, and the worker is not to wait for its end.
                blocked = outbox::blocked(self.outbox.link(), what) => blocked,
                () = self.outbox.changed() => continue,
                () = wait::reached(limit) => BrokerError::Lost {
                    what,
                    cause: "there is no connection that the broker reads from".to_owned(),
                },
            };
            self.parts
                .metrics
                .status_message(Kind::Drain.as_str(), false);
            return Err(failed);
        };
        let drain = Drain {
            head: self.head(Duration::ZERO),
            report,
        };
        let message = self.message(Kind::Drain, &drain, None);
        let reported = tokio::select! {
            biased;
            reported = send(publisher, message) => reported,
            blocked = outbox::blocked(self.outbox.link(), what) => Err(blocked),
        };
        self.arrived(Kind::Drain, &reported);
        reported
    }

    fn head(&mut self, lease: Duration) -> Head {
        self.seq += 1;
        Head {
            v: VERSION,
            worker: self.parts.worker.clone(),
            name: self.parts.name.clone(),
            seq: self.seq,
            at: rfc3339(Timestamp::now()),
            lease_ms: millis(lease),
        }
    }

    /// A message is persistent, or a transient one that expires.
    fn message<T: Serialize>(&self, kind: Kind, body: &T, expires: Option<Duration>) -> Message {
        let exchange = &self.parts.settings.exchange;
        envelope(exchange, kind, &self.parts.worker, body, expires)
    }

    async fn wait_for_close(mut self) {
        while let Some(request) = self.requests.recv().await {
            if let Request::Close(limit, reply) = request {
                return self.close(limit, reply).await;
            }
        }
    }

    async fn close(self, limit: Duration, reply: oneshot::Sender<()>) {
        self.outbox.close(limit).await;
        // The asker may have stopped waiting.
        let _ = reply.send(());
    }
}

/// Resolves when the message on its way has arrived or failed; never if there is none. Cancel safe.
async fn arrival<T>(on_its_way: &mut Option<MessageInFlight<T>>) -> Result<(), BrokerError> {
    let sending = on_its_way.as_mut().map(|message| message.sending.as_mut());
    wait::some(sending).await
}
