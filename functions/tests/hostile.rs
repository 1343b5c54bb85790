//! Hostile bodies: whatever arrives, the decoders answer with rows or a reason, within bounds.
//!
//! Seeded mutations of valid bodies. A failure names its seed; `WINDLASS_HOSTILE_SEED=n` runs
//! that one alone, `WINDLASS_HOSTILE_CASES=n` sets how many run.

mod bodies;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_ipc::CompressionType;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use windlass_functions::batch::{decode_batch, decode_partials, encode_batch, encode_partials};
use windlass_functions::decode::{ARROW_STREAM, JSON, NDJSON, decode};
use windlass_functions::function::{Function, Gmv};
use windlass_functions::partial::Partial;
use windlass_functions::stream::{Limits, Stream};
use windlass_functions::tuple::{Dictionaries, Dictionary, Tuples};

use bodies::{NOW, batch, plain, stream, variants};

const BATCH: &str = "a batch";
const PARTIALS: &str = "partials";

/// Valid bodies, each with what it is.
fn corpus() -> Vec<(&'static str, Vec<u8>)> {
    let order = |seq: u64| {
        format!(
            r#"{{"source":"a","seq":{seq},"ts":{NOW},"province":"浙江","amount":12.34,"tags":[{{"x":"\u00e9\n"}},null]}}"#
        )
    };
    let plain_order =
        r#"{"source":"a","seq":1,"ts":"2026-11-11T00:00:00Z","province":"b","amount":"-1.5e1"}"#;
    let mut corpus = vec![
        (JSON, order(0).into_bytes()),
        (JSON, plain_order.into()),
        (
            JSON,
            format!("[{},{plain_order}, {}]", order(1), order(2)).into_bytes(),
        ),
        (
            NDJSON,
            format!("{}\n{plain_order}\r\n{}\n", order(3), order(4)).into_bytes(),
        ),
    ];
    for (at, (_, columns)) in variants().into_iter().enumerate() {
        let compression = (at % 3 == 0).then_some(CompressionType::ZSTD);
        corpus.push((ARROW_STREAM, stream(&[batch(columns)], compression)));
    }
    corpus.push((
        ARROW_STREAM,
        stream(&[batch(plain()), batch(plain())], None),
    ));

    let (mut keys, mut tuples) = (Dictionary::default(), Tuples::default());
    for seq in 0..20 {
        let key = keys.intern(&format!("key {}", seq % 3));
        tuples.push(0, seq, NOW, key, seq as i64);
    }
    corpus.push((BATCH, encode_batch(&keys, &tuples, 3..17).to_vec()));
    let partials = ["a", "b", "浙江"].map(|key| (Arc::from(key), Partial::of(7)));
    corpus.push((PARTIALS, encode_partials(&partials.to_vec()).to_vec()));
    corpus
}

/// Changes `body` in one of the ways that find faults.
fn mutate(rng: &mut StdRng, body: &mut Vec<u8>, corpus: &[(&str, Vec<u8>)]) {
    const TOKENS: [&[u8]; 14] = [
        b"\"",
        b"\\",
        b"{",
        b"}",
        b"[[[[[[[[",
        b"]",
        b",",
        b":",
        b"null",
        b"1e999",
        b"-",
        b"\\ud800",
        b"\xf0\x9f",
        b"\n",
    ];
    const NUMBERS: [i64; 12] = [
        0,
        1,
        -1,
        8,
        255,
        1 << 16,
        i32::MAX as i64,
        i32::MIN as i64,
        1 << 32,
        1 << 40,
        i64::MAX,
        i64::MIN,
    ];
    let at = rng.random_range(0..=body.len());
    let length = rng.random_range(0..=(body.len() - at).min(64));
    match rng.random_range(0..9) {
        0 => body.truncate(at),
        1 => drop(body.drain(at..at + length)),
        2 => {
            let copied = body[at..at + length].to_vec();
            let to = rng.random_range(0..=body.len());
            body.splice(to..to, copied);
        }
        3 => {
            let token = TOKENS[rng.random_range(0..TOKENS.len())];
            body.splice(at..at, token.iter().copied());
        }
        4 | 5 => {
            let number = NUMBERS[rng.random_range(0..NUMBERS.len())].to_le_bytes();
            let aligned = at & !3;
            let width = [1, 2, 4, 8][rng.random_range(0..4)];
            for (byte, new) in body.iter_mut().skip(aligned).zip(&number[..width]) {
                *byte = *new;
            }
        }
        6 => {
            let other = &corpus[rng.random_range(0..corpus.len())].1;
            let from = rng.random_range(0..=other.len());
            let until = rng.random_range(from..=other.len());
            body.splice(at..at + length, other[from..until].iter().copied());
        }
        _ => {
            if let Some(byte) = body.get_mut(at) {
                *byte ^= 1 << rng.random_range(0..8);
            }
        }
    }
}

