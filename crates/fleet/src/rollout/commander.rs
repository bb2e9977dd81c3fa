//! Sees the fleet and commands its workers.

use std::sync::Arc;

use crate::api::Worker;
use crate::clock::Moment;
use crate::shared::Shared;
use crate::speaker::{CommandError, Obstacle, Speaker};
use tidegate::internal::status::control::{Command, Reply};

/// Sees the fleet and commands its workers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Commander {
    shared: Arc<Shared>,
    speaker: Arc<Speaker>,
}

impl Commander {
    pub(crate) fn new(shared: &Arc<Shared>, speaker: &Arc<Speaker>) -> Self {
        Self {
            shared: Arc::clone(shared),
            speaker: Arc::clone(speaker),
        }
    }

    /// Sends a command to a worker and awaits its reply, which says whether it obeys.
    ///
    /// # Errors
    /// If no reply comes.
    pub async fn command(&self, worker: &str, command: &Command) -> Result<Reply, CommandError> {
        self.speaker.command(worker, command).await
    }

    /// What keeps commands from being sent now.
    pub(super) fn obstacle(&self) -> Option<Obstacle> {
        self.speaker.obstacle()
    }

    /// The time by the fleet's clock.
    pub(super) fn now(&self) -> Moment {
        self.shared.now()
    }

    /// A worker, if it is known.
    pub fn worker(&self, id: &str) -> Option<Worker> {
        let now = self.shared.now();
        self.shared.fleet().worker(id, now)
    }

    /// Every known worker: its id, name and state.
    pub(super) fn workers(&self) -> Vec<super::replacement::Seen> {
        self.shared.fleet().names()
    }
}
