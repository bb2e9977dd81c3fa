//! A configuration that cannot be read at once: a pipe that nobody writes to stands for a mount that hangs.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;
use tokio::process::Command;

use crate::harness::gate::Gate;
use crate::harness::vhost::Vhost;
use crate::harness::wait::eventually;
use crate::harness::worker::{Worker, WorkerConfig};

const READ_AGAIN: &str = "the configuration was read again";

/// The pipe, opened for writing: somebody reads it, and waits until this is written to or dropped.
async fn writer(pipe: &Path) -> File {
    eventually("somebody reads the pipe", async || {
        let mut options = File::options();
        // Without a reader this fails instead of waiting for one.
        options
            .write(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(pipe)
            .map_err(|error| error.to_string())
    })
    .await
}

fn write(mut pipe: File, config: &WorkerConfig) {
    pipe.write_all(config.toml().as_bytes()).unwrap();
}

/// Starts the program with the command `word` and a pipe for a configuration.
fn started(word: &str, directory: &TempDir) -> Worker {
    let pipe = directory.path().join("worker.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command
        .args(["--log-format", "json", word, "-c"])
        .arg(&pipe);
    if !pipe.exists() {
        mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    }
    Worker::run(command)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_does_not_wait_for_a_configuration_that_is_being_read() {
    let vhost = Vhost::with_queue("orders", "classic").await;
    let gate = Gate::closed().await;
    let config = WorkerConfig::for_orders(vhost.url(), &gate, "");
    let mut worker = Worker::ready(&config).await;
    vhost.publish("orders", 1).await;
    gate.started(1).await;
    let pipe = worker.put_pipe();
    worker.signal(Signal::SIGHUP);
    let reading = writer(&pipe).await;
    worker.terminate();
    worker.logged("drain begins").await;
    gate.release_all();
    worker.ended_with(0).await;
    drop(reading);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_while_the_configuration_is_read_has_it_read_once_more() {
    let vhost = Vhost::with_queue("orders", "classic").await;
    vhost.declare("bills", "classic").await;
    let gate = Gate::open().await;
    let config = WorkerConfig::for_orders(vhost.url(), &gate, "");
    let both = config.clone().http_node("bills", &gate.url(), "");
    let mut worker = Worker::ready(&config).await;
    let pipe = worker.put_pipe();
    worker.signal(Signal::SIGHUP);
    let first = writer(&pipe).await;
    worker.signal(Signal::SIGHUP);
    worker.signal(Signal::SIGHUP);
    write(first, &config);
    worker.logged_times(READ_AGAIN, 1).await;
    write(writer(&pipe).await, &both);
    worker.logged_times(READ_AGAIN, 2).await;
    vhost.until_consumers("bills", 1).await;
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_a_program_that_waits_for_its_configuration() {
    for (word, signals) in [
        (
            "worker",
            &[Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT][..],
        ),
        ("fleet", &[Signal::SIGTERM, Signal::SIGINT]),
    ] {
        for signal in signals {
            let directory = TempDir::new().unwrap();
            let mut program = started(word, &directory);
            let _reading = writer(&directory.path().join("worker.toml")).await;
            program.signal(*signal);
            assert_eq!(program.ended().await.code, Some(0), "{word}: {signal}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_reads_its_configuration_once_so_that_a_pipe_will_do() {
    let vhost = Vhost::with_queue("orders", "classic").await;
    let gate = Gate::open().await;
    let directory = TempDir::new().unwrap();
    let mut worker = started("worker", &directory);
    let pipe = writer(&directory.path().join("worker.toml")).await;
    write(pipe, &WorkerConfig::for_orders(vhost.url(), &gate, ""));
    worker.until_ready().await;
    worker.drained().await;
}
