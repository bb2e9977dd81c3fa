//! Fields on the wire: short strings, and tables with all that they may hold.

use std::str;

use thiserror::Error;

/// The deepest nesting of tables and lists. The client library's parser, and much that follows it, recurses.
const MAX_DEPTH: usize = 32;

/// Why a message cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Fault {
    /// Text of a property, a header's name, an exchange or a routing key.
    #[error("the {0} is not UTF-8")]
    NotUtf8(&'static str),
    /// Tables or lists inside one another.
    #[error("a header is nested more than {MAX_DEPTH} levels deep")]
    TooDeep,
    /// A header's value of a type that AMQP 0-9-1 with RabbitMQ's additions does not have.
    #[error("a header has a value of unknown type 0x{0:02x}")]
    UnknownType(u8),
    /// Something is longer than what it stands in.
    #[error("the lengths inside the {0} do not add up")]
    Length(&'static str),
    /// Bits set that stand for no property.
    #[error("the property flags 0x{0:04x} name properties that do not exist")]
    Flags(u16),
    /// The content header does not fit a frame.
    #[error("the properties take {bytes} bytes, and a frame of this connection holds {limit}")]
    TooLarge {
        /// Bytes of the content header.
        bytes: usize,
        /// Bytes of a frame's payload.
        limit: usize,
    },
    /// A header whose name is the guard's own.
    #[error("the header {0:?} is reserved")]
    Reserved(&'static str),
}

/// Takes the first `count` bytes off `bytes`.
pub(super) fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn take_u32(bytes: &mut &[u8]) -> Option<usize> {
    let number = take(bytes, 4)?.first_chunk().copied()?;
    usize::try_from(u32::from_be_bytes(number)).ok()
}

/// Takes a short string off `bytes`: its content.
pub(super) fn take_short<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = *take(bytes, 1)?.first()?;
    take(bytes, length.into())
}

/// Takes a long string, or a table or list as a whole, off `bytes`: its content.
pub(super) fn take_long<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_u32(bytes)?;
    take(bytes, length)
}

/// Whether the client library takes `text` for a short string's.
pub(super) fn is_text(text: &[u8]) -> bool {
    text.is_ascii() || str::from_utf8(text).is_ok()
}

/// One entry of a table.
pub(super) struct Entry<'a> {
    /// Its name.
    pub(super) name: &'a [u8],
    /// All its bytes.
    pub(super) bytes: &'a [u8],
    /// The fault.
    pub(super) fault: Option<Fault>,
}

/// Takes an entry off `table`.
///
/// # Errors
/// If it cannot be told where the entry ends, so that nothing behind it can be read.
pub(super) fn take_entry<'a>(table: &mut &'a [u8]) -> Result<Entry<'a>, Fault> {
    let before = *table;
    let name = take_short(table).ok_or(Fault::Length("headers"))?;
    let fault = take_value(table, MAX_DEPTH)?.err();
    Ok(Entry {
        name,
        bytes: &before[..before.len() - table.len()],
        fault: if is_text(name) {
            fault
        } else {
            Some(Fault::NotUtf8("name of a header"))
        },
    })
}

/// Checks the content of a table.
pub(super) fn check_table(mut table: &[u8]) -> Result<(), Fault> {
    check_entries(&mut table, MAX_DEPTH)
}

fn check_entries(table: &mut &[u8], depth: usize) -> Result<(), Fault> {
    while !table.is_empty() {
        let name = take_short(table).ok_or(Fault::Length("headers"))?;
        if !is_text(name) {
            return Err(Fault::NotUtf8("name of a header"));
        }
        take_value(table, depth)??;
    }
    Ok(())
}

fn check_list(list: &mut &[u8], depth: usize) -> Result<(), Fault> {
    while !list.is_empty() {
        take_value(list, depth)??;
    }
    Ok(())
}

/// Takes a value off `bytes`. The outer error is one behind which nothing can be read, the inner one is inside the
/// value alone.
fn take_value(bytes: &mut &[u8], depth: usize) -> Result<Result<(), Fault>, Fault> {
    const CUT: Fault = Fault::Length("headers");
    let kind = *take(bytes, 1).and_then(<[u8]>::first).ok_or(CUT)?;
    let fixed = match kind {
        b'V' => 0,
        b't' | b'b' | b'B' => 1,
        b's' | b'U' | b'u' => 2,
        b'I' | b'i' | b'f' => 4,
        b'D' => 5,
        b'L' | b'l' | b'd' | b'T' => 8,
        b'S' | b'x' => return take_long(bytes).map(|_| Ok(())).ok_or(CUT),
        b'F' | b'A' => {
            let mut inside = take_long(bytes).ok_or(CUT)?;
            return Ok(match depth.checked_sub(1) {
                None => Err(Fault::TooDeep),
                Some(depth) if kind == b'F' => check_entries(&mut inside, depth),
                Some(depth) => check_list(&mut inside, depth),
            });
        }
        other => return Err(Fault::UnknownType(other)),
    };
    take(bytes, fixed).map(|_| Ok(())).ok_or(CUT)
}
