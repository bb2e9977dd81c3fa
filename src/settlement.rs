//! What the broker is told about each delivery: the table from outcome to settlement, and the [`Ledger`]
//! that turns settled deliveries into the fewest broker calls.

mod ledger;
mod table;

pub use ledger::{Call, Ledger, LedgerError, Settlement};
pub use table::{Decision, attempt_of, decide};
