//! Starts a process: the one place of this project with `unsafe` code.
//!
//! The child shares this process's memory until it runs its program (`CLONE_VM`, `CLONE_VFORK`), as in the C
//! library's `posix_spawn`: nothing is copied, so a start costs the same however large the worker is. The
//! calling thread stands still meanwhile. `posix_spawn` itself cannot set the death signal.
#![expect(
    unsafe_code,
    reason = "the standard library cannot set the death signal without copying the whole process"
)]

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::{SigSet, SigmaskHow};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::keeper;
use super::limit;
use super::pipe::Inherited;
use super::program::{Program, Variables};

/// The child's stack, in bytes: it makes a few system calls and calls nothing deep.
const STACK_SIZE: usize = 64 * 1024;

/// Highest number of a signal on Linux.
const SIGNALS: c_int = 64;

/// Size of the kernel's set of signals, in bytes.
const SIGNAL_SET_SIZE: usize = 8;

thread_local! {
    /// The stack of this thread's children until they run their programs, one after the other.
    static STACK: RefCell<Stack> = RefCell::new(Stack::new());
}

struct Stack(Vec<u128>);

impl Stack {
    fn new() -> Self {
        Self(vec![0; STACK_SIZE / size_of::<u128>()])
    }

    /// Its upper end: stacks grow downwards on every platform that Linux runs on today.
    fn top(&mut self) -> *mut c_void {
        self.0.as_mut_ptr_range().end.cast()
    }
}

/// A child that runs its program.
pub(super) struct Started {
    /// Its process id, which is that of its process group, too.
    pub(super) pid: i32,
    /// Becomes readable when the child ends; `None` on kernels before 5.2.
    pub(super) pidfd: Option<OwnedFd>,
}

/// All that the child needs, prepared before it exists: it must not allocate.
struct Plan<'a> {
    files: &'a [*const c_char],
    arguments: *const *const c_char,
    environment: *const *const c_char,
    /// Null for the directory of this process.
    directory: *const c_char,
    /// Which descriptor becomes which; no number is on both sides.
    descriptors: &'a [(RawFd, RawFd)],
    descriptor_limit: Option<libc::rlimit64>,
    parent: libc::pid_t,
    /// The error that kept the child from running its program.
    error: AtomicI32,
}

/// Starts `program` in a process group of its own with the descriptors that it inherits.
/// It begins with every signal at its default and none blocked, and it is killed when this thread ends.
///
/// # Errors
/// The system refuses a process, or none of the program's files can be run.
pub(super) fn start(
    program: &Program,
    variables: &Variables,
    inherited: &[Inherited],
) -> io::Result<Started> {
    let pointers = |strings: &mut dyn Iterator<Item = &CStr>| {
        let end = std::iter::once(ptr::null());
        strings.map(CStr::as_ptr).chain(end).collect::<Vec<_>>()
    };
    let arguments = pointers(&mut program.arguments.iter().map(AsRef::as_ref));
    let variables = program.environment(variables).map(AsRef::as_ref);
    let environment = pointers(&mut variables.chain([keeper::mark()]));
    let files: Vec<_> = program.files.iter().map(|file| file.as_ptr()).collect();
    let descriptors: Vec<_> = inherited
        .iter()
        .map(|(ours, theirs)| (ours.as_raw_fd(), *theirs))
        .collect();
    let plan = Plan {
        files: &files,
        arguments: arguments.as_ptr(),
        environment: environment.as_ptr(),
        directory: program
            .directory
            .as_ref()
            .map_or(ptr::null(), |path| path.as_ptr()),
        descriptors: &descriptors,
        descriptor_limit: limit::inherited(),
        parent: rustix::process::getpid().as_raw_nonzero().get(),
        error: AtomicI32::new(0),
    };
    let (pid, pidfd) = clone(&plan)?;
    // SAFETY: a number that is not negative is a descriptor that the kernel opened for this call alone.
    let pidfd = (pidfd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) });
    match plan.error.load(Ordering::Acquire) {
        0 => Ok(Started { pid, pidfd }),
        error => {
            reap(pid);
            Err(io::Error::from_raw_os_error(error))
        }
    }
}

/// Makes the child and waits until it has run its program or has exited; gives its id and its descriptor, -1 if there is
/// none.
///
/// Every signal is blocked meanwhile, so that no handler of this process runs in the child.
fn clone(plan: &Plan<'_>) -> io::Result<(libc::pid_t, RawFd)> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let mut pidfd: RawFd = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let pid = STACK.with_borrow_mut(|stack| {
        // SAFETY: `child` runs on a stack of its own, and only it, because this thread has one such stack and stands
        // still until the child has run its program or has exited. So does this frame: all that `plan` points to outlives
        // the child's use of it. With CLONE_PIDFD the kernel writes a new descriptor to `pidfd`, or nothing.
        unsafe {
            libc::clone(
                child,
                stack.top(),
                flags,
                ptr::from_ref(plan).cast_mut().cast(),
                &raw mut pidfd,
            )
        }
    });
    let refused = (pid < 0).then(io::Error::last_os_error);
    before.thread_set_mask()?;
    refused.map_or(Ok((pid, pidfd)), Err)
}

