//! The channels of a connection: it closes after them.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lapin::ChannelStatus;

/// The channels that were opened on one connection and are not known to be closed.
#[derive(Default)]
pub(super) struct Channels(Mutex<Vec<ChannelStatus>>);

impl Channels {
    /// Notes a channel that was just opened.
    pub(super) fn opened(&self, status: ChannelStatus) {
        let mut channels = self.lock();
        channels.retain(is_open);
        channels.push(status);
    }

    /// Whether a channel is open, or still on its way to being closed.
    pub(super) fn any_open(&self) -> bool {
        self.lock().iter().any(is_open)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<ChannelStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Channels").field(&self.lock().len()).finish()
    }
}

fn is_open(status: &ChannelStatus) -> bool {
    status.connected() || status.closing() || status.initializing()
}
