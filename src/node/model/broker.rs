//! A broker in memory, which does nothing until the test tells it to. It watches the rules of settlement itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{mpsc, oneshot, watch};

use super::records::Records;
use super::stored::{Stored, count_failure, delivery, take_settled};
use crate::broker::{BrokerError, Intake, SessionState};
use crate::delivery::{Message, header};
use crate::settlement::Call;

pub(super) type Answer<T = ()> = oneshot::Sender<Result<T, BrokerError>>;
pub(super) type Deliveries = mpsc::UnboundedReceiver<Intake>;

/// A method that the client has queued on a channel.
#[derive(Debug)]
pub(super) enum Method {
    Settle(Call),
    HandBackAll,
    Consume(u16, Answer<Deliveries>),
    Cancel(Answer),
    Get(Answer),
    Close(Answer),
}

/// A channel, as both sides see it.
#[derive(Debug)]
pub(super) struct Channel {
    pub open: bool,
    pub last_tag: u64,
    pub prefetch: usize,
    pub consumer: Option<mpsc::UnboundedSender<Intake>>,
    /// What the broker has sent and not seen settled, by tag.
    pub unacked: BTreeMap<u64, Stored>,
    /// The last delivery that the client has taken.
    pub taken: u64,
    /// What the client has not settled, by tag.
    pub unsettled: BTreeMap<u64, Stored>,
    /// Those of them that the queue has taken back: their settlements change nothing.
    pub taken_back: BTreeSet<u64>,
    /// Methods in their order; those in front of `written` have left the client.
    pub methods: VecDeque<Method>,
    pub written: usize,
    /// Whether the client has heard the queue's answer to `basic.get`, which comes after every settlement before it.
    pub answered: bool,
    /// Who waits for a method to be written.
    pub writes: Vec<Answer>,
}

/// A copy whose confirm is awaited.
#[derive(Debug)]
pub(super) struct Unconfirmed {
    pub message: Message,
    pub answer: Answer,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct State {
    pub consume_link: Option<u64>,
    pub publish_link: Option<u64>,
    links: u64,
    pub channels: BTreeMap<u64, Channel>,
    pub ready: VecDeque<Stored>,
    /// Copies in delay queues.
    pub delayed: VecDeque<Stored>,
    pub unconfirmed: VecDeque<Unconfirmed>,
    pub closed_by_broker: bool,
    pub single_active_consumer: bool,
    pub delayed_retry: bool,
    pub kept_back: bool,
    pub records: Records,
}

/// The broker, shared by the test and the ports.
#[derive(Debug, Clone)]
pub(super) struct Broker {
    state: Arc<Mutex<State>>,
    pub consume: watch::Sender<SessionState<super::fake::FakeLink>>,
    pub publish: watch::Sender<SessionState<super::fake::FakeLink>>,
}

pub(super) fn lost() -> BrokerError {
    BrokerError::Lost {
        what: "the model",
        cause: "it is cut".to_owned(),
    }
}

impl Broker {
    pub(super) fn new(records: Records) -> Self {
        let state = State {
            consume_link: None,
            publish_link: None,
            links: 0,
            channels: BTreeMap::new(),
            ready: VecDeque::new(),
            delayed: VecDeque::new(),
            unconfirmed: VecDeque::new(),
            closed_by_broker: false,
            single_active_consumer: false,
            delayed_retry: false,
            kept_back: false,
            records,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            consume: watch::Sender::new(SessionState::Connecting),
            publish: watch::Sender::new(SessionState::Connecting),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the model does not panic")
    }

    pub(super) fn connect_consume(&self) {
        let number = self.state().new_link();
        self.state().consume_link = Some(number);
        let link = super::fake::FakeLink::new(self.clone(), number);
        self.consume.send_replace(SessionState::Connected(link));
    }

    pub(super) fn connect_publish(&self) {
        let number = self.state().new_link();
        self.state().publish_link = Some(number);
        let link = super::fake::FakeLink::new(self.clone(), number);
        self.publish.send_replace(SessionState::Connected(link));
    }

    /// Cuts the connection that consumes.
    pub(super) fn lose_consume(&self, by_broker: bool) {
        let mut state = self.state();
        state.closed_by_broker = by_broker;
        state.consume_link = None;
        state.end_channels(&lost());
        drop(state);
        self.consume.send_replace(SessionState::Reconnecting);
    }

    /// Cuts the connection that publishes; `taken`: the broker has what was published.
    pub(super) fn lose_publish(&self, taken: bool) {
        let mut state = self.state();
        state.publish_link = None;
        for copy in std::mem::take(&mut state.unconfirmed) {
            if taken {
                state.take_copy(&copy.message);
            }
            let _ = copy.answer.send(Err(lost()));
        }
        drop(state);
        self.publish.send_replace(SessionState::Reconnecting);
    }
}

impl State {
    fn new_link(&mut self) -> u64 {
        self.links += 1;
        self.links
    }

