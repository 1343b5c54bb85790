//! Decode, window and aggregate on one core, from a file: million orders a second, and as a ratio
//! to a bare loop over the same bytes that checks nothing and counts only what it expects.
//!
//! Time is this thread's processor time: nothing here waits, and on a machine that others use too
//! the wall clock would measure them.
//!
//! `cargo bench -p windlass-functions --bench rollup`; `WINDLASS_BENCH_ORDERS` sets how many
//! orders (20 million), `WINDLASS_BENCH_ROUNDS` how often each case runs (3; the best counts).
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMillisecondType};
use arrow_array::{
    ArrayRef, Decimal128Array, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray, UInt64Array,
};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::Schema;
use rustix::time::{ClockId, clock_gettime};
use windlass_functions::batch::{decode_batch, decode_partials, encode_batch, encode_partials};
use windlass_functions::decode::{ARROW_STREAM, JSON, NDJSON, decode};
use windlass_functions::function::{Function, Gmv};
use windlass_functions::partial::Partial;
use windlass_functions::rollup::Rollup;
use windlass_functions::stream::Stream;
use windlass_functions::tuple::{Dictionaries, Tuples};

/// 2026-11-11T00:00:00Z.
const START_MS: i64 = 1_794_355_200_000;
const LATER_MS: i64 = START_MS + 86_400_000;
/// Event time covers one second for so many orders.
const ORDERS_A_SECOND: u64 = 100_000;
const DISORDER_MS: u64 = 500;
const KEYS: usize = 34;
const SOURCES: usize = 8;
/// Rows of one Arrow message, 230 KB.
const FRAME_ROWS: usize = 8_192;
/// Bytes of one NDJSON message.
const CHUNK: usize = 1 << 20;

/// What is to be reached at least, M orders/s.
const ARROW: f64 = 40.0;
const LINES: f64 = 3.0;
/// What an order may cost at most in a window of any size, of what it costs in the largest.
const FLAT: f64 = 1.2;

fn main() -> anyhow::Result<()> {
    let orders = setting("WINDLASS_BENCH_ORDERS", 20_000_000)?;
    let rounds = setting("WINDLASS_BENCH_ROUNDS", 5)?;
    let directory = tempfile::tempdir()?;

    println!("{orders} orders, one core, best of {rounds}");
    let mut missed = Vec::new();
    for (name, decimal) in [("Arrow IPC, int64", false), ("Arrow IPC, decimal128", true)] {
        let path = directory.path().join("orders.arrow");
        write_arrow(&path, orders, ORDERS_A_SECOND, decimal)?;
        let bare = best(rounds, orders, || bare_arrow(&path, decimal))?;
        let ours = best(rounds, orders, || rollup_arrow(&path))?;
        report(name, ours, bare, ARROW, &mut missed);
        std::fs::remove_file(&path)?;
    }
    let path = directory.path().join("orders.ndjson");
    write_ndjson(&path, orders)?;
    let bare = best(rounds, orders, || bare_ndjson(&path))?;
    let ours = best(rounds, orders, || rollup_ndjson(&path))?;
    report("NDJSON", ours, bare, LINES, &mut missed);
    one_a_message(rounds)?;
    codecs();
    window_sizes(directory.path(), orders, rounds, &mut missed)?;
    anyhow::ensure!(
        missed.is_empty(),
        "goals that were missed: {}",
        missed.join("; ")
    );
    Ok(())
}

