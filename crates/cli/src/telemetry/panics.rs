//! Panics go to the log. The standard library's own hook writes to standard error itself: that blocks the thread that
//! panicked if nobody reads there.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{PanicHookInfo, set_hook};

use tracing::error;

/// Has every panic logged from now on. `RUST_BACKTRACE=1` adds the backtrace.
pub(super) fn log_them() {
    set_hook(Box::new(log));
}

fn log(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("a value that is no text");
    let location = panic.location().map(ToString::to_string);
    let location = location.as_deref().unwrap_or("an unknown place");
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("without a name");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        error!(panic = message, location, thread, %backtrace, "the program panicked");
    } else {
        error!(panic = message, location, thread, "the program panicked");
    }
}
