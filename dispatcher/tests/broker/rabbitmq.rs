//! What only a real broker can do to us; and fresh streams on it for the common tests.

use std::sync::Arc;

use bytes::Bytes;
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use windlass_dispatcher::broker::{
    Broker, BrokerError, ChannelLost, QuarantineFilter, QuarantineMessage, Topology,
};

/// The server's URL, if there is one to test against.
fn server() -> Option<String> {
    let url = std::env::var("WINDLASS_TEST_AMQP").ok();
    if url.is_none() {
        let required = std::env::var_os("WINDLASS_TEST_REQUIRED").is_some_and(|v| v == "1");
        assert!(
            !required,
            "WINDLASS_TEST_REQUIRED=1, but WINDLASS_TEST_AMQP names no broker"
        );
        println!("skipped: WINDLASS_TEST_AMQP names no broker");
    }
    url
}

/// A topology whose names no other test uses.
pub fn topology(shards: u32) -> Topology {
    Topology {
        stream: format!("test-{:016x}", rand::random::<u64>()),
        shards,
    }
}

/// A declared stream of its own on the server.
pub struct Stream {
    pub broker: Broker,
    url: String,
}

impl Stream {
    pub async fn create(shards: u32) -> Option<Self> {
        let url = server()?;
        let broker = Broker::connect(&url, &topology(shards)).await.unwrap();
        broker.declare().await.unwrap();
        Some(Self { broker, url })
    }

    pub async fn delete(self) {
        let topology = self.broker.topology();
        let connection = raw(&self.url).await;
        let channel = connection.create_channel().await.unwrap();
        let queues = (0..topology.shards).map(|shard| topology.queue(shard));
        for queue in queues.chain([topology.quarantine()]) {
            let options = QueueDeleteOptions::default();
            let _ = channel.queue_delete(queue.into(), options).await;
        }
        let exchange = topology.exchange().into();
        let _ = channel.exchange_delete(exchange, Default::default()).await;
        self.broker.close().await;
    }
}

async fn raw(url: &str) -> Connection {
    Connection::connect(url, ConnectionProperties::default())
        .await
        .unwrap()
}

async fn refusal(url: &str) -> BrokerError {
    Broker::connect(url, &topology(1)).await.unwrap_err()
}

/// `url` with another user, port or vhost.
fn changed(url: &str, change: impl FnOnce(&mut url::Url)) -> String {
    let mut url = url::Url::parse(url).unwrap();
    change(&mut url);
    url.into()
}

/// A relay between us and the broker whose wires can be cut.
struct Relay {
    port: u16,
    wires: Arc<std::sync::Mutex<Vec<AbortHandle>>>,
}

impl Relay {
    async fn to(url: &str) -> Self {
        let url = url::Url::parse(url).unwrap();
        let target = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5672));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let wires = Arc::new(std::sync::Mutex::new(Vec::new()));
        let all = Arc::clone(&wires);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut far = TcpStream::connect(&target).await.unwrap();
                let wire = tokio::spawn(async move {
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
                all.lock().unwrap().push(wire.abort_handle());
            }
        });
        Self { port, wires }
    }

    fn cut(&self) {
        for wire in self.wires.lock().unwrap().drain(..) {
            wire.abort();
        }
    }
}

#[tokio::test]
async fn a_url_that_leads_nowhere_gives_one_line_with_what_to_do() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let error = refusal(&format!("amqp://me:s3cret@127.0.0.1:{port}/%2f")).await;
    assert!(matches!(error, BrokerError::Unreachable { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("amqp://127.0.0.1:{port}")), "{text}");
    assert!(!text.contains("s3cret") && !text.contains('\n'), "{text}");
}

