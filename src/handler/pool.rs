//! The `pool` handler: long-lived children that work on one delivery after the other, one JSON object per line.

mod child;
mod children;
mod lines;
mod pacing;
mod protocol;

use std::ops::ControlFlow;
use std::sync::Arc;

use self::children::Children;
use self::protocol::{Reply, Request};
use super::{Context, Handler, HandlerError, HoldEnd, Outcome, Reason};
use crate::config::ChildPoolSettings;
use crate::delivery::Delivery;

/// Runs deliveries in children that stay.
///
/// A child reads one JSON object per line and answers each with one. A child that dies, answers rubbish or
/// answers too much is killed with its process group, and replaced; the delivery that it had is retried with
/// reason `crash`. Children that cannot be started for something that the worker lacks, or that fail so often
/// that the next start has to wait, cost no delivery anything.
///
/// Dropping the future kills the child that has the delivery: nobody knows what it would answer next.
pub struct PoolHandler {
    children: Children,
}

impl PoolHandler {
    /// A handler as `settings` describe it. The children's environment is taken from this process now, without
    /// any `TIDEGATE_*` of its own.
    ///
    /// # Errors
    /// `command` names no program; an argument or a variable cannot be given to a program.
    pub fn new(settings: &ChildPoolSettings) -> Result<Self, HandlerError> {
        let children = Children::new(settings)?;
        Ok(Self { children })
    }
}

impl Handler for PoolHandler {
    async fn handle(&self, delivery: Arc<Delivery>, context: Context) -> Outcome {
        loop {
            let asked = self
                .children
                .ask(
                    &context,
                    |hello| Request::new(&delivery, protocol::wants_text(hello)),
                    |reply: Reply| ControlFlow::Break(reply),
                )
                .await;
            let reply = match asked {
                Ok(reply) => reply,
                Err(children::AskError::Draining) => return Outcome::HandBack,
                Err(children::AskError::Crashed(error)) => return crashed(error),
            };
            let Some(delay) = reply.hold() else {
                return reply.outcome();
            };
            match context.hold(delay).await {
                HoldEnd::Elapsed => {}
                HoldEnd::Draining | HoldEnd::LimitReached => return Outcome::HandBack,
            }
        }
    }

    async fn prepare(&self) {
        self.children.warm().await;
    }

    async fn release(&self) {
        self.children.release().await;
    }
}

impl std::fmt::Debug for PoolHandler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Arguments are left out with the variables: a password is often among them.
        f.debug_struct("PoolHandler")
            .field("program", &self.children.name())
            .finish_non_exhaustive()
    }
}

fn crashed(error: String) -> Outcome {
    Outcome::Retry {
        delay: None,
        reason: Reason::Crash,
        error,
    }
    .bounded()
}

#[cfg(test)]
mod tests;