/// What an order costs as its window grows, as a ratio to the largest window. The sizes take turns,
/// so that a machine that is slow for a while favours none.
fn window_sizes(
    directory: &Path,
    orders: u64,
    rounds: u64,
    missed: &mut Vec<String>,
) -> anyhow::Result<()> {
    let sizes = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
    let path = |size: u64| directory.join(format!("{size}.arrow"));
    for size in sizes {
        write_arrow(&path(size), orders, size, false)?;
    }
    let mut speeds = sizes.map(|size| (size, 0.0_f64));
    for _ in 0..rounds {
        for (size, speed) in &mut speeds {
            *speed = speed.max(best(1, orders, || rollup_arrow(&path(*size)))?);
        }
    }
    let (_, largest) = speeds[sizes.len() - 1];
    for (size, speed) in speeds {
        println!(
            "windows of {size:>10} orders {speed:7.2} M orders/s, cost an order {:.2} of the largest's",
            largest / speed
        );
        if largest / speed > FLAT {
            let cost = largest / speed;
            missed.push(format!(
                "windows of {size} orders: expected a cost of {FLAT} of the largest's at most, got {cost:.2}"
            ));
        }
    }
    Ok(())
}

fn setting(name: &str, default: u64) -> anyhow::Result<u64> {
    match std::env::var(name) {
        Ok(text) => Ok(text.parse()?),
        Err(_) => Ok(default),
    }
}

/// What this thread has used of the processor, seconds.
fn seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The shortest of `rounds` runs as million orders a second; each must count all `orders`.
fn best(
    rounds: u64,
    orders: u64,
    mut run: impl FnMut() -> anyhow::Result<u64>,
) -> anyhow::Result<f64> {
    let mut best = f64::MAX;
    for _ in 0..rounds {
        let start = seconds();
        let counted = run()?;
        best = best.min(seconds() - start);
        anyhow::ensure!(counted == orders, "counted {counted} of {orders} orders");
    }
    Ok(orders as f64 / best / 1e6)
}

fn report(name: &str, ours: f64, bare: f64, goal: f64, missed: &mut Vec<String>) {
    println!(
        "{name:22} {ours:7.2} M orders/s, bare loop {bare:7.2}, ratio {:.2}",
        ours / bare
    );
    if ours < goal {
        missed.push(format!("{name}: expected {goal} M orders/s, got {ours:.2}"));
    }
}

/// The `n`-th order, always the same: key, ts, amount in minor units.
fn order(n: u64, a_second: u64) -> (usize, i64, i64) {
    // SplitMix64, Steele et al. 2014.
    let mut bits = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    let key = (bits % KEYS as u64) as usize;
    let late = (bits >> 16) % DISORDER_MS;
    let ts = START_MS + (1_000 + n * 1_000 / a_second - late) as i64;
    (key, ts, 100 + ((bits >> 40) % 999_900) as i64)
}

fn write_arrow(path: &Path, orders: u64, a_second: u64, decimal: bool) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let sources: ArrayRef = Arc::new(StringArray::from_iter_values(
        (0..SOURCES).map(|n| format!("shop-{n}")),
    ));
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values(
        (0..KEYS).map(|n| format!("Province-{n:02}")),
    ));
    for first in (0..orders).step_by(FRAME_ROWS) {
        let rows = first..orders.min(first + FRAME_ROWS as u64);
        let source = rows.clone().map(|n| (n % SOURCES as u64) as i32);
        let source =
            DictionaryArray::try_new(Int32Array::from_iter_values(source), Arc::clone(&sources))?;
        let key = rows.clone().map(|n| order(n, a_second).0 as i32);
        let key = DictionaryArray::try_new(Int32Array::from_iter_values(key), Arc::clone(&keys))?;
        let amount: ArrayRef = if decimal {
            let values = rows.clone().map(|n| i128::from(order(n, a_second).2));
            Arc::new(Decimal128Array::from_iter_values(values).with_precision_and_scale(18, 2)?)
        } else {
            Arc::new(Int64Array::from_iter_values(
                rows.clone().map(|n| order(n, a_second).2),
            ))
        };
        let seq = UInt64Array::from_iter_values(rows.clone().map(|n| n / SOURCES as u64));
        let ts = TimestampMillisecondArray::from_iter_values(rows.map(|n| order(n, a_second).1));
        let batch = RecordBatch::try_from_iter([
            ("source", Arc::new(source) as ArrayRef),
            ("seq", Arc::new(seq)),
            ("ts", Arc::new(ts)),
            ("province", Arc::new(key)),
            ("amount", amount),
        ])?;
        let message = stream_of(&batch)?;
        file.write_all(&(message.len() as u64).to_le_bytes())?;
        file.write_all(&message)?;
    }
    Ok(file.flush()?)
}

