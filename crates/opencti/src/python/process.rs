//! Starts Python processes: the fork server and its children, or children without it.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::child::{Child, Kill, Lines};
use super::link::{Arrival, Link};
use super::protocol::ServerLine;
use super::{PythonError, START_TIMEOUT, log};
use crate::settings::{Pem, Proxies, PythonSettings, Settings, Verify};

/// The program of both kinds of processes.
const PROGRAM: &str = include_str!("../child.py");

/// How many orders to the fork server may wait. Each child is ordered once and killed once.
const ORDERS: usize = 4_096;

pub(super) struct Processes {
    settings: PythonSettings,
    /// The first line of a process's standard input: the settings and the secret.
    introduction: SecretString,
    /// Python reads proxies from its environment; only there does `NO_PROXY` have an effect.
    environment: Vec<(&'static str, String)>,
    link: Arc<Link>,
    names: AtomicU64,
    server: Mutex<Option<Server>>,
}

/// The fork server that runs now.
struct Server {
    orders: mpsc::Sender<Order>,
    /// Kills the process when it is dropped.
    process: tokio::process::Child,
    reader: tokio_util::task::AbortOnDropHandle<()>,
}

/// What a process is for.
#[derive(Clone, Copy)]
enum Role {
    Serve,
    Work,
}

impl Role {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Work => "work",
        }
    }
}

enum Order {
    Fork(String),
    Kill(String),
}

impl Processes {
    pub(super) fn new(settings: &Settings, link: Link) -> Self {
        Self {
            introduction: introduction(settings, &link.secret),
            settings: settings.python.clone(),
            environment: environment(&settings.proxies),
            link: Arc::new(link),
            names: AtomicU64::new(1),
            server: Mutex::default(),
        }
    }

    /// Starts a child.
    pub(super) async fn start(&self) -> Result<Child, PythonError> {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        let name = format!("child-{number}");
        if self.settings.fork {
            self.fork(name).await
        } else {
            let (process, arrival) = self.spawn(Role::Work, &name).await?;
            let kill: Kill = Box::new(move || drop(process));
            Ok(Child::new(
                name,
                arrival.hello.versions,
                arrival.lines,
                kill,
            ))
        }
    }

    pub(super) async fn close(&self) {
        let server = self.server.lock().await.take();
        if let Some(mut server) = server {
            drop(server.orders);
            if let Err(error) = server.process.kill().await {
                debug!(%error, "the fork server is gone already");
            }
        }
    }

    async fn fork(&self, name: String) -> Result<Child, PythonError> {
        let orders = self.server().await?;
        let arrival = self.link.expect(&name).map_err(unavailable)?;
        let gone = || PythonError::Unavailable("the Python fork server ended".into());
        let order = Order::Fork(name.clone());
        orders.send(order).await.map_err(|_ended| gone())?;
        let arrived = timeout(START_TIMEOUT, arrival).await;
        self.link.forget(&name);
        let arrival = arrived
            .map_err(|_elapsed| PythonError::Unavailable("a Python child did not start".into()))?
            .map_err(|_dropped| gone())?;
        let killed = name.clone();
        let kill: Kill = Box::new(move || {
            // If the server is gone, so are its children; if orders pile up, the closed connection ends the child.
            let _gone = orders.try_send(Order::Kill(killed));
        });
        Ok(Child::new(
            name,
            arrival.hello.versions,
            arrival.lines,
            kill,
        ))
    }

    /// The fork server; started if there is none.
    async fn server(&self) -> Result<mpsc::Sender<Order>, PythonError> {
        let mut server = self.server.lock().await;
        if let Some(running) = &*server
            && !running.reader.is_finished()
        {
            return Ok(running.orders.clone());
        }
        *server = None;
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        let (process, arrival) = self.spawn(Role::Serve, &format!("server-{number}")).await?;
        let versions = &arrival.hello.versions;
        info!(
            pid = process.id(),
            pycti = versions.pycti,
            python = versions.python,
            "the Python fork server is ready"
        );
        let (orders, inbox) = mpsc::channel(ORDERS);
        let task = tokio::spawn(converse(arrival.lines, inbox, Arc::clone(&self.link)));
        *server = Some(Server {
            orders: orders.clone(),
            process,
            reader: tokio_util::task::AbortOnDropHandle::new(task),
        });
        Ok(orders)
    }

