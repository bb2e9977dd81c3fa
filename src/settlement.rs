//! What the broker is told about each delivery: the table from outcome to settlement, the [`Ledger`] that turns
//! settled deliveries into the fewest broker calls, and what is remembered where a channel was lost. All of it is
//! pure.

mod adoption;
mod copies;
mod identity;
mod ledger;
mod pace;
mod table;
#[cfg(test)]
mod testing;
mod unproven;

pub(crate) use adoption::{Adoption, Remembered};
pub(crate) use copies::{Arrival, Copies};
pub use identity::Identity;
pub(crate) use ledger::Call;
pub use ledger::{Ledger, Settlement};
pub(crate) use pace::{Backlog, Pace};
pub use table::{Case, decide};
pub(crate) use table::{Decision, Way};
pub(crate) use unproven::Unproven;
