//! Publishing with confirms: persistent, mandatory, pipelined.

use bytes::Bytes;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, PublisherConfirm};

use super::address::Address;
use super::fault::within;
use super::{GOODBYE, channel};
use crate::broker::{BrokerError, REPLAY_HEADER, Topology};

/// AMQP's delivery mode of messages that survive a restart of the broker.
const PERSISTENT: u8 = 2;

/// A message ready for the wire: every short text checked.
#[derive(Debug)]
pub struct Outgoing {
    pub exchange: ShortString,
    pub routing_key: ShortString,
    pub properties: BasicProperties,
    pub body: Bytes,
}

impl Outgoing {
    /// A message for the stream's exchange.
    ///
    /// # Errors
    /// If a text is too long for AMQP.
    pub fn to_stream(
        topology: &Topology,
        routing_key: &str,
        content_type: Option<&str>,
        id: Option<&str>,
        replay: bool,
        body: Bytes,
    ) -> Result<Self, BrokerError> {
        let mut properties = properties(content_type, id)?;
        if replay {
            let mut headers = FieldTable::default();
            headers.insert(REPLAY_HEADER.into(), AMQPValue::Boolean(true));
            properties = properties.with_headers(headers);
        }
        Ok(Self {
            exchange: short("stream name", topology.exchange())?,
            routing_key: short("routing key", routing_key)?,
            properties,
            body,
        })
    }
}

/// Properties of a persistent message.
///
/// # Errors
/// If a text is too long for AMQP.
pub fn properties(
    content_type: Option<&str>,
    id: Option<&str>,
) -> Result<BasicProperties, BrokerError> {
    let mut properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
    if let Some(text) = content_type {
        properties = properties.with_content_type(short("content type", text)?);
    }
    if let Some(text) = id {
        properties = properties.with_message_id(short("message id", text)?);
    }
    Ok(properties)
}

/// A text that AMQP limits to 255 bytes.
pub fn short(what: &str, text: &str) -> Result<ShortString, BrokerError> {
    ShortString::try_new(text).map_err(|_| {
        BrokerError::Unpublishable(format!(
            "its {what} has {} bytes; AMQP allows 255",
            text.len()
        ))
    })
}

/// A channel in confirm mode on a connection of its own.
pub struct Publisher {
    connection: Connection,
    pub channel: Channel,
}

impl Publisher {
    pub async fn open(address: &Address) -> Result<Self, BrokerError> {
        let connection = address.connect("windlass dispatcher, publishing").await?;
        let channel = channel(&connection).await?;
        within(channel.confirm_select(ConfirmSelectOptions::default()))
            .await
            .map_err(|fault| fault.failed("asking for publisher confirms"))?;
        Ok(Self {
            connection,
            channel,
        })
    }

    pub fn is_open(&self) -> bool {
        self.channel.status().connected()
    }

    /// Publishes all, then awaits all confirms.
    pub async fn publish_all(&self, messages: &[Outgoing]) -> Result<(), BrokerError> {
        let mut confirms = Vec::with_capacity(messages.len());
        for message in messages {
            confirms.push(self.publish(message).await?);
        }
        for (confirm, message) in confirms.into_iter().zip(messages) {
            confirmed(confirm, message).await?;
        }
        Ok(())
    }

    /// Sends one message; [`confirmed`] tells whether the broker took it.
    pub async fn publish(&self, message: &Outgoing) -> Result<PublisherConfirm, BrokerError> {
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let sending = self.channel.basic_publish(
            message.exchange.clone(),
            message.routing_key.clone(),
            options,
            &message.body,
            message.properties.clone(),
        );
        within(sending)
            .await
            .map_err(|fault| not_confirmed(message, fault.reason))
    }

    pub async fn close(self) {
        if self.connection.status().connected() {
            let _ = tokio::time::timeout(GOODBYE, self.connection.close(200, "bye".into())).await;
        }
    }
}

/// Awaits the broker's word on `message`.
pub async fn confirmed(confirm: PublisherConfirm, message: &Outgoing) -> Result<(), BrokerError> {
    match within(confirm).await {
        Ok(Confirmation::Ack(None)) => Ok(()),
        Ok(Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned))) => Err(
            not_confirmed(message, format!("returned, {}", returned.reply_text)),
        ),
        Ok(Confirmation::Nack(None)) => Err(not_confirmed(
            message,
            "refused (the queue is full or has no quorum)".into(),
        )),
        Ok(Confirmation::NotRequested) => {
            Err(not_confirmed(message, "the channel has no confirms".into()))
        }
        Err(fault) => Err(not_confirmed(message, fault.reason)),
    }
}

fn not_confirmed(message: &Outgoing, reason: String) -> BrokerError {
    let to = if message.exchange.as_str().is_empty() {
        format!("queue {:?}", message.routing_key.as_str())
    } else {
        format!("exchange {:?}", message.exchange.as_str())
    };
    BrokerError::NotConfirmed { to, reason }
}
