//! Streams (<https://www.rabbitmq.com/docs/streams>), as far as AMQP 0-9-1 can use them.

use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};

use super::declare::bind_queue;
use super::{BrokerError, Link, RPC_LIMIT, bounded, convert};

/// The largest segment of a stream, in bytes. A stream forgets by whole segments: smaller ones keep to its age
/// and size more closely.
const SEGMENT_BYTES: u64 = 16 << 20;
/// The smallest segment.
const SEGMENT_MIN_BYTES: u64 = 1 << 20;

/// Settings of a stream.
#[derive(Debug, Clone)]
pub struct Stream<'a> {
    /// Its name.
    pub name: &'a str,
    /// How old its messages become, in whole seconds.
    pub max_age: Duration,
    /// How large it becomes.
    pub max_bytes: u64,
    /// The exchange that it is bound to.
    pub exchange: &'a str,
    /// The binding keys.
    pub keys: &'a [&'a str],
}

/// Declares the stream and binds it. One that is there already with other limits is taken as it is; then the
/// broker's words say how it differs.
///
/// # Errors
/// [`BrokerError::Refused`] with 406 if the name is that of another kind of queue, 404 if the exchange is
/// missing, 403 without permission.
pub async fn ensure_stream(
    link: &Link,
    stream: &Stream<'_>,
) -> Result<Option<String>, BrokerError> {
    let name = convert::short("queue", stream.name)?;
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let declaring = link.channel().await?;
    let declare = declaring.queue_declare(name.clone(), options, arguments(stream));
    let differs = match bounded("queue.declare", RPC_LIMIT, declare).await {
        Ok(_) => None,
        Err(BrokerError::Refused {
            code: 406, text, ..
        }) if !text.contains("x-queue-type") => Some(text),
        Err(error) => return Err(error),
    };
    let binding = link.channel().await?;
    for key in stream.keys {
        bind_queue(&binding, stream.name, stream.exchange, key).await?;
    }
    Ok(differs)
}

fn arguments(stream: &Stream<'_>) -> FieldTable {
    let segment = (stream.max_bytes / 4).clamp(SEGMENT_MIN_BYTES, SEGMENT_BYTES);
    let text = |value: String| AMQPValue::LongString(value.into());
    let number = |value: u64| AMQPValue::LongLongInt(i64::try_from(value).unwrap_or(i64::MAX));
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("stream".to_owned()));
    let age = format!("{}s", stream.max_age.as_secs());
    arguments.insert("x-max-age".into(), text(age));
    arguments.insert("x-max-length-bytes".into(), number(stream.max_bytes));
    arguments.insert("x-stream-max-segment-size-bytes".into(), number(segment));
    arguments
}
