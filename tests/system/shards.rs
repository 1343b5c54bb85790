//! A stream of three shards, shared by two dispatchers.

use std::time::{Duration, Instant};

use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;

use crate::harness::{Process, Site, eventually, recovered};

const PATIENCE: Duration = Duration::from_secs(90);
const SHARDS: u32 = 3;

/// Which shards it owns.
async fn owned(dispatcher: &Process) -> Vec<u32> {
    let status = dispatcher.status().await;
    let owns = |shard: &u32| status["shards"][shard.to_string()]["role"] == "owner";
    (0..SHARDS).filter(owns).collect()
}

/// How many tuples each shard has counted, by the database.
fn by_shard(site: &Site) -> Vec<u64> {
    let schema = url::Url::parse(&site.store).expect("made by us");
    let sql = format!(
        "SELECT SUM(orders) FROM {}.results GROUP BY shard ORDER BY shard",
        &schema.path()[1..]
    );
    let said = crate::harness::service(&["sql", site.database.service(), "-Ne", &sql]);
    said.lines()
        .map(|line| line.trim().parse().expect("a number"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_dispatchers_share_three_shards_and_one_goes_on_alone() {
    let Some(mut site) = Site::new("shards").await else {
        return;
    };
    site.shards = SHARDS;
    let options = Options {
        // So many that every shard is a home.
        sources: 48,
        ..Options::default()
    };
    site.broker().await.close().await;
    let load = site.load(options, Speed::Times(1.0));
    let flags = ["--workers", "1"];
    let (one, other) = (
        site.dispatch_with(&flags, None),
        site.dispatch_with(&flags, None),
    );
    one.answers();
    other.answers();
    eventually(PATIENCE, "each shard has one owner", async || {
        let mut all = [owned(&one).await, owned(&other).await].concat();
        all.sort_unstable();
        all == [0, 1, 2]
    })
    .await;
    site.progresses(PATIENCE).await;
    let (ones, others) = (owned(&one).await, owned(&other).await);
    println!("shards of the one: {ones:?}, of the other: {others:?}");
    // The one with more of them dies.
    let (dies, lives) = match ones.len() > others.len() {
        true => (one, other),
        false => (other, one),
    };
    let settled = site.settled_now().await.expect("the store answers");
    dies.kill();
    let killed = Instant::now();
    eventually(PATIENCE, "the other has all three", async || {
        owned(&lives).await == [0, 1, 2]
    })
    .await;
    site.progresses_beyond(settled, PATIENCE).await;
    recovered(
        "one of two dispatchers of three shards killed",
        killed.elapsed(),
    );
    let manifest = load.end().await;
    site.equals(&manifest, PATIENCE).await;

    let counted = by_shard(&site);
    assert_eq!(counted.len(), 3, "every shard had orders: {counted:?}");
    let late: i64 = {
        let audit = site.audit().await.expect("the store answers");
        audit.sources.iter().map(|of| of.late).sum()
    };
    let all = counted.iter().sum::<u64>() + late as u64;
    assert_eq!(all, manifest.totals.orders, "{counted:?}");

    // Another number of shards is refused, fewer and more, and the way out is named.
    for shards in ["1", "2", "4"] {
        let output = site.run(&["dispatch", "--listen", "127.0.0.1:0", "--shards", shards]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let says = ["created with", "that cannot change", "under another name"];
        for words in says {
            assert!(said.contains(words), "expected {words:?}: {said}");
        }
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    }
}
