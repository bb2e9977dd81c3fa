//! Status messages as they come from the broker: read, and refused where they cannot be anybody's.

use thiserror::Error;

use tidegate::internal::status::wire::{Beat, Drain, Head, Kind, State, VERSION};

/// Bytes of a worker's id: with what is before it, it fits a queue's name and a routing key.
pub(super) const ID_LIMIT: usize = 200;
/// Bytes of a message's body.
pub(super) const BODY_LIMIT: usize = 4 << 20;

/// A status message.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// The worker's whole state.
    State(State),
    /// A heartbeat.
    Beat(Beat),
    /// The report of its drain.
    Drain(Drain),
}

/// Why a message is none of a worker's. It says no more of the message than its size and key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MessageError {
    /// The routing key has another first word.
    #[error("routing key {key:?} begins with none of state, beat and drain")]
    Kind {
        /// The routing key.
        key: String,
    },
    /// Too large.
    #[error("its body has {bytes} bytes, at most {BODY_LIMIT} are read")]
    TooLarge {
        /// Bytes of the body.
        bytes: usize,
    },
    /// Not the JSON that its schema wants.
    #[error("its body is not what a {kind} is: {cause}")]
    Json {
        /// The kind's word.
        kind: &'static str,
        /// What the parser says.
        cause: String,
    },
    /// A version that is not known.
    #[error("v is {version}; known is {VERSION}")]
    Version {
        /// The version.
        version: u32,
    },
    /// No id, or one that no queue can be named after.
    #[error("worker has {bytes} bytes; an id has 1 to {ID_LIMIT}")]
    Id {
        /// Bytes of the id.
        bytes: usize,
    },
    /// A worker speaks for another.
    #[error("routing key {key:?} is not that of worker {worker:?}")]
    Key {
        /// The routing key.
        key: String,
        /// The id in the body.
        worker: String,
    },
}

impl Message {
    /// Reads a message with its routing key.
    ///
    /// # Errors
    /// [`MessageError`], if it is not a status message of the worker that its routing key names.
    pub fn parse(routing_key: &str, body: &[u8]) -> Result<Self, MessageError> {
        let key = || routing_key.to_owned();
        let known = routing_key.split_once('.').and_then(|(word, id)| {
            let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == word)?;
            Some((kind, id))
        });
        let Some((kind, id)) = known else {
            return Err(MessageError::Kind { key: key() });
        };
        if body.len() > BODY_LIMIT {
            return Err(MessageError::TooLarge { bytes: body.len() });
        }
        let read = match kind {
            Kind::State => serde_json::from_slice(body).map(Self::State),
            Kind::Beat => serde_json::from_slice(body).map(Self::Beat),
            Kind::Drain => serde_json::from_slice(body).map(Self::Drain),
        };
        let message = read.map_err(|error| MessageError::Json {
            kind: kind.as_str(),
            cause: error.to_string(),
        })?;
        let head = message.head();
        if head.v != VERSION {
            return Err(MessageError::Version { version: head.v });
        }
        if head.worker.is_empty() || head.worker.len() > ID_LIMIT {
            return Err(MessageError::Id {
                bytes: head.worker.len(),
            });
        }
        if head.worker != id {
            return Err(MessageError::Key {
                key: key(),
                worker: head.worker.clone(),
            });
        }
        Ok(message)
    }

    /// What it begins with.
    pub fn head(&self) -> &Head {
        match self {
            Self::State(state) => &state.head,
            Self::Beat(beat) => &beat.head,
            Self::Drain(drain) => &drain.head,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT: &str = r#"{"v":1,"worker":"w-1","name":"w","seq":1,"at":"2026-11-23T10:00:00.000Z","lease_ms":1000,"load":0.5,"full":true,"nodes":[]}"#;

    #[test]
    fn a_message_is_the_worker_s_that_its_key_names() {
        let beat = Message::parse("beat.w-1", BEAT.as_bytes()).unwrap();
        assert!(matches!(beat, Message::Beat(_)));
        let rows = [
            ("beat.w-2", BEAT.to_owned(), "is not that of worker \"w-1\""),
            ("bleat.w-1", BEAT.to_owned(), "begins with none of"),
            ("beat", BEAT.to_owned(), "begins with none of"),
            ("drain.w-1", BEAT.to_owned(), "is not what a drain is"),
            ("beat.w-1", BEAT.replace("\"v\":1", "\"v\":2"), "v is 2"),
            ("beat.", BEAT.replace("w-1", ""), "0 bytes"),
            ("beat.w-1", "{".to_owned(), "is not what a beat is"),
            ("beat.w-1", " ".repeat(BODY_LIMIT + 1), "at most"),
        ];
        for (key, body, words) in rows {
            let error = Message::parse(key, body.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
