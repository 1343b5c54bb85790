//! What can go wrong with a broker, sorted by what the caller does about it.

/// Why the broker could not be used. Messages never carry a password.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BrokerError {
    /// The URL is none that we understand.
    #[error(
        "the broker's URL {0}; expected amqp://USER:PASSWORD@HOST:5672/VHOST, amqps://… or memory:"
    )]
    BadUrl(String),
    /// Nobody answers there, or somebody who does not speak AMQP 0-9-1.
    #[error("cannot reach the broker at {address}: {reason}; check that it runs and the URL")]
    Unreachable {
        /// Host, port and vhost.
        address: String,
        /// What the network said.
        reason: String,
    },
    /// The broker knows no such user or password.
    #[error(
        "the broker at {address} refused user {user:?} or its password; \
         check the URL's credentials (RabbitMQ lets `guest` in from localhost only)"
    )]
    Credentials {
        /// Host, port and vhost.
        address: String,
        /// Whom it refused.
        user: String,
    },
    /// The vhost does not exist, or the user may not enter it.
    #[error(
        "the broker at {address} does not let user {user:?} into vhost {vhost:?}: {reason}; create \
         it with `rabbitmqctl add_vhost` and `set_permissions`, or correct the end of the URL"
    )]
    Vhost {
        /// Host, port and vhost.
        address: String,
        /// Who asked.
        user: String,
        /// Which vhost.
        vhost: String,
        /// What the broker said.
        reason: String,
    },
    /// The user lacks a privilege in the vhost.
    #[error(
        "the broker denies {what}: {reason}; grant the user configure, write and read on \
         \"{stream}.*\" with `rabbitmqctl set_permissions`"
    )]
    Denied {
        /// What was tried.
        what: String,
        /// What the broker said.
        reason: String,
        /// The stream whose names the user needs.
        stream: String,
    },
    /// More than one shard needs an exchange type that RabbitMQ keeps in a plugin.
    #[error(
        "the broker does not know the exchange type x-consistent-hash, which more than one shard \
         needs; run `rabbitmq-plugins enable rabbitmq_consistent_hash_exchange` on it"
    )]
    PluginMissing,
    /// The stream was created with another number of shards.
    #[error(
        "stream {stream:?} exists with another number of shards than {shards} ({reason}); the \
         number is fixed when a stream is created: pass that number, or drain the stream and start \
         a new one under another name"
    )]
    ShardsFixed {
        /// Which stream.
        stream: String,
        /// How many shards were asked for.
        shards: u32,
        /// How it shows.
        reason: String,
    },
    /// An exchange or queue of that name exists, but not as windlass needs it.
    #[error(
        "{what} exists with other properties than windlass needs ({reason}); \
         delete it when it is drained, or name the stream otherwise"
    )]
    Mismatch {
        /// Which exchange or queue.
        what: String,
        /// What the broker said.
        reason: String,
    },
    /// A message cannot be published as it is; trying again would not help.
    #[error("cannot publish: {0}")]
    Unpublishable(String),
    /// The broker did not take a message: returned, negatively acknowledged or not answered.
    #[error("the broker did not confirm a message for {to}: {reason}")]
    NotConfirmed {
        /// Exchange or queue.
        to: String,
        /// How it failed.
        reason: String,
    },
    /// The connection or the channel went away in mid-work; try again.
    #[error("the broker failed while {what}: {reason}")]
    Failed {
        /// What was tried.
        what: String,
        /// What the broker or the network said.
        reason: String,
    },
}

impl BrokerError {
    /// Whether trying again is pointless until a person has changed something.
    pub fn needs_a_person(&self) -> bool {
        !matches!(
            self,
            Self::Unreachable { .. } | Self::NotConfirmed { .. } | Self::Failed { .. }
        )
    }
}

/// Why a consumer gets no more deliveries. All its unacknowledged deliveries come again, to
/// whoever consumes next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelLost {
    /// The channel or its connection was closed.
    #[error("lost the channel of queue {queue}: {reason}")]
    Closed {
        /// Which queue.
        queue: String,
        /// What the broker or the network said.
        reason: String,
    },
    /// The broker ended the consumer alone: the queue was deleted, or has no leader.
    #[error(
        "the broker cancelled the consumer of queue {queue}: the queue was deleted or has no leader"
    )]
    Cancelled {
        /// Which queue.
        queue: String,
    },
}
