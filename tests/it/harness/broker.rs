//! The broker that all tests share: found by `TIDEGATE_TEST_AMQP_URL`, else started in a container, else
//! started by `scripts/private-broker`, once for all test processes.

mod container;
mod dedicated;
mod keeper;
mod private;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tokio::sync::OnceCell;
use url::Url;

use super::management::Management;
use super::wait::{limit, stretched};
use keeper::Lock;

pub(crate) use dedicated::DedicatedBroker;

/// How long a broker may take to start on an ordinary machine.
const START_LIMIT: Duration = Duration::from_secs(180);
/// Seconds without any test process after which the shared broker is removed.
const QUIET: u32 = 20;

/// A running RabbitMQ.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Server {
    /// The default virtual host, with user and password.
    pub amqp: Url,
    /// The management plugin's HTTP API; the same user.
    pub management: Url,
    control: Control,
}

/// How the server is taken in hand.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Control {
    /// Not at all: somebody else runs it.
    Given,
    Container {
        name: String,
    },
    Private {
        directory: PathBuf,
        rabbitmqctl: PathBuf,
        pid: i32,
    },
}

impl Server {
    /// The broker that all tests share.
    ///
    /// # Panics
    /// Where there is none and none can be started.
    pub(crate) async fn shared() -> &'static Self {
        static SHARED: OnceCell<(Server, Option<Lock>)> = OnceCell::const_new();
        &SHARED.get_or_init(provide).await.0
    }

    /// Its HTTP API.
    pub(crate) fn management(&self) -> Management {
        Management::new(&self.management, &self.amqp)
    }

    /// Runs `rabbitmqctl`; its standard output.
    pub(crate) async fn rabbitmqctl(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = match &self.control {
            Control::Given => return Err("nothing is known of the broker but its URL".to_owned()),
            Control::Container { name } => {
                let mut command = Command::new("docker");
                command.args(["exec", name, "rabbitmqctl"]);
                command
            }
            Control::Private { rabbitmqctl, .. } => Command::new(rabbitmqctl),
        };
        command.args(arguments).stdin(Stdio::null());
        run(&mut command, stretched(Duration::from_secs(60))).await
    }

    /// Enables a plugin that comes with the broker.
    pub(crate) async fn enable(&self, plugin: &str) -> Result<(), String> {
        let mut command = match &self.control {
            Control::Given => return Err("nothing is known of the broker but its URL".to_owned()),
            Control::Container { name } => {
                let mut command = Command::new("docker");
                command.args(["exec", name, "rabbitmq-plugins", "enable", plugin]);
                command
            }
            Control::Private { rabbitmqctl, .. } => {
                // What `rabbitmq-plugins enable` lets the running node do.
                let ensure = format!(
                    "{{ok, F}} = application:get_env(rabbit, enabled_plugins_file), \
                     {{ok, [Old]}} = file:consult(F), \
                     ok = file:write_file(F, io_lib:format(\"~p.~n\", [[{plugin} | Old]])), \
                     rabbit_plugins:ensure(F)."
                );
                let mut command = Command::new(rabbitmqctl);
                command.args(["eval", &ensure]);
                command
            }
        };
        command.stdin(Stdio::null());
        run(&mut command, stretched(Duration::from_secs(60)))
            .await
            .map(drop)
    }

    /// Whether AMQP and HTTP answer now.
    async fn answers(&self) -> Result<(), String> {
        let looked = tokio::time::timeout(limit(), async {
            let connection = super::vhost::connect(&self.amqp, "a look").await?;
            // What matters is that it could be opened.
            let _ = connection.close(200, "OK".into()).await;
            self.management().get("/api/overview").await.map(drop)
        });
        looked.await.map_err(|_| "it takes too long".to_owned())?
    }
}

