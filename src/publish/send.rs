//! The run itself: bodies in, messages out, answers entered, within a window.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, FuturesUnordered, Stream, StreamExt as _};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Answer, Confirms, Outcome, Pace, Plan, Report, Source, SourceError};
use crate::broker::{
    BrokerError, Link, LinkState, Message, Publisher, check_exchange, check_queue,
};

/// How many messages may be under way.
pub const WINDOW: usize = 1_000;
/// How many bytes of bodies may be under way; the message that crosses it still goes.
pub const WINDOW_BYTES: usize = 64 << 20;
/// How long to wait without any answer, while the broker does not say that it blocks publishers.
pub const STALL_LIMIT: Duration = Duration::from_secs(60);
/// How long to wait for the answers still under way once sending has ended early.
pub const STOP_LIMIT: Duration = Duration::from_secs(10);
/// How often the connection is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How a run is told to end early.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Send no more, and wait for the answers under way, for at most [`STOP_LIMIT`].
    pub sending: CancellationToken,
    /// Do not even wait.
    pub waiting: CancellationToken,
}

/// How a run is getting on.
#[derive(Debug)]
pub struct Tally<'a> {
    /// The messages' account so far.
    pub confirms: &'a Confirms,
    /// Bytes of input used up.
    pub input_bytes: u64,
    /// The broker's reason, while it does not read from publishers.
    pub blocked: Option<String>,
}

/// Checks that the destination of `plan` is there, before anything is sent to it.
///
/// # Errors
/// A sentence that names what is missing, or says why it cannot be known.
pub async fn check_destination(link: &Link, plan: &Plan) -> Result<(), String> {
    let missing = |what: &str, name: &str, error: BrokerError| match error.code() {
        Some(404) => format!("there is no {what} {name:?} on this virtual host: {error}"),
        _ => format!("cannot look up the {what} {name:?}: {error}"),
    };
    if let Some(queue) = &plan.queue {
        let checked = check_queue(link, queue).await;
        checked.map_err(|error| missing("queue", queue, error))?;
    }
    if !plan.exchange.is_empty() {
        let checked = check_exchange(link, &plan.exchange).await;
        checked.map_err(|error| missing("exchange", &plan.exchange, error))?;
    }
    Ok(())
}