/// Makes this process's children leave their exit status when they end: a process that inherited an ignored
/// SIGCHLD would lose it.
pub(super) fn keep_exit_statuses() {
    // SAFETY: all zero is a valid `sigaction`: SIG_DFL without flags. The calls read and write it alone, and no
    // handler is replaced.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGCHLD, ptr::null(), &raw mut action);
        if action.sa_sigaction == libc::SIG_IGN {
            action = std::mem::zeroed();
            libc::sigaction(libc::SIGCHLD, &raw const action, ptr::null_mut());
        }
    }
}

/// Watches a child's descriptor for the child's end.
///
/// # Errors
/// The system cannot watch another descriptor.
pub(super) fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` stays open and the same for as long as it lives.
    Ok(unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?)
}

/// Reaps a child that has exited.
fn reap(pid: libc::pid_t) {
    let pid = rustix::process::Pid::from_raw(pid);
    while let Err(rustix::io::Errno::INTR) =
        rustix::process::waitpid(pid, rustix::process::WaitOptions::empty())
    {}
}

/// The child: runs the program, or notes why it cannot, and exits.
extern "C" fn child(plan: *mut c_void) -> c_int {
    // SAFETY: `start` passes a pointer to its `Plan`, which lives until this process has gone.
    let plan = unsafe { &*plan.cast::<Plan<'_>>() };
    // SAFETY: this is the child.
    let error = unsafe { run(plan) };
    plan.error.store(error, Ordering::Release);
    // SAFETY: `_exit` runs no handlers and flushes nothing, which would be the parent's.
    unsafe { libc::_exit(127) }
}

/// Takes the steps from a copy of this process to the program; returns the error of the step that failed.
///
/// # Safety
/// Only for the child of `start`: memory is the parent's, so it calls the system and nothing that allocates,
/// locks or panics. Every pointer in `plan` is valid, and each list of pointers ends with null.
unsafe fn run(plan: &Plan<'_>) -> c_int {
    // SAFETY: system calls with numbers alone, and with pointers that live as long as `plan`.
    unsafe {
        if libc::setpgid(0, 0) != 0 || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
            return errno();
        }
        // The parent may have been killed before the death signal was set.
        if libc::getppid() != plan.parent {
            return libc::ESRCH;
        }
        reset_signals();
        for &(ours, theirs) in plan.descriptors {
            // The copy has no close-on-exec flag; the original has, and goes with the program's start.
            if libc::dup2(ours, theirs) < 0 {
                return errno();
            }
        }
        if !plan.directory.is_null() && libc::chdir(plan.directory) != 0 {
            return errno();
        }
        if let Some(limit) = &plan.descriptor_limit {
            // A system that refuses this has refused to raise it, too.
            libc::setrlimit64(libc::RLIMIT_NOFILE, limit);
        }
        let none = [0_u8; SIGNAL_SET_SIZE];
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            none.as_ptr(),
            ptr::null::<u8>(),
            SIGNAL_SET_SIZE,
        );
        execute(plan)
    }
}

/// Gives every signal its default action, and discards signals that are pending. Until the child led its own process group
/// it was in the parent's, so that a Ctrl-C may be waiting for it, and would kill it as soon as it is let through. An
/// ignored signal is discarded even if it is blocked (POSIX, `sigaction`).
///
/// The system call is made directly: the C library's function takes a lock, which another thread of the parent may hold,
/// and leaves two signals out.
///
/// # Safety
/// As [`run`].
unsafe fn reset_signals() {
    let mut pending = 0_u64;
    // SAFETY: the kernel writes its set of signals, of that size, and nothing else.
    unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut pending, SIGNAL_SET_SIZE) };
    for signal in 1..=SIGNALS {
        // SAFETY: as this function.
        unsafe {
            if pending >> (signal - 1) & 1 == 1 {
                set_action(signal, libc::SIG_IGN);
            }
            set_action(signal, libc::SIG_DFL);
        }
    }
}

/// # Safety
/// As [`run`]; `action` is `SIG_IGN` or `SIG_DFL`.
unsafe fn set_action(signal: c_int, action: libc::sighandler_t) {
    // The kernel's `sigaction` has at most 32 bytes here and begins with the action; no flags.
    let action = [action as u64, 0, 0, 0];
    // SAFETY: the kernel reads `action`, and writes nothing. SIGKILL and SIGSTOP are refused, and need it not.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            action.as_ptr(),
            ptr::null::<u64>(),
            SIGNAL_SET_SIZE,
        );
    }
}

/// Runs the first of the program's files that can be run. Returns only with an error: that a file may not be run
/// says more than that others are missing (POSIX, `execvp`).
///
/// # Safety
/// As [`run`].
unsafe fn execute(plan: &Plan<'_>) -> c_int {
    let mut error = libc::ENOENT;
    for &file in plan.files {
        // SAFETY: `file` is a C string, and the lists end with null.
        unsafe { libc::execve(file, plan.arguments, plan.environment) };
        match errno() {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => error = libc::EACCES,
            other => return other,
        }
    }
    error
}

/// The error of the last system call. The child has the variable of the parent's thread, which stands still.
fn errno() -> c_int {
    // SAFETY: the C library gives a pointer that is valid in this thread.
    unsafe { *libc::__errno_location() }
}
