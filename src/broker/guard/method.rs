//! The methods that a broker sends (AMQP 0-9-1 with RabbitMQ's additions), as far as they hold text.

use super::Violation;
use super::field::{Fault, check_table, is_text, take, take_entry, take_long, take_short};

/// The longest text of a short string.
const SHORT_BYTES: usize = 255;
/// `%` and two digits.
const ESCAPE_BYTES: usize = 3;

/// One field of a method.
#[derive(Debug, Clone, Copy)]
enum Field {
    /// So many bytes that may be anything.
    Fixed(usize),
    /// A short string, and what it is in words.
    Short(&'static str),
    /// A long string, whose bytes may be anything.
    Long,
    /// A field table.
    Table,
}

use Field::{Fixed, Long, Short, Table};

/// The result of a check.
#[derive(Debug)]
pub(super) enum Checked {
    /// The library can read it.
    Fine,
    /// It is a readable `connection.start`.
    Start,
    /// It is `connection.tune`.
    Tune { frame_max: u32 },
    /// The library could not read it.
    Mended {
        /// The part that it can read.
        payload: Vec<u8>,
        /// The fault.
        fault: Fault,
        /// Whether a content header follows on the channel.
        content_follows: bool,
    },
}

/// The fields of a method that a broker may send.
#[expect(
    clippy::match_same_arms,
    reason = "one line for each method, in the order of the specification"
)]
fn fields(class: u16, method: u16) -> Option<&'static [Field]> {
    Some(match (class, method) {
        // basic.deliver, get-ok, return
        (60, 60) => &[
            Short("consumer tag"),
            Fixed(9),
            Short("exchange"),
            Short("routing key"),
        ],
        (60, 71) => &[Fixed(9), Short("exchange"), Short("routing key"), Fixed(4)],
        (60, 50) => &[
            Fixed(2),
            Short("reply text"),
            Short("exchange"),
            Short("routing key"),
        ],
        // basic.ack, nack; get-empty; cancel; consume-ok, cancel-ok
        (60, 80 | 120) => &[Fixed(9)],
        (60, 72) => &[Short("cluster id")],
        (60, 30) => &[Short("consumer tag"), Fixed(1)],
        (60, 21 | 31) => &[Short("consumer tag")],
        // connection.start, secure, tune, open-ok
        (10, 10) => &[Fixed(2), Table, Long, Long],
        (10, 20) => &[Long],
        (10, 30) => &[Fixed(8)],
        (10, 41) => &[Short("known hosts")],
        // connection.close, channel.close
        (10, 50) | (20, 40) => &[Fixed(2), Short("reply text"), Fixed(4)],
        (10, 60) => &[Short("reason")],
        // channel.open-ok, flow, flow-ok
        (20, 11) => &[Long],
        (20, 20 | 21) => &[Fixed(1)],
        // queue.declare-ok, purge-ok, delete-ok
        (50, 11) => &[Short("queue"), Fixed(8)],
        (50, 31 | 41) => &[Fixed(4)],
        // close-ok, unblocked, update-secret-ok; close-ok; exchange.*-ok; bind-ok, unbind-ok; qos-ok, recover-ok;
        // confirm.select-ok; tx.*-ok
        (10, 51 | 61 | 71)
        | (20, 41)
        | (40, 11 | 21 | 31 | 51)
        | (50, 21 | 51)
        | (60, 11 | 111)
        | (85, 11)
        | (90, 11 | 21 | 31) => &[],
        _ => return None,
    })
}

/// Checks the payload of a method frame.
pub(super) fn check(payload: &[u8]) -> Result<Checked, Violation> {
    let Some([c0, c1, m0, m1]) = payload.first_chunk::<4>().copied() else {
        return Err(Violation::Method {
            class: 0,
            method: 0,
        });
    };
    let (class, method) = (u16::from_be_bytes([c0, c1]), u16::from_be_bytes([m0, m1]));
    let unreadable = Violation::Method { class, method };
    let Some(fields) = fields(class, method) else {
        return Err(unreadable);
    };
    let fault = find_fault(fields, &payload[4..]).ok_or(unreadable)?;
    Ok(match (fault, class, method) {
        (Some(fault), ..) => Checked::Mended {
            payload: mended(fields, payload),
            fault,
            content_follows: class == 60 && matches!(method, 50 | 60 | 71),
        },
        (None, 10, 10) => Checked::Start,
        (None, 10, 30) => Checked::Tune {
            frame_max: u32::from_be_bytes([payload[6], payload[7], payload[8], payload[9]]),
        },
        _ => Checked::Fine,
    })
}

/// The field that the library could not read; `None` if the fields do not fill `rest` exactly.
#[expect(
    clippy::option_option,
    reason = "fields that are sound are something else than fields that do not fit"
)]
fn find_fault(fields: &[Field], mut rest: &[u8]) -> Option<Option<Fault>> {
    let mut fault = None;
    for field in fields {
        let found = match *field {
            Fixed(count) => take(&mut rest, count).map(|_| None)?,
            Long => take_long(&mut rest).map(|_| None)?,
            Short(what) => (!is_text(take_short(&mut rest)?)).then_some(Fault::NotUtf8(what)),
            Table => check_table(take_long(&mut rest)?).err(),
        };
        fault = fault.or(found);
    }
    rest.is_empty().then_some(fault)
}

/// The payload with text that the library can read. The fields are known to fill it.
fn mended(fields: &[Field], payload: &[u8]) -> Vec<u8> {
    let (ids, mut rest) = payload.split_at(4);
    let mut mended = ids.to_vec();
    for field in fields {
        let before = rest;
        match *field {
            Short(_) => {
                let text = escaped(take_short(&mut rest).unwrap_or_default());
                mended.push(u8::try_from(text.len()).expect("an escaped text is short"));
                mended.extend_from_slice(text.as_bytes());
                continue;
            }
            Table => {
                let table = readable(take_long(&mut rest).unwrap_or_default());
                let length = u32::try_from(table.len()).expect("it is no longer than it was");
                mended.extend_from_slice(&length.to_be_bytes());
                mended.extend_from_slice(&table);
                continue;
            }
            Long => take_long(&mut rest),
            Fixed(count) => take(&mut rest, count),
        };
        mended.extend_from_slice(&before[..before.len() - rest.len()]);
    }
    mended
}

/// The entries of a table that can be read.
fn readable(mut table: &[u8]) -> Vec<u8> {
    let mut readable = Vec::new();
    while !table.is_empty() {
        let Ok(entry) = take_entry(&mut table) else {
            break;
        };
        if entry.fault.is_none() {
            readable.extend_from_slice(entry.bytes);
        }
    }
    readable
}

/// `text` with every byte that is not UTF-8 as `%` and two digits, cut to what a short string holds.
fn escaped(text: &[u8]) -> String {
    let mut escaped = String::new();
    for chunk in text.utf8_chunks() {
        escaped.push_str(chunk.valid());
        for byte in chunk.invalid() {
            if escaped.len() + ESCAPE_BYTES > SHORT_BYTES {
                break;
            }
            escaped.push('%');
            for digit in [byte >> 4, byte & 15] {
                let digit = char::from_digit(digit.into(), 16).expect("it is below 16");
                escaped.push(digit.to_ascii_uppercase());
            }
        }
    }
    escaped.truncate(escaped.floor_char_boundary(SHORT_BYTES));
    escaped
}
