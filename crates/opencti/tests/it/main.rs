//! The OpenCTI worker's parts against a stand-in of the platform.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says why it is skipped"
)]

mod children;
mod differential;
mod graphql;
mod handler;
mod setup;