#[tokio::test]
async fn refused_credentials_and_unknown_vhosts_are_told_apart() {
    let Some(url) = server() else { return };
    let wrong = changed(&url, |url| url.set_password(Some("s3cret")).unwrap());
    let error = refusal(&wrong).await;
    assert!(matches!(error, BrokerError::Credentials { .. }), "{error}");
    assert!(!error.to_string().contains("s3cret"), "{error}");
    assert!(error.needs_a_person());

    let nowhere = changed(&url, |url| url.set_path("no-such-vhost"));
    let error = refusal(&nowhere).await;
    assert!(matches!(error, BrokerError::Vhost { .. }), "{error}");
    assert!(error.to_string().contains("\"no-such-vhost\""), "{error}");
}

#[tokio::test]
async fn another_number_of_shards_is_refused() {
    for (created, asked) in [(1, 2), (2, 1), (3, 2)] {
        let Some(stream) = Stream::create(created).await else {
            return;
        };
        let other = Topology {
            shards: asked,
            ..stream.broker.topology().clone()
        };
        let broker = Broker::connect(&stream.url, &other).await.unwrap();
        let error = broker.declare().await.unwrap_err();
        assert!(matches!(error, BrokerError::ShardsFixed { .. }), "{error}");
        stream.delete().await;
    }
}

#[tokio::test]
async fn a_queue_of_another_kind_is_refused() {
    let Some(url) = server() else { return };
    let topology = topology(1);
    let channel = raw(&url).await.create_channel().await.unwrap();
    let (options, none) = (QueueDeclareOptions::durable(), FieldTable::default());
    let queue = topology.queue(0).into();
    channel.queue_declare(queue, options, none).await.unwrap();
    let broker = Broker::connect(&url, &topology).await.unwrap();
    let error = broker.declare().await.unwrap_err();
    assert!(matches!(error, BrokerError::Mismatch { .. }), "{error}");
    Stream { broker, url }.delete().await;
}

/// RabbitMQ 4 drops a message for good after 20 deliveries, unless the queue says otherwise.
#[tokio::test]
async fn no_queue_drops_a_message_that_was_delivered_often() {
    let Some(stream) = Stream::create(1).await else {
        return;
    };
    let topology = stream.broker.topology().clone();
    for queue in [topology.queue(0), topology.quarantine()] {
        let mut arguments = FieldTable::default();
        let kind = AMQPValue::LongString("quorum".into());
        arguments.insert("x-queue-type".into(), kind);
        if queue == topology.queue(0) {
            arguments.insert("x-single-active-consumer".into(), true.into());
        }
        arguments.insert("x-delivery-limit".into(), 20.into());
        let channel = raw(&stream.url).await.create_channel().await.unwrap();
        let options = QueueDeclareOptions::durable();
        let other = channel.queue_declare(queue.as_str().into(), options, arguments);
        let text = other.await.unwrap_err().to_string();
        assert!(
            text.contains("x-delivery-limit") && text.contains("'1000000000'"),
            "{queue}: {text}"
        );
    }
    stream.delete().await;
}

#[tokio::test]
async fn deleting_the_queue_cancels_its_consumer() {
    let Some(stream) = Stream::create(1).await else {
        return;
    };
    let mut consumer = stream.broker.consume(0, 10).await.unwrap();
    let channel = raw(&stream.url).await.create_channel().await.unwrap();
    let queue = stream.broker.topology().queue(0);
    let options = QueueDeleteOptions::default();
    channel.queue_delete(queue.into(), options).await.unwrap();
    let lost = consumer.next().await.unwrap_err();
    assert!(matches!(lost, ChannelLost::Cancelled { .. }), "{lost}");
    stream.delete().await;
}

