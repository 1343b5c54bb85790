//! The whole path inside one process: in-process broker, SQLite file, workers over HTTP.

use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use windlass_dispatcher::broker::{Broker, Topology};
use windlass_dispatcher::invocations::Limits;
use windlass_dispatcher::service::{Config, Service};
use windlass_dispatcher::shard::Settings;
use windlass_dispatcher::store::{GmvQuery, Reader, Store};
use windlass_functions::batch::{decode_batch, encode_partials};
use windlass_functions::function::{Function, Gmv};
use windlass_functions::stream::Stream;

async fn worker(url: String) {
    windlass_functions::trust::use_ring();
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
    let url = format!("sqlite:{}", directory.path().join("w.sqlite").display());
    let store = Store::connect(&url).await.unwrap();
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
        tls: None,
        pool: None,
        token: None,
        status_token: None,
        lease: Duration::from_secs(10),
        limits: Limits::default(),
        jobs: None,
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
    assert!(service.drain(Duration::from_secs(10)).await);
    workers.await.unwrap();
    service.stop().await;

    // 1,700,000,000 s is 2023-11-14 22:13:20 UTC; the windows hold orders 1 to 999, 1,000 to 1,999
    // and so on, the last one order 10,000 alone.
    let reader = Reader::new(&url, &[], &stream).unwrap();
    let rows = reader.gmv(&GmvQuery::default()).await.unwrap().rows;
    let found: Vec<_> = rows
        .iter()
        .map(|row| (row.window_start.as_str(), row.orders, row.gmv.as_str()))
        .collect();
    let expected: Vec<_> = (0..=10u64)
        .map(|second| {
            let orders = match second {
                0 => 999,
                10 => 1,
                _ => 1_000,
            };
            let start = format!("2023-11-14 22:13:{}.000", 20 + second);
            (
                start,
                orders,
                format!("{}.{}0", orders * 3 / 2, orders * 3 % 2 * 5),
            )
        })
        .collect();
    let expected: Vec<_> = expected
        .iter()
        .map(|(start, orders, gmv)| (start.as_str(), *orders, gmv.as_str()))
        .collect();
    assert_eq!(found, expected);
    for row in &rows {
        let amounts = (row.min_amount.as_str(), row.max_amount.as_str());
        assert_eq!(
            (row.province.as_str(), amounts),
            ("Hunan", ("1.50", "1.50"))
        );
    }
    let totals = reader.totals().await.unwrap().rows;
    assert_eq!(totals.len(), 1);
    assert_eq!(
        (totals[0].orders, totals[0].gmv.as_str()),
        (10_000, "15000.00")
    );
}
