//! The run itself: bodies in, messages out, answers entered, within a window.

use std::future::ready;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, FuturesUnordered, Stream, StreamExt as _};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::run::PublishRun;
use super::{BodySource, Pace, PublishPlan, PublishProgress, PublishReport, SourceError};
use tidegate::internal::broker::{
    BrokerError, Link, Message, Publisher, find_exchange, find_queue,
};

/// The interval of looks at the connection.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Ends a run early.
#[derive(Debug, Clone, Default)]
pub(crate) struct PublishStop {
    /// Send no more, and wait for the answers under way, for at most `STOP_LIMIT`; not at all while the broker blocks
    /// connections that publish.
    pub sending: CancellationToken,
    /// Do not even wait.
    pub waiting: CancellationToken,
}

/// Checks that the destination of `plan` is there, before anything is sent to it.
///
/// # Errors
/// A sentence that names what is missing, or says why it cannot be known.
pub(crate) async fn check_destination(link: &Link, plan: &PublishPlan) -> Result<(), String> {
    let missing = |what: &str, name: &str, error: BrokerError| match error.code() {
        Some(404) => format!("there is no {what} {name:?} on this virtual host: {error}"),
        _ => format!("cannot look up the {what} {name:?}: {error}"),
    };
    if let Some(queue) = &plan.queue {
        let checked = find_queue(link, queue).await.map(drop);
        checked.map_err(|error| missing("queue", queue, error))?;
    }
    if !plan.exchange.is_empty() {
        let checked = find_exchange(link, &plan.exchange).await;
        checked.map_err(|error| missing("exchange", &plan.exchange, error))?;
    }
    Ok(())
}

/// Sends everything that `source` yields along `plan`, and calls `observe` after each answer and each
/// second. The first failure ends the sending: what is under way is waited for, nothing is sent again.
///
/// Not cancel safe: a dropped run leaves no report. Use `stop`.
pub(crate) async fn send(
    link: &Link,
    plan: &PublishPlan,
    source: BodySource,
    pace: Option<Pace>,
    stop: &PublishStop,
    mut observe: impl FnMut(&PublishProgress<'_>),
) -> PublishReport {
    let publisher = match Publisher::open(link).await {
        Ok(publisher) => publisher,
        Err(error) => return PublishReport::before_the_first(plan, error.to_string()),
    };
    let mut run = PublishRun::new(plan);
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
                observe(&run.progress(link.state()));
            }
            () = stop.waiting.cancelled() => break,
            // In an alarm no answer comes before the alarm ends, which may take hours.
            () = ready(()), if stop.sending.is_cancelled() && link.is_blocked() => {
                run.stop();
                break;
            }
            () = stop.sending.cancelled(), if !run.stopping => run.stop(),
            cause = &mut lost => {
                run.fail(format!("the connection is lost: {cause}"));
                break;
            }
            () = sleep_until(run.deadline) => {
                if run.out_of_time(link.is_blocked()) {
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
            _ = look.tick() => observe(&run.progress(link.state())),
        }
    }
    observe(&run.progress(link.state()));
    run.report()
}

/// The bodies of `source` with the bytes they used up, each when it is due. Cancel safe, as a stream is.
fn bodies(
    source: BodySource,
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
