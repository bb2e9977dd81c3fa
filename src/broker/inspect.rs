//! Looking at what is there, changing nothing.
//!
//! Each look gets a channel of its own, for a refusal closes its channel.

use lapin::options::{BasicConsumeOptions, ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};

use super::declare::{declare_exchange, declare_queue};
use super::{BrokerError, Link, QueueFacts, RPC_LIMIT, bounded, convert};
use crate::config::QueueType;

/// Looks for a queue (`queue.declare` passive). Its arguments do not show.
///
/// # Errors
/// [`BrokerError::Refused`] with 404 if there is none, 405 if another connection has it exclusively.
pub async fn find_queue(link: &Link, name: &str) -> Result<QueueFacts, BrokerError> {
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let queue = declare_queue(link, name, options, FieldTable::default()).await?;
    Ok(QueueFacts {
        messages: queue.message_count(),
        consumers: queue.consumer_count(),
        single_active_consumer: false,
        delayed_retry: false,
        delivery_limit: false,
        kind: None,
    })
}

/// The type of the existing queue `name`; `None` if the broker does not tell.
///
/// Asks to consume with two arguments that are never valid together: an `x-priority` that is no number, and a place in
/// a stream that there is not. The refusal (406) says which type of queue does not have them, and no consumer comes to
/// be. A `basic.get` would tell a stream, too, but by closing the whole connection.
///
/// # Errors
/// [`BrokerError::Stream`]; [`BrokerError::Refused`] with 403 without permission, 404 if there is no such queue, 405
/// if another connection has it exclusively.
pub async fn queue_type(link: &Link, name: &str) -> Result<Option<QueueType>, BrokerError> {
    let channel = link.channel().await?;
    let mut arguments = FieldTable::default();
    // RabbitMQ 3.10 reads an offset as a number and a unit. Without a digit its channel crashes, and the connection ends.
    for (argument, value) in [("x-priority", "none"), ("x-stream-offset", "0none")] {
        arguments.insert(argument.into(), AMQPValue::LongString(value.into()));
    }
    let consume = channel.basic_consume(
        convert::short("queue", name)?,
        "".into(),
        BasicConsumeOptions::default(),
        arguments,
    );
    match bounded("basic.consume", RPC_LIMIT, consume).await {
        Err(BrokerError::Refused {
            code: 406, text, ..
        }) if says_stream(&text) => Err(BrokerError::Stream {
            queue: name.to_owned(),
        }),
        Err(BrokerError::Refused {
            code: 406, text, ..
        }) => Ok(told_type(&text)),
        Err(error) => Err(error),
        // A broker that takes any argument: closing the channel ends the consumer and hands back what came.
        Ok(_consumer) => {
            let close = channel.close(200, "OK".into());
            bounded("channel.close", RPC_LIMIT, close).await?;
            Ok(None)
        }
    }
}

/// Whether a refused `basic.consume` says that its queue is a stream.
fn says_stream(text: &str) -> bool {
    text.ends_with("of queue type rabbit_stream_queue") || text.contains("invalid_stream_offset")
}

/// The queue's type, from the text of a refused `basic.consume`.
fn told_type(text: &str) -> Option<QueueType> {
    let (_, told) = text.rsplit_once("of queue type rabbit_")?;
    match told {
        "quorum_queue" => Some(QueueType::Quorum),
        "classic_queue" => Some(QueueType::Classic),
        _ => None,
    }
}

/// Looks for an exchange (`exchange.declare` passive), of whatever type.
///
/// # Errors
/// [`BrokerError::Refused`] with 404 if there is none.
pub async fn find_exchange(link: &Link, name: &str) -> Result<(), BrokerError> {
    let options = ExchangeDeclareOptions {
        passive: true,
        ..ExchangeDeclareOptions::default()
    };
    declare_exchange(link, name, options).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_the_type_of_the_queue() {
        let text = |rest: &str| {
            format!(
                "PRECONDITION_FAILED - invalid arg 'x-stream-offset' for queue 'q' in vhost '/'{rest}"
            )
        };
        let quorum = text(" of queue type rabbit_quorum_queue");
        assert_eq!(told_type(&quorum), Some(QueueType::Quorum));
        let classic = text(" of queue type rabbit_classic_queue");
        assert_eq!(told_type(&classic), Some(QueueType::Classic));
        assert_eq!(
            told_type(&text(": \"expected integer, got longstr\"")),
            None
        );
        assert!(!says_stream(&quorum) && !says_stream(&classic));
        assert!(says_stream(&text(" of queue type rabbit_stream_queue")));
        assert!(says_stream(&text(
            ": {invalid_stream_offset_arg,{longstr,<<\"none\">>}}"
        )));
    }
}
