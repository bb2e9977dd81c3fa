//! The drain of a worker, in order.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::control::Control;
use super::host::Leaving;
use super::release::release_all;
use super::report::{log, report};
use super::supervise::{Supervisor, advance};
use super::{DrainReport, Refusal, Request, WorkerCommand};
use crate::broker::{BrokerError, Session};
use crate::handler::AnyHandler;
use crate::lifecycle::limits::{CONNECTION_CLOSE_LIMIT, RECONNECT_LIMIT, REPORT_LIMIT};
use crate::lifecycle::{ABORT_LIMIT, CLOSING_LIMIT, Event, Phase};
use crate::node::{self, NodeDrain};
use crate::status::Status;

impl Supervisor {
    /// Stops in order. The steps and their order are the product:
    ///
    /// 1. one deadline; readiness turns false, beats stop;
    /// 2. state `draining`; every consumer cancelled;
    /// 3. what has not started handed back;
    /// 4. what runs finishes, and is settled;
    /// 5. at the deadline the rest is interrupted;
    /// 6. settlements flushed, consume channels closed;
    /// 7. handlers released, in reverse order of their creation;
    /// 8. the report published with a confirm;
    /// 9. status channel, consume connection, publish connection closed.
    ///
    /// Steps 2 to 6 are each node's, side by side. A second signal cuts the drain short.
    pub(super) async fn drain(mut self, reason: String) -> DrainReport {
        let begun = Instant::now();
        let deadline = begun + self.grace;
        advance(&self.phase, Event::Drain);
        // A task that failed is a better answer than the drain that follows from it.
        if self.amqp.tasks().failure().is_none() {
            self.set_readiness(Err(format!("the worker is {}", Phase::Draining)));
        }
        self.amqp.tasks().expect_ends();
        self.describe_drain(&reason, deadline);
        self.consume.hurry();
        self.publish.hurry();
        info!(reason, grace_ms = self.grace.as_millis(), "drain begins");

        let mut handlers: Vec<AnyHandler> = Vec::new();
        let here = self.nodes.iter().map(|node| &node.handler);
        for handler in here.chain(self.leaving.iter().map(|node| &node.handler)) {
            if !handlers.iter().any(|other| other.is_same(handler)) {
                handlers.push(handler.clone());
            }
        }
        // Those that drain by themselves already keep their own, earlier deadline.
        let nodes = self.nodes.drain(..).map(|node| node.leave(deadline));
        let nodes = self.leaving.drain(..).chain(nodes).collect();
        let (drained, aborted) = drain_nodes(nodes, &mut self.commands).await;

        let release = Instant::now();
        let mut budget = ShutdownBudget {
            commands: self.commands,
            end: aborted.map_or(deadline + CLOSING_LIMIT, |at| at + ABORT_LIMIT),
            aborted: aborted.is_some(),
        };
        budget
            .run(release_all(handlers, deadline, &self.host.work))
            .await;
        let times = (begun.elapsed(), release.elapsed());
        let failure = self.amqp.tasks().failure();
        let report = report(reason, aborted.is_some(), failure.as_ref(), times, drained);
        let outcome = report.outcome.as_str();
        self.metrics
            .drained(outcome, report.duration_ms, report.steps.named());
        let published = budget.run(publish_report(
            self.status.as_ref().map(|status| (status, &self.publish)),
            &self.consume,
            &report,
        ));
        let published = published.await;
        log(&report, published == Some(true));
        budget
            .run(close(self.control, self.status, self.consume, self.publish))
            .await;
        advance(&self.phase, Event::Drained);
        report
    }

    fn describe_drain(&self, reason: &str, deadline: Instant) {
        self.snapshot.send_modify(|snapshot| {
            snapshot.phase = Phase::Draining;
            snapshot.reason = Some(reason.to_owned());
            snapshot.deadline = Some(deadline);
            for node in &mut snapshot.nodes {
                node.phase = Phase::Draining;
            }
        });
    }
}

