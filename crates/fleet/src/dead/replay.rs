//! Sending dead letters again. The order of the steps is what makes it safe; see [the module](super).

use std::collections::HashSet;
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::pass::check_readable;
use super::sender::{Sender, Sent};
use super::{
    Destination, Entry, Letter, Pass, Picking, QueueReport, Republish, dead_queue, identity,
    journal, journal_queue,
};
use tidegate::internal::broker::{BrokerError, Link, PullChannel, find_exchange, find_queue};
use tidegate::internal::settlement::Identity;

/// How many copies and destinations a pass remembers.
const MEMORY_LIMIT: usize = 1_000_000;

/// What to do with a letter that an interrupted pass may have sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InDoubt {
    /// Leave it, and name it.
    #[default]
    Leave,
    /// Send it, perhaps a second time.
    Replay,
    /// Remove it, although it may never have been sent.
    Drop,
}

/// How to replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplayOptions {
    /// Send each letter to its queue, whatever exchange it came from.
    pub to_queue: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// What to do with letters in doubt.
    pub in_doubt: InDoubt,
}

/// Sends every letter of `queue` that is picked where it came from, and removes it when its destination has confirmed
/// it. Calls `observe` after each letter. A letter that its destination does not take stays, and so do later letters
/// for that destination.
///
/// Dropping the future loses no letter and sends none twice: the next pass finishes what this one left.
pub async fn replay(
    link: &Link,
    queue: &str,
    picking: &mut Picking<'_>,
    options: ReplayOptions,
    stop: &CancellationToken,
    observe: &mut (dyn FnMut(&QueueReport) + Send),
) -> QueueReport {
    let mut report = QueueReport::new(queue);
    let mut returns = None;
    let replayed = async {
        let mut pass = ReplayPass::begin(link, queue, options).await?;
        report.waiting = pass.letters.waiting();
        while !stop.is_cancelled() && !picking.is_over() {
            let Some((tag, letter)) = pass.letters.next().await? else {
                break;
            };
            returns = returns.max(letter.returns());
            pass.deal_with(tag, &letter, picking, &mut report).await?;
            observe(&report);
        }
        pass.end(stop).await
    };
    let replayed = replayed.await;
    report.ended(replayed);
    report.warn_of_returns(link, returns).await;
    report
}

/// A pass that sends.
struct ReplayPass<'a> {
    link: &'a Link,
    options: ReplayOptions,
    letters: Pass,
    /// The queue of the journal.
    journal: String,
    /// The sender; `None` in a rehearsal.
    sender: Option<Sender>,
    /// Copies sent in this pass, or by an earlier one.
    sent: HashSet<Identity>,
    /// Destinations that exist.
    there: HashSet<Destination>,
    /// Destinations that did not take a message.
    refused: HashSet<Destination>,
}

