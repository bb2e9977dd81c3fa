//! A broker of a test's own, for what would disturb others: ending it, alarms.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::keeper::{self, Lock};
use super::{Control, START_LIMIT, Server, container, private};
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually_within, expect_that, stretched};

/// How many may run at a time, over all test processes.
const AT_A_TIME: usize = 2;
/// How long a test may wait for its turn.
const TURN_LIMIT: Duration = Duration::from_secs(600);
/// Seconds that a broker outlives its test: the engine may still be making the container of a test that was
/// killed, and what is not there yet cannot be removed.
const QUIET: u32 = 5;
/// Seconds that the broker has for its own orderly stop.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A broker of a test's own. It is removed when this is dropped, or the process ends.
pub(crate) struct DedicatedBroker {
    server: Server,
    /// Let go of when this is dropped: then the keeper removes the broker.
    _using: Lock,
    _turn: Lock,
}

impl DedicatedBroker {
    /// Starts it, in its turn.
    pub(crate) async fn start() -> Self {
        let directory = keeper::directory();
        let what = "it is this test's turn to have a broker of its own";
        let turn = eventually_within(stretched(TURN_LIMIT), what, async || {
            (0..AT_A_TIME)
                .find_map(|turn| Lock::try_exclusive(&directory.join(format!("turn-{turn}.lock"))))
                .ok_or_else(|| format!("{AT_A_TIME} others have one"))
        })
        .await;
        let name = super::broker_name();
        let lock = directory.join(format!("{name}.lock"));
        std::fs::write(&lock, &name).expect("target/ can be written");
        let using = Lock::exclusive(&lock).await;
        let broker = Self {
            server: super::start(&name, &lock, QUIET, &lock, true).await,
            _using: using,
            _turn: turn,
        };
        broker.answers().await;
        broker
    }

    /// The running server.
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// A virtual host on it.
    pub(crate) async fn vhost(&self) -> Vhost {
        Vhost::create(&self.server).await
    }

    /// Stops it in order; connections are closed with 320.
    pub(crate) async fn stop(&self) {
        let stopped = match &self.server.control {
            Control::Container { name } => {
                let seconds = STOP_LIMIT.as_secs().to_string();
                let arguments = ["stop", "--time", &seconds, name];
                container::docker(&arguments, stretched(STOP_LIMIT * 2)).await
            }
            Control::Private { directory, .. } => private::stop(directory).await,
            Control::Given => unreachable!("a dedicated broker was started here"),
        };
        stopped.unwrap_or_else(|error| panic!("the broker does not stop: {error}"));
    }

    /// Ends it at once (SIGKILL), and waits until it is gone.
    ///
    /// Before that the names of its quorum queues are brought to disk, which the broker itself does only
    /// after half a second: killed earlier it starts a queue that it has just made anew, and empty, whatever it
    /// had confirmed (seen with 4.3.6). That is not what tests of a worker are about.
    pub(crate) async fn kill(&self) {
        let names = ["eval", "[dets:sync(Table) || Table <- dets:all()]."];
        let synced = self.server.rabbitmqctl(&names).await;
        synced.unwrap_or_else(|error| panic!("the broker's tables are not synced: {error}"));
        match &self.server.control {
            Control::Container { name } => {
                let killed = container::docker(&["kill", name], stretched(STOP_LIMIT)).await;
                killed.unwrap_or_else(|error| panic!("the broker is not killed: {error}"));
            }
            Control::Private { pid, .. } => {
                kill(Pid::from_raw(*pid), Signal::SIGKILL).expect("the broker was running");
            }
            Control::Given => unreachable!("a dedicated broker was started here"),
        }
        eventually_within(stretched(STOP_LIMIT), "the broker is gone", async || {
            let host = self.server.amqp.host_str().unwrap_or_default();
            let port = self.server.amqp.port().unwrap_or_default();
            let connected = tokio::net::TcpStream::connect((host, port)).await;
            expect_that(connected.is_err(), || "it takes connections".to_owned())
        })
        .await;
    }

    /// Starts it again after [`stop`](Self::stop) or [`kill`](Self::kill): same ports, same data.
    pub(crate) async fn start_again(&mut self) {
        match &self.server.control {
            Control::Container { name } => {
                let started = container::docker(&["start", name], stretched(STOP_LIMIT)).await;
                started.unwrap_or_else(|error| panic!("the broker does not start again: {error}"));
            }
            Control::Private { directory, .. } => {
                let started = private::start(directory).await;
                self.server = started
                    .unwrap_or_else(|error| panic!("the broker does not start again: {error}"));
            }
            Control::Given => unreachable!("a dedicated broker was started here"),
        }
        self.answers().await;
    }

    /// Raises the memory alarm (the broker stops reading from connections that publish), or ends it; waits
    /// until the broker says so.
    pub(crate) async fn set_memory_alarm(&self, alarm: bool) {
        // A limit of next to nothing is above its use at any time.
        let limit = if alarm { "0.0000001" } else { "0.6" };
        let arguments = ["set_vm_memory_high_watermark", limit];
        let set = self.server.rabbitmqctl(&arguments).await;
        set.unwrap_or_else(|error| panic!("the memory limit cannot be set: {error}"));
        let what = format!("the memory alarm is {alarm}");
        let management = self.server.management();
        eventually_within(stretched(STOP_LIMIT), what, async || {
            let status = management.status("/api/health/checks/alarms").await?;
            expect_that((status != 200) == alarm, || {
                format!("the alarm check says {status}")
            })
        })
        .await;
    }

    /// Lets it take bodies of at most `bytes` (`max_message_size`), as a broker does that came after an older one.
    pub(crate) async fn limit_bodies(&self, bytes: usize) {
        // RabbitMQ 4 has it in the second place, for speed.
        let set = format!(
            "application:set_env(rabbit, max_message_size, {bytes}), persistent_term:put(max_message_size, {bytes})."
        );
        let set = self.server.rabbitmqctl(&["eval", &set]).await;
        set.unwrap_or_else(|error| panic!("the limit cannot be set: {error}"));
    }

    async fn answers(&self) {
        let limit = stretched(START_LIMIT);
        eventually_within(limit, "the broker answers", async || {
            self.server.answers().await
        })
        .await;
    }
}
