//! Who is there, in short.

use std::sync::Arc;

use super::Fleet;
use crate::rollout::Seen;

impl Fleet {
    /// Every known worker: its id, name and state.
    pub(crate) fn names(&self) -> Vec<Seen> {
        let workers = self.entries.iter();
        let seen = workers.map(|(id, entry)| Seen {
            id: Arc::clone(id),
            name: entry.name(),
            state: entry.state(),
        });
        seen.collect()
    }
}
