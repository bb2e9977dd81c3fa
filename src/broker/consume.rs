//! One channel that consumes one queue, and the settlements of its deliveries.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions,
    BasicQosOptions, BasicRejectOptions,
};
use lapin::types::{AMQPValue, FieldTable};

use super::link::Consuming;
use super::{BrokerError, Link, RPC_LIMIT, bounded, convert, queue_now};
use crate::delivery::Delivery;
use crate::settlement::Call;

/// With this many settlements under way between a channel and a quorum queue, the channel keeps none of them back
/// for later. RabbitMQ's limit is 32 (`quorum_commands_soft_limit`); this is lower, to be sure.
const QUORUM_WINDOW: usize = 16;

/// A channel that consumes. Its delivery tags mean nothing on any other channel.
#[derive(Debug)]
pub(crate) struct ConsumeChannel {
    channel: lapin::Channel,
    queue: Arc<str>,
    consumer: Option<Consumer>,
    consuming: Weak<Consuming>,
    consumer_tag: String,
    /// The consumer's `x-priority`; 0 is what the broker takes without one.
    priority: i32,
    /// We have sent `basic.cancel`.
    cancelling: bool,
    generation: u64,
    /// Settlements since the last method that a quorum queue has answered.
    unanswered: usize,
    /// Settlements among those up to the last one that must not be lost. Deliveries that were handed back return to the
    /// queue without a settlement, too, when the channel ends.
    at_risk: usize,
}

/// A started consumer of a [`ConsumeChannel`].
#[derive(Debug)]
pub(crate) struct Consumer {
    stream: lapin::Consumer,
    _consuming: Option<Arc<Consuming>>,
}

/// An item that a consumer yields.
#[derive(Debug)]
pub(crate) enum Intake {
    /// A delivery with its tag, which counts from 1 on each channel.
    Delivery(u64, Arc<Delivery>),
    /// The consumer has ended because we cancelled it. Everything delivered before has been yielded; nothing follows.
    Ended,
    /// The broker cancelled the consumer: a delivery was held longer than the broker's consumer time-out, or the queue
    /// was deleted or moved. Everything delivered before has been yielded.
    Cancelled,
    /// The channel is gone, and every delivery on it is the broker's again.
    Lost(BrokerError),
}

/// A settlement on its way to the socket. It has been queued in order when this exists; it resolves when
/// written. That it arrived is known only from the channel's close-ok.
pub(crate) type Write = Pin<Box<dyn Future<Output = Result<(), BrokerError>> + Send>>;

impl ConsumeChannel {
    /// Opens a channel on `link`, without consuming yet.
    ///
    /// # Errors
    /// If the link is lost or does not answer.
    pub(crate) async fn open(
        link: &Link,
        queue: &Arc<str>,
        priority: i32,
        consumer_tag: String,
    ) -> Result<Self, BrokerError> {
        static GENERATION: AtomicU64 = AtomicU64::new(1);

        let channel = link.channel().await?;
        Ok(Self {
            channel,
            queue: Arc::clone(queue),
            consumer: None,
            consuming: Arc::downgrade(&link.consuming()),
            consumer_tag,
            priority,
            cancelling: false,
            generation: GENERATION.fetch_add(1, Ordering::Relaxed),
            unanswered: 0,
            at_risk: 0,
        })
    }

    /// This channel's number; every consume channel of a process has another.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether it is not known to be lost. Without a consumer nothing else tells.
    pub(crate) fn is_open(&self) -> bool {
        self.channel.status().connected()
    }

    /// Whether a consumer is there whose end has not been yielded.
    pub(crate) fn is_consuming(&self) -> bool {
        self.consumer.is_some()
    }

    /// Starts a consumer with `prefetch` (`basic.qos`, `basic.consume`), to be [attached](Self::attach). The returned future does not
    /// borrow the channel, so that settlements can go on while it waits.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] with 404 if the queue is gone, 403 if it is another's alone.
    pub(crate) fn consume(
        &self,
        prefetch: u16,
    ) -> impl Future<Output = Result<Consumer, BrokerError>> + Send + use<> {
        let channel = self.channel.clone();
        let queue = convert::short("queue", &self.queue);
        let tag = convert::short("consumer tag", &self.consumer_tag);
        let consuming = self.consuming.upgrade();
        let mut arguments = FieldTable::default();
        if self.priority != 0 {
            let priority = AMQPValue::LongInt(self.priority);
            arguments.insert("x-priority".into(), priority);
        }
        async move {
            let qos = channel.basic_qos(prefetch, BasicQosOptions::default());
            bounded("basic.qos", RPC_LIMIT, qos).await?;
            let options = BasicConsumeOptions::default();
            let consume = channel.basic_consume(queue?, tag?, options, arguments);
            let stream = bounded("basic.consume", RPC_LIMIT, consume).await?;
            Ok(Consumer {
                stream,
                _consuming: consuming,
            })
        }
    }

    /// Takes deliveries from `consumer` from now on.
    pub(crate) fn attach(&mut self, consumer: Consumer) {
        self.consumer = Some(consumer);
        self.cancelling = false;
    }