fn stream_of(batch: &RecordBatch) -> anyhow::Result<Vec<u8>> {
    let mut message = Vec::new();
    let schema: &Schema = batch.schema_ref();
    let mut writer = StreamWriter::try_new(&mut message, schema)?;
    writer.write(batch)?;
    writer.finish()?;
    drop(writer);
    Ok(message)
}

fn write_ndjson(path: &Path, orders: u64) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for n in 0..orders {
        writeln!(file, "{}", json(n))?;
    }
    Ok(file.flush()?)
}

fn json(n: u64) -> String {
    let (key, ts, amount) = order(n, ORDERS_A_SECOND);
    format!(
        r#"{{"source":"shop-{}","seq":{},"ts":{ts},"province":"Province-{key:02}","amount":{}.{:02}}}"#,
        n % SOURCES as u64,
        n / SOURCES as u64,
        amount / 100,
        amount % 100
    )
}

/// Calls `on_message` for each length-prefixed message of the file.
fn frames(
    path: &Path,
    mut on_message: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut file = File::open(path)?;
    let (mut length, mut message) = ([0; 8], Vec::new());
    while file.read(&mut length)? == length.len() {
        message.resize(u64::from_le_bytes(length) as usize, 0);
        file.read_exact(&mut message)?;
        on_message(&message)?;
    }
    Ok(())
}

/// Calls `on_message` for chunks of whole lines.
fn chunks(
    path: &Path,
    mut on_message: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut file = File::open(path)?;
    let (mut buffer, mut held) = (vec![0; CHUNK], 0);
    loop {
        let read = file.read(&mut buffer[held..])?;
        let filled = held + read;
        let Some(end) = memchr::memrchr(b'\n', &buffer[..filled]) else {
            return Ok(());
        };
        on_message(&buffer[..=end])?;
        buffer.copy_within(end + 1..filled, 0);
        held = filled - end - 1;
    }
}

fn rollup_arrow(path: &Path) -> anyhow::Result<u64> {
    let mut rollup = Rollup::new(Stream::default());
    frames(path, |message| {
        let bad = rollup.message(LATER_MS, Some(ARROW_STREAM), message)?;
        anyhow::ensure!(bad.is_empty(), "{bad:?}");
        Ok(())
    })?;
    Ok(rollup.rows().map(|(_, _, partial)| partial.count).sum())
}

fn rollup_ndjson(path: &Path) -> anyhow::Result<u64> {
    let mut rollup = Rollup::new(Stream::default());
    chunks(path, |message| {
        let bad = rollup.message(LATER_MS, Some(NDJSON), message)?;
        anyhow::ensure!(bad.is_empty(), "{bad:?}");
        Ok(())
    })?;
    Ok(rollup.rows().map(|(_, _, partial)| partial.count).sum())
}

/// Partials by window and key, both known to be few.
struct Bare(Vec<Partial>);

impl Bare {
    fn add(&mut self, ts: i64, key: usize, amount: i64) {
        let cell = (ts - START_MS) as usize / 1_000 * KEYS + key;
        if cell >= self.0.len() {
            self.0.resize((cell + 1) * 2, Partial::EMPTY);
        }
        self.0[cell].add(amount);
    }

    fn counted(&self) -> u64 {
        self.0.iter().map(|partial| partial.count).sum()
    }
}

