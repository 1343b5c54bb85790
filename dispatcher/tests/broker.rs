//! What every broker promises, tried on each: the one in this process, and RabbitMQ where
//! `WINDLASS_TEST_AMQP` names one. (`WINDLASS_TEST_REQUIRED=1` fails where it would skip.)

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use windlass_dispatcher::broker::{
    Broker, ChannelLost, Consumer, Delivery, QuarantineFilter, QuarantineMessage, Replayed,
};

#[path = "broker/rabbitmq.rs"]
mod rabbitmq;

/// Runs each test on a fresh stream of each broker.
macro_rules! on_each_broker {
    ($($name:ident($shards:expr);)*) => {
        mod in_process {
            $(#[tokio::test]
            async fn $name() {
                let topology = crate::rabbitmq::topology($shards);
                crate::$name(crate::Broker::connect("memory:", &topology).await.unwrap()).await;
            })*
        }
        mod on_rabbitmq {
            $(#[tokio::test]
            async fn $name() {
                if let Some(stream) = crate::rabbitmq::Stream::create($shards).await {
                    crate::$name(stream.broker.clone()).await;
                    stream.delete().await;
                }
            })*
        }
    };
}

on_each_broker! {
    deliveries_come_in_order_with_tags_that_rise_from_one(1);
    a_prefetch_bounds_what_is_unacknowledged_and_an_ack_makes_room(1);
    what_a_lost_consumer_had_not_acknowledged_comes_again_in_order(1);
    when_nothing_is_ready_everything_is_here(1);
    a_second_consumer_waits_until_the_first_is_gone(1);
    a_cancelled_wait_loses_nothing(1);
    an_unknown_tag_costs_the_channel(1);
    a_shard_that_does_not_exist_cannot_be_consumed(1);
    looking_at_the_quarantine_takes_nothing_out(1);
    a_replay_takes_what_was_chosen_from_quarantine_to_the_stream(1);
    a_source_goes_to_one_shard_and_shards_share_the_sources(3);
    declaring_again_changes_nothing(2);
}

async fn publish(broker: &Broker, bodies: std::ops::Range<u32>) {
    for n in bodies {
        let body = Bytes::from(n.to_string());
        broker
            .publish("a", Some("application/json"), body)
            .await
            .unwrap();
    }
}

fn number(delivery: &Delivery) -> u32 {
    std::str::from_utf8(&delivery.body)
        .unwrap()
        .parse()
        .unwrap()
}

async fn take(consumer: &mut Consumer, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::with_capacity(count);
    for _ in 0..count {
        taken.push(consumer.next().await.unwrap());
    }
    taken
}

/// Waits until the broker holds nothing back from `consumer`.
async fn until_all_is_here(consumer: &Consumer) {
    while consumer.ready_count().await.unwrap() != Some(0) {
        tokio::task::yield_now().await;
    }
}

fn message(id: &str, outcome: &'static str, source: Option<&str>) -> QuarantineMessage {
    QuarantineMessage {
        id: id.into(),
        content_type: Some("application/json".into()),
        outcome,
        reason: format!("{id} is {outcome}"),
        identity: source.map(|source| (source.into(), u64::MAX)),
        shard: 0,
        body: Bytes::from(format!("body of {id}")),
    }
}

fn of_source(source: &str) -> QuarantineFilter {
    QuarantineFilter {
        source: Some(source.into()),
        ..QuarantineFilter::default()
    }
}

async fn deliveries_come_in_order_with_tags_that_rise_from_one(broker: Broker) {
    publish(&broker, 0..20).await;
    let mut consumer = broker.consume(0, 100).await.unwrap();
    for (n, delivery) in take(&mut consumer, 20).await.iter().enumerate() {
        assert_eq!(delivery.tag, n as u64 + 1);
        assert_eq!(number(delivery), n as u32);
        assert_eq!(delivery.content_type.as_deref(), Some("application/json"));
        assert!(!delivery.redelivered && !delivery.replay);
    }
}

