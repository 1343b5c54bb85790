//! Against a real RabbitMQ, named by `WINDLASS_TEST_AMQP`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use url::Url;
use windlass_datagen::broker::{BrokerError, Target};
use windlass_datagen::manifest::Origin;
use windlass_datagen::message::{Format, Messages, Packing};
use windlass_datagen::publish::{Progress, Published, Speed, publish};
use windlass_datagen::workload::Options;

use super::messages::decode;
use super::{Plain, feed, options, plain};

/// The broker's URL, or nothing where there is none and none is required.
fn server(test: &str) -> Option<String> {
    match std::env::var("WINDLASS_TEST_AMQP") {
        Ok(url) if !url.is_empty() => {
            // The bare client takes an empty path for a vhost named "".
            let mut url = Url::parse(&url).unwrap();
            if matches!(url.path(), "" | "/") {
                url.set_path("/%2f");
            }
            Some(url.into())
        }
        _ if std::env::var("WINDLASS_TEST_REQUIRED").as_deref() == Ok("1") => {
            panic!("{test}: WINDLASS_TEST_AMQP names no broker, and WINDLASS_TEST_REQUIRED is set")
        }
        _ => {
            println!("skipped {test}: set WINDLASS_TEST_AMQP to a broker's URL to run it");
            None
        }
    }
}

/// A stream of its own for one test.
struct Fixture {
    url: String,
    stream: String,
    shards: u32,
    channel: Channel,
    connection: Connection,
}

impl Fixture {
    async fn new(test: &str, url: String, shards: u32) -> Self {
        let connection = Connection::connect(&url, ConnectionProperties::default())
            .await
            .unwrap();
        let fixture = Self {
            url,
            stream: format!("datagen-{test}-{}", std::process::id()),
            shards,
            channel: connection.create_channel().await.unwrap(),
            connection,
        };
        fixture.clear().await;
        fixture
    }

    fn target(&self) -> Target {
        Target::parse(&self.url, &self.stream, self.shards).unwrap()
    }

    async fn clear(&self) {
        for shard in 0..self.shards {
            self.delete_queue(&format!("{}.{shard}", self.stream)).await;
        }
        self.delete_queue(&format!("{}.quarantine", self.stream))
            .await;
        let exchange = self.stream.as_str().into();
        self.channel
            .exchange_delete(exchange, ExchangeDeleteOptions::default())
            .await
            .unwrap();
    }

    async fn delete_queue(&self, name: &str) {
        self.channel
            .queue_delete(name.into(), QueueDeleteOptions::default())
            .await
            .unwrap();
    }

