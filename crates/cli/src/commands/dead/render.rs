//! Dead letters for people.

use std::fmt::Write as _;

use console::style;
use jiff::Timestamp;
use serde_json::Value;

use crate::commands::table::{Column, Table, plain};
use tidegate_fleet::dead::{BODY_SHOWN, Letter, Record};

/// How much of an error is listed.
const ERROR_SHOWN: usize = 200;
/// How many bytes of a body that is no text are shown.
const HEX_SHOWN: usize = 512;
/// Bytes in a line of hexadecimal digits.
const HEX_LINE: usize = 16;

/// The list that `tidegate dead list` prints.
pub(super) struct List {
    table: Table,
    now: Timestamp,
}

impl List {
    /// A list without letters.
    pub(super) fn new(now: Timestamp) -> Self {
        let columns = vec![
            Column::number("age"),
            Column::text("id"),
            Column::text("reason"),
            Column::number("runs"),
            Column::long("error"),
            Column::text("queue"),
        ];
        let table = Table::new(columns);
        Self { table, now }
    }

    /// Adds `letter`.
    pub(super) fn add(&mut self, letter: &Letter) {
        let or_dash = |text: Option<&str>| text.map_or_else(|| "-".to_owned(), plain);
        let error = letter.error().map(|error| shortened(error, ERROR_SHOWN));
        let attempts = letter.attempts().map(|attempts| attempts.to_string());
        self.table.row(vec![
            letter
                .at()
                .map_or_else(|| "-".to_owned(), |at| age(at, self.now)),
            or_dash(letter.id()),
            or_dash(letter.reason()),
            or_dash(attempts.as_deref()),
            or_dash(error.as_deref()),
            plain(letter.connector().1.unwrap_or(&letter.queue)),
        ]);
    }

    /// Its lines.
    pub(super) fn lines(&self, width: Option<usize>, colours: bool) -> Vec<String> {
        self.table.lines(width, colours)
    }
}

