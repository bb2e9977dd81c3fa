//! Sends the requests for beats that are due.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::Role;
use crate::cadence::{Cadence, PaceRequest};
use crate::shared::Shared;
use crate::speaker::{CommandError, Speaker};
use crate::state::FRESH_LIMIT;
use crate::viewers::Viewers;

/// The interval of checks for workers that beat faster by themselves than the budget allows.
const SLOW_LOOK: Duration = Duration::from_secs(5);
/// How long a program that ends takes to end its requests. They would end by themselves, only later.
const END_LIMIT: Duration = Duration::from_secs(1);

/// The requests for beats of one program.
#[derive(Debug)]
pub(crate) struct Requests {
    role: Role,
    viewers: Arc<Viewers>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    cadence: Cadence,
    slow_looked: Instant,
}

impl Requests {
    /// The requests of `program`, for those who look; all beats together are to be at most so many per second.
    pub(crate) fn new(
        program: String,
        role: Role,
        beats_per_second: u32,
        viewers: Arc<Viewers>,
    ) -> Self {
        Self {
            role,
            viewers,
            inner: Mutex::new(Inner {
                cadence: Cadence::new(program, beats_per_second),
                slow_looked: Instant::now(),
            }),
        }
    }

    /// The connection is new.
    pub(super) fn forget(&self) {
        self.inner().cadence.forget();
    }

    /// Sends what is due.
    pub(super) async fn look(&self, shared: &Shared, speaker: &Speaker) {
        for tells in self.due(shared) {
            if let Err(error) = send(speaker, &tells).await {
                debug!(%error, "beats could not be requested; trying again");
                self.forget();
                return;
            }
        }
    }

    /// Ends every request, for a program that ends.
    pub(crate) async fn end(&self, speaker: &Speaker) {
        let tells = self.inner().cadence.end();
        match timeout(END_LIMIT, send(speaker, &tells)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "requests for beats could not be ended"),
            Err(_elapsed) => debug!("requests for beats could not be ended in time"),
        }
    }

    fn due(&self, shared: &Shared) -> [Vec<PaceRequest>; 2] {
        let demand = self.viewers.demand();
        let now = shared.now();
        let mut inner = self.inner();
        let mut fleet = shared.fleet();
        let (living, fresh) = (fleet.living(), fleet.take_fresh());
        if fresh.len() == FRESH_LIMIT {
            // There may be more: all are asked once more.
            inner.cadence.ask_all_again();
        }
        let wanted = inner.cadence.due(&demand, living, &fresh, now);
        // Only the fleet program limits what workers do by themselves: a command in a terminal changes nothing.
        let slow = if self.role == Role::Program && inner.slow_looked.elapsed() >= SLOW_LOOK {
            inner.slow_looked = Instant::now();
            let own = fleet.own_beats_per_second();
            let faster = |interval| fleet.faster_than(interval);
            inner.cadence.slow(living, own, faster, now)
        } else {
            Vec::new()
        };
        [wanted, slow]
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that comes back was for a worker that is gone; that is no error.
async fn send(speaker: &Speaker, tells: &[PaceRequest]) -> Result<(), CommandError> {
    let sent = tells
        .iter()
        .map(|tell| speaker.tell(tell.worker.as_deref(), &tell.command));
    let sent: Result<Vec<bool>, _> = join_all(sent).await.into_iter().collect();
    sent.map(|_routed| ())
}