    /// Starts a process and waits until it has connected.
    async fn spawn(
        &self,
        role: Role,
        name: &str,
    ) -> Result<(tokio::process::Child, Arrival), PythonError> {
        let arrival = self.link.expect(name).map_err(unavailable)?;
        let role = role.as_str();
        let program = &self.settings.program;
        let mut process = Command::new(program)
            .args(["-I", "-c", PROGRAM, role, &self.link.address, name])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A terminal's Ctrl-C goes to the worker alone, which drains.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                let program = program.display();
                PythonError::Unavailable(format!("cannot start {program}: {error}"))
            })?;
        let mut stdin = process.stdin.take().expect("standard input is piped");
        let stdout = process.stdout.take().expect("standard output is piped");
        let stderr = process.stderr.take().expect("standard error is piped");
        let (last, last_line) = watch::channel(String::new());
        tokio::spawn(log::forward(stdout, watch::channel(String::new()).0));
        let errors = tokio::spawn(log::forward(stderr, last));
        let introduced = stdin
            .write_all(self.introduction.expose_secret().as_bytes())
            .await;
        drop(stdin);
        let arrived = async {
            tokio::select! {
                arrival = timeout(START_TIMEOUT, arrival) => arrival.ok().and_then(Result::ok),
                _ended = process.wait() => None,
            }
        };
        if let (Ok(()), Some(arrival)) = (introduced, arrived.await) {
            return Ok((process, arrival));
        }
        self.link.forget(name);
        // The end of what it printed says why, such as a module that is missing.
        let _elapsed = timeout(std::time::Duration::from_secs(1), errors).await;
        let last = last_line.borrow().clone();
        Err(PythonError::Unavailable(format!(
            "{} did not start: {last}",
            program.display()
        )))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn unavailable(error: std::io::Error) -> PythonError {
    PythonError::Unavailable(error.to_string())
}

/// Passes orders to the fork server and reads what it says, until it ends.
async fn converse(mut lines: Lines, mut orders: mpsc::Receiver<Order>, link: Arc<Link>) {
    loop {
        tokio::select! {
            order = orders.recv() => {
                let line = match order {
                    Some(Order::Fork(name)) => json!({ "fork": name }),
                    Some(Order::Kill(name)) => json!({ "kill": name }),
                    None => return,
                };
                if lines.write(format!("{line}\n").as_bytes()).await.is_err() {
                    return;
                }
            }
            line = lines.next() => match line.map(|line| serde_json::from_slice(&line)) {
                Ok(Ok(ServerLine::Failed { failed, error })) => {
                    warn!(child = failed, error, "cannot fork a Python child");
                    link.forget(&failed);
                }
                Ok(Ok(ServerLine::Died { died, status })) => {
                    debug!(child = died, status, "a Python child ended");
                    link.forget(&died);
                }
                Ok(Err(error)) => {
                    warn!(%error, "the Python fork server said nonsense");
                    return;
                }
                Err(_) => {
                    warn!("the Python fork server ended");
                    return;
                }
            },
        }
    }
}

fn environment(proxies: &Proxies) -> Vec<(&'static str, String)> {
    let pairs = [
        ("http_proxy", &proxies.http),
        ("https_proxy", &proxies.https),
        ("no_proxy", &proxies.except),
    ];
    pairs
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.clone()?)))
        .collect()
}