async fn provide() -> (Server, Option<Lock>) {
    if let Some(given) = given() {
        given
            .answers()
            .await
            .unwrap_or_else(|error| panic!("the broker of TIDEGATE_TEST_AMQP_URL: {error}"));
        return (given, None);
    }
    let directory = keeper::directory();
    let users = directory.join("users.lock");
    let using = Lock::shared(&users).await;
    let _starting = Lock::exclusive(&directory.join("start.lock")).await;
    let note = directory.join("broker.json");
    if let Some(server) = noted(&note) {
        match server.answers().await {
            Ok(()) => return (server, Some(using)),
            Err(error) => eprintln!("the broker of {} is gone: {error}", note.display()),
        }
    }
    let server = start(&broker_name(), &users, QUIET, &note, false).await;
    let text = serde_json::to_string(&server).expect("a server can be written as JSON");
    let new = note.with_extension("new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, &note))
        .expect("target/ can be written");
    (server, Some(using))
}

fn given() -> Option<Server> {
    let amqp = env::var("TIDEGATE_TEST_AMQP_URL").ok()?;
    let amqp = Url::parse(&amqp).expect("TIDEGATE_TEST_AMQP_URL is a URL");
    let management = env::var("TIDEGATE_TEST_MANAGEMENT_URL").unwrap_or_else(|_| {
        let host = amqp.host_str().expect("TIDEGATE_TEST_AMQP_URL has a host");
        format!("http://{host}:15672")
    });
    Some(Server {
        management: Url::parse(&management).expect("TIDEGATE_TEST_MANAGEMENT_URL is a URL"),
        amqp,
        control: Control::Given,
    })
}

fn noted(note: &Path) -> Option<Server> {
    serde_json::from_str(&fs::read_to_string(note).ok()?).ok()
}

fn broker_name() -> String {
    format!("tidegate-test-{}", ulid::Ulid::new()).to_lowercase()
}

/// Starts a broker, and before it the keeper that removes it (and the note, if that names it) once `lock` has
/// been free for `quiet` seconds.
async fn start(name: &str, lock: &Path, quiet: u32, note: &Path, fixed_ports: bool) -> Server {
    let note = note.to_str().expect("target/ has a name in UTF-8");
    // A note that names another broker is not this keeper's.
    let forget = "grep -qs \"$3\" \"$4\" && rm -f \"$4\"";
    let wanted = env::var("TIDEGATE_TEST_BROKER").unwrap_or_default();
    if wanted != "private" && (wanted == "container" || container::engine_answers().await) {
        let cleanup = format!("{}; {forget}", container::CLEANUP);
        keeper::start(lock, quiet, &cleanup, &[name, "", name, note]).await;
        match container::start(name, fixed_ports).await {
            Ok(server) => return server,
            Err(error) if wanted == "container" => panic!("no container starts: {error}"),
            Err(error) => eprintln!("no container starts: {error}; trying a private broker"),
        }
    }
    // Its scripts cannot bear every directory name, and a short one leaves room for sockets.
    let directory = env::temp_dir().join(name);
    let path = directory
        .to_str()
        .expect("the temporary directory has a name in UTF-8");
    let program = private::program();
    let program = program
        .to_str()
        .expect("the repository has a name in UTF-8");
    let cleanup = format!("{}; {forget}", private::CLEANUP);
    keeper::start(lock, quiet, &cleanup, &[path, program, name, note]).await;
    private::start(&directory)
        .await
        .unwrap_or_else(|error| panic!("no RabbitMQ for the tests: {error}"))
}

/// Runs a program to its end; its standard output, or what went wrong.
async fn run(command: &mut Command, limit: Duration) -> Result<String, String> {
    let shown = format!("{:?}", command.as_std());
    let output = tokio::time::timeout(limit, command.kill_on_drop(true).output())
        .await
        .map_err(|_| format!("{shown}: not done after {limit:?}"))?
        .map_err(|error| format!("{shown}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{shown}: {}: {}", output.status, errors.trim()))
}
