//! Shortages of this process itself, told apart from faults of a program or a server.

use std::error::Error;
use std::io;

use rustix::io::Errno;

/// Errors that say that this process or its host lacks something: descriptors (`EMFILE`, `ENFILE`), memory
/// (`ENOMEM`, `ENOBUFS`), processes (`EAGAIN` from a fork), local ports (`EADDRNOTAVAIL`), a network
/// (`ENETDOWN`, `ENETUNREACH`); or that the program's file is being written just now (`ETXTBSY`).
const SHORTAGES: [Errno; 9] = [
    Errno::MFILE,
    Errno::NFILE,
    Errno::NOMEM,
    Errno::NOBUFS,
    Errno::AGAIN,
    Errno::ADDRNOTAVAIL,
    Errno::NETDOWN,
    Errno::NETUNREACH,
    Errno::TXTBSY,
];

/// How the C libraries' resolvers (glibc, musl) end when no name server answers (`EAI_AGAIN`). The standard
/// library passes on their words alone.
const NO_NAME_SERVER: [&str; 2] = ["Temporary failure in name resolution", "Try again"];

/// Whether `error` says what this process lacks, so that the same attempt may succeed later.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    if let Some(code) = error.raw_os_error() {
        SHORTAGES.iter().any(|known| known.raw_os_error() == code)
    } else {
        let text = error.to_string();
        NO_NAME_SERVER.iter().any(|end| text.ends_with(end))
    }
}

/// Whether `error` or one of its causes is a shortage.
pub(crate) fn chain_has_shortage(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<io::Error>().is_some_and(is_shortage) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot connect")]
    struct Outer(#[source] io::Error);

    #[test]
    fn a_shortage_is_told_from_a_fault_of_the_program_or_the_server() {
        for lacking in SHORTAGES {
            let error = io::Error::from_raw_os_error(lacking.raw_os_error());
            assert!(is_shortage(&error), "{error}");
            assert!(chain_has_shortage(&Outer(error)));
        }
        let unresolved =
            |end| io::Error::other(format!("failed to lookup address information: {end}"));
        assert!(is_shortage(&unresolved(
            "Temporary failure in name resolution"
        )));
        assert!(!is_shortage(&unresolved("Name or service not known")));
        for fault in [
            Errno::NOENT,
            Errno::ACCESS,
            Errno::CONNREFUSED,
            Errno::CONNRESET,
            Errno::HOSTUNREACH,
            Errno::TIMEDOUT,
            Errno::NOEXEC,
        ] {
            let error = io::Error::from_raw_os_error(fault.raw_os_error());
            assert!(!is_shortage(&error), "{error}");
            assert!(!chain_has_shortage(&Outer(error)));
        }
    }
}