fn settings() -> Stream {
    Stream {
        limits: Limits {
            message_bytes: 1 << 20,
            rows: 10_000,
            keys: 100,
            decompressed_bytes: 1 << 20,
            ..Limits::default()
        },
        ..Stream::default()
    }
}

/// Decodes the body and checks what every outcome has in common.
fn check(stream: &Stream, kind: &str, body: &[u8]) {
    match kind {
        BATCH => {
            if let Ok(batch) = decode_batch(body) {
                assert_eq!(batch.key.len(), batch.amount.len());
                Gmv.map(&batch).expect("gmv digests any batch");
            }
        }
        PARTIALS => {
            if let Ok(partials) = decode_partials(body) {
                assert!(partials.iter().all(|(_, partial)| partial.is_possible()));
            }
        }
        _ => check_message(stream, kind, body),
    }
}

fn check_message(stream: &Stream, kind: &str, body: &[u8]) {
    let (mut dictionaries, mut tuples) = (Dictionaries::default(), Tuples::default());
    let outcome = decode(
        stream,
        NOW,
        Some(kind),
        body,
        &mut dictionaries,
        &mut tuples,
    );
    let rows = tuples.len();
    assert!(
        [
            tuples.source.len(),
            tuples.ts.len(),
            tuples.key.len(),
            tuples.amount.len()
        ]
        .iter()
        .all(|length| *length == rows)
    );
    match outcome {
        Err(refusal) => {
            assert_eq!(rows, 0, "a refused message leaves no rows");
            assert!((1..2_000).contains(&refusal.0.len()), "{refusal}");
        }
        Ok(bad) => {
            assert!((1..=stream.limits.rows).contains(&(rows + bad.len())));
            assert!(bad.iter().all(|bad| !bad.reason.is_empty()));
            assert!(tuples.seq.iter().all(|seq| *seq < u64::MAX));
            let latest = NOW + stream.limits.max_ahead_ms;
            assert!(tuples.ts.iter().all(|ts| (0..=latest).contains(ts)));
            for text in dictionaries
                .sources
                .texts()
                .iter()
                .chain(dictionaries.keys.texts())
            {
                assert!((1..=stream.limits.text_bytes).contains(&text.len()));
            }
        }
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().expect("a number"))
}

/// The most memory that this process ever held, MB.
fn peak_memory_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1_024)
}

#[test]
fn whatever_arrives_becomes_rows_or_a_reason_within_bounds() {
    let default = if cfg!(debug_assertions) {
        20_000
    } else {
        250_000
    };
    let seeds = match setting("WINDLASS_HOSTILE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..setting("WINDLASS_HOSTILE_CASES").unwrap_or(default),
    };
    let (corpus, stream) = (corpus(), settings());
    for (kind, body) in &corpus {
        check(&stream, kind, body);
    }
    // A panic that the decoder catches is an answer like any other; only print what escapes.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let failed = seeds.clone().find_map(|seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let (kind, body) = &corpus[rng.random_range(0..corpus.len())];
        let mut body = body.clone();
        for _ in 0..rng.random_range(1..=4) {
            mutate(&mut rng, &mut body, &corpus);
        }
        catch_unwind(AssertUnwindSafe(|| check(&stream, kind, &body)))
            .err()
            .map(|panic| (seed, kind, panic))
    });
    std::panic::set_hook(hook);
    if let Some((seed, kind, panic)) = failed {
        let said = panic.downcast_ref::<String>().map_or("", String::as_str);
        panic!("{kind} failed: {said}; run it alone with WINDLASS_HOSTILE_SEED={seed}");
    }
    if let Some(peak) = peak_memory_mb() {
        assert!(peak < 256, "{peak} MB were held at one time");
    }
}
