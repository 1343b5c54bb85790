//! The names of a stream's exchange and queues.

/// Most bytes that AMQP allows in a name, a routing key or a message id.
pub const SHORT_TEXT_BYTES: usize = 255;

/// One stream's exchange, shard queues and quarantine queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// The stream: exchange name and prefix of the queues.
    pub stream: String,
    /// How many shards; at least 1, fixed when the stream is created.
    pub shards: u32,
}

impl Topology {
    /// The exchange that producers publish to, with the source as routing key.
    pub fn exchange(&self) -> &str {
        &self.stream
    }

    /// AMQP type of the exchange: one shard takes everything, more share by hash of the source.
    pub fn exchange_type(&self) -> &'static str {
        if self.shards == 1 {
            "topic"
        } else {
            "x-consistent-hash"
        }
    }

    /// The key that binds a shard's queue: everything, or a weight.
    pub fn binding_key(&self) -> &'static str {
        if self.shards == 1 { "#" } else { "1" }
    }

    /// The queue of shard `shard`.
    pub fn queue(&self, shard: u32) -> String {
        format!("{}.{shard}", self.stream)
    }

    /// The queue that keeps what could not be counted.
    pub fn quarantine(&self) -> String {
        format!("{}.quarantine", self.stream)
    }
}
