//! Dead letters: looking at them, sending them again, dropping them.
//!
//! The dead letters of a queue wait in `<queue>.dead`. A [`Pass`] takes them one by one and holds them: what it does
//! not settle goes back to where it was. [`Letter`] reads what one says of itself, [`Filter`] picks, and
//! [`Letter::again`] makes the message that a replay publishes.
//!
//! # A replay loses none and doubles none
//! A dead letter is acknowledged only after the broker has confirmed its replay: none is lost. What a replay that is
//! killed between the two would double, the journal (`<queue>.replay`) prevents: a message that goes straight to a
//! queue is routed, by one `basic.publish`, to the journal as well (header `BCC`), so that the broker has both or
//! neither. A later pass finds that receipt, and acknowledges the dead letter instead of sending it again. A letter and its
//! entry in the journal are acknowledged in one transaction (`tx.commit`), so that none outlives the other.
//! To another exchange the broker cannot do both in one step. There an intent stands in the journal before the
//! message is published; a dead letter with an intent of an earlier pass is in doubt, and waits for a person to decide.
//!
//! A transaction would join publish and acknowledgement, too, but `tx.commit-ok` hides that a quorum queue refused the
//! message (`x-overflow` `reject-publish`; seen on RabbitMQ 3.10, 4.0 and 4.3): it would be lost in silence.

mod destination;
mod export;
mod filter;
mod identity;
mod journal;
mod letter;
mod pass;
mod record;
mod replay;
mod report;
mod sender;
mod since;

pub(crate) use destination::{Destination, Republish};
pub(crate) use export::Export;
pub(crate) use filter::Filter;
pub(crate) use identity::identity;
pub(crate) use journal::{Entry, Journal};
pub(crate) use letter::Letter;
pub(crate) use pass::{Pass, Picking, drop_letters, list};
pub(crate) use record::{BODY_SHOWN, Record};
pub(crate) use replay::{InDoubt, ReplayOptions, replay};
pub(crate) use report::{DeadAction, DeadOutcome, DeadReport, QueueReport};
pub(crate) use since::since;

/// The queue that the dead letters of `queue` wait in.
pub(crate) fn dead_queue(queue: &str) -> String {
    format!("{queue}.dead")
}

/// The queue that says which dead letters of `queue` are being replayed.
pub(crate) fn journal_queue(queue: &str) -> String {
    format!("{queue}.replay")
}