/// Steps 2 to 6 of every node, side by side; and when a second signal aborted them, if one did.
async fn drain_nodes(
    nodes: Vec<Leaving>,
    requests: &mut mpsc::Receiver<Request>,
) -> (NodeDrain, Option<Instant>) {
    let (commands, drains): (Vec<_>, Vec<_>) = nodes
        .into_iter()
        .map(|node| (node.commands, node.drained))
        .unzip();
    let mut drained = pin!(join_all(drains));
    let mut aborted = None;
    let drains = loop {
        tokio::select! {
            biased;
            drains = &mut drained => break drains,
            at = next_abort(requests) => if aborted.is_none() {
                warn!("aborting: what is in flight is handed back");
                aborted = Some(at);
                for node in &commands {
                    node.send_replace(node::Command::Abort { at });
                }
            },
        }
    };
    let drains = drains.into_iter().map(|(_queue, drain)| drain);
    let sum = drains.fold(NodeDrain::default(), NodeDrain::and);
    (sum, aborted)
}

/// Resolves when an abort is commanded. Another drain changes nothing; everything else comes too late, and
/// whoever asked is told so. Cancel safe.
async fn next_abort(requests: &mut mpsc::Receiver<Request>) -> Instant {
    loop {
        let Some(request) = requests.recv().await else {
            return std::future::pending().await;
        };
        let refused = |rule| {
            let phase = Phase::Draining;
            Err(Refusal { phase, rule })
        };
        let (answer, aborts) = match &request.command {
            WorkerCommand::Abort => (Ok(()), true),
            WorkerCommand::Drain { reason } => {
                info!(reason, "ignored: the worker is draining already");
                (Ok(()), false)
            }
            WorkerCommand::Pause { .. } => (refused("only a running worker can be paused"), false),
            WorkerCommand::Resume => (refused("only a paused worker can be resumed"), false),
            WorkerCommand::Host { .. } => {
                (refused("a worker that drains hosts no other nodes"), false)
            }
        };
        request.answer(answer);
        if aborts {
            return Instant::now();
        }
    }
}

/// The time that is left after the nodes have drained. A second signal shortens it.
struct ShutdownBudget {
    commands: mpsc::Receiver<Request>,
    end: Instant,
    aborted: bool,
}

impl ShutdownBudget {
    /// Awaits `step` until the budget's end. An abort moves the end to [`ABORT_LIMIT`] from then.
    async fn run<T>(&mut self, step: impl Future<Output = T>) -> Option<T> {
        let mut step = pin!(step);
        loop {
            tokio::select! {
                biased;
                value = timeout_at(self.end, &mut step) => return value.ok(),
                at = next_abort(&mut self.commands) => if !self.aborted {
                    self.aborted = true;
                    self.end = self.end.min(at + ABORT_LIMIT);
                },
            }
        }
    }
}

/// Whether the report was confirmed by the broker, or there is nobody to tell.
///
/// If the consume connection shows that the broker is there, a missing publish connection is waited for:
/// without its report the worker would be taken for lost.
async fn publish_report(
    status: Option<(&Status, &Session)>,
    consume: &Session,
    report: &DrainReport,
) -> bool {
    let Some((status, publish)) = status else {
        return true;
    };
    let is_broker_there = consume.state().borrow().link().is_some();
    let patience = if is_broker_there {
        publish.hurry();
        RECONNECT_LIMIT
    } else {
        Duration::ZERO
    };
    match status.report(report.clone(), patience, REPORT_LIMIT).await {
        Ok(()) => true,
        Err(error) => {
            warn!(%error, "the drain report could not be published");
            false
        }
    }
}

async fn close(
    control: Option<Control>,
    status: Option<Status>,
    consume: Session,
    publish: Session,
) {
    if let Some(control) = control {
        control.close(CONNECTION_CLOSE_LIMIT).await;
    }
    if let Some(status) = status {
        status.close(CONNECTION_CLOSE_LIMIT).await;
    }
    closed("consume", consume.close(CONNECTION_CLOSE_LIMIT).await);
    closed("publish", publish.close(CONNECTION_CLOSE_LIMIT).await);
}

fn closed(purpose: &'static str, closed: Result<(), BrokerError>) {
    if let Err(error) = closed {
        warn!(purpose, %error, "a connection did not close cleanly");
    }
}
