//! The line of deliveries that wait for a slot of their node.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::command::Command;
use super::run::Completion;
use crate::settlement::{ChannelTag, Work};

/// A delivery that waits for a slot.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    /// Its place.
    pub place: ChannelTag,
    /// The work.
    pub work: Work,
}

/// Deliveries that wait for a slot, in the order they came. Bounded by the prefetch.
///
/// A slot that becomes free goes on with the next delivery by itself. Handing each one over from the node's thread to
/// the handlers' and back would wake threads for every few deliveries, which cost more than all the rest
/// of a delivery (see docs/performance.md, "Where the time goes").
#[derive(Debug)]
pub(crate) struct Line {
    state: Mutex<State>,
    commands: watch::Receiver<Command>,
    /// Runs that come back from a hold and wait for a slot.
    returning: AtomicUsize,
}

/// When the node's task has to hear of a run's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tell {
    Now,
    Later,
}

/// A run that comes back from a hold; it has stopped waiting for a slot when this is dropped.
#[must_use]
#[derive(Debug)]
pub(crate) struct Returning<'a>(&'a Line);

impl Drop for Returning<'_> {
    fn drop(&mut self) {
        self.0.returning.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// No slot takes work by itself any more, whatever is commanded.
    closed: bool,
    runs: u64,
    /// The ends of runs whose slots have gone on, not taken note of yet.
    ended: Vec<Completion>,
    /// How many more ends need not be told of, because the node's task looks for them by itself.
    silent: usize,
}

impl Line {
    /// An empty line of a node that obeys `commands`.
    pub(crate) fn new(commands: watch::Receiver<Command>) -> Self {
        Self {
            state: Mutex::default(),
            commands,
            returning: AtomicUsize::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here is left half done by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to the end of the line.
    pub(crate) fn push(&self, waiting: Waiting) {
        self.lock().waiting.push_back(waiting);
    }

    /// Takes out an earlier delivery of the same message: the queue has taken it back.
    pub(crate) fn remove_before(&self, later: &Work) -> Option<ChannelTag> {
        let waiting = &mut self.lock().waiting;
        let earlier = waiting.iter().position(|one| one.work.is_before(later))?;
        waiting.remove(earlier).map(|earlier| earlier.place)
    }

    /// Whether the line is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// Takes the first in line, with the number of its run.
    pub(crate) fn first(&self) -> Option<(u64, Waiting)> {
        self.lock().next()
    }

    /// Takes the first in line for a slot that has become free, if the node is to run. `report` makes of it the end of the
    /// run before, which is noted before anybody else sees the line, so that whoever [empties](Self::empty) it finds the
    /// ends of all that was taken before. The node's task is to be told, unless it [looks](Self::look_later) by itself.
    pub(crate) fn go_on<T>(
        &self,
        report: impl FnOnce(u64, Waiting) -> (Completion, T),
    ) -> Option<(T, Tell)> {
        let mut state = self.lock();
        let may_run = !state.closed && matches!(*self.commands.borrow(), Command::Run);
        if !may_run || self.returning.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let (run, waiting) = state.next()?;
        let (end, value) = report(run, waiting);
        state.ended.push(end);
        let tell = match state.silent.checked_sub(1) {
            None => Tell::Now,
            Some(left) => {
                state.silent = left;
                Tell::Later
            }
        };
        Some((value, tell))
    }

    /// The node's task will look for ends by itself before long: the next `silent` need not be told of. Returns whether
    /// there are ends that are not taken note of yet.
    pub(crate) fn look_later(&self, silent: usize) -> bool {
        let mut state = self.lock();
        state.silent = silent;
        !state.ended.is_empty()
    }

    /// Takes the ends that are not taken note of yet, in their order.
    pub(crate) fn take_ended(&self) -> Vec<Completion> {
        std::mem::take(&mut self.lock().ended)
    }

    /// The number of deliveries in line.
    pub(crate) fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// A run comes back from a hold: until the guard is dropped no slot goes on by itself, so that the run gets one.
    pub(crate) fn come_back(&self) -> Returning<'_> {
        self.returning.fetch_add(1, Ordering::Relaxed);
        Returning(self)
    }

    /// From now on no slot goes on by itself: a drain has begun.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    /// Takes all that waits.
    pub(crate) fn empty(&self) -> VecDeque<Waiting> {
        std::mem::take(&mut self.lock().waiting)
    }
}

impl State {
    fn next(&mut self) -> Option<(u64, Waiting)> {
        let waiting = self.waiting.pop_front()?;
        self.runs += 1;
        Some((self.runs, waiting))
    }
}

#[cfg(test)]
pub(super) mod testing {
    use bytes::Bytes;
    use jiff::Timestamp;
    use tokio::time::Instant;

