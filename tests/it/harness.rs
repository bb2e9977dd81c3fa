//! What the tests stand on: a real broker, the real program, and a test's hands on both.

pub mod broker;
pub mod commander;
pub mod events;
pub mod fleet;
pub mod gate;
pub mod management;
pub mod proxy;
pub mod puppet;
pub mod run;
pub mod status;
pub mod user;
pub mod vhost;
pub mod wait;
pub mod work;
pub mod worker;
