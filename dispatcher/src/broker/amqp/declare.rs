//! Creates a stream's exchange and queues, or says why those that exist do not fit.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ExchangeKind};

use super::channel;
use super::fault::{Fault, code, within};
use crate::broker::{BrokerError, SHORT_TEXT_BYTES, Topology};

/// How often the broker may hand out a message before it drops it: practically for ever, since
/// poison is handled here. A number, because RabbitMQ 3.x knows no −1, and the same on both so that
/// a queue survives the broker's upgrade. (4.x would drop after 20.)
const DELIVERY_LIMIT: i32 = 1_000_000_000;

/// Declares everything; does nothing where it exists as wanted.
pub async fn declare(connection: &Connection, topology: &Topology) -> Result<(), BrokerError> {
    let longest = topology
        .quarantine()
        .len()
        .max(topology.queue(u32::MAX).len());
    if longest > SHORT_TEXT_BYTES {
        return Err(BrokerError::Unpublishable(format!(
            "the stream's name has {} bytes, too many for queue names; take a shorter one",
            topology.stream.len()
        )));
    }
    exchange(connection, topology).await?;
    refuse_fewer_shards(connection, topology).await?;
    for shard in 0..topology.shards {
        let queue = topology.queue(shard);
        let mut arguments = lasting();
        arguments.insert("x-single-active-consumer".into(), true.into());
        self::queue(connection, topology, &queue, arguments).await?;
        bind(connection, topology, &queue).await?;
    }
    queue(connection, topology, &topology.quarantine(), lasting()).await
}

/// Arguments of a replicated queue that never drops a message.
fn lasting() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    arguments.insert("x-delivery-limit".into(), DELIVERY_LIMIT.into());
    arguments
}

async fn exchange(connection: &Connection, topology: &Topology) -> Result<(), BrokerError> {
    let kind = match topology.shards {
        1 => ExchangeKind::Topic,
        _ => ExchangeKind::Custom(topology.exchange_type().into()),
    };
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let channel = channel(connection).await?;
    let name = topology.exchange();
    within(channel.exchange_declare(name.into(), kind, options, FieldTable::default()))
        .await
        .map_err(|fault| match fault.code {
            code::COMMAND_INVALID => BrokerError::PluginMissing,
            code::PRECONDITION_FAILED if fault.reason.contains("invalid exchange type") => {
                BrokerError::PluginMissing
            }
            code::PRECONDITION_FAILED if fault.reason.contains("'type'") => {
                shards_fixed(topology, fault.reason)
            }
            _ => explain(topology, format!("exchange {name:?}"), fault),
        })
}

/// A queue beyond our last one means that the stream was created with more shards, whose
/// messages nobody would consume. (More shards than were created shows in the ledger.)
async fn refuse_fewer_shards(
    connection: &Connection,
    topology: &Topology,
) -> Result<(), BrokerError> {
    let channel = channel(connection).await?;
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let beyond = topology.queue(topology.shards);
    let probe = channel.queue_declare(beyond.as_str().into(), options, FieldTable::default());
    match within(probe).await {
        Ok(_) => Err(shards_fixed(topology, format!("queue {beyond:?} exists"))),
        Err(fault) if fault.code == code::NOT_FOUND => Ok(()),
        Err(fault) => Err(explain(topology, format!("queue {beyond:?}"), fault)),
    }
}

async fn queue(
    connection: &Connection,
    topology: &Topology,
    name: &str,
    arguments: FieldTable,
) -> Result<(), BrokerError> {
    let channel = channel(connection).await?;
    within(channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments))
        .await
        .map(drop)
        .map_err(|fault| explain(topology, format!("queue {name:?}"), fault))
}

async fn bind(
    connection: &Connection,
    topology: &Topology,
    queue: &str,
) -> Result<(), BrokerError> {
    let channel = channel(connection).await?;
    let binding = channel.queue_bind(
        queue.into(),
        topology.exchange().into(),
        topology.binding_key().into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    within(binding)
        .await
        .map_err(|fault| explain(topology, format!("binding of queue {queue:?}"), fault))
}

fn shards_fixed(topology: &Topology, reason: String) -> BrokerError {
    BrokerError::ShardsFixed {
        stream: topology.stream.clone(),
        shards: topology.shards,
        reason,
    }
}

fn explain(topology: &Topology, what: String, fault: Fault) -> BrokerError {
    match fault.code {
        code::ACCESS_REFUSED => BrokerError::Denied {
            what,
            reason: fault.reason,
            stream: topology.stream.clone(),
        },
        code::PRECONDITION_FAILED => BrokerError::Mismatch {
            what,
            reason: fault.reason,
        },
        _ => fault.failed(&format!("declaring {what}")),
    }
}