fn bare_arrow(path: &Path, decimal: bool) -> anyhow::Result<u64> {
    let mut bare = Bare(Vec::new());
    frames(path, |message| {
        for batch in StreamReader::try_new(message, None)? {
            let batch = batch?;
            let ts = batch.column(2).as_primitive::<TimestampMillisecondType>();
            let key = batch.column(3).as_dictionary::<Int32Type>().keys();
            let rows = ts.values().iter().zip(key.values());
            if decimal {
                let amount = batch
                    .column(4)
                    .as_primitive::<arrow_array::types::Decimal128Type>();
                for ((&ts, &key), &amount) in rows.zip(amount.values()) {
                    bare.add(ts, key as usize, amount as i64);
                }
            } else {
                let amount = batch.column(4).as_primitive::<Int64Type>();
                for ((&ts, &key), &amount) in rows.zip(amount.values()) {
                    bare.add(ts, key as usize, amount);
                }
            }
        }
        Ok(())
    })?;
    Ok(bare.counted())
}

fn bare_ndjson(path: &Path) -> anyhow::Result<u64> {
    #[derive(serde::Deserialize)]
    struct Order<'a> {
        ts: i64,
        province: &'a str,
        amount: f64,
    }
    let mut bare = Bare(Vec::new());
    chunks(path, |message| {
        let text = str::from_utf8(message)?;
        for line in text.lines() {
            let order: Order<'_> = sonic_rs::from_str(line)?;
            let digits = &order.province.as_bytes()["Province-".len()..];
            let key = digits
                .iter()
                .fold(0, |n, digit| n * 10 + usize::from(digit - b'0'));
            bare.add(order.ts, key, (order.amount * 100.0).round() as i64);
        }
        Ok(())
    })?;
    Ok(bare.counted())
}

/// What decoding costs where each message is one order.
fn one_a_message(rounds: u64) -> anyhow::Result<()> {
    const MESSAGES: u64 = 100_000;
    let bodies: Vec<String> = (0..MESSAGES).map(json).collect();
    let (mut dictionaries, mut tuples) = (Dictionaries::default(), Tuples::default());
    let stream = Stream::default();
    let speed = best(rounds, MESSAGES, || {
        tuples.clear();
        for body in &bodies {
            let body = body.as_bytes();
            decode(
                &stream,
                LATER_MS,
                Some(JSON),
                body,
                &mut dictionaries,
                &mut tuples,
            )?;
        }
        Ok(tuples.len() as u64)
    })?;
    println!(
        "JSON, one a message    {:7.0} ns an order, decode only",
        1e3 / speed
    );
    Ok(())
}

/// What one invocation costs beside its transport.
fn codecs() {
    for rows in [34usize, 2_300, 65_536] {
        let mut dictionaries = Dictionaries::default();
        let mut tuples = Tuples::default();
        for n in 0..rows as u64 {
            let (key, ts, amount) = order(n, ORDERS_A_SECOND);
            let key = dictionaries.keys.intern(&format!("Province-{key:02}"));
            tuples.push(0, n, ts, key, amount);
        }
        let body = encode_batch(&dictionaries.keys, &tuples, 0..rows);
        let batch = decode_batch(&body).expect("what was encoded decodes");
        let partials = Gmv.map(&batch).expect("gmv digests anything");
        let answer = encode_partials(&partials);
        println!(
            "{rows:6} rows, {:7} bytes: encode {:8.1} µs, decode {:8.1} µs, gmv {:8.1} µs; answer, {} bytes: encode {:.1} µs, decode {:.1} µs",
            body.len(),
            micros(|| encode_batch(&dictionaries.keys, &tuples, 0..rows)),
            micros(|| decode_batch(&body)),
            micros(|| Gmv.map(&batch)),
            answer.len(),
            micros(|| encode_partials(&partials)),
            micros(|| decode_partials(&answer)),
        );
    }
}

/// The shortest of many runs, microseconds.
fn micros<T>(mut run: impl FnMut() -> T) -> f64 {
    (0..200).fold(f64::MAX, |best, _| {
        let start = seconds();
        std::hint::black_box(run());
        best.min((seconds() - start) * 1e6)
    })
}
