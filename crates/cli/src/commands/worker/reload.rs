//! The changes that are allowed when a worker's configuration is read again.

use secrecy::ExposeSecret as _;
use thiserror::Error;

use tidegate::Node;
use tidegate::config::{BrokerSettings, Settings};
use tidegate::handler::{self, HandlerError};

/// Why a configuration that was read again cannot be used by the worker that runs.
#[derive(Debug, Error)]
pub(super) enum ReloadError {
    /// A section says something else that is fixed for the life of a worker.
    #[error("[{section}] cannot change while the worker runs; restart it")]
    Fixed {
        /// The section.
        section: &'static str,
    },
    /// A node's handler cannot be made.
    #[error("the handler of node {queue:?}: {cause}")]
    Handler {
        /// The node's queue.
        queue: String,
        /// Why.
        cause: HandlerError,
    },
}

/// The nodes to host from now on. Nodes may come, go and change, and the log's level may; everything else must be as it was.
///
/// # Errors
/// When something else changed, or a handler cannot be made. Then nothing changes.
pub(super) fn nodes(old: &Settings, new: &Settings) -> Result<Vec<Node>, ReloadError> {
    let sections = |settings: &Settings| {
        // Their debug form shows all that is no secret.
        [
            ("broker", fixed(&settings.broker)),
            ("worker", format!("{:?}", settings.worker)),
            ("drain", format!("{:?}", settings.drain)),
            ("heartbeat", format!("{:?}", settings.heartbeat)),
            ("status", format!("{:?}", settings.status)),
            ("pool", format!("{:?}", settings.pools)),
        ]
    };
    let pairs = sections(old).into_iter().zip(sections(new));
    for ((section, before), (_, now)) in pairs {
        if before != now {
            return Err(ReloadError::Fixed { section });
        }
    }
    for node in &new.nodes {
        if let Some(settings) = &node.handler {
            handler::from_settings(settings).map_err(|cause| ReloadError::Handler {
                queue: node.queue.clone(),
                cause,
            })?;
        }
    }
    Ok(new.nodes.iter().cloned().map(Node::from_settings).collect())
}

/// The settings of the broker that cannot change. Those in files may: they are read again at each attempt to connect.
fn fixed(broker: &BrokerSettings) -> String {
    let mut broker = broker.clone();
    if broker.url_file.is_some() {
        broker.username.clear();
        broker.host.clear();
        broker.port = 0;
        broker.other_hosts.clear();
    }
    let from_file = broker.url_file.is_some() || broker.password_file.is_some();
    let password = if from_file {
        ""
    } else {
        broker.password.expose_secret()
    };
    // Compared, and never shown.
    format!("{broker:?} {password}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate::config::{LogLevel, NodeSettings, Slots};

    fn settings(url: &str) -> Settings {
        let broker = BrokerSettings::from_url(url).expect("the URL is well formed");
        let mut settings = Settings::new(broker);
        settings.nodes.push(NodeSettings::new("orders"));
        settings
    }

    #[test]
    fn nodes_and_the_log_may_change_and_nothing_else() {
        let old = settings("amqp://localhost");
        let mut new = old.clone();
        new.nodes[0].slots = Slots::Own(20);
        new.log.level = LogLevel::Debug;
        new.nodes.push(NodeSettings::new("bills"));
        let nodes = nodes(&old, &new).expect("nodes may change");
        let queues: Vec<_> = nodes.iter().map(Node::queue).collect();
        assert_eq!(queues, ["orders", "bills"]);
    }

    #[test]
    fn another_broker_name_or_grace_is_refused_by_the_name_of_its_section() {
        let old = settings("amqp://localhost");
        let refused = |new: &Settings| nodes(&old, new).expect_err("it is fixed").to_string();
        assert!(refused(&settings("amqp://elsewhere")).starts_with("[broker] "));
        let password = refused(&settings("amqp://guest:secret@localhost"));
        assert!(password.starts_with("[broker] ") && !password.contains("secret"));
        let mut new = old.clone();
        new.worker.name = "other".to_owned();
        assert!(refused(&new).starts_with("[worker] "));
        let mut new = old.clone();
        new.drain.grace *= 2;
        assert!(refused(&new).starts_with("[drain] "));
    }

    #[test]
    fn what_is_read_from_files_at_each_attempt_may_change() {
        let from_url = |url: &str| {
            let mut settings = settings(url);
            settings.broker.url_file = Some("url".into());
            settings
        };
        let old = from_url("amqp://one:old@localhost");
        assert!(nodes(&old, &from_url("amqp://two:new@elsewhere")).is_ok());
        let with_password = |url: &str| {
            let mut settings = settings(url);
            settings.broker.password_file = Some("password".into());
            settings
        };
        let old = with_password("amqp://one:old@localhost");
        assert!(nodes(&old, &with_password("amqp://one:new@localhost")).is_ok());
        assert!(nodes(&old, &with_password("amqp://two:old@localhost")).is_err());
    }
}
