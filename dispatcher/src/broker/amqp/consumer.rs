//! One shard's consumer on a channel of its own.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery as Message;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};

use super::fault::{Fault, within};
use super::{GOODBYE, channel};
use crate::broker::{BrokerError, ChannelLost, Delivery, REPLAY_HEADER};

/// A consumer of one queue. Dropping it closes the channel.
pub struct AmqpConsumer {
    queue: String,
    channel: Channel,
    deliveries: lapin::Consumer,
    lost: Option<ChannelLost>,
    /// The connection's heartbeat, seconds; 0 is none.
    heartbeat: u16,
}

impl AmqpConsumer {
    /// Opens a channel and consumes `queue` with manual acknowledgements.
    pub async fn open(
        connection: &Connection,
        queue: String,
        prefetch: u16,
    ) -> Result<Self, BrokerError> {
        let what = format!("consuming queue {queue:?}");
        let failed = |fault: Fault| fault.failed(&what);
        let channel = channel(connection).await?;
        // A prefetch of 0 would mean "no limit", and the client's buffer has none of its own.
        within(channel.basic_qos(prefetch.max(1), BasicQosOptions::default()))
            .await
            .map_err(failed)?;
        let consuming = channel.basic_consume(
            queue.as_str().into(),
            "windlass".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let deliveries = within(consuming).await.map_err(failed)?;
        Ok(Self {
            queue,
            channel,
            deliveries,
            lost: None,
            heartbeat: connection.configuration().heartbeat(),
        })
    }

    pub async fn next(&mut self) -> Result<Delivery, ChannelLost> {
        if let Some(lost) = &self.lost {
            return Err(lost.clone());
        }
        let item = self.deliveries.next().await;
        self.settle(item)
    }

    pub fn try_next(&mut self) -> Result<Option<Delivery>, ChannelLost> {
        if let Some(lost) = &self.lost {
            return Err(lost.clone());
        }
        match self.deliveries.next().now_or_never() {
            Some(item) => self.settle(item).map(Some),
            None => Ok(None),
        }
    }

    /// What the client's stream yielded; its first error or its end is final.
    fn settle(&mut self, item: Option<lapin::Result<Message>>) -> Result<Delivery, ChannelLost> {
        let lost = match item {
            Some(Ok(message)) => return Ok(delivery(message)),
            Some(Err(error)) => self.closed(error.into()),
            None => ChannelLost::Cancelled {
                queue: self.queue.clone(),
            },
        };
        self.lost = Some(lost.clone());
        Err(lost)
    }

    pub async fn ack(&self, tag: u64) -> Result<(), ChannelLost> {
        within(
            self.channel
                .basic_ack(tag, BasicAckOptions { multiple: true }),
        )
        .await
        .map_err(|fault| self.closed(fault))
    }

    pub async fn ready_count(&self) -> Result<Option<u32>, ChannelLost> {
        let ready = self.passive_count().await?;
        if ready != Some(0) {
            return Ok(ready);
        }
        // While the broker's channel process waits for the queue's answer, deliveries may lie in its
        // mailbox. It handles them before our next request: after that answer they are here.
        self.passive_count().await
    }

    async fn passive_count(&self) -> Result<Option<u32>, ChannelLost> {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let name = self.queue.as_str().into();
        let counting = self
            .channel
            .queue_declare(name, options, FieldTable::default());
        let queue = within(counting).await.map_err(|fault| self.closed(fault))?;
        Ok(counted(queue.message_count(), queue.consumer_count()))
    }

    pub fn silence_limit(&self) -> Option<Duration> {
        // RabbitMQ looks once a heartbeat whether anything came, and gives up at the second look in
        // vain: after two to three of them.
        (self.heartbeat > 0).then(|| 3 * Duration::from_secs(self.heartbeat.into()))
    }

    pub async fn close(self) -> bool {
        let closing = self.channel.close(200, "bye".into());
        matches!(tokio::time::timeout(GOODBYE, closing).await, Ok(Ok(())))
    }

    fn closed(&self, fault: Fault) -> ChannelLost {
        ChannelLost::Closed {
            queue: self.queue.clone(),
            reason: fault.reason,
        }
    }
}

impl std::fmt::Debug for AmqpConsumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AmqpConsumer")
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

/// What the broker says of a queue that is being consumed here; `None` if it does not know.
///
/// Of a quorum queue whose leader does not tell within 250 ms, RabbitMQ says that it has neither messages nor
/// consumers (`rabbit_quorum_queue:stat/2`). On a busy machine that happens, and taken for an empty queue it
/// would end the windows of sources that merely wait for their turn. The consumer gives it away: we are one.
fn counted(messages: u32, consumers: u32) -> Option<u32> {
    (consumers > 0).then_some(messages)
}

fn delivery(message: Message) -> Delivery {
    let properties = &message.properties;
    let text = |field: &Option<lapin::types::ShortString>| {
        field.as_ref().map(|text| text.as_str().to_string())
    };
    let headers = properties.headers().as_ref();
    Delivery {
        tag: message.delivery_tag,
        redelivered: message.redelivered,
        content_type: text(properties.content_type()),
        message_id: text(properties.message_id()),
        replay: headers.is_some_and(|headers| headers.contains_key(REPLAY_HEADER)),
        body: message.data.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_whose_leader_does_not_answer_is_not_empty() {
        assert_eq!(counted(0, 0), None);
        assert_eq!(counted(0, 1), Some(0));
        assert_eq!(counted(7, 1), Some(7));
    }
}
