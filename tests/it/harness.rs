//! What the tests stand on: a real broker, the real program, and a test's hands on both.

pub(crate) mod broker;
pub(crate) mod commander;
pub(crate) mod events;
pub(crate) mod fleet;
pub(crate) mod gate;
pub(crate) mod management;
pub(crate) mod proxy;
pub(crate) mod puppet;
pub(crate) mod raw;
pub(crate) mod run;
pub(crate) mod scene;
pub(crate) mod status;
pub(crate) mod user;
pub(crate) mod vhost;
pub(crate) mod wait;
pub(crate) mod work;
pub(crate) mod worker;
