//! The time limits of a drain, and how they depend on each other.

use std::time::Duration;

/// After the deadline of a drain: how long flushing, closing and the report may take together. What the
/// platform allows must reach this far beyond `drain.grace`.
pub const CLOSING_LIMIT: Duration = Duration::from_secs(3);

/// How long a second signal leaves for handing back and closing.
pub const ABORT_LIMIT: Duration = Duration::from_secs(1);

/// How long a drain waits for a consumer that is being opened.
pub(crate) const OPENING_LIMIT: Duration = Duration::from_secs(2);
/// How long handlers whose delivery was on hold may take to hand it back, before the rest is handed back.
pub(crate) const HOLD_ANSWER_LIMIT: Duration = Duration::from_millis(200);
/// How long a drain waits for a connection when nothing runs any more and an outcome is left to be settled.
pub(crate) const RECONNECT_LIMIT: Duration = Duration::from_secs(1);
/// How long the broker may take to deliver messages again that a lost channel held.
pub(crate) const REDELIVERY_LIMIT: Duration = Duration::from_secs(1);
/// How long copies for retries and dead letters may take when nothing runs any more.
pub(crate) const COPY_LIMIT: Duration = Duration::from_secs(6);
/// How long cancelled handlers may take to end, before their deliveries are handed back regardless.
pub(crate) const CANCELLED_RUN_LIMIT: Duration = Duration::from_millis(200);
/// How long the last settlements may take to be written.
pub(crate) const FLUSH_LIMIT: Duration = Duration::from_secs(1);
/// How long the broker may take to answer the close of a consume channel.
pub(crate) const CHANNEL_CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// How long all handlers together may take, at least, to release what they hold.
pub(crate) const RELEASE_LIMIT: Duration = Duration::from_secs(1);
/// How long the broker may take to confirm the drain report.
pub(crate) const REPORT_LIMIT: Duration = Duration::from_secs(1);
/// How long the broker may take to answer the close of a connection.
pub(crate) const CONNECTION_CLOSE_LIMIT: Duration = Duration::from_millis(500);

const fn is_at_most(limits: &[Duration], whole: Duration) -> bool {
    let mut sum = Duration::ZERO;
    let mut next = 0;
    while next < limits.len() {
        sum = sum.saturating_add(limits[next]);
        next += 1;
    }
    sum.as_nanos() <= whole.as_nanos()
}

const _: () = assert!(
    is_at_most(
        &[CANCELLED_RUN_LIMIT, FLUSH_LIMIT, CHANNEL_CLOSE_LIMIT],
        CLOSING_LIMIT
    ),
    "what a node does after the deadline fits into the time that is left for it"
);
const _: () = assert!(
    is_at_most(&[RECONNECT_LIMIT, REPORT_LIMIT], CLOSING_LIMIT),
    "a worker whose nodes ended in time can wait for its connection, and report"
);
const _: () = assert!(
    is_at_most(&[CANCELLED_RUN_LIMIT, CONNECTION_CLOSE_LIMIT], ABORT_LIMIT),
    "an aborted drain has time to hand back and to close"
);
const _: () = assert!(
    is_at_most(&[HOLD_ANSWER_LIMIT], FLUSH_LIMIT),
    "handlers on hold do not keep back what is handed back for longer than writing it may take"
);