#[tokio::test]
async fn a_message_that_no_queue_takes_is_an_error() {
    let Some(stream) = Stream::create(1).await else {
        return;
    };
    let topology = stream.broker.topology().clone();
    let channel = raw(&stream.url).await.create_channel().await.unwrap();
    for queue in [topology.queue(0), topology.quarantine()] {
        let options = QueueDeleteOptions::default();
        channel.queue_delete(queue.into(), options).await.unwrap();
    }
    let published = stream.broker.publish("a", None, Bytes::new()).await;
    let error = published.unwrap_err();
    assert!(error.to_string().contains("NO_ROUTE"), "{error}");
    let quarantined = stream.broker.quarantine(vec![bad_message("1")]).await;
    let error = quarantined.unwrap_err();
    assert!(error.to_string().contains("NO_ROUTE"), "{error}");

    stream.broker.declare().await.unwrap();
    let again = stream.broker.quarantine(vec![bad_message("1")]).await;
    again.unwrap();
    stream.delete().await;
}

#[tokio::test]
async fn a_message_id_too_long_for_amqp_is_an_error_and_costs_nothing() {
    let Some(stream) = Stream::create(1).await else {
        return;
    };
    let long = bad_message(&"x".repeat(256));
    let error = stream.broker.quarantine(vec![long]).await.unwrap_err();
    assert!(matches!(error, BrokerError::Unpublishable(_)), "{error}");
    let good = stream.broker.quarantine(vec![bad_message("1")]).await;
    good.unwrap();
    stream.delete().await;
}

#[tokio::test]
async fn a_cut_wire_loses_the_channel_and_the_next_consumer_gets_everything_again() {
    let Some(stream) = Stream::create(1).await else {
        return;
    };
    let relay = Relay::to(&stream.url).await;
    let url = changed(&stream.url, |url| url.set_port(Some(relay.port)).unwrap());
    let broker = Broker::connect(&url, stream.broker.topology())
        .await
        .unwrap();
    broker.publish("a", None, Bytes::new()).await.unwrap();
    let mut consumer = broker.consume(0, 10).await.unwrap();
    let delivery = consumer.next().await.unwrap();

    relay.cut();
    let lost = consumer.next().await.unwrap_err();
    assert!(matches!(lost, ChannelLost::Closed { .. }), "{lost}");
    assert!(consumer.ack(delivery.tag).await.is_err());
    assert!(consumer.ready_count().await.is_err());
    drop(consumer);

    let mut again = broker.consume(0, 10).await.unwrap();
    assert!(again.next().await.unwrap().redelivered);
    broker.quarantine(vec![bad_message("1")]).await.unwrap();
    stream.delete().await;
}

#[tokio::test]
async fn what_has_been_in_quarantine_for_long_is_removed_and_what_has_no_time_stays() {
    let Some(stream) = Stream::create(1).await else {
        return;
    };
    let connection = raw(&stream.url).await;
    let channel = connection.create_channel().await.unwrap();
    let queue = stream.broker.topology().quarantine();
    let foreign = BasicProperties::default();
    channel
        .basic_publish("".into(), queue.into(), Default::default(), b"?", foreign)
        .await
        .unwrap();
    let two = vec![bad_message("1"), bad_message("2")];
    stream.broker.quarantine(two).await.unwrap();
    let browse = async || {
        let all = QuarantineFilter::default();
        let found = stream.broker.browse_quarantine(&all, 10).await.unwrap();
        let ids = found.into_iter().map(|message| message.id);
        let mut ids: Vec<String> = ids.collect();
        ids.sort();
        ids
    };
    while browse().await.len() < 3 {}
    // Nothing was there in 1970, everything will be old in 2100.
    assert_eq!(stream.broker.expire_quarantine(0).await.unwrap(), 0);
    assert_eq!(browse().await, ["", "1", "2"]);
    let expired = stream.broker.expire_quarantine(4_102_444_800).await;
    assert_eq!(expired.unwrap(), 2);
    assert_eq!(browse().await, [""]);
    stream.delete().await;
}

fn bad_message(id: &str) -> QuarantineMessage {
    QuarantineMessage {
        id: id.into(),
        content_type: None,
        outcome: "undecodable",
        reason: "not JSON".into(),
        identity: None,
        shard: 0,
        body: Bytes::from_static(b"{"),
    }
}
