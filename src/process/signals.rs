//! Signals that come before anybody listens.

use std::io;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};

/// The signals that a program which runs for long listens for, or does nothing at.
const LATER: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
];

/// Keeps signals waiting until [`let_signals_through`]. Without it one that comes while the program starts would end it,
/// or, as process 1 of a container, be lost. To be called before any thread is started; execve(2) keeps what it does.
///
/// # Errors
/// If the operating system refuses.
pub fn hold_signals() -> io::Result<()> {
    Ok(LATER.into_iter().collect::<SigSet>().thread_block()?)
}

/// Lets every signal through to this thread, whatever the process has inherited. Threads that it starts later inherit that.
///
/// # Errors
/// If the operating system refuses.
pub fn let_signals_through() -> io::Result<()> {
    Ok(sigprocmask(
        SigmaskHow::SIG_UNBLOCK,
        Some(&SigSet::all()),
        None,
    )?)
}