/// How long ago `at` was, in the two largest units.
fn age(at: Timestamp, now: Timestamp) -> String {
    let seconds = u64::try_from(now.duration_since(at).as_secs()).unwrap_or(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{minutes}m {}s", seconds % 60),
        3_600..86_400 => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

fn shortened(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Everything about `letter`, as `tidegate dead show` prints it.
pub(super) fn whole(letter: &Letter, colours: bool) -> String {
    let record = Record::full(letter, BODY_SHOWN);
    let mut text = String::new();
    head(&mut text, letter, &record, colours);
    if let Some(contents) = record.contents {
        values(&mut text, "properties", contents.properties);
        values(&mut text, "headers", contents.headers);
        let truncated = contents.truncated;
        match contents.body {
            Some(body) => text_body(&mut text, &body, record.body_bytes, truncated),
            None => binary_body(&mut text, &letter.delivery.body),
        }
    }
    text
}

/// The first lines of a dead letter: its id, its queue, its reason.
fn head(text: &mut String, letter: &Letter, record: &Record, colours: bool) {
    let id = record.id.as_deref();
    let id = id.map_or_else(|| "a message without an id".to_owned(), plain);
    let title = format!("{id} in {}", plain(&letter.delivery.queue));
    let title = style(title).bold().force_styling(colours).to_string();
    line(text, &title);
    let attempts = record.attempts.map(|attempts| attempts.to_string());
    let origin = letter.origin().to_string();
    let (id, name) = letter.connector();
    let connector = name.or(id);
    for (name, value) in [
        ("reason", record.reason.as_deref()),
        ("error", record.error.as_deref()),
        ("died", record.at.as_deref()),
        ("runs", attempts.as_deref()),
        ("worker", record.worker.as_deref()),
        ("connector", connector),
        ("replay to", Some(origin.as_str())),
    ] {
        if let Some(value) = value {
            line(text, &format!("  {name:<10} {}", plain(value)));
        }
    }
}

/// Properties or headers.
fn values(text: &mut String, title: &str, values: impl IntoIterator<Item = (String, Value)>) {
    let mut values = values.into_iter().peekable();
    if values.peek().is_some() {
        line(text, &format!("  {title}"));
    }
    for (name, value) in values {
        let value = match value {
            Value::String(value) => value,
            other => other.to_string(),
        };
        line(text, &format!("    {}: {}", plain(&name), plain(&value)));
    }
}

fn text_body(text: &mut String, body: &str, size: usize, truncated: bool) {
    let part = if truncated { ", the beginning" } else { "" };
    line(text, &format!("  body, {size} bytes{part}"));
    for body_line in body.lines() {
        line(text, &format!("    {}", plain(body_line)));
    }
}

fn binary_body(text: &mut String, body: &[u8]) {
    let (size, shown) = (body.len(), body.len().min(HEX_SHOWN));
    let part = if shown < size { ", the beginning" } else { "" };
    let title = format!("  body, {size} bytes that are no text{part}");
    line(text, &title);
    for (index, chunk) in body[..shown].chunks(HEX_LINE).enumerate() {
        line(text, &hex_line(index * HEX_LINE, chunk));
    }
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a string cannot fail");
}

fn hex_line(offset: usize, bytes: &[u8]) -> String {
    let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let visible = |byte: &u8| match byte {
        0x20..0x7f => char::from(*byte),
        _ => '.',
    };
    let shown: String = bytes.iter().map(visible).collect();
    format!("    {offset:06x}  {:<47}  {shown}", digits.join(" "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use tidegate::delivery::{Delivery, HeaderValue, header};
    use tidegate::internal::retry::{Purpose, seal};

    fn letter() -> Letter {
        let headers = [
            (header::REASON, "handler".into()),
            (header::ERROR, "no\ncustomer".into()),
            (header::ATTEMPTS, HeaderValue::I64(5)),
            (header::AT, "2026-11-23T10:00:00.000Z".into()),
            (header::EXCHANGE, "shop".into()),
            (header::ROUTING_KEY, "order.new".into()),
        ];
        let mut delivery = Delivery::new("orders.dead", "{\"order\":1}\nend");
        delivery.properties.message_id = Some("m-1".into());
        delivery.properties.headers = headers.map(|(name, value)| (name.to_owned(), value)).into();
        seal(Purpose::Dead, &mut delivery.properties, &delivery.body);
        Letter::new("orders", delivery)
    }

    #[test]
    fn a_list_has_a_line_for_each_letter() {
        let now: Timestamp = "2026-11-23T13:10:00Z".parse().unwrap();
        let mut list = List::new(now);
        list.add(&letter());
        assert_eq!(
            list.lines(None, false),
            [
                "     age  id   reason   runs  error        queue",
                "3h 10m    m-1  handler     5  no customer  orders"
            ]
            .map(|line| line
                .replace("3h 10m    ", "3h 10m  ")
                .replace("     age", "   age"))
        );
    }

    #[test]
    fn an_age_has_two_units_at_most() {
        let now: Timestamp = "2026-11-23T13:10:00Z".parse().unwrap();
        let before = |seconds: u64| age(now - Duration::from_secs(seconds), now);
        assert_eq!(before(61), "1m 1s");
        assert_eq!(before(3_600 * 3 + 61), "3h 1m");
        assert_eq!(before(86_400 * 2 + 3_700), "2d 1h");
        assert_eq!(
            age(now + Duration::from_secs(5), now),
            "0s",
            "a clock ahead"
        );
    }

    #[test]
    fn everything_about_a_letter_is_shown() {
        let letter = letter();
        let text = whole(&letter, false);
        let seal = letter.delivery.properties.headers[header::SEAL].to_text();
        let text = text.replace(&seal, "SEAL");
        assert_eq!(
            text,
            "m-1 in orders.dead\n  reason     handler\n  error      no customer\n  died       2026-11-23T10:00:00.000Z\n  \
             runs       5\n  replay to  exchange \"shop\" with routing key \"order.new\"\n  properties\n    \
             message_id: m-1\n  headers\n    x-tidegate-at: 2026-11-23T10:00:00.000Z\n    x-tidegate-attempts: 5\n    \
             x-tidegate-error: no customer\n    x-tidegate-exchange: shop\n    x-tidegate-reason: handler\n    \
             x-tidegate-routing-key: order.new\n    x-tidegate-seal: SEAL\n  body, 15 bytes\n    {\"order\":1}\n    end\n"
        );
    }

    #[test]
    fn a_body_that_is_no_text_is_shown_in_hexadecimal() {
        let mut letter = letter();
        letter.delivery.body = b"\x00\xffAB".to_vec().into();
        let text = whole(&letter, false);
        assert!(
            text.contains("000000  00 ff 41 42                                      ..AB\n"),
            "{text}"
        );
    }
}
