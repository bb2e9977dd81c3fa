//! The `log` handler: prints and is done; for trying things out and for benchmarks.

use std::io::{self, Write};
use std::sync::Arc;

use tokio::sync::Mutex;

use super::{Context, Handler, Outcome};
use crate::config::{LogSettings, Print};
use crate::delivery::Delivery;

/// Prints each delivery on stdout, as much of it as is configured.
///
/// The print is its work: when stdout cannot be written (closed, disk full), the delivery is retried. One
/// delivery prints at a time, on a thread where it may block, so a reader that stalls holds up this handler
/// and nothing else. Dropping the future while it prints leaves that print to end by itself.
pub struct LogHandler {
    print: Print,
    output: Arc<Mutex<Box<dyn Write + Send>>>,
}

impl LogHandler {
    /// A handler that prints to stdout as `settings` say.
    pub fn new(settings: &LogSettings) -> Self {
        Self::to(Box::new(io::stdout()), settings.print)
    }

    fn to(output: Box<dyn Write + Send>, print: Print) -> Self {
        Self {
            print,
            output: Arc::new(Mutex::new(output)),
        }
    }
}

impl Handler for LogHandler {
    fn is_quick(&self) -> bool {
        self.print == Print::None
    }

    async fn handle(&self, delivery: Arc<Delivery>, _context: Context) -> Outcome {
        let text = match self.print {
            Print::None => return Outcome::Done,
            Print::Line => line(&delivery),
            Print::Body => with_body(&delivery),
        };
        let mut output = Arc::clone(&self.output).lock_owned().await;
        let written = tokio::task::spawn_blocking(move || {
            output.write_all(&text)?;
            output.flush()
        });
        match written.await {
            Ok(Ok(())) => Outcome::Done,
            Ok(Err(error)) => Outcome::retry(format!("cannot write to stdout: {error}")),
            Err(error) => Outcome::retry(format!("cannot write to stdout: {error}")),
        }
    }
}

impl std::fmt::Debug for LogHandler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogHandler")
            .field("print", &self.print)
            .finish_non_exhaustive()
    }
}

/// `orders message_id=m-1 attempt=1 bytes=12`. Names are escaped, so one delivery is one line whatever its
/// publisher wrote.
fn line(delivery: &Delivery) -> Vec<u8> {
    let id = delivery.properties.message_id.as_deref().unwrap_or("-");
    format!(
        "{} message_id={} attempt={} bytes={}\n",
        delivery.queue.escape_debug(),
        id.escape_debug(),
        delivery.attempt,
        delivery.body.len(),
    )
    .into_bytes()
}

/// The line, the body as it is, and the end of a line unless the body brings its own.
fn with_body(delivery: &Delivery) -> Vec<u8> {
    let mut text = line(delivery);
    text.extend_from_slice(&delivery.body);
    if !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::testing;

    #[derive(Clone, Default)]
    struct Paper(Arc<std::sync::Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    async fn printed(print: Print, body: &'static str) -> String {
        let paper = Paper::default();
        let handler = LogHandler::to(Box::new(paper.clone()), print);
        let delivery = testing::delivery(body).send();
        let outcome = handler.handle(delivery, testing::context()).await;
        assert_eq!(outcome, Outcome::Done);
        let bytes = paper.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[tokio::test]
    async fn it_prints_as_much_as_is_configured() {
        assert_eq!(printed(Print::None, "hello").await, "");
        let line = "orders message_id=m-1 attempt=1 bytes=5\n";
        assert_eq!(printed(Print::Line, "hello").await, line);
        assert_eq!(
            printed(Print::Body, "hello").await,
            format!("{line}hello\n")
        );
        assert_eq!(
            printed(Print::Body, "hello\n").await,
            "orders message_id=m-1 attempt=1 bytes=6\nhello\n"
        );
    }

    #[test]
    fn a_line_is_one_line_whatever_the_publisher_wrote() {
        let delivery = testing::delivery("")
            .with(|delivery| delivery.properties.message_id = Some("a\nb\x1b[2J".into()));
        let text = String::from_utf8(line(&delivery.0)).unwrap();
        assert_eq!(
            text,
            "orders message_id=a\\nb\\u{1b}[2J attempt=1 bytes=0\n"
        );
    }

    #[tokio::test]
    async fn what_cannot_be_printed_is_retried() {
        let handler = LogHandler::to(Box::new(Closed), Print::Line);
        let delivery = testing::delivery("hello").send();
        let outcome = handler.handle(delivery, testing::context()).await;
        assert_eq!(
            outcome,
            Outcome::retry("cannot write to stdout: broken pipe")
        );
    }
}
