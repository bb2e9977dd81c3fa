//! A client of server-sent events.

use reqwest::Response;
use serde_json::Value;

use super::wait::within;

/// One event.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// Its id.
    pub id: String,
    /// What it tells of.
    pub kind: String,
    /// Its data.
    pub data: Value,
}

/// The events of one answer.
pub(crate) struct Events {
    response: Response,
    text: String,
}

impl Events {
    /// Reads the events of `response`.
    pub(crate) fn of(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            response,
            text: String::new(),
        }
    }

    /// The next event; nothing at the end.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let event = parse(&self.text[..end]);
                self.text.drain(..end + 2);
                return Some(event);
            }
            let chunk = within("an event", self.response.chunk()).await.ok()??;
            self.text.push_str(&String::from_utf8_lossy(&chunk));
        }
    }

    /// The next event for which `wanted` holds.
    pub(crate) async fn until(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        let found = async {
            loop {
                let event = self.next().await.expect("events go on");
                if wanted(&event) {
                    return event;
                }
            }
        };
        within(format_args!("the event: {what}"), found).await
    }
}

fn parse(text: &str) -> Event {
    let field = |name: &str| {
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_default().to_owned()
    };
    Event {
        id: field("id"),
        kind: field("event"),
        data: serde_json::from_str(&field("data"))
            .unwrap_or_else(|error| panic!("{error}: {text}")),
    }
}
