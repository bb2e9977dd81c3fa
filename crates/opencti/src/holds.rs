//! What waits in place, and why: for the remarks on each queue.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate::worker::{NodeRemark, Remarks};
use tokio::time::Instant;

use crate::discovery::{Role, WantedNode};
use crate::signs::Cause;

/// A wait is told after this long. Shorter ones come and go all the time, and each change is a status message.
const TELL_AFTER: Duration = Duration::from_secs(10);

/// The deliveries that wait, over all queues. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Holds(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    deliveries: BTreeMap<u64, Wait>,
}

/// Why a delivery waits. It counts as waiting while it runs again, until a run succeeds.
#[derive(Debug, Clone)]
struct Wait {
    queue: String,
    cause: Cause,
    since: Instant,
}

/// One delivery; when it is dropped, the delivery does not wait any more.
#[derive(Debug)]
pub(crate) struct HoldTicket {
    holds: Holds,
    id: u64,
}

impl Holds {
    /// A ticket for a delivery that does not wait yet.
    pub(crate) fn ticket(&self) -> HoldTicket {
        let mut waiting = self.lock();
        waiting.next += 1;
        HoldTicket {
            holds: self.clone(),
            id: waiting.next,
        }
    }

    /// What there is to say of `nodes`: their connectors' names, and what waits in them.
    pub(crate) fn remarks(
        &self,
        nodes: &BTreeMap<String, WantedNode>,
        worker: Option<String>,
        now: Instant,
    ) -> Remarks {
        let mut waits: BTreeMap<String, BTreeMap<Cause, usize>> = BTreeMap::new();
        for wait in self.lock().deliveries.values() {
            if now.saturating_duration_since(wait.since) >= TELL_AFTER {
                let causes = waits.entry(wait.queue.clone()).or_default();
                *causes.entry(wait.cause).or_default() += 1;
            }
        }
        let remark = |(queue, node): (&String, &WantedNode)| {
            let note = waits.get(queue).map(|causes| {
                let parts = causes
                    .iter()
                    .map(|(cause, count)| format!("{count} held: {}", words(*cause, &node.role)));
                parts.collect::<Vec<_>>().join("; ")
            });
            let listens = matches!(node.role, Role::Listen { .. });
            let name = &node.connector.name;
            let title = if listens {
                format!("{name} (listen)")
            } else {
                name.clone()
            };
            let title = Some(title);
            (queue.clone(), NodeRemark { title, note })
        };
        Remarks {
            worker,
            nodes: nodes.iter().map(remark).collect(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HoldTicket {
    /// The delivery of `queue` waits because of `cause`.
    pub(crate) fn waits(&self, queue: &str, cause: Cause) {
        let mut waiting = self.holds.lock();
        let wait = waiting.deliveries.entry(self.id);
        let wait = wait.or_insert_with(|| Wait {
            queue: queue.to_owned(),
            cause,
            since: Instant::now(),
        });
        wait.cause = cause;
    }

    /// A run succeeded.
    pub(crate) fn goes_on(&self) {
        self.holds.lock().deliveries.remove(&self.id);
    }
}

impl Drop for HoldTicket {
    fn drop(&mut self) {
        self.goes_on();
    }
}

/// The cause in words for people.
fn words(cause: Cause, role: &Role) -> &'static str {
    match cause {
        Cause::Unreachable if matches!(role, Role::Listen { .. }) => {
            "the callback or the platform does not answer"
        }
        Cause::Unreachable => "the platform does not answer",
        Cause::Unauthorized => "the platform refuses the token",
        Cause::Platform => "the platform fails on it",
        Cause::Lock => "others hold the lock of the object",
        Cause::MissingReference => "an object that it refers to is missing",
        Cause::ChildDied => "Python died on it",
        Cause::NoChild => "Python cannot be started",
        Cause::Forbidden | Cause::DraftLocked | Cause::WorkNotAlive | Cause::Invalid => {
            cause.as_str()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::discovery::{Selection, discover};

    fn nodes() -> BTreeMap<String, WantedNode> {
        let connector = json!({"id": "a", "name": "Mandiant", "config": {
            "connection": {"host": "rabbit", "user": "u", "pass": "p"},
            "listen": "listen_a", "listen_callback_uri": "http://c/",
            "push": "push_a", "push_exchange": "e"}});
        let found = discover(&json!([connector]), &Selection::default(), &BTreeMap::new());
        found.unwrap().nodes
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_wait_is_told_with_its_cause_until_a_run_succeeds() {
        let holds = Holds::default();
        let notes = || {
            let remarks = holds.remarks(&nodes(), None, Instant::now());
            let note = |queue: &str| remarks.nodes[queue].note.clone();
            (note("push_a"), note("listen_a"))
        };
        let (one, two, callback) = (holds.ticket(), holds.ticket(), holds.ticket());
        one.waits("push_a", Cause::Unreachable);
        two.waits("push_a", Cause::Lock);
        callback.waits("listen_a", Cause::Unreachable);
        assert_eq!(notes(), (None, None), "they wait for a moment only");
        tokio::time::advance(TELL_AFTER).await;
        // Another try failed meanwhile: it still waits, for longer.
        one.waits("push_a", Cause::Unreachable);
        let both =
            "1 held: the platform does not answer; 1 held: others hold the lock of the object";
        let callback_note = "1 held: the callback or the platform does not answer".to_owned();
        assert_eq!(notes(), (Some(both.into()), Some(callback_note)));
        one.goes_on();
        drop(callback);
        let left = "1 held: others hold the lock of the object";
        assert_eq!(notes(), (Some(left.into()), None));
    }

    #[tokio::test]
    async fn nodes_have_their_connectors_names() {
        let remarks = Holds::default().remarks(&nodes(), Some("why".into()), Instant::now());
        let title = |queue: &str| remarks.nodes[queue].title.clone();
        assert_eq!(title("push_a").as_deref(), Some("Mandiant"));
        assert_eq!(title("listen_a").as_deref(), Some("Mandiant (listen)"));
        assert_eq!(remarks.worker.as_deref(), Some("why"));
    }
}
