//! Sending dead letters again. The order of the steps is what makes it safe; see [the module](super).

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::sender::Sender;
use super::{
    Destination, Entry, Letter, Pass, Picking, QueueReport, dead_queue, identity, journal,
    journal_queue,
};
use crate::broker::{BrokerError, Link, find_exchange, find_queue};

/// How long the broker has to answer the goodbye of a channel.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);
/// Copies, and destinations, that are remembered to be known again.
const MEMORY_LIMIT: usize = 1_000_000;

/// What becomes of a letter that an earlier pass may have sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InDoubt {
    /// It is left, and told.
    #[default]
    Leave,
    /// It is sent: twice, perhaps.
    Replay,
    /// It is removed: lost, perhaps.
    Drop,
}

/// How to replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replay {
    /// Straight to its queue, whatever exchange it came from.
    pub to_queue: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// What becomes of letters in doubt.
    pub in_doubt: InDoubt,
}

/// Sends every letter of `queue` that is picked where it came from, each removed once its destination has it. Shows how
/// far it is to `observe`. A letter that is not taken stays, and so do later ones for that destination.
///
/// Dropping the future loses and doubles nothing: the next pass finishes what this one left.
pub async fn replay(
    link: &Link,
    queue: &str,
    picking: &mut Picking<'_>,
    how: Replay,
    stop: &CancellationToken,
    observe: &mut (dyn FnMut(&QueueReport) + Send),
) -> QueueReport {
    let mut report = QueueReport::new(queue);
    let mut returns = None;
    let replayed = async {
        let mut run = Run::begin(link, queue, how).await?;
        report.waiting = run.pass.waiting();
        while !stop.is_cancelled() && !picking.is_over() {
            let Some((tag, letter)) = run.next().await? else {
                break;
            };
            returns = returns.max(letter.returns());
            run.deal_with(tag, &letter, picking, &mut report).await?;
            observe(&report);
        }
        run.end(stop).await
    };
    let replayed = replayed.await;
    report.ended(replayed);
    report.warn_of_returns(link, returns).await;
    report
}

/// A pass that sends.
struct Run<'a> {
    link: &'a Link,
    how: Replay,
    pass: Pass,
    /// What sends; nothing in a rehearsal.
    sender: Option<Sender>,
    /// Copies sent in this pass.
    sent: HashSet<String>,
    /// Destinations that are there.
    there: HashSet<Destination>,
    /// Destinations that did not take a message.
    refused: HashSet<Destination>,
}

impl<'a> Run<'a> {
    async fn begin(link: &'a Link, queue: &str, how: Replay) -> Result<Self, BrokerError> {
        // Before anything is declared: a queue that is not there needs no journal.
        find_queue(link, &dead_queue(queue)).await?;
        let sender = if how.dry_run {
            None
        } else {
            Some(Sender::begin(link, &journal_queue(queue)).await?)
        };
        Ok(Self {
            link,
            how,
            pass: Pass::begin(link, queue).await?,
            sender,
            sent: HashSet::new(),
            there: HashSet::new(),
            refused: HashSet::new(),
        })
    }

    async fn next(&mut self) -> Result<Option<(u64, Letter)>, BrokerError> {
        let next = self.pass.next().await?;
        // The answer proves that the removal before it has arrived.
        if let Some(sender) = &mut self.sender {
            sender.forget_used().await?;
        }
        Ok(next)
    }

