//! The log, on standard error. Writing a line never blocks, panics or stops anything: see [`queue`].

mod filter;
mod panics;
mod queue;

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

pub(crate) use filter::LogFilter;
use queue::LogQueue;

use crate::commands::LogFormat;
use tidegate::config::{ConfigErrors, LogLevel};
use tidegate::internal::broker::LIBRARY_LOG;
use tidegate::internal::status::wire::rfc3339;

/// The end of the program waits this long for the last lines to be written.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// The log of this process.
#[derive(Debug)]
pub(crate) struct Log {
    queue: LogQueue,
    format: LogFormat,
    level: LevelControl,
}

/// Changes what is logged while the process runs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LevelControl {
    replace: Arc<dyn Fn(EnvFilter) + Send + Sync>,
    /// Whether the command line says what to log: that comes before the configuration.
    fixed: bool,
}

impl LevelControl {
    /// From now on logs what the configuration says, unless the command line says something.
    pub(crate) fn set(&self, level: LogLevel) {
        if !self.fixed {
            (self.replace)(filter(&LogFilter::level(level.as_str())));
        }
    }
}

impl fmt::Debug for LevelControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LevelControl")
            .field("fixed", &self.fixed)
            .finish_non_exhaustive()
    }
}

/// The filter without what the client library logs.
fn filter(filter: &LogFilter) -> EnvFilter {
    filter
        .directives()
        .add_directive(LIBRARY_LOG.parse().expect("the directive is well formed"))
}

impl Log {
    /// Starts logging for the whole process, panics included: what the command line says, if it does, else `default`
    /// until the configuration says something.
    ///
    /// # Errors
    /// If no thread can be started, or logging has been started before.
    pub(crate) fn start(
        said: Option<LogFilter>,
        default: LogFilter,
        format: LogFormat,
    ) -> Result<Self, TelemetryError> {
        let fixed = said.is_some();
        let filter = filter(&said.unwrap_or(default));
        let queue = LogQueue::start(queue::standard_error(), notice(format))
            .map_err(TelemetryError::Thread)?;
        let replace = subscribe(filter, format, queue.clone())?;
        panics::log_them();
        Ok(Self {
            queue,
            format,
            level: LevelControl { replace, fixed },
        })
    }

    /// What changes the level.
    pub(crate) fn level(&self) -> LevelControl {
        self.level.clone()
    }

    /// Says in the log what ended the program: whatever the filter, so that no failure is silent.
    pub(crate) fn fail(&self, error: &anyhow::Error) {
        for line in failure(error, self.format, Timestamp::now()) {
            self.queue.push(line.as_bytes());
        }
    }

    /// Waits until what has been logged is written, for at most [`FLUSH_LIMIT`]. A reader that has stalled must not
    /// keep the process.
    pub(crate) fn flush(&self) {
        self.queue.flush(FLUSH_LIMIT);
    }
}

fn subscribe(
    filter: EnvFilter,
    format: LogFormat,
    queue: LogQueue,
) -> Result<Arc<dyn Fn(EnvFilter) + Send + Sync>, TryInitError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(queue)
        .with_ansi(format == LogFormat::Text && io::stderr().is_terminal())
        .log_internal_errors(false)
        .with_target(false);
    // An error says that nothing is logged any more: the process is at its end.
    match format {
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            builder.finish().try_init()?;
            Ok(Arc::new(move |filter| drop(handle.reload(filter))))
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true);
            let builder = builder.with_current_span(false).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.finish().try_init()?;
            Ok(Arc::new(move |filter| drop(handle.reload(filter))))
        }
    }
}

/// The line that says how many were lost, in the form of the others.
fn notice(format: LogFormat) -> impl Fn(u64) -> String {
    move |lost| {
        let at = rfc3339(Timestamp::now());
        match format {
            LogFormat::Text => {
                format!("{at}  WARN log lines were lost: they could not be written lost={lost}\n")
            }
            LogFormat::Json => {
                let line = serde_json::json!({
                    "timestamp": at, "level": "WARN",
                    "message": "log lines were lost: they could not be written", "lost": lost,
                });
                format!("{line}\n")
            }
        }
    }
}

/// The lines that say what ended the program: in JSON one for each error of a configuration.
fn failure(error: &anyhow::Error, format: LogFormat, at: Timestamp) -> Vec<String> {
    if format == LogFormat::Text {
        return vec![format!("tidegate: {error:#}\n")];
    }
    let line = |message: String| {
        let at = rfc3339(at);
        let line = serde_json::json!({"timestamp": at, "level": "ERROR", "message": message});
        format!("{line}\n")
    };
    match error.downcast_ref::<ConfigErrors>() {
        Some(errors) => {
            let errors = errors.errors().iter();
            errors.map(|error| line(error.to_string())).collect()
        }
        None => vec![line(format!("{error:#}"))],
    }
}

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TelemetryError {
    /// The operating system gives no thread.
    #[error("cannot start the thread that writes the log: {0}")]
    Thread(io::Error),
    /// Logging has been started before.
    #[error(transparent)]
    Init(#[from] TryInitError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_text_or_a_line_of_json() {
        let error = anyhow::anyhow!("no broker").context("cannot start\nat all");
        let lines = |format| failure(&error, format, Timestamp::UNIX_EPOCH);
        let text = "tidegate: cannot start\nat all: no broker\n";
        assert_eq!(lines(LogFormat::Text), [text]);
        let json = lines(LogFormat::Json);
        assert_eq!(json.len(), 1);
        assert_eq!(json[0].lines().count(), 1, "{json:?}");
        let json: serde_json::Value = serde_json::from_str(&json[0]).unwrap();
        assert_eq!(json["level"], "ERROR");
        assert_eq!(json["message"], "cannot start\nat all: no broker");
        assert_eq!(json["timestamp"], "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn the_notice_of_lost_lines_says_how_many() {
        let text = notice(LogFormat::Text)(3);
        assert!(text.ends_with("lost=3\n"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&notice(LogFormat::Json)(3)).unwrap();
        assert_eq!(json["lost"], 3);
    }
}
