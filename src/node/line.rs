//! The line of deliveries that wait for a slot of their node.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::command::Command;
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

    /// Takes the first in line for a slot that has become free, if the node is to run. `report` is called with it
    /// before anybody else sees the line, so that whoever [empties](Self::empty) it has been told of all that was
    /// taken before.
    pub(crate) fn go_on<T>(&self, report: impl FnOnce(u64, Waiting) -> T) -> Option<T> {
        let mut state = self.lock();
        let may_run = !state.closed && matches!(*self.commands.borrow(), Command::Run);
        if !may_run || self.returning.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let (run, waiting) = state.next()?;
        Some(report(run, waiting))
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
            work: Work {
                identity: Identity::of(&received, None),
                received,
                arrived: Instant::now(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::testing::waiting;
    use super::*;
    use crate::delivery::{HeaderValue, header};

    fn line(command: Command) -> (watch::Sender<Command>, Line) {
        let (sender, commands) = watch::channel(command);
        let line = Line::new(commands);
        line.push(waiting(1));
        line.push(waiting(2));
        (sender, line)
    }

    #[test]
    fn a_free_slot_goes_on_in_order_and_tells_before_it_does() {
        let (_commands, line) = line(Command::Run);
        let (first, _) = line.first().expect("two wait");
        let mut told = None;
        let next = line.go_on(|run, waiting| {
            told = Some((run, waiting.place.tag));
            waiting.place.tag
        });
        assert_eq!(next, Some(2));
        assert_eq!(told, Some((first + 1, 2)));
        assert!(line.is_empty());
        assert!(line.go_on::<()>(|_, _| panic!("nothing waits")).is_none());
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
        assert!(
            line.go_on::<()>(|_, _| panic!("its slot is wanted"))
                .is_none()
        );
        drop(returning);
        assert!(line.go_on(|_, _| {}).is_some());
    }

    #[test]
    fn nothing_goes_on_in_a_pause_or_once_a_drain_has_begun() {
        let (commands, line) = line(Command::Pause);
        assert!(line.go_on::<()>(|_, _| panic!("paused")).is_none());
        commands.send_replace(Command::Run);
        assert!(line.go_on(|_, _| {}).is_some());
        line.close();
        assert!(line.go_on::<()>(|_, _| panic!("draining")).is_none());
        assert_eq!(line.empty().len(), 1, "it is left to be handed back");
    }
}