/// How many messages wait; a busy broker may not know at once.
async fn ready(consumer: &Consumer) -> u32 {
    let told = async {
        loop {
            if let Some(ready) = consumer.ready_count().await.unwrap() {
                return ready;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(30), told).await;
    told.expect("the broker tells how many wait")
}

async fn a_prefetch_bounds_what_is_unacknowledged_and_an_ack_makes_room(broker: Broker) {
    publish(&broker, 0..5).await;
    let mut consumer = broker.consume(0, 2).await.unwrap();
    take(&mut consumer, 2).await;
    assert_eq!(ready(&consumer).await, 3);
    assert!(consumer.try_next().unwrap().is_none());
    consumer.ack(1).await.unwrap();
    assert_eq!(number(&consumer.next().await.unwrap()), 2);
    assert_eq!(ready(&consumer).await, 2);
    consumer.ack(3).await.unwrap();
    let rest = take(&mut consumer, 2).await;
    assert_eq!(rest.iter().map(number).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(ready(&consumer).await, 0);
}

async fn what_a_lost_consumer_had_not_acknowledged_comes_again_in_order(broker: Broker) {
    publish(&broker, 0..6).await;
    let mut first = broker.consume(0, 10).await.unwrap();
    take(&mut first, 4).await;
    first.ack(2).await.unwrap();
    drop(first);
    let mut second = broker.consume(0, 10).await.unwrap();
    let again = take(&mut second, 4).await;
    assert_eq!(again.iter().map(number).collect::<Vec<_>>(), [2, 3, 4, 5]);
    assert_eq!(again[0].tag, 1);
    assert!(again[0].redelivered && again[1].redelivered);
    publish(&broker, 6..7).await;
    assert!(!second.next().await.unwrap().redelivered);
}

async fn when_nothing_is_ready_everything_is_here(broker: Broker) {
    publish(&broker, 0..500).await;
    let mut consumer = broker.consume(0, 5_000).await.unwrap();
    until_all_is_here(&consumer).await;
    for n in 0..500 {
        let delivery = consumer.try_next().unwrap();
        assert_eq!(delivery.as_ref().map(number), Some(n));
    }
}

async fn a_second_consumer_waits_until_the_first_is_gone(broker: Broker) {
    publish(&broker, 0..3).await;
    let mut first = broker.consume(0, 10).await.unwrap();
    first.next().await.unwrap();
    let mut second = broker.consume(0, 10).await.unwrap();
    publish(&broker, 3..4).await;
    until_all_is_here(&second).await;
    assert!(second.try_next().unwrap().is_none());
    take(&mut first, 3).await;
    first.ack(2).await.unwrap();
    first.close().await;
    let rest = take(&mut second, 2).await;
    assert_eq!(rest.iter().map(number).collect::<Vec<_>>(), [2, 3]);
}

async fn a_cancelled_wait_loses_nothing(broker: Broker) {
    let mut consumer = broker.consume(0, 10).await.unwrap();
    assert!(consumer.next().now_or_never().is_none());
    publish(&broker, 0..2).await;
    let mut received = Vec::new();
    while received.len() < 2 {
        // Each wait is dropped as soon as another task may run.
        tokio::select! {
            biased;
            delivery = consumer.next() => received.push(number(&delivery.unwrap())),
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(received, [0, 1]);
}

async fn an_unknown_tag_costs_the_channel(broker: Broker) {
    publish(&broker, 0..1).await;
    let mut consumer = broker.consume(0, 10).await.unwrap();
    consumer.next().await.unwrap();
    let _ = consumer.ack(7).await;
    let lost = consumer.next().await.unwrap_err();
    assert!(matches!(lost, ChannelLost::Closed { .. }), "{lost}");
    assert!(consumer.try_next().is_err());
    let mut next = broker.consume(0, 10).await.unwrap();
    assert!(next.next().await.unwrap().redelivered);
}

async fn a_shard_that_does_not_exist_cannot_be_consumed(broker: Broker) {
    let error = broker.consume(5, 1).await.unwrap_err().to_string();
    assert!(error.contains(&broker.topology().queue(5)), "{error}");
}

async fn looking_at_the_quarantine_takes_nothing_out(broker: Broker) {
    let everything = QuarantineFilter::default();
    let sent = vec![
        message("1", "late", Some("a")),
        message("2", "undecodable", None),
        message("3", "misrouted", Some("b")),
    ];
    broker.quarantine(sent.clone()).await.unwrap();
    for _ in 0..2 {
        let found = broker.browse_quarantine(&everything, 10).await.unwrap();
        let expected: Vec<_> = sent.iter().cloned().map(Into::into).collect();
        assert_eq!(found, expected);
    }
    let one = broker.browse_quarantine(&everything, 1).await.unwrap();
    assert_eq!(one[0].id, "1");
    let found = broker.browse_quarantine(&of_source("b"), 1).await.unwrap();
    assert_eq!(found[0].id, "3");
    assert_eq!(found[0].seq, Some(u64::MAX));
}

async fn a_replay_takes_what_was_chosen_from_quarantine_to_the_stream(broker: Broker) {
    let sent = vec![
        message("1", "late", Some("a")),
        message("2", "quarantined", Some("b")),
        message("3", "misrouted", Some("b")),
    ];
    broker.quarantine(sent).await.unwrap();
    let counts = broker.replay_quarantine(&of_source("b")).await.unwrap();
    let expected = Replayed {
        replayed: 2,
        kept: 1,
    };
    assert_eq!(counts, expected);

    let mut consumer = broker.consume(0, 10).await.unwrap();
    let replayed = take(&mut consumer, 2).await;
    assert_eq!(replayed[0].body, "body of 2");
    assert_eq!(replayed[0].message_id.as_deref(), Some("2"));
    assert!(replayed[0].replay, "its tuple is settled");
    assert!(!replayed[1].replay, "its tuple was never settled");

    let everything = QuarantineFilter::default();
    let left = broker.browse_quarantine(&everything, 10).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].id, "1");
}

async fn a_source_goes_to_one_shard_and_shards_share_the_sources(broker: Broker) {
    let sources: Vec<String> = (0..60).map(|n| format!("source-{n}")).collect();
    for source in sources.iter().chain(&sources) {
        let body = Bytes::from(source.clone());
        broker.publish(source, None, body).await.unwrap();
    }
    let mut seen = 0;
    for shard in 0..3 {
        let mut consumer = broker.consume(shard, 1_000).await.unwrap();
        until_all_is_here(&consumer).await;
        let mut here = BTreeMap::<Bytes, u32>::new();
        while let Some(delivery) = consumer.try_next().unwrap() {
            *here.entry(delivery.body).or_default() += 1;
        }
        assert!(here.len() > 3, "shard {shard} has {} sources", here.len());
        assert!(here.values().all(|&count| count == 2), "{here:?}");
        seen += here.len();
    }
    assert_eq!(seen, sources.len());
}

async fn declaring_again_changes_nothing(broker: Broker) {
    publish(&broker, 0..1).await;
    broker.declare().await.unwrap();
    let mut count = 0;
    for shard in 0..2 {
        let mut consumer = broker.consume(shard, 10).await.unwrap();
        until_all_is_here(&consumer).await;
        count += u32::from(consumer.try_next().unwrap().is_some());
    }
    assert_eq!(count, 1);
}
