//! The real program as a process: started, signalled, listened to, waited for.

mod config;
mod output;

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use tempfile::TempDir;
use tokio::process::{Child, Command};

pub(crate) use config::WorkerConfig;
pub(crate) use output::{LogLine, Output};

use super::wait::{eventually, eventually_within, expect_that, limit};

/// A running `tidegate`. Killed when this is dropped; what it wrote is printed when the test fails.
pub(crate) struct Worker {
    child: Child,
    pid: Pid,
    log: Output,
    stdout: Output,
    exit: Option<ExitStatus>,
    directory: TempDir,
}

/// How a worker ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    /// Its exit code; nothing if a signal killed it.
    pub code: Option<i32>,
    /// When that was seen.
    pub at: Instant,
    /// The last `drain finished` line of its log, if there is one.
    pub report: Option<LogLine>,
}

impl Worker {
    /// Starts a worker with `config`, and waits until it is ready.
    pub(crate) async fn ready(config: &WorkerConfig) -> Self {
        let worker = Self::spawn(config);
        worker.until_ready().await;
        worker
    }

    /// Starts a worker with `config`, and waits until it is ready and listens for commands.
    pub(crate) async fn listening(config: &WorkerConfig) -> Self {
        let worker = Self::ready(config).await;
        worker.until_listening().await;
        worker
    }

    /// Starts a worker with `config`.
    pub(crate) fn spawn(config: &WorkerConfig) -> Self {
        Self::spawn_toml(&config.toml(), &[])
    }

    /// Starts a worker with the configuration `toml`, and `variables` in its environment.
    pub(crate) fn spawn_toml(toml: &str, variables: &[(&str, &str)]) -> Self {
        Self::spawn_program("worker", toml, variables)
    }

    /// Starts `tidegate` with the command `word`, which takes a configuration, as [`spawn_toml`](Self::spawn_toml).
    pub(crate) fn spawn_program(word: &str, toml: &str, variables: &[(&str, &str)]) -> Self {
        let program = env!("CARGO_BIN_EXE_tidegate");
        Self::spawn_other(program.as_ref(), word, toml, variables)
    }

    /// Starts another build of `tidegate` as [`spawn_program`](Self::spawn_program) does.
    pub(crate) fn spawn_other(
        program: &Path,
        word: &str,
        toml: &str,
        variables: &[(&str, &str)],
    ) -> Self {
        let directory = TempDir::new().expect("the temporary directory can be written");
        let file = directory.path().join("worker.toml");
        std::fs::write(&file, toml).expect("the temporary directory can be written");
        let mut command = Command::new(program);
        command
            .args(["--log-format", "json", word, "--config"])
            .arg(&file)
            .envs(variables.iter().copied());
        Self::start(command, directory)
    }

    /// Runs another program that is a worker.
    pub(crate) fn run(command: Command) -> Self {
        let directory = TempDir::new().expect("the temporary directory can be written");
        Self::start(command, directory)
    }

    fn start(mut command: Command, directory: TempDir) -> Self {
        // The configuration is the file and what the test says, not what the caller's shell has.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("TIDEGATE__") || text.starts_with("TIDEGATE_LOG") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let pid = child.id().expect("it was not waited for");
        let (log, stdout) = (Output::default(), Output::default());
        let from_stderr = child.stderr.take().expect("it is piped");
        let from_stdout = child.stdout.take().expect("it is piped");
        tokio::spawn(log.clone().read(from_stderr));
        tokio::spawn(stdout.clone().read(from_stdout));
        Self {
            child,
            pid: Pid::from_raw(i32::try_from(pid).expect("process ids are small")),
            log,
            stdout,
            exit: None,
            directory,
        }
    }

    /// Writes another configuration into its file; SIGHUP has it read.
    pub(crate) fn rewrite(&self, config: &WorkerConfig) {
        let file = self.directory.path().join("worker.toml");
        std::fs::write(file, config.toml()).expect("the temporary directory can be written");
    }

