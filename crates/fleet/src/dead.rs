//! Dead letters: looking at them, replaying them, dropping them.
//!
//! The dead letters of a queue wait in `<queue>.dead`. A pass takes them one by one and holds them. Letters that it
//! does not settle go back to their place. [`Letter`] reads what a letter says about itself, [`Filter`] picks letters, and
//! [`Letter::again`] makes the message that a replay publishes.
//!
//! # A replay loses no message and sends none twice
//! No message is lost: a dead letter is acknowledged only after the broker has confirmed its replay. No message is sent
//! twice if a replay is killed between the two, because of the journal (`<queue>.replay`). One `basic.publish` routes a
//! message for a queue to the journal as well (header `BCC`), so that the broker has both or neither. A later pass finds
//! that receipt, and acknowledges the dead letter instead of sending it again. A letter and its entry in the journal are
//! acknowledged in one transaction (`tx.commit`), so that neither outlives the other.
//! For another exchange the broker cannot do both in one step. There the journal records an intent before the message
//! is published. A dead letter with an intent of an earlier pass is in doubt, and a person has to decide.
//!
//! One transaction over publish and acknowledgement would be simpler. But `tx.commit-ok` hides that a quorum queue
//! refused the message (`x-overflow` `reject-publish`; seen on RabbitMQ 3.10, 4.0 and 4.3): the message would be lost.

mod destination;
mod export;
mod filter;
mod identity;
mod journal;
mod letter;
mod letters;
mod pass;
mod record;
mod replay;
mod report;
mod sender;

pub use destination::Destination;
use destination::Republish;
pub use export::Export;
pub use filter::Filter;
pub use identity::identity;
use journal::{Entry, Journal};
pub use letter::{CONNECTOR, CONNECTOR_NAME, Letter};
pub(crate) use letters::{DeadLetters, LettersCommand, LettersError};
use pass::Pass;
pub use pass::{Picking, drop_letters, list};
pub use record::{BODY_SHOWN, Contents, Record};
pub use replay::{InDoubt, ReplayOptions, replay};
pub use report::{DeadAction, DeadOutcome, DeadReport, Fault, QueueReport};

/// The queue of the dead letters of `queue`.
pub fn dead_queue(queue: &str) -> String {
    format!("{queue}.dead")
}

/// The journal of replays of `queue`.
pub fn journal_queue(queue: &str) -> String {
    format!("{queue}.replay")
}
