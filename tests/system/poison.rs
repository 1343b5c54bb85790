//! Orders that no worker can digest, and workers that can digest nothing.

use std::time::{Duration, Instant};

use windlass_datagen::message::Format;
use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;
use windlass_functions::function::Gmv;

use crate::hands::{Chokes, Hand};
use crate::harness::{Process, Site, settled, unix_ms};
use crate::raw::{JSON, Raw, counts, order};

const WITHIN: Duration = Duration::from_secs(60);
const NO_WORKERS: &[&str] = &["--workers", "0", "--idle-timeout", "10m"];

/// What `/readyz` answers.
async fn readiness(dispatcher: &Process) -> (u16, String) {
    let url = format!("http://{}/readyz", dispatcher.address);
    let answer = reqwest::get(url).await.expect("the dispatcher answers");
    (
        answer.status().as_u16(),
        answer.text().await.expect("a text"),
    )
}

async fn readiness_becomes(dispatcher: &Process, status: u16) -> String {
    let started = Instant::now();
    loop {
        let (came, text) = readiness(dispatcher).await;
        if came == status {
            return text;
        }
        assert!(
            started.elapsed() < WITHIN,
            "not {status} within {WITHIN:?}: {came} {text}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// 666.66, the amount at which [`Chokes`] chokes.
fn is_poison(amount: i64) -> bool {
    amount == 66_666
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_is_isolated_and_its_neighbours_are_counted() {
    let Some(site) = Site::new("poison").await else {
        return;
    };
    let raw = Raw::to(&site).await;
    let now = unix_ms();
    for seq in 0..200 {
        let amount = if seq % 90 == 50 { "666.66" } else { "1.00" };
        raw.send(Some(JSON), order("s", seq, now, "Hunan", amount))
            .await;
    }
    let dispatcher = site.owned(NO_WORKERS).await;
    let _hand = Hand::of(&dispatcher, "chokes", Chokes(is_poison));
    let audit = site
        .audited(WITHIN, "all are settled", |audit| settled(audit) == 200)
        .await;
    assert_eq!(counts(&audit, "s"), [198, 0, 2]);
    let rows = site.rows();
    assert_eq!(rows.len(), 1);
    assert_eq!(
        [&rows[0]["gmv"], &rows[0]["max_amount"]],
        ["198.00", "1.00"]
    );

    let kept = site.quarantined().await;
    let mut seqs: Vec<_> = kept.iter().map(|kept| kept.seq).collect();
    seqs.sort();
    assert_eq!(seqs, [Some(50), Some(140)]);
    for kept in &kept {
        assert_eq!(kept.outcome, "quarantined");
        let says = "the function fails on this tuple alone: error: cannot digest 66666";
        assert_eq!(kept.reason, says);
        let tuple: serde_json::Value = serde_json::from_slice(&kept.body).expect("JSON");
        assert_eq!(tuple["amount"], "666.66");
    }
    assert_eq!(readiness_becomes(&dispatcher, 200).await, "ready\n");

    // A better function counts them after all.
    let _better = {
        drop(_hand);
        Hand::of(&dispatcher, "digests", Gmv)
    };
    let replayed = site.run(&["quarantine", "replay", "--source", "s"]);
    assert!(replayed.status.success(), "{replayed:?}");
    site.audited(WITHIN, "the replay is counted", |audit| {
        counts(audit, "s") == [200, 0, 0]
    })
    .await;
    assert_eq!(site.rows()[0]["gmv"], "1531.32");
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_alone_waits_until_the_workers_have_proved_themselves() {
    let Some(site) = Site::new("poison_alone").await else {
        return;
    };
    let raw = Raw::to(&site).await;
    let dispatcher = site.owned(NO_WORKERS).await;
    let _hand = Hand::of(&dispatcher, "chokes", Chokes(is_poison));
    raw.send(Some(JSON), order("s", 0, unix_ms(), "Hunan", "666.66"))
        .await;
    let trouble = readiness_becomes(&dispatcher, 503).await;
    assert!(trouble.contains("cannot digest 66666"), "{trouble}");
    let audit = site.audit().await.expect("the store answers");
    assert_eq!(settled(&audit), 0, "nobody knows yet who is at fault");

    raw.send(Some(JSON), order("s", 1, unix_ms(), "Hunan", "1.00"))
        .await;
    site.audited(WITHIN, "the poison is known as such", |audit| {
        counts(audit, "s") == [1, 0, 1]
    })
    .await;
    readiness_becomes(&dispatcher, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_workers_lose_nothing_and_a_good_one_recovers_all() {
    let Some(site) = Site::new("broken_workers").await else {
        return;
    };
    let dispatcher = site.owned(NO_WORKERS).await;
    let broken = ["broken-0", "broken-1"].map(|name| Hand::of(&dispatcher, name, Chokes(|_| true)));
    let options = Options {
        rate: 500.0,
        duration_ms: 3_000,
        ..Options::default()
    };
    let manifest = site.publish(options, Format::Json, Speed::Times(1.0)).await;
    let trouble = readiness_becomes(&dispatcher, 503).await;
    assert!(trouble.contains("workers fail on every batch"), "{trouble}");
    assert!(trouble.contains("everything is kept"), "{trouble}");
    let audit = site.audit().await.expect("the store answers");
    assert_eq!(settled(&audit), 0, "{audit:?}");
    for hand in broken {
        hand.leave().await;
    }

    let started = Instant::now();
    let _good = Hand::of(&dispatcher, "good", Gmv);
    site.equals(&manifest, WITHIN).await;
    println!("recovered {:?} after a good worker came", started.elapsed());
    assert_eq!(readiness_becomes(&dispatcher, 200).await, "ready\n");
    assert!(site.quarantined().await.is_empty(), "no order was blamed");
}
