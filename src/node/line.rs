//! The line of deliveries that wait for a slot of their node.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::command::Command;
use super::run::{Claim, Held};

/// A delivery that waits for a slot.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    /// Its place.
    pub claim: Claim,
    /// What is to be worked on.
    pub held: Held,
}

/// What waits for a slot, in the order it came. Bounded by the prefetch.
///
/// A slot that becomes free goes on with the next delivery by itself. Handing each one over from the node's thread to
/// the handlers' and back would wake threads for every few deliveries, which cost more than all the rest
/// of a delivery (see docs/performance.md, "Where the time goes").
#[derive(Debug)]
pub(crate) struct Line {
    state: Mutex<State>,
    commands: watch::Receiver<Command>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// Whether no slot goes on by itself any more, whatever is commanded.
    closed: bool,
    runs: u64,
}

impl Line {
    /// An empty line of a node that obeys `commands`.
    pub(crate) fn new(commands: watch::Receiver<Command>) -> Self {
        Self {
            state: Mutex::default(),
            commands,
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

    /// Whether nothing waits.
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
    pub(crate) fn go_on(&self, report: impl FnOnce(u64, &Waiting)) -> Option<Waiting> {
        let mut state = self.lock();
        let may_run = !state.closed && matches!(*self.commands.borrow(), Command::Run);
        if !may_run {
            return None;
        }
        let (run, waiting) = state.next()?;
        report(run, &waiting);
        Some(waiting)
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
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::delivery::{Delivery, Properties};
    use crate::settlement::Identity;

    fn waiting(tag: u64) -> Waiting {
        let delivery = Delivery {
            queue: "orders".into(),
            exchange: String::new(),
            routing_key: "orders".into(),
            redelivered: false,
            attempt: 1,
            properties: Properties::default(),
            body: Bytes::new(),
        };
        Waiting {
            claim: Claim { generation: 1, tag },
            held: Held {
                identity: Identity::of(&delivery),
                delivery: delivery.into(),
            },
        }
    }

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
        let next = line.go_on(|run, waiting| told = Some((run, waiting.claim.tag)));
        assert_eq!(next.map(|next| next.claim.tag), Some(2));
        assert_eq!(told, Some((first + 1, 2)));
        assert!(line.is_empty());
        assert!(line.go_on(|_, _| panic!("nothing waits")).is_none());
    }

    #[test]
    fn nothing_goes_on_in_a_pause_or_once_a_drain_has_begun() {
        let (commands, line) = line(Command::Pause);
        assert!(line.go_on(|_, _| panic!("paused")).is_none());
        commands.send_replace(Command::Run);
        assert!(line.go_on(|_, _| {}).is_some());
        line.close();
        assert!(line.go_on(|_, _| panic!("draining")).is_none());
        assert_eq!(line.empty().len(), 1, "it is left to be handed back");
    }
}
