//! The broker: RabbitMQ, or one inside this process with the same semantics (unacknowledged
//! messages come again, in order, marked redelivered).
//!
//! [`Broker`] and [`Consumer`] are closed enums over the two; callers never see which. Only the
//! `amqp` module knows the AMQP client. Nothing here reconnects behind the caller's back: a lost
//! channel ends its [`Consumer`], and the next [`Broker::consume`] opens a new one.

mod amqp;
mod error;
mod memory;
mod quarantine;
mod topology;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use error::{BrokerError, ChannelLost};
pub use quarantine::{QuarantineFilter, QuarantineMessage, Quarantined, Replayed};
pub use topology::{SHORT_TEXT_BYTES, Topology};

/// Header of a message that carries a settled tuple, to be counted after all.
pub const REPLAY_HEADER: &str = "windlass-replay";

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

/// A stream's broker. Clones share connections (AMQP) or the queues themselves (memory).
#[derive(Clone, Debug)]
pub enum Broker {
    /// RabbitMQ.
    Amqp(Arc<amqp::Amqp>),
    /// Queues in this process, gone with it.
    Memory(Arc<memory::Memory>),
}

impl Broker {
    /// Connects to `amqp://…` or `amqps://…`, or makes an empty in-process broker for `memory:`.
    ///
    /// # Errors
    /// A bad URL, nobody there, refused credentials, a vhost that does not exist.
    pub async fn connect(url: &str, topology: &Topology) -> Result<Self, BrokerError> {
        if url == "memory:" {
            return Ok(Self::Memory(Arc::new(memory::Memory::new(
                topology.clone(),
            ))));
        }
        let amqp = amqp::Amqp::connect(url, topology.clone()).await?;
        Ok(Self::Amqp(Arc::new(amqp)))
    }

    /// The stream's names.
    pub fn topology(&self) -> &Topology {
        match self {
            Self::Amqp(amqp) => amqp.topology(),
            Self::Memory(memory) => memory.topology(),
        }
    }

    /// Creates the exchange, the shards' queues and the quarantine queue where they are missing.
    ///
    /// # Errors
    /// If they exist with another number of shards or other properties, if the plugin for more than
    /// one shard is missing, or if the user may not create them.
    pub async fn declare(&self) -> Result<(), BrokerError> {
        match self {
            Self::Amqp(amqp) => amqp.declare().await,
            Self::Memory(_) => Ok(()),
        }
    }

    /// Consumes a shard's queue on a channel of its own, with at most `prefetch` (≥ 1) deliveries
    /// unacknowledged. The queue has one active consumer; a second one waits without deliveries
    /// until the first is gone.
    ///
    /// # Errors
    /// If the connection cannot be opened again, or the queue does not exist.
    pub async fn consume(&self, shard: u32, prefetch: u16) -> Result<Consumer, BrokerError> {
        Ok(match self {
            Self::Amqp(amqp) => Consumer::Amqp(Box::new(amqp.consume(shard, prefetch).await?)),
            Self::Memory(memory) => Consumer::Memory(memory.consume(shard, prefetch)?),
        })
    }

    /// Publishes to the quarantine queue; returns when the broker has confirmed every message. After
    /// an error any of them may have arrived: sending all again makes copies with the same id.
    ///
    /// # Errors
    /// If a message was returned, refused or not confirmed within half a minute.
    pub async fn quarantine(&self, messages: Vec<QuarantineMessage>) -> Result<(), BrokerError> {
        match self {
            Self::Amqp(amqp) => amqp.quarantine(messages).await,
            Self::Memory(memory) => {
                memory.quarantine(messages);
                Ok(())
            }
        }
    }

    /// The first `limit` quarantined messages that `filter` lets pass; all stay where they are.
    ///
    /// # Errors
    /// If the broker fails.
    pub async fn browse_quarantine(
        &self,
        filter: &QuarantineFilter,
        limit: usize,
    ) -> Result<Vec<Quarantined>, BrokerError> {
        match self {
            Self::Amqp(amqp) => amqp.browse_quarantine(filter, limit).await,
            Self::Memory(memory) => Ok(memory.browse_quarantine(filter, limit)),
        }
    }

    /// Publishes the quarantined messages that `filter` lets pass to the stream again, and removes
    /// each once the broker has confirmed its new copy: at least once.
    ///
    /// # Errors
    /// If the broker fails; what was confirmed until then is replayed.
    pub async fn replay_quarantine(
        &self,
        filter: &QuarantineFilter,
    ) -> Result<Replayed, BrokerError> {
        match self {
            Self::Amqp(amqp) => amqp.replay_quarantine(filter).await,
            Self::Memory(memory) => Ok(memory.replay_quarantine(filter)),
        }
    }