    /// How many messages the first shard's queue, which is not empty, holds.
    async fn queued(&self) -> u64 {
        let queue = format!("{}.0", self.stream);
        let passive = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let told = async {
            loop {
                let queue = queue.as_str().into();
                let declaring = self
                    .channel
                    .queue_declare(queue, passive, FieldTable::default());
                let count = declaring.await.unwrap().message_count();
                // A quorum queue that does not answer at once is said to be empty.
                if count > 0 {
                    return count.into();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let told = tokio::time::timeout(Duration::from_secs(30), told).await;
        told.expect("the queue is not empty")
    }

    /// Consumes the queues until each (source, seq) of `expected` has come.
    async fn consume(&self, expected: &[Plain]) -> BTreeMap<Plain, usize> {
        let mut found: BTreeMap<Plain, usize> = BTreeMap::new();
        let channel = self.connection.create_channel().await.unwrap();
        let mut consumers = futures_util::stream::SelectAll::new();
        for shard in 0..self.shards {
            let queue = format!("{}.{shard}", self.stream);
            let options = BasicConsumeOptions {
                no_ack: true,
                ..Default::default()
            };
            let consumer = channel.basic_consume(
                queue.as_str().into(),
                "".into(),
                options,
                FieldTable::default(),
            );
            consumers.push(consumer.await.unwrap());
        }
        while found.len() < expected.len() {
            let delivery = consumers.next().await.unwrap().unwrap();
            let content_type = delivery.properties.content_type().clone().unwrap();
            assert_eq!(*delivery.properties.delivery_mode(), Some(2));
            for row in decode(content_type.as_str(), &delivery.data) {
                assert_eq!(delivery.routing_key.as_str(), row.source);
                *found.entry(row).or_default() += 1;
            }
        }
        // RabbitMQ 3.10 fails when a consumer is cancelled on a queue that is just being deleted.
        drop(consumers);
        channel.close(200, "bye".into()).await.unwrap();
        found
    }
}

fn messages(options: Options, format: Format, duplicates: f64) -> Messages {
    let packing = Packing {
        format,
        batch: format.default_batch(),
        duplicates,
        seed: 7,
    };
    Messages::new(feed(options), packing)
}

async fn run(
    target: &Target,
    messages: Messages,
    speed: Speed,
    report: impl FnMut(&Progress),
) -> Published {
    let origin = Origin::Workload(options());
    let never = std::future::pending();
    publish(target, messages, 1_000, speed, origin, report, never)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_order_arrives_in_every_format_over_one_shard_and_over_two() {
    let Some(url) = server("arrival") else { return };
    let expected = plain(feed(options()));
    for (shards, format) in [(1, Format::Json), (1, Format::Arrow), (2, Format::Ndjson)] {
        let name = format!("arrival-{shards}-{format:?}").to_lowercase();
        let fixture = Fixture::new(&name, url.clone(), shards).await;
        let published = run(
            &fixture.target(),
            messages(options(), format, 0.0),
            Speed::Max,
            |_| (),
        )
        .await;
        assert!(published.failure.is_none());
        assert_eq!(published.progress.tuples, 10_000);
        assert_eq!(published.manifest.totals.orders, 10_000);
        let found = fixture.consume(&expected).await;
        let mut expected = expected.clone();
        expected.sort();
        assert!(found.keys().eq(&expected));
        assert!(found.values().all(|&times| times == 1));
        fixture.clear().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifest_counts_the_duplicates_that_were_sent() {
    let Some(url) = server("duplicates") else {
        return;
    };
    let fixture = Fixture::new("duplicates", url, 1).await;
    let published = run(
        &fixture.target(),
        messages(options(), Format::Json, 0.1),
        Speed::Max,
        |_| (),
    )
    .await;
    let duplicates: u64 = published
        .manifest
        .sources
        .values()
        .map(|s| s.duplicates)
        .sum();
    assert!(duplicates > 500);
    assert_eq!(published.manifest.totals.orders, 10_000);
    assert_eq!(published.progress.messages, 10_000 + duplicates);
    assert_eq!(fixture.queued().await, 10_000 + duplicates);
    fixture.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_no_queue_takes_ends_the_run_with_an_error() {
    let Some(url) = server("unroutable") else {
        return;
    };
    let fixture = Fixture::new("unroutable", url, 1).await;
    let (started, first) = oneshot::channel();
    let mut started = Some(started);
    // Endless as far as this test is concerned: only the error can end it.
    let mut endless = options();
    endless.duration_ms = 3_600_000;
    let target = fixture.target();
    let running = run(
        &target,
        messages(endless, Format::Json, 0.0),
        Speed::Times(1.0),
        |progress| {
            if progress.messages > 0
                && let Some(started) = started.take()
            {
                started.send(()).unwrap();
            }
        },
    );
    let unbinding = async {
        first.await.unwrap();
        let (queue, exchange) = (format!("{}.0", fixture.stream), fixture.stream.as_str());
        let arguments = FieldTable::default();
        let unbound = fixture.channel.queue_unbind(
            queue.as_str().into(),
            exchange.into(),
            "#".into(),
            arguments,
        );
        unbound.await.unwrap();
    };
    let (published, ()) = tokio::join!(running, unbinding);
    let failure = format!("{:#}", published.failure.unwrap());
    assert!(
        failure.contains("NO_ROUTE") && failure.contains("not bound"),
        "{failure}"
    );
    assert!(published.manifest.runs[0].interrupted);
    assert!(published.manifest.totals.orders > 0);
    fixture.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives_though_the_connection_is_cut_again_and_again() {
    let Some(url) = server("cut") else { return };
    let mut fixture = Fixture::new("cut", url, 1).await;
    let (proxied, cuts) = cutting_proxy(&fixture.url, 4, 200_000).await;
    let direct = std::mem::replace(&mut fixture.url, proxied);
    let published = run(
        &fixture.target(),
        messages(options(), Format::Json, 0.0),
        Speed::Max,
        |_| (),
    )
    .await;
    fixture.url = direct;
    assert!(published.failure.is_none());
    assert_eq!(published.progress.reconnected, 4);
    assert_eq!(cuts.load(Ordering::SeqCst), 4);
    assert!(published.progress.resent > 0);
    assert_eq!(published.manifest.totals.orders, 10_000);
    assert!(
        published
            .manifest
            .sources
            .values()
            .all(|s| s.unconfirmed == 0)
    );
    let mut expected = plain(feed(options()));
    let found = fixture.consume(&expected).await;
    expected.sort();
    assert!(found.keys().eq(&expected));
    fixture.clear().await;
}

/// A way to the broker that drops each of the first `cuts` connections once the client has sent
/// `after` bytes over it.
async fn cutting_proxy(url: &str, cuts: usize, after: usize) -> (String, Arc<AtomicUsize>) {
    let mut url = Url::parse(url).unwrap();
    let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5672));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(address.port())).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(&server).await.unwrap();
            let mut left = if counted.load(Ordering::SeqCst) < cuts {
                after
            } else {
                usize::MAX
            };
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                let (mut up, mut down) = (vec![0; 16_384], vec![0; 16_384]);
                loop {
                    tokio::select! {
                        read = client.read(&mut up) => match read {
                            Ok(read) if read > 0 => {
                                if server.write_all(&up[..read.min(left)]).await.is_err() {
                                    return;
                                }
                                left = left.saturating_sub(read);
                                if left == 0 {
                                    counted.fetch_add(1, Ordering::SeqCst);
                                    return;
                                }
                            }
                            _ => return,
                        },
                        read = server.read(&mut down) => match read {
                            Ok(read) if read > 0 && client.write_all(&down[..read]).await.is_ok() => {}
                            _ => return,
                        },
                    }
                }
            });
        }
    });
    (url.to_string(), count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_run_has_in_its_manifest_what_the_broker_has() {
    let Some(url) = server("stop") else { return };
    let fixture = Fixture::new("stop", url, 1).await;
    let (started, first) = oneshot::channel();
    let mut started = Some(started);
    let mut endless = options();
    endless.duration_ms = 3_600_000;
    let published = publish(
        &fixture.target(),
        messages(endless, Format::Json, 0.0),
        1_000,
        Speed::Times(1.0),
        Origin::Workload(options()),
        |progress| {
            if progress.messages >= 1_000
                && let Some(started) = started.take()
            {
                started.send(()).unwrap();
            }
        },
        async { first.await.unwrap() },
    )
    .await
    .unwrap();
    assert!(published.failure.is_none());
    assert!(published.manifest.runs[0].interrupted);
    let orders = published.manifest.totals.orders;
    assert!(orders >= 1_000);
    assert_eq!(fixture.queued().await, orders);
    fixture.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_number_of_shards_is_refused() {
    let Some(url) = server("shards") else { return };
    let fixture = Fixture::new("shards", url, 3).await;
    fixture.target().open().await.unwrap().close().await;
    for shards in [1, 2] {
        let target = Target::parse(&fixture.url, &fixture.stream, shards).unwrap();
        let Err(BrokerError::Refused(error)) = target.open().await else {
            panic!("{shards} shards were taken");
        };
        assert!(error.contains("another number of shards"), "{error}");
    }
    fixture.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_vhost_or_port_are_errors_that_say_what_to_do() {
    let Some(url) = server("refusals") else {
        return;
    };
    let open = async |change: fn(&mut Url)| {
        let mut url = Url::parse(&url).unwrap();
        change(&mut url);
        let target = Target::parse(url.as_str(), "orders", 1).unwrap();
        match target.open().await {
            Ok(_) => panic!("{target} was opened"),
            Err(error) => error,
        }
    };
    let error = open(|url| url.set_password(Some("s3cret")).unwrap()).await;
    assert!(
        matches!(&error, BrokerError::Refused(why) if why.contains("or its password")),
        "{error}"
    );
    assert!(!error.to_string().contains("s3cret"));
    let error = open(|url| url.set_path("/nowhere")).await;
    assert!(
        matches!(&error, BrokerError::Refused(why) if why.contains("vhost")),
        "{error}"
    );
    let error = open(|url| url.set_port(Some(1)).unwrap()).await;
    assert!(
        matches!(&error, BrokerError::Lost(why) if why.contains("cannot reach")),
        "{error}"
    );
}