    /// Takes no more deliveries: what still comes stays the broker's, until the channel closes.
    pub(crate) fn detach(&mut self) {
        self.consumer = None;
    }

    /// The next delivery, or the consumer's end; pends for ever after that. Cancel safe.
    pub(crate) async fn next(&mut self) -> Intake {
        let Some(consumer) = &mut self.consumer else {
            return std::future::pending().await;
        };
        match consumer.stream.next().await {
            Some(Ok(raw)) => {
                let tag = raw.delivery_tag;
                let delivery = convert::delivery(&self.queue, raw);
                Intake::Delivery(tag, Arc::new(delivery))
            }
            Some(Err(error)) => {
                self.consumer = None;
                Intake::Lost(BrokerError::from_lapin("consuming", &error))
            }
            None => {
                self.consumer = None;
                if self.cancelling {
                    Intake::Ended
                } else {
                    Intake::Cancelled
                }
            }
        }
    }

    /// Cancels the consumer (`basic.cancel`) and awaits cancel-ok, for at most `limit`. Deliveries that the
    /// broker sent before it are yielded by [`next`](Self::next) all the same, then [`Intake::Ended`].
    ///
    /// The returned future does not borrow the channel, so that deliveries can be taken while it waits.
    pub(crate) fn cancel(
        &mut self,
        limit: Duration,
    ) -> impl Future<Output = Result<(), BrokerError>> + Send + use<> {
        (self.unanswered, self.at_risk) = (0, 0);
        self.cancelling = true;
        let channel = self.channel.clone();
        let tag = convert::short("consumer tag", &self.consumer_tag);
        async move {
            let cancel = channel.basic_cancel(tag?, BasicCancelOptions::default());
            bounded("basic.cancel", limit, cancel).await
        }
    }

    /// Queues one settlement. Calls reach the broker in the order of these calls.
    pub(crate) fn settle(&mut self, call: Call) -> Write {
        self.unanswered += 1;
        if !matches!(call, Call::HandBack { .. }) {
            self.at_risk = self.unanswered;
        }
        let channel = self.channel.clone();
        let mut write: Write = Box::pin(async move {
            let (what, written) = match call {
                Call::Ack { tag, multiple } => {
                    let ack = channel.basic_ack(tag, BasicAckOptions { multiple });
                    ("basic.ack", ack.await)
                }
                Call::HandBack { tag, multiple } => {
                    let options = BasicNackOptions {
                        multiple,
                        requeue: true,
                    };
                    ("basic.nack", channel.basic_nack(tag, options).await)
                }
                Call::Return { tag } => {
                    let options = BasicRejectOptions { requeue: true };
                    ("basic.reject", channel.basic_reject(tag, options).await)
                }
            };
            written.map_err(|error| BrokerError::from_lapin(what, &error))
        });
        // The library queues a method when its future is first polled; polling here fixes the order.
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match write.as_mut().poll(&mut context) {
            std::task::Poll::Ready(result) => Box::pin(std::future::ready(result)),
            std::task::Poll::Pending => write,
        }
    }

    /// Hands back everything that is unsettled on this channel, without waiting. The channel is of no more use.
    pub(crate) fn hand_back_all(&self) {
        let options = BasicNackOptions {
            multiple: true,
            requeue: true,
        };
        // Tag 0 with `multiple` means everything outstanding.
        queue_now(self.channel.basic_nack(0, options));
    }

    /// Whether the broker's channel may still buffer settlements; it discards them on close, so that close-ok proves
    /// nothing. A channel sends a quorum queue at most 32 settlements at a time and forgets the others when it
    /// closes (seen with 3.10, 4.0 and 4.3; rabbitmq-server#10327).
    pub(crate) fn may_be_kept_back(&self) -> bool {
        self.at_risk > QUORUM_WINDOW
    }

    /// Waits until a quorum queue has every settlement written before, for at most `limit`. It answers a `basic.get` after
    /// the settlements sent to it, and the channel sends the rest before it reads its next method. A message
    /// got that way is handed back at once.
    ///
    /// # Errors
    /// If no answer came in time, or the broker refuses; with a single active consumer it does.
    pub(crate) async fn pass_on(&mut self, limit: Duration) -> Result<(), BrokerError> {
        let queue = convert::short("queue", &self.queue)?;
        let get = self.channel.basic_get(queue, BasicGetOptions::default());
        let got = bounded("basic.get", limit, get).await?;
        (self.unanswered, self.at_risk) = (0, 0);
        if let Some(got) = got {
            let call = Call::HandBack {
                tag: got.delivery.delivery_tag,
                multiple: false,
            };
            self.settle(call).await?;
        }
        Ok(())
    }

    /// Closes the channel and awaits close-ok, for at most `limit`: the broker has then processed every
    /// settlement sent before it (AMQP 0-9-1: methods of a channel are processed in order), except where they
    /// [may be kept back](Self::may_be_kept_back).
    ///
    /// # Errors
    /// If the channel was lost before, or no answer came in time: then nothing is known of the
    /// settlements that were written.
    pub(crate) async fn close(self, limit: Duration) -> Result<(), BrokerError> {
        let close = self.channel.close(200, "OK".into());
        bounded("channel.close", limit, close).await
    }
}
