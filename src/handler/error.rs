//! Why a handler cannot be built from its settings.

use std::path::PathBuf;

/// A handler cannot be built from its settings. Everything here is for the operator to repair; no message
/// names the value of a header or variable, or the user in a URL, since each may be a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandlerError {
    /// The file that `ca` names cannot be read as PEM certificates.
    #[error("handler http: ca {}: {cause}", .path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// The fault.
        cause: String,
    },
    /// The URL is `https`, yet there is no authority to trust: neither the system nor `ca` names one.
    #[error(
        "handler http: no certificate authority to trust: the system has none (is ca-certificates installed?) and `ca` is not set"
    )]
    NoAuthorities,
    /// The URL is not one that can be posted to.
    #[error("handler http: url: {0}")]
    Url(&'static str),
    /// A configured header cannot be sent.
    #[error("handler http: header `{name}`: {rule}")]
    Header {
        /// The header's name.
        name: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// TLS cannot be set up.
    #[error("handler http: TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// `command` names no program.
    #[error("handler {handler}: command: must begin with a program")]
    NoProgram {
        /// The handler's kind.
        handler: &'static str,
    },
    /// `command` or `env` contains something that no program can be given.
    #[error("handler {handler}: {what}: {rule}")]
    Command {
        /// The handler's kind.
        handler: &'static str,
        /// Which argument or variable.
        what: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
}
