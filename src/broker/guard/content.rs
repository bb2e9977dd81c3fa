//! Content headers: class, weight, body size, property flags, properties (AMQP 0-9-1, 4.2.6.1).

use super::field::{Fault, is_text, take, take_entry, take_long, take_short};

/// The name of the header that marks a replaced content header. Its value is a table.
pub(in crate::broker) const MARK: &str = "x-tidegate-undecodable";
/// In the mark: what is wrong, in words.
pub(in crate::broker) const MARK_REASON: &str = "reason";
/// In the mark: the original property flags and properties, or their beginning.
pub(in crate::broker) const MARK_PROPERTIES: &str = "properties";

/// Class, weight, body size.
const PREFIX_BYTES: usize = 12;
/// The fields that every content header has: class, weight, body size, property flags.
pub(super) const FIXED_BYTES: usize = PREFIX_BYTES + 2;
/// The flag of the headers.
const HEADERS_FLAG: u16 = 1 << 13;
/// Bits of the flags that stand for no property.
const NO_PROPERTY: u16 = 0b11;
/// A content header and the copy of it that becomes a dead letter carry the original properties, the readable
/// headers, and more beside them. So each of the two gets this part of a frame at most.
const PART: usize = 3;
/// The most bytes that the mark takes beside the original properties.
const MARK_OVERHEAD: usize = 300;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Short,
    Table,
    Octet,
    Timestamp,
}

/// The properties in the order of their flags, from the highest bit down.
const PROPERTIES: [(&str, Kind); 14] = [
    ("property content_type", Kind::Short),
    ("property content_encoding", Kind::Short),
    ("headers", Kind::Table),
    ("property delivery_mode", Kind::Octet),
    ("property priority", Kind::Octet),
    ("property correlation_id", Kind::Short),
    ("property reply_to", Kind::Short),
    ("property expiration", Kind::Short),
    ("property message_id", Kind::Short),
    ("property timestamp", Kind::Timestamp),
    ("property type", Kind::Short),
    ("property user_id", Kind::Short),
    ("property app_id", Kind::Short),
    ("property cluster_id", Kind::Short),
];

/// The properties that `flags` names, each with its own flag.
fn present(flags: u16) -> impl Iterator<Item = (u16, &'static str, Kind)> {
    let bits = (0..16).map(|place| 1_u16 << (15 - place));
    let properties = bits.zip(PROPERTIES);
    properties
        .filter_map(move |(bit, (name, kind))| (flags & bit != 0).then_some((bit, name, kind)))
}

fn flags_of(payload: &[u8]) -> u16 {
    u16::from_be_bytes([payload[PREFIX_BYTES], payload[PREFIX_BYTES + 1]])
}

/// Checks a content header of at least [`FIXED_BYTES`].
pub(super) fn check(payload: &[u8]) -> Result<(), Fault> {
    let flags = flags_of(payload);
    if flags & NO_PROPERTY != 0 {
        return Err(Fault::Flags(flags));
    }
    let mut rest = &payload[FIXED_BYTES..];
    for (_, name, kind) in present(flags) {
        let cut = Fault::Length(name);
        match kind {
            Kind::Octet => drop(take(&mut rest, 1).ok_or(cut)?),
            Kind::Timestamp => drop(take(&mut rest, 8).ok_or(cut)?),
            Kind::Short => {
                if !is_text(take_short(&mut rest).ok_or(cut)?) {
                    return Err(Fault::NotUtf8(name));
                }
            }
            Kind::Table => check_headers(take_long(&mut rest).ok_or(cut)?)?,
        }
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(Fault::Length("properties"))
    }
}

fn check_headers(mut headers: &[u8]) -> Result<(), Fault> {
    while !headers.is_empty() {
        let entry = take_entry(&mut headers)?;
        if let Some(fault) = entry.fault {
            return Err(fault);
        }
        if entry.name == MARK.as_bytes() {
            return Err(Fault::Reserved(MARK));
        }
    }
    Ok(())
}

/// A content header that the client library can read, in place of `payload`, with a body of the same size. It is
/// marked, keeps what can be read, and has at most `limit` bytes. `payload` may be the beginning of a content header
/// of `bytes` bytes.
pub(super) fn replace(payload: &[u8], bytes: usize, fault: &Fault, limit: usize) -> Vec<u8> {
    let (prefix, original) = payload.split_at(PREFIX_BYTES);
    let mut flags = HEADERS_FLAG;
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let mut headers: &[u8] = &[];
    let mut rest = &payload[FIXED_BYTES..];
    for (bit, _, kind) in present(flags_of(payload)) {
        let from = rest;
        let readable = match kind {
            Kind::Octet => take(&mut rest, 1).map(|_| true),
            Kind::Timestamp => take(&mut rest, 8).map(|_| true),
            Kind::Short => take_short(&mut rest).map(is_text),
            Kind::Table => take_long(&mut rest).map(|table| {
                headers = table;
                false
            }),
        };
        match readable {
            Some(true) => {
                flags |= bit;
                let side = if bit > HEADERS_FLAG {
                    &mut before
                } else {
                    &mut after
                };
                side.extend_from_slice(&from[..from.len() - rest.len()]);
            }
            Some(false) => {}
            // It is not known where it ends, so nothing behind it can be read.
            None => break,
        }
    }
    let room = limit.saturating_sub(FIXED_BYTES + before.len() + after.len() + MARK_OVERHEAD);
    let part = (limit / PART).min(room / 2);
    let mut table = readable_headers(headers, part);
    let kept = original.get(..part).unwrap_or(original);
    let mut reason = fault.to_string();
    if kept.len() + PREFIX_BYTES < bytes {
        let lost = bytes - PREFIX_BYTES - kept.len();
        reason = format!("{reason}; the last {lost} bytes of its properties are lost");
    }
    push_mark(&mut table, &reason, kept);

    let mut replaced = prefix.to_vec();
    replaced.extend_from_slice(&flags.to_be_bytes());
    replaced.append(&mut before);
    push_long(&mut replaced, &table);
    replaced.append(&mut after);
    replaced
}

/// The entries of `headers` that can be read; none if they take more than `limit` bytes.
fn readable_headers(mut headers: &[u8], limit: usize) -> Vec<u8> {
    let mut readable = Vec::new();
    while !headers.is_empty() {
        let Ok(entry) = take_entry(&mut headers) else {
            break;
        };
        if entry.fault.is_none() && entry.name != MARK.as_bytes() {
            readable.extend_from_slice(entry.bytes);
        }
        if readable.len() > limit {
            return Vec::new();
        }
    }
    readable
}

fn push_mark(table: &mut Vec<u8>, reason: &str, properties: &[u8]) {
    let mut mark = Vec::new();
    push_name(&mut mark, MARK_REASON);
    mark.push(b'S');
    push_long(&mut mark, reason.as_bytes());
    push_name(&mut mark, MARK_PROPERTIES);
    mark.push(b'x');
    push_long(&mut mark, properties);
    push_name(table, MARK);
    table.push(b'F');
    push_long(table, &mark);
}

fn push_name(table: &mut Vec<u8>, name: &str) {
    table.push(u8::try_from(name.len()).expect("the guard's own names are short"));
    table.extend_from_slice(name.as_bytes());
}

fn push_long(into: &mut Vec<u8>, content: &[u8]) {
    let length = u32::try_from(content.len()).expect("what fits a frame fits a long string");
    into.extend_from_slice(&length.to_be_bytes());
    into.extend_from_slice(content);
}
