//! The broker: RabbitMQ, or one inside this process with the same semantics (unacknowledged
//! messages come again, in order, marked redelivered).

use bytes::Bytes;

/// A message as the broker hands it over.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Valid on the consumer that received it, and only there; rises by one a delivery, from 1.
    pub tag: u64,
    /// Whether the broker has handed it out before.
    pub redelivered: bool,
    /// AMQP `content-type`.
    pub content_type: Option<String>,
    /// AMQP `message-id`.
    pub message_id: Option<String>,
    /// Whether it carries the header `windlass-replay`: a settled tuple, to be counted after all.
    pub replay: bool,
    /// The body.
    pub body: Bytes,
}

/// A message for the quarantine queue, persistent and confirmed.
#[derive(Clone, Debug, PartialEq)]
pub struct QuarantineMessage {
    /// AMQP `message-id`: tells copies of one message apart from different messages.
    pub id: String,
    /// AMQP `content-type` of the body.
    pub content_type: Option<String>,
    /// Header `windlass-outcome`: `late`, `quarantined`, `undecodable` or `misrouted`.
    pub outcome: &'static str,
    /// Header `windlass-reason`, for a person.
    pub reason: String,
    /// Headers `windlass-source` and `windlass-seq`, where legible.
    pub identity: Option<(String, u64)>,
    /// Header `windlass-shard`: whose queue it came from.
    pub shard: u32,
    /// The original body, or the row as JSON when one row of a message is bad.
    pub body: Bytes,
}
