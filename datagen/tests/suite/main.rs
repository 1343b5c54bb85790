//! What the crate promises, seen from outside.
#![allow(missing_docs)]

mod broker;
mod files;
mod manifest;
mod messages;
mod workload;

use std::collections::BTreeMap;

use windlass_datagen::feed::Feed;
use windlass_datagen::workload::{Options, Workload};

/// 2025-11-11 00:00:00 in China.
const START_MS: i64 = 1_762_790_400_000;

/// Two seconds at 5,000 orders a second.
fn options() -> Options {
    Options {
        start_ms: START_MS,
        rate: 5_000.0,
        duration_ms: 2_000,
        ..Options::default()
    }
}

fn feed(options: Options) -> Feed {
    Feed::Workload(Box::new(Workload::new(options).unwrap()))
}

/// One order with its names, in a form that every decoder of the tests can produce.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Plain {
    source: String,
    seq: u64,
    ts: i64,
    key: String,
    amount: i64,
}

fn plain(feed: Feed) -> Vec<Plain> {
    let mut feed = feed;
    let mut orders = Vec::new();
    while let Some(order) = feed.next() {
        let order = order.unwrap();
        let names = feed.dictionaries();
        orders.push(Plain {
            source: names.sources.text(order.source).to_string(),
            seq: order.seq,
            ts: order.ts,
            key: names.keys.text(order.key).to_string(),
            amount: order.amount,
        });
    }
    orders
}

/// Count, sum, minimum and maximum by window and key, the slow and obvious way.
fn recount(orders: &[Plain]) -> BTreeMap<(i64, String), (u64, i128, i64, i64)> {
    let mut rows = BTreeMap::new();
    for order in orders {
        let cell = (order.ts.div_euclid(1_000) * 1_000, order.key.clone());
        let row = rows.entry(cell).or_insert((0, 0, i64::MAX, i64::MIN));
        row.0 += 1;
        row.1 += i128::from(order.amount);
        row.2 = row.2.min(order.amount);
        row.3 = row.3.max(order.amount);
    }
    rows
}