    async fn deal_with(
        &mut self,
        tag: u64,
        letter: &Letter,
        picking: &mut Picking<'_>,
        report: &mut QueueReport,
    ) -> Result<(), BrokerError> {
        let identity = identity(letter);
        let entry = self
            .sender
            .as_mut()
            .and_then(|sender| sender.journal.take(&identity));
        if let Some((used, Entry::Receipt)) = entry {
            // An earlier pass has sent it, whatever this one picks.
            report.seen += 1;
            self.finish(tag, Some(used)).await?;
            report.finished += 1;
            self.remember(letter);
            return Ok(());
        }
        if !picking.pick(letter, report) {
            return Ok(());
        }
        if let Some((used, Entry::Intent)) = entry {
            match self.how.in_doubt {
                InDoubt::Leave => {
                    report.doubt(letter.id());
                    return Ok(());
                }
                InDoubt::Drop => {
                    self.finish(tag, Some(used)).await?;
                    report.dropped += 1;
                    return Ok(());
                }
                InDoubt::Replay => {
                    if let Some(sender) = &mut self.sender {
                        sender.channel.ack(used).await?;
                    }
                }
            }
        }
        if letter.copy().is_some_and(|copy| self.sent.contains(copy)) {
            debug!(id = letter.id(), "a second copy is not sent again");
            if self.sender.is_some() {
                self.finish(tag, None).await?;
            }
            report.twins += 1;
            return Ok(());
        }
        let destination = if self.how.to_queue {
            Destination::Queue(letter.queue.clone())
        } else {
            letter.origin()
        };
        if let Err(cause) = self.may_send(&destination).await? {
            report.fail(letter.id(), cause);
            return Ok(());
        }
        if self.sender.is_none() {
            report.replayed += 1;
            self.remember(letter);
            return Ok(());
        }
        self.send(tag, letter, &identity, destination, report).await
    }

    /// Whether anything can be sent to `destination`; the inner error says why not.
    async fn may_send(
        &mut self,
        destination: &Destination,
    ) -> Result<Result<(), String>, BrokerError> {
        if self.refused.contains(destination) {
            return Ok(Err(format!("{destination} has refused one before")));
        }
        if self.there.contains(destination) {
            return Ok(Ok(()));
        }
        let found = match destination {
            Destination::Queue(queue) => find_queue(self.link, queue).await.map(drop),
            Destination::Exchange { exchange, .. } => find_exchange(self.link, exchange).await,
        };
        match found {
            Ok(()) => {
                if self.there.len() < MEMORY_LIMIT {
                    self.there.insert(destination.clone());
                }
                Ok(Ok(()))
            }
            Err(error) if error.is_refusal() => {
                self.refuse(destination);
                Ok(Err(format!("{destination}: {error}")))
            }
            Err(error) => Err(error),
        }
    }

    fn refuse(&mut self, destination: &Destination) {
        if self.refused.len() < MEMORY_LIMIT {
            self.refused.insert(destination.clone());
        }
    }

    fn remember(&mut self, letter: &Letter) {
        if let Some(copy) = letter.copy()
            && self.sent.len() < MEMORY_LIMIT
        {
            self.sent.insert(copy.to_owned());
        }
    }

    async fn send(
        &mut self,
        tag: u64,
        letter: &Letter,
        identity: &str,
        destination: Destination,
        report: &mut QueueReport,
    ) -> Result<(), BrokerError> {
        let sender = self.sender.as_mut().expect("a rehearsal sends nothing");
        let again = letter.again(destination);
        let mark = journal::mark(sender.id, identity);
        match sender.send(&again, &mark).await {
            Ok(()) => {
                let used = sender.entry(&mark).await?;
                self.finish(tag, used).await?;
                self.remember(letter);
                report.replayed += 1;
                Ok(())
            }
            Err(error @ BrokerError::NotAccepted { .. }) => {
                // First the entry, then the letter: an entry that outlived this would have a later pass drop it.
                if let Some(entry) = sender.entry(&mark).await? {
                    sender.channel.ack(entry).await?;
                }
                self.refuse(&again.destination);
                let cause = format!("{}: {error}", again.destination);
                report.fail(letter.id(), cause);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Removes the letter with `tag`, and its entry in the journal once that is known to have arrived.
    async fn finish(&mut self, tag: u64, used: Option<u64>) -> Result<(), BrokerError> {
        self.pass.remove(tag).await?;
        if let Some(sender) = &mut self.sender {
            sender.used = used;
        }
        Ok(())
    }

    async fn end(self, stop: &CancellationToken) -> Result<(), BrokerError> {
        // Close-ok proves that the last removal has arrived.
        self.pass.end(stop).await?;
        if let Some(mut sender) = self.sender {
            sender.forget_used().await?;
            for tag in sender.journal.outdated(SystemTime::now()) {
                sender.channel.ack(tag).await?;
            }
            sender.channel.hand_back().await?;
            sender.channel.close(CLOSE_LIMIT).await?;
        }
        Ok(())
    }
}
