//! Dead letters for people.

use std::fmt::Write as _;

use console::style;
use jiff::Timestamp;

use crate::commands::table::{Column, Table, plain};
use crate::dead::{BODY_SHOWN, Letter, Record};

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
            plain(&letter.queue),
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
    let title = format!(
        "{} in {}",
        record
            .id
            .as_deref()
            .map_or_else(|| "a message without an id".to_owned(), plain),
        plain(&letter.delivery.queue),
    );
    line(
        &mut text,
        &style(title).bold().force_styling(colours).to_string(),
    );
    let at = record.at.clone();
    let attempts = record.attempts.map(|attempts| attempts.to_string());
    for (name, value) in [
        ("reason", record.reason),
        ("error", record.error),
        ("died", at),
        ("runs", attempts),
        ("worker", record.worker),
        ("replay to", Some(letter.origin().to_string())),
    ] {
        if let Some(value) = value {
            line(&mut text, &format!("  {name:<10} {}", plain(&value)));
        }
    }
    let Some(contents) = record.contents else {
        return text;
    };
    for (title, values) in [
        ("properties", contents.properties),
        ("headers", contents.headers),
    ] {
        if values.is_empty() {
            continue;
        }
        line(&mut text, &format!("  {title}"));
        for (name, value) in values {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            line(
                &mut text,
                &format!("    {}: {}", plain(&name), plain(&value)),
            );
        }
    }
    let size = record.body_bytes;
    if let Some(body) = contents.body {
        let cut = if contents.truncated {
            ", the beginning"
        } else {
            ""
        };
        line(&mut text, &format!("  body, {size} bytes{cut}"));
        for body_line in body.lines() {
            line(&mut text, &format!("    {}", plain(body_line)));
        }
        return text;
    }
    let shown = size.min(HEX_SHOWN);
    let cut = if shown < size { ", the beginning" } else { "" };
    let title = format!("  body, {size} bytes that are no text{cut}");
    line(&mut text, &title);
    for (index, chunk) in letter.delivery.body[..shown].chunks(HEX_LINE).enumerate() {
        line(&mut text, &hex_line(index * HEX_LINE, chunk));
    }
    text
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
    use tidegate::delivery::{Delivery, HeaderValue, Properties, header};

    fn letter() -> Letter {
        let headers = [
            (header::REASON, "handler".into()),
            (header::ERROR, "no\ncustomer".into()),
            (header::ATTEMPTS, HeaderValue::I64(5)),
            (header::AT, "2026-11-23T10:00:00.000Z".into()),
            (header::EXCHANGE, "shop".into()),
            (header::ROUTING_KEY, "order.new".into()),
        ];
        let delivery = Delivery {
            queue: "orders.dead".into(),
            exchange: String::new(),
            routing_key: "orders.dead".into(),
            redelivered: false,
            attempt: 1,
            properties: Properties {
                message_id: Some("m-1".into()),
                headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
                ..Properties::default()
            },
            body: "{\"order\":1}\nend".into(),
        };
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
        let text = whole(&letter(), false);
        assert_eq!(
            text,
            "m-1 in orders.dead\n  reason     handler\n  error      no customer\n  died       2026-11-23T10:00:00.000Z\n  \
             runs       5\n  replay to  exchange \"shop\" with routing key \"order.new\"\n  properties\n    \
             message_id: m-1\n  headers\n    x-tidegate-at: 2026-11-23T10:00:00.000Z\n    x-tidegate-attempts: 5\n    \
             x-tidegate-error: no customer\n    x-tidegate-exchange: shop\n    x-tidegate-reason: handler\n    \
             x-tidegate-routing-key: order.new\n  body, 15 bytes\n    {\"order\":1}\n    end\n"
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