    /// The channel that is open, if there is one.
    pub(super) fn channel(&mut self) -> Option<&mut Channel> {
        self.channels.values_mut().rev().find(|it| it.open)
    }

    pub(super) fn open_channel(&mut self) -> u64 {
        let number = self.channels.len() as u64 + 1;
        let channel = Channel {
            open: true,
            last_tag: 0,
            prefetch: 0,
            consumer: None,
            unacked: BTreeMap::new(),
            taken: 0,
            unsettled: BTreeMap::new(),
            taken_back: BTreeSet::new(),
            methods: VecDeque::new(),
            written: 0,
            answered: false,
            writes: Vec::new(),
        };
        self.channels.insert(number, channel);
        number
    }

    /// Ends every open channel because of `error`: what is unsettled is ready again.
    pub(super) fn end_channels(&mut self, error: &BrokerError) {
        for number in self.channels.keys().copied().collect::<Vec<_>>() {
            self.end_channel(number, error);
        }
    }

    fn end_channel(&mut self, number: u64, error: &BrokerError) {
        let Some(channel) = self.channels.get_mut(&number).filter(|it| it.open) else {
            return;
        };
        channel.open = false;
        if let Some(consumer) = channel.consumer.take() {
            let _ = consumer.send(Intake::Lost(error.clone()));
        }
        channel.methods.clear();
        for write in channel.writes.drain(..) {
            let _ = write.send(Err(error.clone()));
        }
        let unacked = std::mem::take(&mut channel.unacked);
        let unsettled = std::mem::take(&mut channel.unsettled);
        self.records.channel_lost(unsettled.len());
        for (tag, stored) in unacked.into_iter().rev() {
            // Its settlement, if there was one, is lost.
            let was_settled = !unsettled.contains_key(&tag);
            self.records.requeued(number, &stored, was_settled);
            self.requeue(stored);
        }
    }

    pub(super) fn requeue(&mut self, mut stored: Stored) {
        stored.delivery.redelivered = true;
        self.ready.push_front(stored);
    }

    /// Everything that the client has queued leaves it.
    pub(super) fn write(&mut self) {
        for channel in self.channels.values_mut().filter(|it| it.open) {
            channel.written = channel.methods.len();
            for write in channel.writes.drain(..) {
                let _ = write.send(Ok(()));
            }
        }
    }

    /// The broker reads everything that was written.
    pub(super) fn read(&mut self) {
        self.write();
        let open = self.channels.iter().filter(|(_, it)| it.open);
        for number in open.map(|(number, _)| *number).collect::<Vec<_>>() {
            loop {
                let channel = self.channels.get_mut(&number).expect("it was open");
                let Some(method) = channel.methods.pop_front() else {
                    break;
                };
                channel.written = channel.written.saturating_sub(1);
                self.process(number, method);
            }
        }
    }

    /// Whether an open channel has methods that `wait`.
    pub(super) fn any_methods(&self, wait: impl Fn(&Channel) -> bool) -> bool {
        self.channels.values().any(|it| it.open && wait(it))
    }