    /// Removes the quarantined messages that were put there before `before`, seconds since 1970, and
    /// says how many that were. Those that do not say when they came stay.
    ///
    /// # Errors
    /// If the broker fails; what was removed until then stays removed.
    pub async fn expire_quarantine(&self, before: i64) -> Result<u64, BrokerError> {
        match self {
            Self::Amqp(amqp) => amqp.expire_quarantine(before).await,
            // It ends with its process, which ends before anything is old.
            Self::Memory(_) => Ok(0),
        }
    }

    /// Publishes one message to the stream and returns when the broker has it. For the in-process
    /// demo and for tests; waits while the in-process broker holds its bound of bytes.
    ///
    /// # Errors
    /// If the message was returned (no queue), refused or not confirmed.
    pub async fn publish(
        &self,
        routing_key: &str,
        content_type: Option<&str>,
        body: Bytes,
    ) -> Result<(), BrokerError> {
        match self {
            Self::Amqp(amqp) => amqp.publish(routing_key, content_type, body).await,
            Self::Memory(memory) => memory.publish(routing_key, content_type, body).await,
        }
    }

    /// Closes the connections; consumers end with [`ChannelLost::Closed`].
    pub async fn close(&self) {
        match self {
            Self::Amqp(amqp) => amqp.close().await,
            Self::Memory(memory) => memory.close(),
        }
    }
}

/// Consumes one shard's queue on one channel. Dropping it returns what is unacknowledged.
#[derive(Debug)]
pub enum Consumer {
    /// A RabbitMQ channel.
    Amqp(Box<amqp::AmqpConsumer>),
    /// A consumer of an in-process queue.
    Memory(memory::MemoryConsumer),
}

impl Consumer {
    /// Waits for the next delivery. Cancel safe: a dropped call loses none.
    ///
    /// # Errors
    /// When the channel is gone; no call returns a delivery afterwards.
    pub async fn next(&mut self) -> Result<Delivery, ChannelLost> {
        match self {
            Self::Amqp(consumer) => consumer.next().await,
            Self::Memory(consumer) => consumer.next().await,
        }
    }

    /// The next delivery if one is already here.
    ///
    /// # Errors
    /// As [`Consumer::next`].
    pub fn try_next(&mut self) -> Result<Option<Delivery>, ChannelLost> {
        match self {
            Self::Amqp(consumer) => consumer.try_next(),
            Self::Memory(consumer) => consumer.try_next(),
        }
    }

    /// Acknowledges every delivery up to and including `tag`; sent, not answered.
    ///
    /// # Errors
    /// When the channel is gone: the deliveries come again.
    pub async fn ack(&self, tag: u64) -> Result<(), ChannelLost> {
        match self {
            Self::Amqp(consumer) => consumer.ack(tag).await,
            Self::Memory(consumer) => consumer.ack(tag),
        }
    }

    /// How many messages the queue holds that no consumer was given. When it is 0, every message
    /// that was in the queue at the time of the call has been returned by [`Consumer::next`] or will
    /// be by [`Consumer::try_next`] (in a cluster, if we are connected to the node of the queue's leader;
    /// else it may follow after the replication lag). `None` if the broker does not know at the moment.
    ///
    /// # Errors
    /// When the channel is gone.
    pub async fn ready_count(&self) -> Result<Option<u32>, ChannelLost> {
        match self {
            Self::Amqp(consumer) => consumer.ready_count().await,
            Self::Memory(consumer) => consumer.ready_count(),
        }
    }

    /// After how long the broker has dropped a consumer like this one that fell silent, and has
    /// returned what it held; `None` if it never does (heartbeats are off).
    pub fn silence_limit(&self) -> Option<Duration> {
        match self {
            Self::Amqp(consumer) => consumer.silence_limit(),
            // It lives and dies with its process, as the queue does.
            Self::Memory(_) => Some(Duration::ZERO),
        }
    }

    /// Closes the channel; what is unacknowledged returns to the queue at once. Whether the broker
    /// has said so: if not, it may think for a while that the consumer lives.
    pub async fn close(self) -> bool {
        match self {
            Self::Amqp(consumer) => consumer.close().await,
            Self::Memory(consumer) => {
                drop(consumer);
                true
            }
        }
    }
}
