use std::collections::BTreeMap;
use std::io::Cursor;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMillisecondType, UInt64Type};
use arrow_ipc::reader::StreamReader;
use windlass_datagen::feed::Feed;
use windlass_datagen::message::{Format, Message, Messages, Packing};

use super::{Plain, feed, options, plain};

fn packing(format: Format, batch: usize, duplicates: f64) -> Packing {
    Packing {
        format,
        batch,
        duplicates,
        seed: 7,
    }
}

fn messages(feed: Feed, packing: Packing) -> Vec<Message> {
    Messages::new(feed, packing).map(Result::unwrap).collect()
}

/// What a consumer makes of a message.
pub(super) fn decode(content_type: &str, body: &[u8]) -> Vec<Plain> {
    let json = |value: &serde_json::Value| Plain {
        source: value["source"].as_str().unwrap().into(),
        seq: value["seq"].as_u64().unwrap(),
        ts: value["ts"].as_i64().unwrap(),
        key: value["province"].as_str().unwrap().into(),
        amount: (value["amount"].as_f64().unwrap() * 100.0).round() as i64,
    };
    match content_type {
        "application/json" => match serde_json::from_slice(body).unwrap() {
            serde_json::Value::Array(values) => values.iter().map(json).collect(),
            value => vec![json(&value)],
        },
        "application/x-ndjson" => std::str::from_utf8(body)
            .unwrap()
            .lines()
            .map(|line| json(&serde_json::from_str(line).unwrap()))
            .collect(),
        "application/vnd.apache.arrow.stream" => arrow(body),
        other => panic!("{other}"),
    }
}

fn arrow(body: &[u8]) -> Vec<Plain> {
    let mut rows = Vec::new();
    for batch in StreamReader::try_new(Cursor::new(body), None).unwrap() {
        let batch = batch.unwrap();
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let text = |name: &str, row: usize| {
            let dictionary = column(name).as_any_dictionary();
            let texts = dictionary.values().as_string::<i32>();
            texts.value(dictionary.normalized_keys()[row]).to_owned()
        };
        for row in 0..batch.num_rows() {
            rows.push(Plain {
                source: text("source", row),
                seq: column("seq").as_primitive::<UInt64Type>().value(row),
                ts: column("ts")
                    .as_primitive::<TimestampMillisecondType>()
                    .value(row),
                key: text("province", row),
                amount: column("amount").as_primitive::<Int64Type>().value(row),
            });
        }
    }
    rows
}

#[test]
fn every_format_carries_every_order_once_and_each_source_in_order() {
    let mut expected = plain(feed(options()));
    expected.sort();
    for (format, batch) in [
        (Format::Json, 1),
        (Format::Json, 10),
        (Format::Ndjson, 64),
        (Format::Arrow, 300),
    ] {
        let mut found = Vec::new();
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        for message in messages(feed(options()), packing(format, batch, 0.0)) {
            let rows = decode(message.content_type, &message.body);
            assert!((1..=batch).contains(&rows.len()));
            for row in &rows {
                assert_eq!(*row.source, *message.source);
                let last = last.entry(row.source.clone()).or_insert(0);
                assert_eq!(row.seq, *last + 1);
                *last = row.seq;
            }
            found.extend(rows);
        }
        found.sort();
        assert_eq!(found, expected, "{format:?}");
    }
}

#[test]
fn a_full_arrow_message_has_about_64_kib() {
    let mut options = options();
    options.orders = Some(8 * 2_400);
    options.rate = 1e6;
    for message in messages(feed(options), packing(Format::Arrow, 2_400, 0.0)) {
        assert!(
            (60_000..=68_000).contains(&message.body.len()),
            "{}",
            message.body.len()
        );
    }
}

#[test]
fn a_batch_that_does_not_fill_up_leaves_after_a_tenth_of_a_second() {
    for message in messages(feed(options()), packing(Format::Json, 1_000_000, 0.0)) {
        let oldest = message.orders[0].due_ns;
        assert!(
            message.due_ns - oldest <= 101_000_000,
            "{}",
            message.due_ns - oldest
        );
    }
}

#[test]
fn duplicates_follow_their_original_within_64_messages_and_are_as_many_as_asked() {
    let messages = messages(feed(options()), packing(Format::Json, 1, 0.1));
    let mut first = BTreeMap::new();
    let mut copies = 0;
    for (place, message) in messages.iter().enumerate() {
        let order = message.orders[0];
        match first.get(&(order.source, order.seq)) {
            None => drop(first.insert((order.source, order.seq), (place, &message.body))),
            Some(&(original, body)) => {
                assert_eq!(body, &message.body);
                // Copies that fall due together with it may stand in between.
                assert!(place - original <= 64 + 20, "{}", place - original);
                copies += 1;
            }
        }
    }
    assert_eq!(first.len(), 10_000);
    assert!((850..=1_150).contains(&copies), "{copies}");
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let bytes = || -> Vec<_> {
        messages(feed(options()), packing(Format::Arrow, 100, 0.05))
            .into_iter()
            .map(|message| message.body)
            .collect()
    };
    assert_eq!(bytes(), bytes());
}
