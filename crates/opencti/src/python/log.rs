//! What Python processes print becomes lines of the log.

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

/// The longest line, in bytes; the rest is left out.
const LINE_LIMIT: usize = 8 << 10;

/// Logs each line until the stream ends; `last` keeps the last one.
pub(super) async fn forward(stream: impl AsyncRead + Unpin, last: watch::Sender<String>) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        let (used, ended) = match reader.fill_buf().await {
            Ok([]) | Err(_) => return,
            Ok(buffer) => {
                let end = buffer.iter().position(|byte| *byte == b'\n');
                let text = &buffer[..end.unwrap_or(buffer.len())];
                let room = LINE_LIMIT.saturating_sub(line.len()).min(text.len());
                line.extend_from_slice(&text[..room]);
                (text.len() + usize::from(end.is_some()), end.is_some())
            }
        };
        reader.consume(used);
        if ended {
            let text = String::from_utf8_lossy(&line);
            if !text.trim().is_empty() {
                log(text.trim_end());
                last.send_replace(text.trim_end().to_owned());
            }
            line.clear();
        }
    }
}

/// pycti logs in JSON; everything else is what Python itself prints.
fn log(line: &str) {
    let read: Option<Value> = serde_json::from_str(line).ok();
    let text = |key: &str| {
        read.as_ref()
            .and_then(|read| read.get(key))
            .and_then(Value::as_str)
    };
    let message = text("message").unwrap_or(line);
    let attributes = read.as_ref().and_then(|read| read.get("attributes"));
    let attributes = attributes.map(ToString::to_string);
    // What goes wrong comes back with the request, so pycti's words about it are details.
    match text("level").map(str::to_uppercase).as_deref() {
        Some("DEBUG" | "INFO") => debug!(target: "pycti", attributes, "{message}"),
        Some("ERROR" | "CRITICAL" | "WARNING" | "WARN") => {
            info!(target: "pycti", attributes, "{message}");
        }
        Some(_) => error!(target: "pycti", "{message}"),
        None => warn!(target: "python", "{message}"),
    }
}
