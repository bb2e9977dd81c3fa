//! The pipes between this process and a child.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::sync::Arc;

use rustix::io::{fcntl_dupfd_cloexec, ioctl_fionbio};
use rustix::pipe::{PipeFlags, pipe_with};

/// The lowest number that a descriptor of a pipe has here. A child's own descriptors are below it, so placing
/// one of them never overwrites another. And when this process was started without stdin, stdout or stderr, no
/// pipe takes their place, to which something may print.
const LOWEST: RawFd = 10;

/// Both ends of a pipe: `ours` does not block, `theirs` is for the child.
pub(crate) struct Pipe {
    /// Our end.
    pub(crate) ours: OwnedFd,
    /// The child's end. A stream ends when all of its copies are gone, this one included.
    pub(crate) theirs: Arc<OwnedFd>,
}

/// A descriptor of this process, and the number that it has in a child.
pub(crate) type Inherited = (Arc<OwnedFd>, RawFd);

/// A pipe that the child reads from.
///
/// # Errors
/// The system has no descriptor or no memory for it.
pub(crate) fn input() -> io::Result<Pipe> {
    let (reader, writer) = both_ends()?;
    ioctl_fionbio(&writer, true)?;
    Ok(Pipe {
        ours: writer,
        theirs: Arc::new(reader),
    })
}

/// A pipe that the child writes to.
///
/// # Errors
/// As [`input`].
pub(crate) fn output() -> io::Result<Pipe> {
    let (reader, writer) = both_ends()?;
    ioctl_fionbio(&reader, true)?;
    Ok(Pipe {
        ours: reader,
        theirs: Arc::new(writer),
    })
}

fn both_ends() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((above_lowest(reader)?, above_lowest(writer)?))
}

fn above_lowest(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    if descriptor.as_raw_fd() >= LOWEST {
        return Ok(descriptor);
    }
    Ok(fcntl_dupfd_cloexec(&descriptor, LOWEST)?)
}
