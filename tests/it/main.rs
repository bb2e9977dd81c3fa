//! Tests of the whole: the real program against a real broker, each test in a virtual host of its own.

mod dedicated;
mod harness;
mod proxy;
mod queues;
mod smoke;