    use super::*;
    use crate::delivery::{Delivery, Properties};
    use crate::retry::receive;
    use crate::settlement::Identity;

    /// A delivery in line.
    pub(crate) fn waiting(tag: u64) -> Waiting {
        let delivery = Delivery {
            queue: "orders".into(),
            exchange: String::new(),
            routing_key: "orders".into(),
            redelivered: false,
            attempt: 1,
            properties: Properties::default(),
            body: Bytes::new(),
        };
        let received = receive(delivery.into(), false, Timestamp::UNIX_EPOCH);
        Waiting {
            place: ChannelTag { generation: 1, tag },
            work: {
                let identity = Identity::of(&received, None);
                Work::new(received, identity, Instant::now())
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::Instant;

    use super::testing::waiting;
    use super::*;
    use crate::delivery::{HeaderValue, header};
    use crate::handler::Outcome;
    use crate::settlement::RunEnd;

    /// The end of the run before run `next`.
    fn end_before(next: u64) -> Completion {
        Completion {
            run: next - 1,
            end: RunEnd::Decided(Outcome::Done),
            ended: Instant::now(),
            next: None,
        }
    }

    /// The tag of the delivery that a free slot goes on with.
    fn goes_on(line: &Line) -> Option<(u64, Tell)> {
        line.go_on(|run, waiting| (end_before(run), waiting.place.tag))
    }

    fn ended(line: &Line) -> Vec<u64> {
        line.take_ended().iter().map(|end| end.run).collect()
    }

    fn line(command: Command) -> (watch::Sender<Command>, Line) {
        let (sender, commands) = watch::channel(command);
        let line = Line::new(commands);
        line.push(waiting(1));
        line.push(waiting(2));
        (sender, line)
    }

    #[test]
    fn a_free_slot_goes_on_in_order_and_leaves_the_end_of_its_run() {
        let (_commands, line) = line(Command::Run);
        let (first, _) = line.first().expect("two wait");
        assert_eq!(goes_on(&line), Some((2, Tell::Now)));
        assert!(line.is_empty());
        assert_eq!(goes_on(&line), None, "nothing waits");
        assert_eq!(ended(&line), [first]);
        assert!(ended(&line).is_empty(), "it is taken once");
    }

    #[test]
    fn as_many_ends_as_agreed_are_not_told_of() {
        let (_commands, line) = line(Command::Run);
        line.push(waiting(3));
        assert!(!line.look_later(1));
        assert_eq!(goes_on(&line), Some((1, Tell::Later)));
        assert_eq!(goes_on(&line), Some((2, Tell::Now)));
        line.look_later(1);
        assert!(line.look_later(0), "two ends are here");
        assert_eq!(goes_on(&line), Some((3, Tell::Now)));
        assert_eq!(ended(&line), [0, 1, 2]);
    }

    #[test]
    fn a_message_that_its_queue_took_back_leaves_the_line() {
        let (_commands, line) = line(Command::Run);
        let mut again = waiting(3).work;
        assert_eq!(
            line.remove_before(&again),
            None,
            "the queue counts no more deliveries"
        );
        let delivery = Arc::make_mut(&mut again.received.delivery);
        delivery.redelivered = true;
        let count = (header::ACQUIRED_COUNT.to_owned(), HeaderValue::I64(1));
        delivery.properties.headers.extend([count]);
        again = Work::new(again.received, again.identity, again.arrived);
        let place = line.remove_before(&again);
        assert_eq!(
            place,
            Some(ChannelTag {
                generation: 1,
                tag: 1
            })
        );
        assert_eq!(line.first().map(|(_, next)| next.place.tag), Some(2));
    }

    #[test]
    fn nothing_goes_on_while_a_run_comes_back_from_a_hold() {
        let (_commands, line) = line(Command::Run);
        let returning = line.come_back();
        assert_eq!(goes_on(&line), None, "its slot is wanted");
        drop(returning);
        assert!(goes_on(&line).is_some());
    }

    #[test]
    fn nothing_goes_on_in_a_pause_or_once_a_drain_has_begun() {
        let (commands, line) = line(Command::Pause);
        assert_eq!(goes_on(&line), None, "paused");
        commands.send_replace(Command::Run);
        assert!(goes_on(&line).is_some());
        line.close();
        assert_eq!(goes_on(&line), None, "draining");
        assert_eq!(line.empty().len(), 1, "it is left to be handed back");
    }
}
