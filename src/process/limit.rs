//! The limit of descriptors that this process may open.

use std::io;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit that this process began with. Children get it back: programs that use `select` fail above 1,024
/// descriptors, and some close every descriptor up to the limit.
static INHERITED: OnceLock<Rlimit> = OnceLock::new();

/// The limit of open descriptors (`RLIMIT_NOFILE`) before and after it was raised; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// The soft limit that the process began with.
    pub before: Option<u64>,
    /// The soft limit now.
    pub now: Option<u64>,
}

/// Raises the soft limit of open descriptors to the hard one, for this process alone: the children that this
/// library starts get the old limit. Call it once, before handlers run.
///
/// # Errors
/// The system refuses it, as some sandboxes do; the limit is what it was.
pub fn raise_descriptor_limit() -> io::Result<DescriptorLimit> {
    let before = *INHERITED.get_or_init(|| getrlimit(Resource::Nofile));
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: before.maximum,
            maximum: before.maximum,
        },
    )?;
    Ok(DescriptorLimit {
        before: before.current,
        now: before.maximum,
    })
}

/// The limit to give to children; `None` when it was never raised.
pub(super) fn inherited() -> Option<libc::rlimit64> {
    let raw = |value: Option<u64>| value.unwrap_or(libc::RLIM64_INFINITY);
    INHERITED.get().map(|limit| libc::rlimit64 {
        rlim_cur: raw(limit.current),
        rlim_max: raw(limit.maximum),
    })
}
