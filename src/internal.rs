//! What the programs of this project (`tidegate-cli`, `tidegate-fleet`) need from inside the library. It is
//! not part of the library's interface: it changes without notice.

/// The broker layer.
pub mod broker {
    pub use crate::broker::{
        AmqpRuntime, Backoff, Batch, BrokerError, Companion, Confirm, DeliveryLimit,
        ExclusiveConsumer, ExclusiveQueue, Feed, FeedQueue, Guard, LIBRARY_LOG, Link, LinkState,
        Message, Offset, Publisher, PullChannel, QueueFacts, RPC_LIMIT, Server, Session,
        SessionState, Stream, Taken, connect, declare_kept_for, declare_topic_exchange,
        delete_queue, delivery_limit, ensure_queue, ensure_stream, ensure_topic_exchange,
        find_exchange, find_queue, lock, queue_type,
    };
}

/// The client that handlers and the fleet's forwarding share.
pub mod handler {
    pub use crate::handler::{Answer, ConnectError, HttpClient, PostError};
}

/// Metrics and their text form.
pub mod metrics {
    pub use crate::metrics::{Metrics, exposition, log_lines_lost};
}

/// What a worker's process does for its children.
pub mod process {
    pub use crate::process::{
        DescriptorLimit, fix_allocator, hold_signals, let_signals_through, raise_descriptor_limit,
        reap_orphans,
    };
}

/// Retry delays and copies.
pub mod retry {
    pub use crate::retry::{
        CopyMark, Purpose, Received, Target, Why, copy, delay, delay_queue, delays, is_sealed,
        mark, receive, restore, seal,
    };
}

/// The HTTP server of both programs.
#[cfg(feature = "endpoints")]
pub mod server {
    pub use crate::server::{ServerLimits, serve};
}

/// The ledger and the identity of deliveries.
pub mod settlement {
    pub use crate::settlement::{DecisionInput, Identity, Ledger, Settlement, decide};
}

/// Status messages and commands.
pub mod status {
    pub use crate::status::savings::PING_INTERVAL;
    pub use crate::status::{control, delta, envelope, heartbeat, wire};
}

/// Waiting for changes.
pub mod wait {
    pub use crate::wait::reached;
}

/// Running a worker as the program does.
pub mod worker {
    pub use crate::worker::{SignalAction, Signals, run, run_started};
}