/// Sends everything that `source` yields along `plan`, and calls `observe` after each answer and each
/// second. The first failure ends the sending: what is under way is waited for, nothing is sent again.
///
/// Not cancel safe: a dropped run leaves no report. Use `stop`.
pub async fn send(
    link: &Link,
    plan: &Plan,
    source: Source,
    pace: Option<Pace>,
    stop: &Stop,
    mut observe: impl FnMut(&Tally<'_>),
) -> Report {
    let publisher = match Publisher::open(link).await {
        Ok(publisher) => publisher,
        Err(error) => return Report::before_the_first(plan, error.to_string()),
    };
    let mut run = Run::new(plan);
    let mut bodies = pin!(bodies(source, pace));
    let mut lost = pin!(link.lost());
    let mut under_way = FuturesUnordered::new();
    let mut look = interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while run.is_sending() || !under_way.is_empty() {
        tokio::select! {
            // Answers first: they are what the run is about, and the window bounds them.
            biased;
            Some((number, size, answer)) = under_way.next(), if !under_way.is_empty() => {
                run.answered(number, size, answer);
                observe(&run.tally(link));
            }
            () = stop.waiting.cancelled() => break,
            () = stop.sending.cancelled(), if !run.stopping => run.stop(),
            cause = &mut lost => {
                run.fail(format!("the connection is lost: {cause}"));
                break;
            }
            () = sleep_until(run.deadline) => {
                if run.out_of_time(link) {
                    break;
                }
            }
            body = bodies.next(), if run.is_sending() && run.has_room(under_way.len()) => match body {
                Some(Ok((body, used))) => {
                    let size = body.len();
                    let number = run.sent(size, used, under_way.is_empty());
                    // The client library queues a message at the future's first poll, and these are first
                    // polled in the order of these calls.
                    under_way.push(publish(&publisher, plan.message(body), number, size));
                }
                Some(Err(error)) => run.fail(error.to_string()),
                None => run.input_ended = true,
            },
            _ = look.tick() => observe(&run.tally(link)),
        }
    }
    observe(&run.tally(link));
    run.report()
}

/// The bodies of `source` with the bytes they used up, each when it is due. Cancel safe, as a stream is.
fn bodies(
    source: Source,
    pace: Option<Pace>,
) -> impl Stream<Item = Result<(Bytes, u64), SourceError>> {
    stream::unfold((source, pace), |(mut source, mut pace)| async {
        let body = source.next().await.transpose()?;
        if let Some(pace) = &mut pace {
            let now = Instant::now();
            let due = pace.next(now);
            if due > now {
                sleep_until(due).await;
            }
        }
        Some((body, (source, pace)))
    })
}

async fn publish(
    publisher: &Publisher,
    message: Message,
    number: u64,
    size: usize,
) -> (u64, usize, Result<(), BrokerError>) {
    let written = publisher.publish(&message).await;
    // Written: its memory is needed no more.
    drop(message);
    let answer = match written {
        Ok(confirm) => confirm.accepted().await,
        Err(error) => Err(error),
    };
    (number, size, answer)
}

/// The state of a run; no I/O.
struct Run<'a> {
    plan: &'a Plan,
    confirms: Confirms,
    /// Everything has been sent.
    input_ended: bool,
    /// No more is sent, and the deadline moves no more.
    stopping: bool,
    /// The first failure.
    error: Option<String>,
    bytes_under_way: usize,
    body_bytes: u64,
    input_bytes: u64,
    begin: Instant,
    last_answer: Instant,
    deadline: Instant,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan) -> Self {
        let now = Instant::now();
        Self {
            plan,
            confirms: Confirms::default(),
            input_ended: false,
            stopping: false,
            error: None,
            bytes_under_way: 0,
            body_bytes: 0,
            input_bytes: 0,
            begin: now,
            last_answer: now,
            deadline: now + STALL_LIMIT,
        }
    }

    fn is_sending(&self) -> bool {
        !self.input_ended && !self.stopping
    }

    fn has_room(&self, under_way: usize) -> bool {
        under_way < WINDOW && self.bytes_under_way < WINDOW_BYTES
    }

    fn sent(&mut self, size: usize, used: u64, is_only: bool) -> u64 {
        if is_only {
            self.deadline = Instant::now() + STALL_LIMIT;
        }
        self.bytes_under_way += size;
        self.body_bytes += size as u64;
        self.input_bytes += used;
        self.confirms.send()
    }

    fn answered(&mut self, number: u64, size: usize, answer: Result<(), BrokerError>) {
        self.bytes_under_way -= size;
        self.last_answer = Instant::now();
        if !self.stopping {
            self.deadline = self.last_answer + STALL_LIMIT;
        }
        let answer = match answer {
            Ok(()) => Answer::Confirmed,
            Err(error) => {
                let place = self.plan.skip + number + 1;
                let to = self.plan.destination();
                self.fail(format!("message {place} to {to}: {error}"));
                if matches!(error, BrokerError::NotAccepted { .. }) {
                    Answer::Refused
                } else {
                    Answer::Unknown
                }
            }
        };
        self.confirms.enter(number, answer);
    }

    /// Ends the sending; the answers under way have [`STOP_LIMIT`] to come.
    fn stop(&mut self) {
        if !self.stopping {
            self.stopping = true;
            self.deadline = Instant::now() + STOP_LIMIT;
        }
    }

    /// Stops for `error`; the first one stands.
    fn fail(&mut self, error: String) {
        self.stop();
        self.error.get_or_insert(error);
    }

    /// Whether the deadline, which has passed, ends the run. Nothing awaited (a slow input or pace) and a
    /// broker that says it reads nothing are no reason to.
    fn out_of_time(&mut self, link: &Link) -> bool {
        if !self.stopping {
            if link.is_blocked() || self.confirms.unknown() == 0 {
                self.deadline = Instant::now() + STALL_LIMIT;
                return false;
            }
            self.fail(format!(
                "the broker has confirmed nothing for {STALL_LIMIT:?}"
            ));
        }
        true
    }

    fn tally(&self, link: &Link) -> Tally<'_> {
        Tally {
            confirms: &self.confirms,
            input_bytes: self.input_bytes,
            blocked: match link.state() {
                LinkState::Blocked { reason } => Some(reason),
                LinkState::Up | LinkState::Lost { .. } => None,
            },
        }
    }

    fn report(self) -> Report {
        let outcome = if self.error.is_some() {
            Outcome::Failed
        } else if self.input_ended && self.confirms.all_confirmed() {
            Outcome::Complete
        } else {
            Outcome::Stopped
        };
        Report::new(
            self.plan,
            outcome,
            self.error,
            &self.confirms,
            self.body_bytes,
            self.last_answer - self.begin,
        )
    }
}
