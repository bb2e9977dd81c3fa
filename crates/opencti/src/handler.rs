//! The handler of one queue of the platform.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tidegate::delivery::Delivery;
use tidegate::handler::{Context, Handler, HoldEnd, Outcome};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::discovery::{Role, WantedNode};
use crate::engine::Engine;
use crate::gate::excerpt;
use crate::holds::HoldTicket;
use crate::identity;
use crate::message::Origin;
use crate::schedule::{Action, Rejection, Runs};
use crate::signs::{Cause, Sign, cause};

/// Deals with the deliveries of one queue of the platform.
pub struct OpenCtiHandler {
    engine: Arc<Engine>,
    node: Arc<WantedNode>,
}

impl OpenCtiHandler {
    /// The handler of `node`.
    pub fn new(engine: Arc<Engine>, node: WantedNode) -> Self {
        Self {
            engine,
            node: Arc::new(node),
        }
    }
}

impl Handler for OpenCtiHandler {
    async fn handle(&self, delivery: Arc<Delivery>, context: Context) -> Outcome {
        let job = Job {
            ticket: self.engine.holds.ticket(),
            engine: Arc::clone(&self.engine),
            node: Arc::clone(&self.node),
            delivery,
            context,
        };
        let begun = Instant::now();
        let role = &self.node.role;
        let run = async {
            match role {
                Role::Push { .. } => job.push().await,
                Role::Listen { callback } => job.listen(callback).await,
            }
        };
        match AssertUnwindSafe(run).catch_unwind().await {
            Ok(Ok(objects)) => {
                let seconds = begun.elapsed().as_secs_f64();
                self.engine.metrics.message(objects, seconds);
                Outcome::Done
            }
            Ok(Err(End::HandBack)) => Outcome::HandBack,
            Err(_panic) => {
                error!(
                    queue = self.node.queue,
                    "a fault of this program: a message is set aside"
                );
                let reason = "the worker failed on this message";
                match job.set_aside("invalid", reason, &Origin::default()).await {
                    Ok(()) => Outcome::Done,
                    Err(End::HandBack) => Outcome::HandBack,
                }
            }
        }
    }

    fn identity(&self, delivery: &Delivery) -> Option<String> {
        Some(format!("{:032x}", identity::of_message(&delivery.body)))
    }
}

/// One delivery, and what its way needs.
pub(crate) struct Job {
    pub(crate) engine: Arc<Engine>,
    pub(crate) node: Arc<WantedNode>,
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) context: Context,
    pub(crate) ticket: HoldTicket,
}

/// How a delivery ends early.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It goes back to its place in the queue.
    HandBack,
}

/// How one object's runs end without an import.
pub(crate) enum Given {
    /// It is not wanted any more.
    Skipped,
    /// It is given up.
    Rejected(Rejection),
}

impl Job {
    /// Waits in place without a slot.
    pub(crate) async fn hold(&self, delay: Duration, cause: Cause) -> Result<(), End> {
        let _held = self.engine.metrics.held(cause);
        self.ticket.waits(&self.node.queue, cause);
        match self.context.hold(delay).await {
            HoldEnd::Elapsed => Ok(()),
            _ => Err(End::HandBack),
        }
    }

    /// Waits until the platform answers. Nothing new is started before.
    pub(crate) async fn wait_for_platform(&self) -> Result<(), End> {
        while let Some((delay, cause)) = self.engine.gate.wait() {
            self.hold(delay, cause).await?;
        }
        Ok(())
    }

    /// A run failed: waits before the next one, or says how the runs end.
    pub(crate) async fn failed(&self, runs: &mut Runs, sign: &Sign) -> Result<Option<Given>, End> {
        let engine = &self.engine;
        engine.gate.failed(sign);
        let cause = cause(sign);
        let delays = engine.settings.missing_reference;
        let action = runs.failed(sign, delays, rand::random());
        let retry = matches!(action, Action::Hold(_)).then(|| runs.in_all());
        engine.metrics.failed(cause, sign, retry);
        let (queue, connector) = (&self.node.queue, &self.node.connector.name);
        let why = excerpt(sign);
        match action {
            Action::Hold(delay) => {
                if runs.in_all() == 1 {
                    info!(
                        queue,
                        connector,
                        cause = cause.as_str(),
                        why,
                        ?delay,
                        "a run failed; trying again"
                    );
                }
                self.hold(delay, cause).await?;
                self.wait_for_platform().await?;
                Ok(None)
            }
            Action::Skip => Ok(Some(Given::Skipped)),
            Action::Reject(mut rejection) => {
                if sign.name.as_deref() == Some("GRAPHQL_VALIDATION_FAILED") {
                    let versions = engine.versions_in_words();
                    rejection.error = format!("{} ({versions})", rejection.error);
                }
                warn!(
                    queue,
                    connector,
                    cause = cause.as_str(),
                    why,
                    runs = runs.in_all(),
                    "an object is given up"
                );
                Ok(Some(Given::Rejected(rejection)))
            }
        }
    }
}