impl<'a> ReplayPass<'a> {
    async fn begin(
        link: &'a Link,
        queue: &str,
        options: ReplayOptions,
    ) -> Result<Self, BrokerError> {
        // Before anything is declared: a queue that is not there, or cannot be read, needs no journal.
        check_readable(link, &dead_queue(queue)).await?;
        // A letter and its entries are settled together. An entry that outlived its letter would be taken for the entry of
        // another letter that is the same in every byte.
        let channel = PullChannel::open_transactional(link).await?;
        let sender = if options.dry_run {
            None
        } else {
            Some(Sender::begin(link, &journal_queue(queue), &channel).await?)
        };
        Ok(Self {
            link,
            options,
            journal: journal_queue(queue),
            letters: Pass::begin_on(channel, link, queue).await?,
            sender,
            sent: HashSet::new(),
            there: HashSet::new(),
            refused: HashSet::new(),
        })
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
            // An earlier pass has sent it, whatever this pass picks.
            report.seen += 1;
            self.letters.finish(tag, &[used]).await?;
            report.finished += 1;
            self.remember(letter);
            return Ok(());
        }
        if !picking.pick(letter, report) {
            return Ok(());
        }
        let mut used = Vec::new();
        if let Some((intent, Entry::Intent)) = entry {
            match self.options.in_doubt {
                InDoubt::Leave => {
                    report.doubt(letter.id());
                    return Ok(());
                }
                InDoubt::Drop => {
                    self.letters.finish(tag, &[intent]).await?;
                    report.dropped += 1;
                    return Ok(());
                }
                InDoubt::Replay => used.push(intent),
            }
        }
        self.replay(tag, letter, &identity, used, report).await
    }

    /// Sends a letter that was picked, unless it must stay; `used` are entries of earlier passes that it may replace.
    async fn replay(
        &mut self,
        tag: u64,
        letter: &Letter,
        identity: &str,
        used: Vec<u64>,
        report: &mut QueueReport,
    ) -> Result<(), BrokerError> {
        if letter.copy().is_some_and(|copy| self.sent.contains(&copy)) {
            debug!(id = letter.id(), "a second copy is not sent again");
            if self.sender.is_some() {
                self.letters.finish(tag, &used).await?;
            }
            report.twins += 1;
            return Ok(());
        }
        if let Some(reason) = letter.undecodable() {
            let cause = format!("it cannot be sent as it was: {reason}");
            report.fail(letter.id(), cause);
            return Ok(());
        }
        let destination = if self.options.to_queue {
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
        let again = letter.again(destination);
        if self
            .send(tag, &again, identity, used, letter, report)
            .await?
        {
            self.remember(letter);
        }
        Ok(())
    }

    /// Whether messages can be sent to `destination`; the inner error says why not.
    async fn may_send(
        &mut self,
        destination: &Destination,
    ) -> Result<Result<(), String>, BrokerError> {
        if self.refused.contains(destination) {
            return Ok(Err(format!("{destination} has refused a message before")));
        }
        if self.there.contains(destination) {
            return Ok(Ok(()));
        }
        let found = match destination {
            // What is published there is taken for a receipt, which would be removed with the letter.
            Destination::Queue(queue) if *queue == self.journal => {
                return Ok(Err(format!("{destination} is the journal of replays")));
            }
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
            // A name that AMQP has no room for is not accepted.
            Err(error)
                if error.is_refusal() || matches!(error, BrokerError::NotAccepted { .. }) =>
            {
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
            self.sent.insert(copy);
        }
    }

    /// Sends `again` and removes its letter, which has `tag`, and its `used` entries of earlier passes. Returns whether
    /// the destination took it.
    async fn send(
        &mut self,
        tag: u64,
        again: &Republish,
        identity: &str,
        mut used: Vec<u64>,
        letter: &Letter,
        report: &mut QueueReport,
    ) -> Result<bool, BrokerError> {
        let sender = self.sender.as_mut().expect("a rehearsal sends nothing");
        let mark = journal::mark(sender.id, identity);
        match sender.send(again, &mark).await? {
            Sent::Taken => {
                used.push(sender.entry(&mark, &self.letters.channel).await?);
                self.letters.finish(tag, &used).await?;
                report.replayed += 1;
                Ok(true)
            }
            Sent::Refused { error, has_entry } => {
                if has_entry {
                    // Before the letter goes back: if its entry stayed, a later pass would remove the letter.
                    let entry = sender.entry(&mark, &self.letters.channel).await?;
                    self.letters.take_entries(&[entry]).await?;
                }
                // What was wrong with this message says nothing about the next one.
                let by_message = matches!(
                    error,
                    BrokerError::TooLarge { .. } | BrokerError::Refused { code: 406, .. }
                );
                if !by_message {
                    self.refuse(&again.destination);
                }
                let cause = format!("{}: {error}", again.destination);
                report.fail(letter.id(), cause);
                Ok(false)
            }
        }
    }

    async fn end(self, stop: &CancellationToken) -> Result<(), BrokerError> {
        if let Some(sender) = &self.sender {
            let outdated = sender.journal.outdated(SystemTime::now());
            self.letters.take_entries(&outdated).await?;
        }
        self.letters.end(stop).await
    }
}
