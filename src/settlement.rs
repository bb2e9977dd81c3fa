//! What the broker is told about each delivery: the table from outcome to settlement, the [`Ledger`] that turns
//! settled deliveries into the fewest broker calls, and what is remembered where a channel was lost. All of it is
//! pure.

mod adoption;
mod attempt;
mod copies;
mod identity;
mod ledger;
mod pace;
mod table;
mod unproven;

pub use adoption::{Adoption, REMEMBERED_FOR, Remembered};
pub use attempt::attempt_of;
pub use copies::{Arrival, Copies};
pub use identity::Identity;
pub use ledger::{Call, Ledger, LedgerError, Settlement};
pub use pace::{Backlog, Pace};
pub use table::{Case, Decision, Way, decide};
pub use unproven::Unproven;
