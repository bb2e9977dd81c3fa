//! A RabbitMQ in a container.

use std::env;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use testcontainers::core::{IntoContainerPort as _, WaitFor};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{GenericImage, ImageExt as _};
use tokio::process::Command;
use url::Url;

use super::{Control, START_LIMIT, Server};
use crate::harness::wait::stretched;

const AMQP: u16 = 5672;
const MANAGEMENT: u16 = 15672;
/// Who may be asked for a free port and find it taken when the container starts.
const PORT_TRIES: usize = 5;

/// Removes the container `$1`.
pub(super) const CLEANUP: &str = "docker rm --force --volumes \"$1\"";

/// Whether a Docker engine answers.
pub(super) async fn engine_answers() -> bool {
    docker(
        &["version", "--format", "{{.Server.Version}}"],
        Duration::from_secs(10),
    )
    .await
    .is_ok()
}

/// Runs the docker program; its standard output, or what went wrong.
pub(super) async fn docker(arguments: &[&str], limit: Duration) -> Result<String, String> {
    super::run(
        Command::new("docker").args(arguments).stdin(Stdio::null()),
        limit,
    )
    .await
}

/// Starts a container called `name`. With `fixed_ports` it keeps its ports when it is stopped and started
/// again. It is not removed here: that is the keeper's work.
pub(super) async fn start(name: &str, fixed_ports: bool) -> Result<Server, String> {
    let image = env::var("TIDEGATE_TEST_IMAGE").unwrap_or("rabbitmq:4-management".to_owned());
    // A colon before the last slash is a registry's port.
    let (repository, tag) = match image.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (image.as_str(), "latest"),
    };
    let mut tries = 0;
    loop {
        tries += 1;
        match try_start(repository, tag, name, fixed_ports).await {
            Err(error) if error.contains("already allocated") && tries < PORT_TRIES => {
                // Best effort: the engine may have kept the container that got no port.
                let _ = docker(&["rm", "--force", name], Duration::from_secs(60)).await;
            }
            other => return other,
        }
    }
}

async fn try_start(
    repository: &str,
    tag: &str,
    name: &str,
    fixed_ports: bool,
) -> Result<Server, String> {
    let mut request = GenericImage::new(repository, tag)
        .with_exposed_port(AMQP.tcp())
        .with_exposed_port(MANAGEMENT.tcp())
        .with_wait_for(WaitFor::message_on_stdout(" completed with "))
        .with_container_name(name)
        .with_startup_timeout(stretched(START_LIMIT));
    if fixed_ports {
        for port in [AMQP, MANAGEMENT] {
            request = request.with_mapped_port(free_port(), port.tcp());
        }
    }
    let text =
        |error: testcontainers::TestcontainersError| format!("{repository}:{tag}: {error:?}");
    let container = request.start().await.map_err(text)?;
    let host = container.get_host().await.map_err(text)?.to_string();
    // The engine listens on IPv4 everywhere; `localhost` may be IPv6 first.
    let host = if host == "localhost" {
        "127.0.0.1"
    } else {
        &host
    };
    let amqp = container.get_host_port_ipv4(AMQP).await.map_err(text)?;
    let management = container
        .get_host_port_ipv4(MANAGEMENT)
        .await
        .map_err(text)?;
    // Other processes use it, and the keeper removes it.
    std::mem::forget(container);
    let url = |text: String| Url::parse(&text).map_err(|error| error.to_string());
    Ok(Server {
        amqp: url(format!("amqp://guest:guest@{host}:{amqp}/%2f"))?,
        management: url(format!("http://{host}:{management}"))?,
        control: Control::Container {
            name: name.to_owned(),
        },
    })
}

/// A port that nobody listens on now.
fn free_port() -> u16 {
    TcpListener::bind("0.0.0.0:0")
        .and_then(|listener| listener.local_addr())
        .expect("there is a free port")
        .port()
}
