//! Logging to standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::TryInitError;

use crate::commands::LogFormat;
use tidegate::internal::broker::LIBRARY_LOG;

/// Starts logging for the whole process: `filter` is a level or directives, as [`EnvFilter`] reads them.
///
/// # Errors
/// Where `filter` cannot be read, or logging has been started before.
pub(crate) fn init(filter: &str, format: LogFormat) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|cause| TelemetryError::Filter {
            filter: filter.to_owned(),
            cause,
        })?
        .add_directive(LIBRARY_LOG.parse().expect("the directive is well formed"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let builder = builder.with_target(false);
    match format {
        LogFormat::Text => tracing_subscriber::util::SubscriberInitExt::try_init(builder.finish())?,
        LogFormat::Json => {
            let json = builder.json().flatten_event(true).with_current_span(false);
            tracing_subscriber::util::SubscriberInitExt::try_init(json.finish())?;
        }
    }
    Ok(())
}

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TelemetryError {
    /// The filter cannot be read.
    #[error("--log {filter:?}: {cause}")]
    Filter {
        /// The filter.
        filter: String,
        /// Why.
        cause: tracing_subscriber::filter::ParseError,
    },
    /// Logging has been started before.
    #[error(transparent)]
    Init(#[from] TryInitError),
}