    fn process(&mut self, number: u64, method: Method) {
        match method {
            Method::Settle(call) => self.process_call(number, call),
            Method::HandBackAll => {
                let channel = self.channels.get_mut(&number).expect("it is open");
                let unacked = std::mem::take(&mut channel.unacked);
                for (_, stored) in unacked.into_iter().rev() {
                    self.requeue(stored);
                }
            }
            Method::Consume(prefetch, answer) => {
                let (sender, deliveries) = mpsc::unbounded_channel();
                let channel = self.channels.get_mut(&number).expect("it is open");
                channel.prefetch = prefetch.into();
                channel.consumer = Some(sender);
                let _ = answer.send(Ok(deliveries));
            }
            Method::Cancel(answer) => {
                let channel = self.channels.get_mut(&number).expect("it is open");
                channel.consumer = None;
                let _ = answer.send(Ok(()));
            }
            Method::Get(answer) => {
                let channel = self.channels.get_mut(&number).expect("it is open");
                channel.answered = answer.send(Ok(())).is_ok();
            }
            Method::Close(answer) => {
                let channel = self.channels.get_mut(&number).expect("it is open");
                channel.open = false;
                channel.consumer = None;
                // If the channel may keep settlements back, its own answer proves nothing.
                let proves = !self.kept_back || self.single_active_consumer || channel.answered;
                let unacked = std::mem::take(&mut channel.unacked);
                for (_, stored) in unacked.into_iter().rev() {
                    self.requeue(stored);
                }
                let heard = answer.send(Ok(())).is_ok() && proves;
                self.records.channel_closed(number, heard);
            }
        }
    }

    fn process_call(&mut self, number: u64, call: Call) {
        let channel = self.channels.get_mut(&number).expect("it is open");
        let settled = take_settled(&mut channel.unacked, call);
        match call {
            Call::Ack { .. } => {
                for (_, stored) in settled {
                    self.records.removed(&stored);
                }
            }
            Call::HandBack { .. } | Call::Return { .. } => {
                let failed = matches!(call, Call::Return { .. });
                for (_, mut stored) in settled.into_iter().rev() {
                    if failed {
                        count_failure(&mut stored.delivery);
                    }
                    self.requeue(stored);
                }
            }
        }
    }

    /// Delivers the first message that is ready.
    pub(super) fn deliver(&mut self) {
        let Some(stored) = self.ready.pop_front() else {
            return;
        };
        self.records.delivered(&stored);
        let channel = self.channel().expect("delivering is enabled");
        channel.last_tag += 1;
        let tag = channel.last_tag;
        channel.unacked.insert(tag, stored.clone());
        channel.unsettled.insert(tag, stored.clone());
        let consumer = channel.consumer.as_ref().expect("it consumes");
        // A client that has just dropped its consumer gets it back when the channel ends.
        let _ = consumer.send(Intake::Delivery(tag, Arc::new(stored.delivery)));
    }

    pub(super) fn can_deliver(&mut self) -> bool {
        let ready = !self.ready.is_empty();
        let channel = self.channel();
        ready && channel.is_some_and(|it| it.consumer.is_some() && it.unacked.len() < it.prefetch)
    }

    /// The broker cancels the consumer.
    pub(super) fn cancel_consumer(&mut self) {
        if let Some(channel) = self.channel() {
            channel.consumer = None;
        }
    }

    /// The broker closes the channel because of an error.
    pub(super) fn fail_channel(&mut self) {
        self.end_channels(&BrokerError::Refused {
            what: "the model",
            code: 406,
            text: "PRECONDITION_FAILED".to_owned(),
        });
    }

    /// A copy has waited long enough in its delay queue.
    pub(super) fn return_copy(&mut self) {
        self.ready.extend(self.delayed.pop_front());
    }

    /// The broker confirms the oldest copy, or refuses it.
    pub(super) fn confirm(&mut self, taken: bool) {
        let Some(copy) = self.unconfirmed.pop_front() else {
            return;
        };
        let answer = if taken {
            self.take_copy(&copy.message);
            self.records.confirmed(&copy.message);
            Ok(())
        } else {
            Err(BrokerError::NotAccepted {
                cause: "the model refuses it".to_owned(),
            })
        };
        let _ = copy.answer.send(answer);
    }

    fn take_copy(&mut self, message: &Message) {
        if !message.routing_key.starts_with("q.retry.") {
            return;
        }
        let headers = &message.properties.headers;
        let id = headers.get(header::COPY).and_then(|id| id.as_str());
        let stored = Stored {
            id: id.expect("a copy has an id").to_owned(),
            delivery: delivery(message.properties.clone(), message.body.clone()),
        };
        self.delayed.push_back(stored);
    }
}
