//! The headers that Tidegate puts on the copies it publishes: to delay queues and to dead-letter queues.

/// Why: the word of a [`Reason`](crate::handler::Reason).
pub const REASON: &str = "x-tidegate-reason";
/// What went wrong, in words.
pub const ERROR: &str = "x-tidegate-error";
/// How many times the message has been run.
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
/// A ULID, the same in every try to publish one copy: two messages with one such id are one message, sent
/// twice because the first confirm was lost.
pub const COPY: &str = "x-tidegate-copy";
/// Milliseconds since the Unix epoch before which the message is not to be run again.
pub const NOT_BEFORE: &str = "x-tidegate-not-before";
/// The property `expiration` of the message, which would make its copy expire.
pub const EXPIRATION: &str = "x-tidegate-expiration";
/// The property `user_id` of the message, which the broker takes only from that user.
pub const USER_ID: &str = "x-tidegate-user-id";
/// The header `CC` of the message, which would route its copy elsewhere, too.
pub const CC: &str = "x-tidegate-cc";

/// What all of them begin with.
pub const PREFIX: &str = "x-tidegate-";
