//! RabbitMQ. This module and its children alone name the AMQP client.
//!
//! Consuming and publishing have a connection each, because a broker short of memory or disk stops
//! reading from publishing connections, and acknowledgements must still pass. The client's own
//! recovery stays off: delivery tags must never outlive their channel.

mod address;
mod consumer;
mod declare;
mod fault;
mod publisher;
mod quarantine;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use lapin::Connection;
use tokio::sync::Mutex;

use super::{BrokerError, QuarantineFilter, QuarantineMessage, Quarantined, Replayed, Topology};
use address::Address;
pub use consumer::AmqpConsumer;
use fault::within;
use publisher::Publisher;

/// How long the broker may take to answer before it counts as gone.
const ANSWER: Duration = Duration::from_secs(30);

/// How long closing may take before the socket is simply dropped.
const GOODBYE: Duration = Duration::from_secs(2);

/// The broker of one stream on a RabbitMQ server.
pub struct Amqp {
    address: Address,
    topology: Topology,
    consuming: Mutex<Connection>,
    publishing: Mutex<Option<Publisher>>,
}

impl Amqp {
    pub(super) async fn connect(url: &str, topology: Topology) -> Result<Self, BrokerError> {
        let address = Address::parse(url)?;
        let consuming = address.connect("windlass dispatcher").await?;
        Ok(Self {
            address,
            topology,
            consuming: Mutex::new(consuming),
            publishing: Mutex::new(None),
        })
    }

    pub(super) fn topology(&self) -> &Topology {
        &self.topology
    }

    pub(super) async fn declare(&self) -> Result<(), BrokerError> {
        let mut connection = self.consuming.lock().await;
        self.revive(&mut connection).await?;
        declare::declare(&connection, &self.topology).await
    }

    pub(super) async fn consume(
        &self,
        shard: u32,
        prefetch: u16,
    ) -> Result<AmqpConsumer, BrokerError> {
        let mut connection = self.consuming.lock().await;
        self.revive(&mut connection).await?;
        AmqpConsumer::open(&connection, self.topology.queue(shard), prefetch).await
    }

    pub(super) async fn quarantine(
        &self,
        messages: Vec<QuarantineMessage>,
    ) -> Result<(), BrokerError> {
        let queue = self.topology.quarantine();
        let mut outgoing = Vec::with_capacity(messages.len());
        for message in messages {
            outgoing.push(quarantine::to_wire(message.fitted(), &queue)?);
        }
        self.publish_all(&outgoing).await
    }

    pub(super) async fn publish(
        &self,
        routing_key: &str,
        content_type: Option<&str>,
        body: Bytes,
    ) -> Result<(), BrokerError> {
        let message = publisher::Outgoing::to_stream(
            &self.topology,
            routing_key,
            content_type,
            None,
            false,
            body,
        )?;
        self.publish_all(&[message]).await
    }

    async fn publish_all(&self, messages: &[publisher::Outgoing]) -> Result<(), BrokerError> {
        let mut slot = self.publishing.lock().await;
        // Taken out while in use: a call that fails or is cancelled leaves no half-used channel.
        let publisher = match slot.take().filter(Publisher::is_open) {
            Some(publisher) => publisher,
            None => Publisher::open(&self.address).await?,
        };
        publisher.publish_all(messages).await?;
        *slot = Some(publisher);
        Ok(())
    }

    pub(super) async fn browse_quarantine(
        &self,
        filter: &QuarantineFilter,
        limit: usize,
    ) -> Result<Vec<Quarantined>, BrokerError> {
        let publisher = Publisher::open(&self.address).await?;
        quarantine::browse(&publisher, &self.topology, filter, limit).await
    }

    pub(super) async fn replay_quarantine(
        &self,
        filter: &QuarantineFilter,
    ) -> Result<Replayed, BrokerError> {
        let publisher = Publisher::open(&self.address).await?;
        quarantine::replay(&publisher, &self.topology, filter).await
    }

    pub(super) async fn expire_quarantine(&self, before: i64) -> Result<u64, BrokerError> {
        let publisher = Publisher::open(&self.address).await?;
        let expired = quarantine::expire(&publisher, &self.topology, before).await;
        publisher.close().await;
        expired
    }

    pub(super) async fn close(&self) {
        let consuming = self.consuming.lock().await;
        if consuming.status().connected() {
            let _ = tokio::time::timeout(GOODBYE, consuming.close(200, "bye".into())).await;
        }
        if let Some(publisher) = self.publishing.lock().await.take() {
            publisher.close().await;
        }
    }

    /// Opens the consuming connection again if it is lost.
    async fn revive(&self, connection: &mut Connection) -> Result<(), BrokerError> {
        if !connection.status().connected() {
            *connection = self.address.connect("windlass dispatcher").await?;
        }
        Ok(())
    }
}

impl fmt::Debug for Amqp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Amqp")
            .field("address", &self.address.to_string())
            .field("topology", &self.topology)
            .finish_non_exhaustive()
    }
}

/// A channel of its own, so that an error of one step does not end the next.
async fn channel(connection: &Connection) -> Result<lapin::Channel, BrokerError> {
    within(connection.create_channel())
        .await
        .map_err(|fault| fault.failed("opening a channel"))
}
