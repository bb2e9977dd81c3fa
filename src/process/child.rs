//! A child process, and the process group that it leads.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, waitid, waitpid,
};
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{self, SignalKind};

use super::orphans;
use super::start::{self, Started};
use super::starter::Starter;

/// A child and its group. Dropped before it was awaited to its end, it is killed with its group and reaped.
pub(crate) struct Child {
    pid: Pid,
    exit: Option<Exit>,
    /// Keeps the thread alive that started the child.
    starter: Starter,
}

/// The sign that a child has ended.
enum Exit {
    /// Its own descriptor, which becomes readable.
    Descriptor(AsyncFd<OwnedFd>),
    /// SIGCHLD, which tells that some child has: for kernels before 5.2.
    AnyChild(unix::Signal),
}

impl Child {
    pub(super) fn new(started: Started, starter: Starter) -> io::Result<Self> {
        let pid = pid(&started);
        let exit = match started.pidfd {
            Some(descriptor) => start::watch(descriptor).map(Exit::Descriptor),
            None => unix::signal(SignalKind::child()).map(Exit::AnyChild),
        };
        match exit {
            Ok(exit) => {
                orphans::started(pid);
                Ok(Self {
                    pid,
                    exit: Some(exit),
                    starter,
                })
            }
            Err(error) => {
                kill_and_reap(pid);
                Err(error)
            }
        }
    }

    /// The process id, which is that of the group, too.
    pub(crate) fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Waits until the child ends, and does not reap it: its group may still be killed. Cancel safe.
    pub(crate) async fn ended(&mut self) {
        if let Some(exit) = &mut self.exit {
            exit.reached(self.pid).await;
        }
    }

    /// Kills the group, unless the child has been reaped.
    pub(crate) fn kill(&self) {
        if self.exit.is_some() {
            kill_group(self.pid);
        }
    }

    /// Waits until the child ends, and reaps it; what is left of its group is not touched. Cancel safe.
    ///
    /// # Errors
    /// The child was reaped by somebody else.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let exit = self.exit.as_mut().expect("a child is awaited once");
        let status = exit.status(self.pid).await;
        self.exit = None;
        status
    }
}

impl Exit {
    async fn status(&mut self, pid: Pid) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = reap(pid, WaitOptions::NOHANG)? {
                orphans::reaped(pid);
                return Ok(status);
            }
            self.changed().await?;
        }
    }

    async fn reached(&mut self, pid: Pid) {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // An error says that there is no such child any more.
        while let Ok(None) | Err(Errno::INTR) = waitid(WaitId::Pid(pid), look) {
            if self.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits for a sign that the child may have ended.
    async fn changed(&mut self) -> io::Result<()> {
        match self {
            Self::Descriptor(descriptor) => descriptor.readable().await?.clear_ready(),
            Self::AnyChild(signal) => {
                signal.recv().await;
            }
        }
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // A reaped child's number may belong to a stranger by now: never signal it.
        let Some(mut exit) = self.exit.take() else {
            return;
        };
        kill_group(self.pid);
        // Nothing survives SIGKILL for long, so this ends soon. Without a runtime this process is about to end
        // itself, and the system reaps.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let pid = self.pid;
            let starter = self.starter.clone();
            runtime.spawn(async move {
                let _ = exit.status(pid).await;
                drop(starter);
            });
        }
    }
}

/// Kills and reaps a child that nobody takes.
pub(super) fn end_now(started: &Started) {
    kill_and_reap(pid(started));
}

fn pid(started: &Started) -> Pid {
    Pid::from_raw(started.pid).expect("a child's process id is positive")
}

fn kill_and_reap(pid: Pid) {
    kill_group(pid);
    if let Err(error) = reap(pid, WaitOptions::empty()) {
        tracing::debug!(%error, "a child was reaped by somebody else");
    }
}

fn kill_group(pid: Pid) {
    match kill_process_group(pid, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => tracing::warn!(%error, "the process group of a child cannot be killed"),
    }
}

fn reap(pid: Pid, options: WaitOptions) -> io::Result<Option<ExitStatus>> {
    loop {
        match waitpid(Some(pid), options) {
            Ok(ended) => return Ok(ended.map(|(_, status)| ExitStatus::from_raw(status.as_raw()))),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
