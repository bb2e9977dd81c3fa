//! Handlers that do what the test says.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::broker::Broker;
use super::records::{Ask, End};
use crate::delivery::Delivery;
use crate::handler::{AnyHandler, Context, HoldEnd};

/// Tells the records how a run ends, whatever happens to it.
struct Running {
    broker: Broker,
    run: u64,
    end: End,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.broker.state();
        state.records.run_ends(self.run, &self.end);
    }
}

/// The handler of the model's node.
pub(super) fn handler(broker: Broker) -> AnyHandler {
    AnyHandler::new("model", move |delivery: Arc<Delivery>, context: Context| {
        let broker = broker.clone();
        async move {
            let (sender, mut asked) = mpsc::unbounded_channel();
            let run = broker.state().records.run_begins(&delivery, sender);
            let end = End::Dropped;
            let mut running = Running { broker, run, end };
            loop {
                match asked.recv().await.expect("the records have the sender") {
                    Ask::Finish(outcome) => {
                        running.end = End::Decided(outcome.clone());
                        return outcome;
                    }
                    Ask::Panic => {
                        running.end = End::Panicked;
                        // As a panic, without its message in the test's output.
                        std::panic::resume_unwind(Box::new("asked to"));
                    }
                    Ask::Hold(time) => {
                        let records = |held| {
                            let mut state = running.broker.state();
                            state.records.set_held(run, held);
                        };
                        records(true);
                        let end = context.hold(time).await;
                        // A drain ends a hold without a slot.
                        records(end == HoldEnd::Draining);
                    }
                }
            }
        }
    })
}
