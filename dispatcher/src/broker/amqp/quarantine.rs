//! The quarantine queue: to the wire, from the wire, looked at, replayed.

use std::collections::VecDeque;

use lapin::message::{BasicGetMessage, Delivery as Message};
use lapin::options::{BasicAckOptions, BasicGetOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, PublisherConfirm};

use super::GOODBYE;
use super::fault::{Fault, code, within};
use super::publisher::{Outgoing, Publisher, confirmed, properties, short};
use crate::broker::{
    BrokerError, QuarantineFilter, QuarantineMessage, Quarantined, Replayed, Topology,
};
use crate::clock::Clock;

const OUTCOME: &str = "windlass-outcome";
const REASON: &str = "windlass-reason";
const SOURCE: &str = "windlass-source";
const SEQ: &str = "windlass-seq";
const SHARD: &str = "windlass-shard";

/// How many replayed messages may await their confirm.
const IN_FLIGHT: usize = 256;

/// A message for queue `queue` by way of the default exchange.
///
/// # Errors
/// If its id or content type is too long for AMQP.
pub fn to_wire(message: QuarantineMessage, queue: &str) -> Result<Outgoing, BrokerError> {
    let mut headers = FieldTable::default();
    let text = |text: String| AMQPValue::LongString(text.into());
    headers.insert(OUTCOME.into(), text(message.outcome.into()));
    headers.insert(REASON.into(), text(message.reason));
    headers.insert(SHARD.into(), i64::from(message.shard).into());
    if let Some((source, seq)) = message.identity {
        headers.insert(SOURCE.into(), text(source));
        // As text: AMQP tables hold no unsigned 64-bit integers.
        headers.insert(SEQ.into(), text(seq.to_string()));
    }
    let properties = properties(message.content_type.as_deref(), Some(&message.id))?;
    // Seconds, by AMQP: retention goes by it.
    let put_here = (Clock::start().now().unix_ms / 1_000).cast_unsigned();
    let properties = properties.with_timestamp(put_here);
    Ok(Outgoing {
        exchange: ShortString::default(),
        routing_key: short("queue name", queue)?,
        properties: properties.with_headers(headers),
        body: message.body,
    })
}

fn from_wire(message: Message) -> Quarantined {
    let properties = &message.properties;
    let headers = properties.headers().as_ref();
    let header = |name: &str| -> Option<String> {
        match headers?.inner().get(name)? {
            AMQPValue::LongString(text) => Some(text.to_string()),
            AMQPValue::LongLongInt(number) => Some(number.to_string()),
            _ => None,
        }
    };
    let text = |field: &Option<ShortString>| field.as_ref().map(ToString::to_string);
    Quarantined {
        id: text(properties.message_id()).unwrap_or_default(),
        content_type: text(properties.content_type()),
        outcome: header(OUTCOME).unwrap_or_default(),
        reason: header(REASON).unwrap_or_default(),
        source: header(SOURCE),
        seq: header(SEQ).and_then(|seq| seq.parse().ok()),
        shard: header(SHARD).and_then(|shard| shard.parse().ok()),
        body: message.data.into(),
    }
}

/// Looks at messages without taking them: they are fetched, not acknowledged, and return to their
/// places when the channel closes.
pub async fn browse(
    publisher: &Publisher,
    topology: &Topology,
    filter: &QuarantineFilter,
    limit: usize,
) -> Result<Vec<Quarantined>, BrokerError> {
    let mut walk = Walk::new(&publisher.channel, topology)?;
    let mut found = Vec::new();
    while found.len() < limit {
        let Some((_, message)) = walk.next().await? else {
            break;
        };
        if filter.lets_pass(&message) {
            found.push(message);
        }
    }
    walk.end().await;
    Ok(found)
}

