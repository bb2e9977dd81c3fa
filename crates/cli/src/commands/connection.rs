//! The broker of a command.

mod misspelt;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use tracing::warn;

use super::opencti::opencti_settings;
use super::{ConfigArgs, Exit};
use crate::output::usage_error;
use tidegate::config::{BrokerSettings, HandlersFrom, Settings};
use tidegate::internal::broker::BrokerError;

pub(super) use misspelt::{Misspelt, misspelt_variables};

/// The time limit for the broker's answer to the last close.
pub(super) const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// The time limit until every worker is known.
pub(super) const SETTLE_LIMIT: Duration = Duration::from_secs(10);

/// The broker's address by default: that of a RabbitMQ as it is installed.
const DEFAULT_URL: &str = "amqp://guest:guest@localhost:5672/%2f";
/// The variable that holds the URL.
const URL_VARIABLE: &str = "TIDEGATE__BROKER__URL";
/// The variable that names the file of certificate authorities.
const CA_VARIABLE: &str = "TIDEGATE__BROKER__CA";

/// The sources of the broker's address, for the help of commands.
pub(super) const BROKER_HELP: &str = "The broker is that of --url, else of --config, else of the environment variable \
    TIDEGATE__BROKER__URL (with TIDEGATE__BROKER__CA), else amqp://guest:guest@localhost:5672/%2f.";

/// The broker, for commands that need no whole configuration.
#[derive(Debug, Args)]
pub(super) struct BrokerArgs {
    /// The broker's URL, such as <amqps://user:password@host:5671/vhost>
    #[arg(long, conflicts_with = "config")]
    url: Option<SecretString>,
    /// A PEM file with the certificate authorities that the broker's certificate may be signed by
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    ca: Option<PathBuf>,
    /// Take the broker from this configuration file; it needs no more than `[broker]`
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// A wrong command line, in words.
#[derive(Debug)]
pub(super) struct UsageError(pub(super) String);

impl UsageError {
    /// Says so in the form of clap's own errors.
    pub(super) fn report(&self) -> Exit {
        usage_error(&self.0)
    }
}

impl BrokerArgs {
    /// The broker of `--url`, else of `--config`, else of the environment, else the default. Nodes are not read.
    ///
    /// # Errors
    /// The outer error is a wrong configuration, the inner one a wrong command line or environment.
    pub(super) fn settings(&self) -> anyhow::Result<Result<Settings, UsageError>> {
        self.settings_for(HandlersFrom::Command)
    }

    /// As [`settings`](Self::settings). A configuration file must have nodes.
    ///
    /// # Errors
    /// As there.
    pub(super) fn settings_with_nodes(&self) -> anyhow::Result<Result<Settings, UsageError>> {
        self.settings_for(HandlersFrom::Program)
    }

    /// The broker that OpenCTI's platform names, if the file or the environment is about OpenCTI's worker and nothing
    /// else names a broker.
    ///
    /// # Errors
    /// A setting is wrong, or the platform names no broker.
    pub(super) async fn of_platform(&self) -> anyhow::Result<Option<BrokerSettings>> {
        if self.url.is_some() || std::env::var_os(URL_VARIABLE).is_some() {
            return Ok(None);
        }
        let Some((_, opencti)) = opencti_settings(self.config.as_deref())? else {
            return Ok(None);
        };
        let broker = tidegate_opencti::broker_of(&opencti).await;
        let broker =
            broker.map_err(|why| anyhow::anyhow!("the platform names no broker: {why}"))?;
        Ok(Some(broker))
    }

    /// Whether there is a configuration file.
    pub(super) fn has_config(&self) -> bool {
        self.config.is_some()
    }

    fn settings_for(&self, handlers: HandlersFrom) -> anyhow::Result<Result<Settings, UsageError>> {
        if let Some(config) = self.config.clone() {
            let settings = super::load_for(&ConfigArgs { config }, handlers)?;
            return Ok(Ok(settings));
        }
        Ok(self.settings_without_file())
    }

    fn settings_without_file(&self) -> Result<Settings, UsageError> {
        let variable = |name| std::env::var(name).ok();
        let (origin, url) = match (&self.url, variable(URL_VARIABLE)) {
            (Some(url), _) => ("--url", url.clone()),
            (None, Some(url)) => (URL_VARIABLE, url.into()),
            (None, None) => {
                // The default broker would be the wrong one.
                let mut misspelt = misspelt_variables(variable_names()).into_iter();
                if let Some(misspelt) = misspelt.find(|one| one.section == "broker") {
                    return Err(UsageError(misspelt.to_string()));
                }
                ("the default", DEFAULT_URL.into())
            }
        };
        // The error holds nothing of the URL, which holds a password.
        let mut broker = BrokerSettings::from_url(url.expose_secret())
            .map_err(|error| UsageError(format!("the broker's URL ({origin}) {error}")))?;
        let from_variable = || {
            variable(CA_VARIABLE)
                .filter(|_| broker.tls)
                .map(PathBuf::from)
        };
        let ca = self.ca.clone().or_else(from_variable);
        if let Some(ca) = &ca {
            if !broker.tls {
                let text =
                    format!("--ca is for TLS, but the broker's URL ({origin}) begins with amqp://");
                return Err(UsageError(text));
            }
            if let Err(error) = std::fs::File::open(ca) {
                let text = format!("--ca {}: cannot be read: {error}", ca.display());
                return Err(UsageError(text));
            }
        }
        broker.ca = ca;
        Ok(Settings::new(broker))
    }
}

/// Warns of each variable that was likely meant to change what a configuration file says, and does not.
pub(super) fn warn_of_misspelt_variables() {
    for misspelt in misspelt_variables(variable_names()) {
        if misspelt.is_silent() {
            warn!("{misspelt}");
        }
    }
}

/// The names of all environment variables.
pub(super) fn variable_names() -> impl Iterator<Item = String> {
    std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned())
}

/// An error of a first look at the fleet, with what it likely means.
pub(super) fn explain_client_error(error: BrokerError) -> anyhow::Error {
    match error {
        BrokerError::Refused { code: 404, .. } => {
            anyhow::anyhow!("no worker has ever said anything on this virtual host: {error}")
        }
        BrokerError::Refused {
            what, code: 403, ..
        } if what != "connecting" => {
            anyhow::anyhow!(
                "the user lacks a permission; see \"Permissions\" in docs/status-protocol.md: {error}"
            )
        }
        _ => error.into(),
    }
}
