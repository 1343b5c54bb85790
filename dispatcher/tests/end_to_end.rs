//! The whole path inside one process: in-process broker, SQLite file, workers over HTTP.

use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use windlass_dispatcher::broker::{Broker, Topology};
use windlass_dispatcher::invocations::Limits;
use windlass_dispatcher::service::{Config, Service};
use windlass_dispatcher::shard::Settings;
use windlass_dispatcher::store::Store;
use windlass_functions::batch::{decode_batch, encode_partials};
use windlass_functions::function::{Function, Gmv};
use windlass_functions::stream::Stream;

async fn worker(url: String) {
    let client = reqwest::Client::new();
    loop {
        let next = client
            .get(format!("{url}/v1/invocations/next?wait=10s"))
            .send()
            .await
            .unwrap();
        match next.status().as_u16() {
            200 => {
                let id = next.headers()["windlass-invocation-id"]
                    .to_str()
                    .unwrap()
                    .to_owned();
                let batch = decode_batch(&next.bytes().await.unwrap()).unwrap();
                let partials = Gmv.map(&batch).unwrap();
                let answer = client
                    .post(format!("{url}/v1/invocations/{id}/response"))
                    .body(encode_partials(&partials))
                    .send()
                    .await
                    .unwrap();
                assert_eq!(answer.status().as_u16(), 200);
            }
            204 => {}
            _ => return,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_become_rows() {
    let directory = tempfile::tempdir().unwrap();
    let stream = Stream::default();
    let store = Store::connect(&format!(
        "sqlite:{}",
        directory.path().join("w.sqlite").display()
    ))
    .await
    .unwrap();
    store.migrate(&stream, 1).await.unwrap();
    let topology = Topology {
        stream: "orders".into(),
        shards: 1,
    };
    let broker = Broker::connect("memory:", &topology).await.unwrap();
    let mut service = Service::start(Config {
        stream: stream.clone(),
        shards: 1,
        settings: Settings::default(),
        broker: broker.clone(),
        store: store.clone(),
        replicas: None,
        listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        token: None,
        lease: Duration::from_secs(10),
        limits: Limits::default(),
    })
    .unwrap();
    let workers = tokio::spawn(worker(format!("http://{}", service.address())));
    for seq in 1..=10_000u64 {
        let ts = 1_700_000_000_000 + seq;
        let body =
            format!(r#"{{"source":"a","seq":{seq},"ts":{ts},"province":"Hunan","amount":"1.50"}}"#);
        broker
            .publish("a", Some("application/json"), Bytes::from(body))
            .await
            .unwrap();
    }
    let done = async {
        while service.status().tuples_counted < 10_000 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(20), done)
        .await
        .is_err()
    {
        panic!("{:#?}", service.status());
    }
    println!("{:#?}", service.status());
    assert!(service.drain(Duration::from_secs(10)).await);
    println!("{:#?}", service.status());
    workers.await.unwrap();
    service.stop().await;
}
