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
        is_new: false,
        messages: queue.message_count(),
        consumers: queue.consumer_count(),
        single_active_consumer: false,
        delayed_retry: false,
        delivery_limit: false,
        kind: None,
        differences: Vec::new(),
    })
}

/// The type of the existing queue `name`; `None` if the broker does not tell.
///
/// Asks to consume from a place in a stream that there is not. The refusal (406) says which type of queue does not have that
/// argument, and no consumer comes to be. Before 4.3 an `x-priority` that is no number goes with it, because old brokers
/// take arguments that they do not know; from 4.3 on the broker names only that. A `basic.get` would tell a stream, too,
/// but by closing the whole connection.
///
/// # Errors
/// [`BrokerError::Stream`], [`BrokerError::Unworkable`]; [`BrokerError::Refused`] with 403 without permission, 404 if there is no such queue, 405
/// if another connection has it exclusively.
pub async fn queue_type(link: &Link, name: &str) -> Result<Option<QueueType>, BrokerError> {
    let channel = link.channel().await?;
    let mut arguments = FieldTable::default();
    // RabbitMQ 3.10 reads an offset as a number and a unit. Without a digit its channel crashes, and the connection ends.
    let invalid = [("x-stream-offset", "0none"), ("x-priority", "none")];
    let count = if link.server().is_at_least(4, 3) {
        1
    } else {
        2
    };
    for (argument, value) in &invalid[..count] {
        arguments.insert((*argument).into(), AMQPValue::LongString((*value).into()));
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
        }) => told_type(name, &text),
        Err(error) => Err(error),
        // A broker that takes any argument: closing the channel ends the consumer and hands back what came.
        Ok(_consumer) => {
            let close = channel.close(200, "OK".into());
            bounded("channel.close", RPC_LIMIT, close).await?;
            Ok(None)
        }
    }
}

/// Which type a refused `basic.consume` says that its queue has.
fn told_type(queue: &str, text: &str) -> Result<Option<QueueType>, BrokerError> {
    if text.contains("invalid_stream_offset") {
        return Err(BrokerError::of_kind(queue, "stream"));
    }
    let Some((_, kind)) = text.rsplit_once(" of queue type ") else {
        return Ok(None);
    };
    match kind {
        "rabbit_quorum_queue" => Ok(Some(QueueType::Quorum)),
        "rabbit_classic_queue" => Ok(Some(QueueType::Classic)),
        "rabbit_stream_queue" => Err(BrokerError::of_kind(queue, "stream")),
        other => Err(BrokerError::of_kind(queue, other)),
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
        let told = |rest: &str| told_type("q", &text(rest));
        let quorum = told(" of queue type rabbit_quorum_queue");
        assert_eq!(quorum, Ok(Some(QueueType::Quorum)));
        let classic = told(" of queue type rabbit_classic_queue");
        assert_eq!(classic, Ok(Some(QueueType::Classic)));
        let nothing = told(": \"expected integer, got longstr\"");
        assert_eq!(nothing, Ok(None));
        let stream = BrokerError::Stream {
            queue: "q".to_owned(),
        };
        for words in [
            " of queue type rabbit_stream_queue",
            ": {invalid_stream_offset_arg,{longstr,<<\"none\">>}}",
        ] {
            assert_eq!(told(words), Err(stream.clone()));
        }
        let odd = told(" of queue type rabbit_mqtt_qos0_queue").unwrap_err();
        let text = odd.to_string();
        assert!(text.contains("of type rabbit_mqtt_qos0_queue"), "{text}");
        assert!(odd.is_refusal());
    }
}
