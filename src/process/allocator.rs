//! Has glibc give the buffers of lost connections back to the system.
//!
//! The client library has 8 MiB of buffers for a connection. glibc maps the first of them for themselves. Once such a buffer is
//! freed, glibc raises its threshold (`M_MMAP_THRESHOLD`, mallopt(3)) and takes the next ones from its heap, where they stay:
//! a worker kept 20 MB more after its first lost connection. A threshold from the environment stays as it is. glibc
//! reads the environment only when a program begins.

use std::ffi::{OsStr, OsString};

/// glibc's variable, and our value for it in bytes.
const THRESHOLD: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "1000000");

/// Begins the program anew in this process, with a threshold in its environment, unless it has one. Returns if there is
/// nothing to do, or if the program cannot be executed again. To be called before anything else is done.
pub fn fix_allocator() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os(THRESHOLD.0).is_none()
        && let Ok(program) = std::env::current_exe()
    {
        use std::os::unix::process::CommandExt as _;

        let mut arguments = std::env::args_os();
        let mut command = std::process::Command::new(program);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        command.args(arguments).env(THRESHOLD.0, THRESHOLD.1);
        // It returns only if it has failed, and then all is as it was.
        let _failure = command.exec();
    }
}

/// Whether a variable is the threshold that is meant for this program alone.
pub(crate) fn is_own_threshold((name, value): &(OsString, OsString)) -> bool {
    name == OsStr::new(THRESHOLD.0) && value == OsStr::new(THRESHOLD.1)
}
