//! What the README shows is run as it stands: the Python producer against a real RabbitMQ.

use std::process::Command;

use windlass_dispatcher::broker::{Broker, Topology};

/// The README's first code block in that language.
fn block(language: &str) -> String {
    let readme = include_str!("../README.md");
    let start = format!("```{language}\n");
    let (_, rest) = readme.split_once(&start).expect("the README has the block");
    let (code, _) = rest.split_once("\n```").expect("the block ends");
    code.to_owned()
}

#[test]
fn the_python_producer_is_about_ten_lines() {
    assert!(block("python").lines().count() <= 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_producer_publishes_a_hundred_orders() {
    let Ok(url) = std::env::var("WINDLASS_TEST_AMQP") else {
        assert_ne!(
            std::env::var("WINDLASS_TEST_REQUIRED").as_deref(),
            Ok("1"),
            "WINDLASS_TEST_AMQP is not set"
        );
        eprintln!("skipped: WINDLASS_TEST_AMQP is not set");
        return;
    };
    let stream = format!("readme-{}", std::process::id());
    let topology = Topology {
        stream: stream.clone(),
        shards: 1,
    };
    let broker = Broker::connect(&url, &topology).await.unwrap();
    broker.declare().await.unwrap();
    // The system's Python, which has pika from Debian's package.
    let ran = Command::new("/usr/bin/python3")
        .args(["-c", &block("python")])
        .env("WINDLASS_BROKER", &url)
        .env("WINDLASS_STREAM", &stream)
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let mut consumer = broker.consume(0, 200).await.unwrap();
    let config = windlass_functions::stream::Stream::default();
    let mut dictionaries = Default::default();
    let mut tuples = windlass_functions::tuple::Tuples::default();
    for _ in 0..100 {
        let delivery = consumer.next().await.unwrap();
        let bad = windlass_functions::decode::decode(
            &config,
            i64::MAX / 2,
            delivery.content_type.as_deref(),
            &delivery.body,
            &mut dictionaries,
            &mut tuples,
        );
        assert_eq!(bad.unwrap(), vec![]);
    }
    assert_eq!(tuples.seq, (1..=100).collect::<Vec<u64>>());
    assert!(tuples.amount.iter().all(|&amount| amount == 1_250));
}
