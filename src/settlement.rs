//! What the broker is told about each delivery: the table from outcome to settlement, the [`Ledger`] that turns
//! settled deliveries into the fewest broker calls, what is remembered after a channel was lost, and the book that keeps
//! all of it. All of it is pure.

mod adoption;
mod book;
mod copies;
mod identity;
mod ledger;
mod pace;
mod table;
#[cfg(test)]
mod testing;
mod unproven;
mod work;

pub(crate) use book::{Book, Ended, InHand, Known, RunEnd, Then, Written};
pub use identity::Identity;
pub(crate) use ledger::Call;
pub use ledger::{Ledger, Settlement};
pub(crate) use pace::{Backlog, Pace, Wait};
pub(crate) use table::{CopyTarget, Decision};
pub use table::{DecisionInput, decide};
pub(crate) use work::{ChannelTag, Work};