fn introduction(settings: &Settings, secret: &str) -> SecretString {
    let verify = match &settings.verify {
        Verify::No => json!(false),
        Verify::System => settings
            .ca_bundle
            .as_ref()
            .map_or(json!(true), |bundle| json!(bundle)),
        Verify::Ca(path) => json!(path),
    };
    let authorities = match &settings.ca_certificates {
        None => None,
        Some(Pem::Inline(text)) => Some(text.clone()),
        Some(Pem::File(path)) => std::fs::read_to_string(path).ok(),
    };
    let headers: Vec<_> = settings
        .custom_headers
        .0
        .iter()
        .map(|(name, value)| format!("{name}:{value}"))
        .collect();
    let line = json!({
        "secret": secret,
        // Older versions of pycti append the path as it is, and the platform does not know `//graphql`.
        "url": settings.url.as_str().trim_end_matches('/'),
        "verify": verify,
        "ca_certificates": authorities,
        "log_level": settings.log_level.as_deref().unwrap_or("info"),
        "json_logging": true,
        "custom_headers": (!headers.is_empty()).then(|| headers.join(";")),
        "requests_timeout": settings.requests_timeout.as_secs(),
        "provider": crate::PROVIDER,
    });
    SecretString::from(format!("{line}\n"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;
    use crate::settings::Sources;

    /// The introduction that a process gets with these variables.
    fn told(more: &[(&str, &str)]) -> Value {
        let mut variables = BTreeMap::from([("OPENCTI_URL", "http://o"), ("OPENCTI_TOKEN", "t")]);
        variables.extend(more.iter().copied());
        let sources = Sources {
            environment: &|name| variables.get(name).map(|&value| value.to_owned()),
            platform: None,
            section: None,
        };
        let settings = Settings::read(&sources).unwrap();
        let line = introduction(&settings, "secret");
        serde_json::from_str(line.expose_secret()).unwrap()
    }

    fn certificate() -> String {
        let made = rcgen::generate_simple_self_signed(["platform".to_owned()]);
        made.unwrap().cert.pem()
    }

    #[test]
    fn the_url_given_to_pycti_ends_without_a_slash() {
        for (given, expected) in [
            ("http://platform", "http://platform"),
            ("http://platform/", "http://platform"),
            ("https://host/base/path/", "https://host/base/path"),
        ] {
            assert_eq!(told(&[("OPENCTI_URL", given)])["url"], expected);
        }
    }

    #[test]
    fn pycti_verifies_with_the_same_authorities_as_the_worker() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), certificate()).unwrap();
        let path = file.path().to_str().unwrap();
        let (ssl, bundle) = ("OPENCTI_SSL_VERIFY", "REQUESTS_CA_BUNDLE");
        for (variables, expected) in [
            (vec![], json!(false)),
            (vec![(ssl, "true")], json!(true)),
            (vec![(ssl, path)], json!(path)),
            (vec![(ssl, "true"), (bundle, path)], json!(path)),
            (vec![(ssl, "false"), (bundle, path)], json!(false)),
        ] {
            assert_eq!(told(&variables)["verify"], expected, "{variables:?}");
        }
    }

    #[test]
    fn the_variables_of_requests_reach_pycti() {
        let certificate = certificate();
        let line = told(&[
            ("OPENCTI_REQUESTS_TIMEOUT", "7"),
            ("OPENCTI_CUSTOM_HEADERS", "a:b; c : d:e"),
            ("WORKER_LOG_LEVEL", "WARNING"),
            ("HTTPS_CA_CERTIFICATES", &certificate),
        ]);
        assert_eq!(line["requests_timeout"], 7);
        assert_eq!(line["custom_headers"], "a:b;c:d:e");
        assert_eq!(line["log_level"], "warning");
        assert_eq!(line["ca_certificates"], certificate.trim());
        let line = told(&[]);
        assert_eq!(line["requests_timeout"], 300);
        assert_eq!(line["custom_headers"], Value::Null);
        assert_eq!(line["log_level"], "info");
    }
}
