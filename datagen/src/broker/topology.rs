//! A stream's exchange and queues, declared exactly as the dispatcher declares them: whoever comes
//! first creates them, and different arguments would be refused.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ExchangeKind};

use super::{BrokerError, Fault, code, within};

/// How often the broker may hand out a message before it drops it: practically never. RabbitMQ 3.x
/// knows no −1, and the dispatcher uses the same number on all versions.
const DELIVERY_LIMIT: i32 = 1_000_000_000;

/// Declares everything; does nothing where it exists as wanted.
pub(super) async fn declare(
    connection: &Connection,
    stream: &str,
    shards: u32,
) -> Result<(), BrokerError> {
    exchange(connection, stream, shards).await?;
    refuse_fewer_shards(connection, stream, shards).await?;
    let key = if shards == 1 { "#" } else { "1" };
    for shard in 0..shards {
        let name = format!("{stream}.{shard}");
        let mut arguments = lasting();
        arguments.insert("x-single-active-consumer".into(), true.into());
        let channel = queue(connection, &name, arguments).await?;
        let binding = channel.queue_bind(
            name.as_str().into(),
            stream.into(),
            key.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        let what = format!("the binding of queue {name:?}");
        within(binding)
            .await
            .map_err(|fault| explain(&what, fault))?;
    }
    queue(connection, &format!("{stream}.quarantine"), lasting()).await?;
    Ok(())
}

/// Arguments of a replicated queue that never drops a message.
fn lasting() -> FieldTable {
    let mut arguments = FieldTable::default();
    let quorum = AMQPValue::LongString("quorum".into());
    arguments.insert("x-queue-type".into(), quorum);
    arguments.insert("x-delivery-limit".into(), DELIVERY_LIMIT.into());
    arguments
}

async fn exchange(connection: &Connection, stream: &str, shards: u32) -> Result<(), BrokerError> {
    let kind = match shards {
        1 => ExchangeKind::Topic,
        _ => ExchangeKind::Custom("x-consistent-hash".into()),
    };
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let channel = channel(connection).await?;
    let declared =
        within(channel.exchange_declare(stream.into(), kind, options, FieldTable::default()));
    declared.await.map_err(|fault| match fault.code {
        code::PRECONDITION_FAILED if fault.reason.contains("'type'") => {
            shards_fixed(stream, shards, &fault.reason)
        }
        code::COMMAND_INVALID | code::PRECONDITION_FAILED
            if fault.reason.contains("exchange type") =>
        {
            BrokerError::Refused(
                "the broker does not know the exchange type x-consistent-hash, which more than \
                 one shard needs; run `rabbitmq-plugins enable \
                 rabbitmq_consistent_hash_exchange` on it"
                    .into(),
            )
        }
        _ => explain(&format!("exchange {stream:?}"), fault),
    })
}

/// A queue beyond our last one means that the stream was created with more shards.
async fn refuse_fewer_shards(
    connection: &Connection,
    stream: &str,
    shards: u32,
) -> Result<(), BrokerError> {
    let channel = channel(connection).await?;
    let beyond = format!("{stream}.{shards}");
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let probe = channel.queue_declare(beyond.as_str().into(), options, FieldTable::default());
    match within(probe).await {
        Ok(_) => {
            let reason = format!("queue {beyond:?} exists");
            Err(shards_fixed(stream, shards, &reason))
        }
        Err(fault) if fault.code == code::NOT_FOUND => Ok(()),
        Err(fault) => Err(explain(&format!("queue {beyond:?}"), fault)),
    }
}

async fn queue(
    connection: &Connection,
    name: &str,
    arguments: FieldTable,
) -> Result<Channel, BrokerError> {
    let channel = channel(connection).await?;
    within(channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments))
        .await
        .map_err(|fault| explain(&format!("queue {name:?}"), fault))?;
    Ok(channel)
}

/// A channel of its own for each step, because an error closes it.
async fn channel(connection: &Connection) -> Result<Channel, BrokerError> {
    within(connection.create_channel())
        .await
        .map_err(|fault| fault.lost("opening a channel"))
}

fn shards_fixed(stream: &str, shards: u32, reason: &str) -> BrokerError {
    BrokerError::Refused(format!(
        "stream {stream:?} exists with another number of shards than {shards} ({reason}); publish \
         with its own number (--shards), or to another stream (--stream)"
    ))
}

fn explain(what: &str, fault: Fault) -> BrokerError {
    let reason = &fault.reason;
    match fault.code {
        code::ACCESS_REFUSED => BrokerError::Refused(format!(
            "the broker denies {what} ({reason}); grant the user configure, write and read on the \
             stream's names with `rabbitmqctl set_permissions`"
        )),
        code::PRECONDITION_FAILED => BrokerError::Refused(format!(
            "{what} exists with other properties than windlass needs ({reason}); delete it when it \
             is drained, or publish to another stream (--stream)"
        )),
        _ => fault.lost(&format!("declaring {what}")),
    }
}
