//! The headers that Tidegate puts on the copies it publishes, to delay queues and to dead-letter queues.
//!
//! What they say is believed only when [`SEAL`] proves that this message is the copy they were written for. A message
//! that merely inherited them is new.

/// Why the message was copied: the word of a [`Reason`](crate::handler::Reason).
pub const REASON: &str = "x-tidegate-reason";
/// The fault, in words.
pub const ERROR: &str = "x-tidegate-error";
/// The number of runs of the message.
pub const ATTEMPTS: &str = "x-tidegate-attempts";
/// The id of the worker that made the copy.
pub const WORKER: &str = "x-tidegate-worker";
/// The queue that the message was consumed from.
pub const QUEUE: &str = "x-tidegate-queue";
/// The exchange that the message was first published to.
pub const EXCHANGE: &str = "x-tidegate-exchange";
/// The routing key that the message was first published with.
pub const ROUTING_KEY: &str = "x-tidegate-routing-key";
/// When the copy was made, as RFC 3339 in UTC.
pub const AT: &str = "x-tidegate-at";
/// A ULID. It stays the same in every try to publish one copy: two sealed copies for one queue with the same id and
/// the same content are one message, published twice because the first confirm was lost.
pub const COPY: &str = "x-tidegate-copy";
/// Milliseconds since the Unix epoch before which the message is not to be run again.
pub const NOT_BEFORE: &str = "x-tidegate-not-before";
/// Milliseconds since the Unix epoch at which the message's time to live ends.
pub const EXPIRES_AT: &str = "x-tidegate-expires-at";
/// The property `expiration` of a dead letter's message; the property itself would make the dead letter expire.
pub const EXPIRATION: &str = "x-tidegate-expiration";
/// The property `user_id` of a dead letter's message; the broker accepts the property only from that user.
pub const USER_ID: &str = "x-tidegate-user-id";
/// The header `CC` of a dead letter's message; the header itself would route the dead letter elsewhere, too.
pub const CC: &str = "x-tidegate-cc";
/// A table: the properties and headers of the message that the copy could not keep in their places.
pub const ORIGINAL: &str = "x-tidegate-original";
/// A list: the names of headers that the copy had no room for.
pub const OMITTED: &str = "x-tidegate-omitted";
/// A hash over the copy. It proves that the other `x-tidegate-*` headers were written for this message.
pub const SEAL: &str = "x-tidegate-seal";

/// The prefix of all of them.
pub const PREFIX: &str = "x-tidegate-";

/// Marks a delivery whose properties or routing key the client library could not have read: why, in words. No
/// sender can set it: the guard on the connection takes a message that has it for an undecodable one.
pub const UNDECODABLE: &str = "x-tidegate-undecodable";
/// The original property flags and properties of an undecodable message, in base64; the beginning, if there is too much
/// of them.
pub const PROPERTIES: &str = "x-tidegate-properties";

/// How often a quorum queue has taken the message back as failed.
pub const DELIVERY_COUNT: &str = "x-delivery-count";
/// How often a quorum queue of RabbitMQ 4 had delivered the message before.
pub const ACQUIRED_COUNT: &str = "x-acquired-count";
