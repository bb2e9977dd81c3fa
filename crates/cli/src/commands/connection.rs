//! Which broker a command talks to.

use std::path::PathBuf;

use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};

use super::{ConfigArgs, Exit};
use tidegate::config::{BrokerSettings, HandlersFrom, Settings};

/// Where the broker is when nothing says so: RabbitMQ's own defaults.
const DEFAULT_URL: &str = "amqp://guest:guest@localhost:5672/%2f";
/// The variable that names it.
const VARIABLE: &str = "TIDEGATE__BROKER__URL";

/// The broker, for commands that need no whole configuration.
#[derive(Debug, Args)]
pub(super) struct BrokerArgs {
    /// The broker's URL, such as <amqps://user:password@host:5671/vhost>
    #[arg(long, conflicts_with = "config")]
    url: Option<SecretString>,
    /// Take the broker from this configuration file
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What is known of the broker, and of the workers.
#[derive(Debug)]
pub(super) enum Source {
    /// Everything, from a configuration.
    Config(Box<Settings>),
    /// The broker alone.
    Url(BrokerSettings),
}

/// A wrong command line, in words.
#[derive(Debug)]
pub(super) struct Usage(pub(super) String);

impl Usage {
    /// Says so, as wrong arguments are said.
    pub(super) fn told(&self) -> Exit {
        eprintln!("error: {}", self.0);
        Exit::Usage
    }
}

impl Source {
    /// The broker.
    pub(super) fn into_broker(self) -> BrokerSettings {
        match self {
            Self::Config(settings) => settings.broker,
            Self::Url(broker) => broker,
        }
    }
}

impl BrokerArgs {
    /// The broker of `--url`, else of `--config`, else of the environment, else the default.
    ///
    /// # Errors
    /// The outer error is a wrong configuration, the inner one a wrong URL.
    pub(super) fn settings(&self) -> anyhow::Result<Result<Source, Usage>> {
        self.source(HandlersFrom::Configuration)
    }

    /// As [`settings`](Self::settings), of a configuration that need not have nodes.
    ///
    /// # Errors
    /// As there.
    pub(super) fn fleet_settings(&self) -> anyhow::Result<Result<Settings, Usage>> {
        let source = self.source(HandlersFrom::Nobody)?;
        Ok(source.map(|source| match source {
            Source::Config(settings) => *settings,
            Source::Url(broker) => Settings::new(broker),
        }))
    }

    fn source(&self, handlers: HandlersFrom) -> anyhow::Result<Result<Source, Usage>> {
        let (origin, url) = match (&self.url, &self.config, std::env::var(VARIABLE)) {
            (Some(url), _, _) => ("--url", url.clone()),
            (None, Some(config), _) => {
                let config = config.clone();
                let settings = super::load_for(&ConfigArgs { config }, handlers)?;
                return Ok(Ok(Source::Config(Box::new(settings))));
            }
            (None, None, Ok(url)) => (VARIABLE, url.into()),
            (None, None, Err(_)) => ("the default", DEFAULT_URL.into()),
        };
        // The error holds nothing of the URL, which holds a password.
        let settings = BrokerSettings::from_url(url.expose_secret());
        Ok(settings
            .map(Source::Url)
            .map_err(|error| Usage(format!("the broker's URL ({origin}) {error}"))))
    }
}
