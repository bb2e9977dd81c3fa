//! The OpenCTI worker's parts against a stand-in of the platform.

mod children;
mod differential;
mod graphql;
mod handler;
mod setup;