/// Publishes what `filter` lets pass to the stream, and acknowledges each once that is confirmed.
pub async fn replay(
    publisher: &Publisher,
    topology: &Topology,
    filter: &QuarantineFilter,
) -> Result<Replayed, BrokerError> {
    let mut walk = Walk::new(&publisher.channel, topology)?;
    let mut counts = Replayed::default();
    let mut in_flight: VecDeque<(u64, Outgoing, PublisherConfirm)> = VecDeque::new();
    while let Some((tag, message)) = walk.next().await? {
        if !filter.lets_pass(&message) {
            counts.kept += 1;
            continue;
        }
        if in_flight.len() >= IN_FLIGHT {
            counts.replayed += settle(&walk, in_flight.pop_front()).await?;
        }
        let outgoing = again(topology, message)?;
        let confirm = publisher.publish(&outgoing).await?;
        in_flight.push_back((tag, outgoing, confirm));
    }
    while !in_flight.is_empty() {
        counts.replayed += settle(&walk, in_flight.pop_front()).await?;
    }
    walk.end().await;
    Ok(counts)
}

/// Takes out what was put in before `before`, seconds since 1970. The queue is in the order of time,
/// so the first younger message ends the walk; what has no time is passed over.
pub async fn expire(
    publisher: &Publisher,
    topology: &Topology,
    before: i64,
) -> Result<u64, BrokerError> {
    let mut walk = Walk::new(&publisher.channel, topology)?;
    let mut expired = 0;
    while let Some(message) = walk.get().await? {
        let Some(at) = *message.properties.timestamp() else {
            continue;
        };
        if i64::try_from(at).unwrap_or(i64::MAX) >= before {
            break;
        }
        walk.acknowledge(message.delivery_tag).await?;
        expired += 1;
    }
    walk.end().await;
    Ok(expired)
}

fn again(topology: &Topology, message: Quarantined) -> Result<Outgoing, BrokerError> {
    let settled = message.is_settled();
    Outgoing::to_stream(
        topology,
        message.source.as_deref().unwrap_or_default(),
        message.content_type.as_deref(),
        Some(&message.id),
        settled,
        message.body,
    )
}

async fn settle(
    walk: &Walk<'_>,
    oldest: Option<(u64, Outgoing, PublisherConfirm)>,
) -> Result<u64, BrokerError> {
    let Some((tag, outgoing, confirm)) = oldest else {
        return Ok(0);
    };
    confirmed(confirm, &outgoing).await?;
    walk.acknowledge(tag).await?;
    Ok(1)
}

/// One pass over the messages that were in the queue when it began.
struct Walk<'a> {
    channel: &'a Channel,
    queue: ShortString,
    /// How many are still to come; unknown before the first one.
    left: Option<u32>,
}

impl<'a> Walk<'a> {
    fn new(channel: &'a Channel, topology: &Topology) -> Result<Self, BrokerError> {
        Ok(Self {
            channel,
            queue: short("queue name", &topology.quarantine())?,
            left: None,
        })
    }

    async fn next(&mut self) -> Result<Option<(u64, Quarantined)>, BrokerError> {
        let got = self.get().await?;
        Ok(got.map(|message| (message.delivery_tag, from_wire(message))))
    }

    async fn get(&mut self) -> Result<Option<Message>, BrokerError> {
        if self.left == Some(0) {
            return Ok(None);
        }
        let getting = self
            .channel
            .basic_get(self.queue.clone(), BasicGetOptions::default());
        let got = within(getting).await.map_err(|fault| self.failed(fault))?;
        // How many are behind the first one comes with it. A declaration would give a number before, but that is
        // 0 if a busy queue does not tell within 250 ms (`rabbit_quorum_queue:stat/2`).
        let behind = |got: &BasicGetMessage| self.left.map_or(got.message_count, |left| left - 1);
        self.left = Some(got.as_ref().map_or(0, behind));
        Ok(got.map(|got| got.delivery))
    }

    async fn acknowledge(&self, tag: u64) -> Result<(), BrokerError> {
        within(self.channel.basic_ack(tag, BasicAckOptions::default()))
            .await
            .map_err(|fault| self.failed(fault))
    }

    async fn end(self) {
        let _ = tokio::time::timeout(GOODBYE, self.channel.close(200, "bye".into())).await;
    }

    fn failed(&self, mut fault: Fault) -> BrokerError {
        if fault.code == code::NOT_FOUND {
            fault
                .reason
                .push_str("; the stream's dispatcher creates it");
        }
        fault.failed(&format!("reading queue {:?}", self.queue.as_str()))
    }
}
