//! The log is never in the way: whatever becomes of its reader, the worker works, is ready, and drains.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::process::Stdio;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::harness::gate::Gate;
use crate::harness::status::StatusTap;
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that, limit, within};
use crate::harness::worker::WorkerConfig;

/// Messages whose first run fails, which is logged.
const NOISY: usize = 20;

/// Where a worker's standard output and standard error go.
enum Log {
    /// Both into one pipe that is full, and that nobody reads.
    Stalled,
    /// Both into one pipe whose reader goes once the worker is ready.
    ReaderGoes,
    /// Both are closed before the worker starts.
    Closed,
    /// Both go to a disk that is full.
    DiskFull,
}

/// A worker whose log the test does not read.
struct Unheard {
    child: Child,
    port: u16,
    /// What keeps the pipe open.
    reader: Option<std::io::PipeReader>,
    _directory: TempDir,
}

/// A pipe without any room left.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let flags = OFlag::from_bits_truncate(fcntl(writer.as_fd(), FcntlArg::F_GETFL).unwrap());
    let set = |flags| fcntl(writer.as_fd(), FcntlArg::F_SETFL(flags)).unwrap();
    set(flags | OFlag::O_NONBLOCK);
    let mut filler = writer.try_clone().unwrap();
    while filler.write(&[b'.'; 512]).is_ok() {}
    while filler.write(b".").is_ok() {}
    set(flags);
    writer.flush().unwrap();
    (reader, writer)
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl Unheard {
    fn start(config: &WorkerConfig, log: &Log) -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("worker.toml");
        let port = free_port();
        let toml = config.toml();
        let fixed = toml.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
        std::fs::write(&file, fixed).unwrap();
        let program = env!("CARGO_BIN_EXE_tidegate");
        let mut command = if matches!(log, Log::Closed) {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", "exec \"$0\" worker -c \"$1\" >&- 2>&- <&-", program]);
            shell
        } else {
            let mut command = Command::new(program);
            command.args(["worker", "-c"]);
            command
        };
        command.arg(&file).env_remove("TIDEGATE_LOG");
        let mut reader = None;
        match log {
            Log::Stalled | Log::ReaderGoes => {
                let (read, write) = match log {
                    Log::Stalled => full_pipe(),
                    _ => std::io::pipe().unwrap(),
                };
                command.stdout(write.try_clone().unwrap()).stderr(write);
                reader = Some(read);
            }
            Log::DiskFull => {
                let full = || File::options().write(true).open("/dev/full").unwrap();
                command.stdout(full()).stderr(full());
            }
            Log::Closed => {}
        }
        let child = command
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            child,
            port,
            reader,
            _directory: directory,
        }
    }

    async fn get(&self, path: &str) -> Result<(u16, String), String> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(limit())
            .build()
            .unwrap();
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let response = client.get(&url).send().await;
        let response = response.map_err(|error| format!("{url}: {error}"))?;
        let status = response.status().as_u16();
        let body = response.text().await.map_err(|error| error.to_string())?;
        Ok((status, body))
    }

    async fn until_ready(&self) {
        eventually("the worker is ready", async || {
            let (status, body) = self.get("/readyz").await?;
            expect_that(status == 200, || format!("{status} {body}"))
        })
        .await;
    }

    /// Lines that the worker counts as lost.
    async fn lost_lines(&self) -> u64 {
        let (_, text) = self.get("/metrics").await.unwrap();
        let line = text.lines().find_map(|line| {
            let value = line.strip_prefix("tidegate_log_lines_lost_total ")?;
            value.parse().ok()
        });
        line.unwrap_or_else(|| panic!("the metric is missing in {text}"))
    }

    async fn terminated(mut self) -> Option<i32> {
        let pid = self.child.id().unwrap();
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM).unwrap();
        within("the worker to end", self.child.wait())
            .await
            .unwrap()
            .code()
    }
}

/// A worker with such a log works, says that it is ready, and drains cleanly with deliveries in flight.
async fn works_and_drains(log: Log) -> u64 {
    let vhost = Vhost::new().await;
    let tap = StatusTap::start(&vhost).await;
    let gate = Gate::open().await;
    gate.answer(|request| {
        if request.id.starts_with("noisy") && request.attempt == 1 {
            503
        } else {
            200
        }
    });
    let node = "concurrency = 4\nretry = { max_attempts = 2, min = \"1s\", max = \"1s\" }";
    let config =
        WorkerConfig::new(vhost.url()).declaring_node("orders", "classic", &gate.url(), node);
    let mut worker = Unheard::start(&config, &log);
    worker.until_ready().await;
    if matches!(log, Log::ReaderGoes) {
        worker.reader = None;
    }
    let noisy = (0..NOISY).map(|number| {
        let id = format!("noisy-{number}");
        let properties = lapin::BasicProperties::default().with_message_id(id.into());
        (properties, Vec::new())
    });
    vhost.publish_messages("orders", noisy).await;
    gate.finished(2 * NOISY).await;
    worker.until_ready().await;
    let lost = worker.lost_lines().await;
    assert_eq!(worker.terminated().await, Some(0));
    let report = tap.drain().await;
    assert_eq!(report.json["outcome"], "clean", "{}", report.json);
    assert_eq!(vhost.ready("orders").await, 0);
    lost
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_reader_that_stalls_stops_nothing() {
    works_and_drains(Log::Stalled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_reader_that_goes_costs_lines_which_are_counted() {
    let lost = works_and_drains(Log::ReaderGoes).await;
    assert!(lost > 0, "{lost} lines lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_closed_from_the_start_stop_nothing() {
    works_and_drains(Log::Closed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_log_costs_lines_which_are_counted() {
    let lost = works_and_drains(Log::DiskFull).await;
    assert!(lost > 0, "{lost} lines lost");
}