    /// Puts a pipe in the place of its file, and returns where: whoever reads it waits for a writer.
    pub(crate) fn put_pipe(&self) -> PathBuf {
        let file = self.directory.path().join("worker.toml");
        std::fs::remove_file(&file).expect("the file is there");
        mkfifo(&file, Mode::S_IRUSR | Mode::S_IWUSR).expect("a pipe can be made");
        file
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Its standard error: the log.
    pub(crate) fn log(&self) -> &Output {
        &self.log
    }

    /// Its standard output.
    pub(crate) fn stdout(&self) -> &Output {
        &self.stdout
    }

    /// Waits for the first log line with `message`.
    pub(crate) async fn logged(&self, message: &str) -> LogLine {
        self.logged_where(message, |line| line.message() == message)
            .await
    }

    /// Waits for the first log line for which `wanted` holds.
    pub(crate) async fn logged_where(
        &self,
        what: &str,
        wanted: impl Fn(&LogLine) -> bool,
    ) -> LogLine {
        eventually(format_args!("the worker logs {what:?}"), async || {
            let found = self.log.log().into_iter().find(|line| wanted(line));
            found.ok_or_else(|| self.log.text())
        })
        .await
    }

    /// Waits until exactly `count` log lines have this message.
    pub(crate) async fn logged_times(&self, message: &str, count: usize) {
        let what = format_args!("the worker has logged {message:?} {count} times");
        eventually(what, async || {
            let found = self.log.count(message);
            expect_that(found == count, || format!("{found}"))
        })
        .await;
    }

    /// The URL of its HTTP server at `path`, once it listens.
    pub(crate) async fn url(&self, path: &str) -> String {
        let line = self.logged("http server is listening").await;
        format!("http://{}{path}", line.text("address"))
    }

    /// Status and body that its HTTP server answers at `path` with.
    pub(crate) async fn get(&self, path: &str) -> Result<(u16, String), String> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(limit())
            .build()
            .expect("an HTTP client can be made");
        let url = self.url(path).await;
        let response = client.get(&url).send().await;
        let response = response.map_err(|error| format!("{url}: {error}"))?;
        let status = response.status().as_u16();
        let body = response.text().await.map_err(|error| error.to_string())?;
        Ok((status, body))
    }

    /// Waits until `/readyz` says 200.
    pub(crate) async fn until_ready(&self) {
        self.until_readiness(200).await;
    }

    /// Waits until `/readyz` says `status`.
    pub(crate) async fn until_readiness(&self, status: u16) {
        eventually(format_args!("/readyz says {status}"), async || {
            let (found, body) = self.get("/readyz").await?;
            expect_that(found == status, || format!("{found} {body}"))
        })
        .await;
    }

    /// Waits until its metrics, or those of the fleet program, contain all of `lines`.
    pub(crate) async fn until_metrics(&self, lines: &[&str]) {
        eventually(format_args!("/metrics says {lines:?}"), async || {
            let (status, metrics) = self.get("/metrics").await?;
            let complete = status == 200 && lines.iter().all(|line| metrics.contains(line));
            expect_that(complete, || format!("{status} {metrics}"))
        })
        .await;
    }

    /// Waits until it listens for commands.
    pub(crate) async fn until_listening(&self) {
        self.logged("listening for commands").await;
    }

    /// Sends `signal`.
    ///
    /// # Panics
    /// Where its end has been awaited: its process id may be another's by now.
    pub(crate) fn signal(&self, signal: Signal) {
        assert!(self.exit.is_none(), "the worker has ended");
        kill(self.pid, signal).expect("the worker runs");
    }

    /// Sends SIGTERM: the drain begins.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Sends SIGKILL and waits for the end.
    pub(crate) async fn kill(&mut self) -> Ended {
        self.signal(Signal::SIGKILL);
        self.ended().await
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        if let Ok(Some(status)) = self.child.try_wait() {
            self.exit = Some(status);
        }
        self.exit.is_some()
    }

    /// Waits for its end, twice as long as for other things.
    pub(crate) async fn ended(&mut self) -> Ended {
        self.ended_within(limit() * 2).await
    }

    /// Waits for its end for at most `limit`.
    pub(crate) async fn ended_within(&mut self, limit: Duration) -> Ended {
        let waited = tokio::time::timeout(limit, self.child.wait()).await;
        let at = Instant::now();
        let status = waited
            .unwrap_or_else(|_elapsed| panic!("the worker has not ended after {limit:?}"))
            .expect("a child can be waited for");
        self.exit = Some(status);
        // A child of its own that outlives it may keep a stream open; that is for the test to find.
        eventually_within(limit, "its output is read", async || {
            let ended = self.log.has_ended() && self.stdout.has_ended();
            expect_that(ended, || "a stream is open".to_owned())
        })
        .await;
        let lines = self.log.log();
        let report = lines
            .into_iter()
            .rfind(|line| line.message() == "drain finished");
        Ended {
            code: status.code(),
            at,
            report,
        }
    }

    /// Waits for its end, expects this exit code, and gives the report of its drain.
    pub(crate) async fn ended_with(&mut self, code: i32) -> LogLine {
        let ended = self.ended().await;
        assert_eq!(ended.code, Some(code), "the worker's exit code");
        ended.report.expect("a drain ends with a report")
    }

    /// Sends SIGTERM, waits for the end, expects it to be in order, and gives the report of the drain.
    pub(crate) async fn drained(&mut self) -> LogLine {
        self.terminate();
        self.ended_with(0).await
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- the worker's log ({}):\n{}---",
                self.pid,
                self.log.text()
            );
            eprintln!("--- its output:\n{}---", self.stdout.text());
        }
        // The child is killed by its own drop.
    }
}
