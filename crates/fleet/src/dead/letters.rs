//! Dead letters for the fleet program: one pass at a time, each bounded, on a connection of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{
    BODY_SHOWN, Filter, Letter, Picking, QueueReport, Record, ReplayOptions, drop_letters,
    identity, list, replay,
};
use crate::api::{DeadLetter, DeadLetterList, DeadLetterRequest};
use crate::start::CLOSE_LIMIT;
use tidegate::config::BrokerSettings;
use tidegate::internal::broker::{AmqpRuntime, BrokerError, Link, connect};

/// Letters that one look reads.
const READ_LIMIT: u64 = 1_000;
/// After this time a pass ends with the letter that it is at. What is left is left.
const PASS_LIMIT: Duration = Duration::from_secs(10);

/// Why dead letters could not be dealt with.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum LettersError {
    /// Another pass is under way.
    #[error("somebody else is looking at dead letters: try again in a moment")]
    Busy,
    /// There are no dead letters, and never were.
    #[error("{0}")]
    Missing(String),
    /// The broker fails or refuses.
    #[error("{0}")]
    Broker(String),
}

impl From<BrokerError> for LettersError {
    fn from(error: BrokerError) -> Self {
        Self::Broker(error.to_string())
    }
}

/// A command that settles dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LettersCommand {
    /// Send letters where they came from. Each is removed when its destination has confirmed it.
    Replay,
    /// Remove letters for good.
    Drop,
}

impl LettersCommand {
    /// The command's word.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Drop => "drop",
        }
    }
}

/// The dead letters of the fleet's queues. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct DeadLetters(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    broker: Arc<BrokerSettings>,
    name: String,
    amqp: Arc<AmqpRuntime>,
    turn: Arc<Mutex<()>>,
}

impl DeadLetters {
    pub(crate) fn new(broker: &Arc<BrokerSettings>, id: &str, amqp: &Arc<AmqpRuntime>) -> Self {
        Self(Arc::new(Inner {
            broker: Arc::clone(broker),
            name: format!("tidegate {id} dead letters"),
            amqp: Arc::clone(amqp),
            turn: Arc::default(),
        }))
    }

    /// Reads the dead letters of `queue`, and lists the first `limit` that have `reason`, if one is named.
    pub(crate) async fn list(
        &self,
        queue: String,
        reason: Option<String>,
        limit: usize,
    ) -> Result<DeadLetterList, LettersError> {
        let turn = self.begin().await?;
        finished(async move {
            let (link, stop) = (&turn.link, &turn.stop);
            let mut reasons = BTreeMap::<String, u64>::new();
            let mut letters = Vec::new();
            let filter = Filter::default();
            let mut picking = picking(&filter, Some(READ_LIMIT));
            let mut each = |letter: &Letter| {
                let its = letter.reason().unwrap_or_default();
                *reasons.entry(its.to_owned()).or_default() += 1;
                if letters.len() < limit && reason.as_deref().is_none_or(|reason| reason == its) {
                    letters.push(DeadLetter {
                        letter: identity(letter),
                        record: Record::summary(letter),
                    });
                }
            };
            let report = list(link, &queue, &mut picking, stop, &mut each).await;
            turn.end().await;
            let report = sound(report)?;
            Ok(DeadLetterList {
                queue,
                waiting: report.waiting,
                seen: report.seen,
                reasons,
                letters,
                warnings: report.warnings,
            })
        })
        .await
    }

    /// Everything about one letter; nothing if it is not there any more.
    pub(crate) async fn show(
        &self,
        queue: String,
        letter: String,
    ) -> Result<Option<DeadLetter>, LettersError> {
        let turn = self.begin().await?;
        finished(async move {
            let (link, stop) = (&turn.link, &turn.stop);
            let filter = Filter {
                identities: [letter.clone()].into(),
                ..Filter::default()
            };
            let mut picking = picking(&filter, Some(1));
            let mut found = None;
            let mut each = |found_letter: &Letter| {
                found = Some(DeadLetter {
                    letter: letter.clone(),
                    record: Record::full(found_letter, BODY_SHOWN),
                });
            };
            let report = list(link, &queue, &mut picking, stop, &mut each).await;
            turn.end().await;
            sound(report).map(|_report| found)
        })
        .await
    }

    /// Replays or drops letters, as `command` says.
    pub(crate) async fn carry_out(
        &self,
        command: LettersCommand,
        queue: String,
        request: DeadLetterRequest,
    ) -> Result<QueueReport, LettersError> {
        let turn = self.begin().await?;
        finished(async move {
            let (link, stop) = (&turn.link, &turn.stop);
            let filter = filter(&request);
            let mut picking = picking(&filter, request.limit);
            let mut observe = |_: &QueueReport| {};
            let report = match command {
                LettersCommand::Replay => {
                    let options = ReplayOptions::default();
                    replay(link, &queue, &mut picking, options, stop, &mut observe).await
                }
                LettersCommand::Drop => {
                    drop_letters(link, &queue, &mut picking, false, None, stop, &mut observe).await
                }
            };
            turn.end().await;
            sound(report)
        })
        .await
    }

    /// Waits for nobody: one pass at a time, on a connection of its own.
    async fn begin(&self) -> Result<Turn, LettersError> {
        let inner = &self.0;
        let turn = Arc::clone(&inner.turn).try_lock_owned();
        let turn = turn.map_err(|_held| LettersError::Busy)?;
        let link = connect(&inner.broker, &inner.name, &inner.amqp).await?;
        let stop = CancellationToken::new();
        let end = stop.clone();
        let timer = tokio::spawn(async move {
            sleep(PASS_LIMIT).await;
            end.cancel();
        });
        Ok(Turn {
            link,
            stop,
            _timer: AbortOnDropHandle::new(timer),
            _alone: turn,
        })
    }
}

/// The right to make a pass, and what it needs.
struct Turn {
    link: Link,
    /// Cancelled when the pass has taken long enough.
    stop: CancellationToken,
    _timer: AbortOnDropHandle<()>,
    _alone: OwnedMutexGuard<()>,
}

impl Turn {
    async fn end(self) {
        // Every letter is settled or back by now, so that a failing close changes nothing.
        let _ = self.link.close(CLOSE_LIMIT).await;
    }
}

/// Lets `work` come to its end, though whoever asked may have gone meanwhile.
async fn finished<T: Send + 'static>(
    work: impl Future<Output = Result<T, LettersError>> + Send + 'static,
) -> Result<T, LettersError> {
    let ended = tokio::spawn(work).await;
    ended.unwrap_or_else(|error| Err(LettersError::Broker(format!("the pass failed: {error}"))))
}

fn picking(filter: &Filter, left: Option<u64>) -> Picking<'_> {
    Picking { filter, left }
}

fn filter(request: &DeadLetterRequest) -> Filter {
    Filter {
        reasons: request.reasons.iter().cloned().collect(),
        identities: request.letters.iter().cloned().collect(),
        ..Filter::default()
    }
}

/// A pass that the broker ended has not done what it was to do.
fn sound(report: QueueReport) -> Result<QueueReport, LettersError> {
    match &report.error {
        Some(error) if report.waiting == 0 && error.starts_with("there is no queue") => {
            Err(LettersError::Missing(error.clone()))
        }
        Some(error) if report.replayed + report.dropped + report.finished == 0 => {
            Err(LettersError::Broker(error.clone()))
        }
        _ => Ok(report),
    }
}
