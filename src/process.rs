//! Child processes: how they are started, awaited and ended, whatever state this process is in.
//!
//! - A child never sees a signal between its start and its own process group, inherits no ignored or blocked
//!   signal, and is killed by the kernel when this process dies (`PR_SET_PDEATHSIG`). What it has started itself is
//!   killed then by a keeper beside this process.
//! - That death signal belongs to the *thread* that started the child. So each [`Starter`] has a thread that
//!   outlives its children.
//! - A child that cannot be started because this process lacks something (descriptors, memory, processes) is
//!   told apart from a program that is wrong: [`is_shortage`].

mod allocator;
mod child;
mod keeper;
mod limit;
mod orphans;
mod pipe;
mod program;
mod shortage;
mod signals;
mod start;
mod starter;

pub use allocator::fix_allocator;
pub(crate) use allocator::is_own_threshold;
pub(crate) use child::Child;
pub use limit::{DescriptorLimit, raise_descriptor_limit};
pub use orphans::reap_orphans;
pub(crate) use pipe::{input, output};
pub(crate) use program::{Program, Variables};
pub(crate) use shortage::{chain_has_shortage, is_shortage};
pub use signals::{hold_signals, let_signals_through};
pub(crate) use starter::Starter;
