//! Arrow IPC: a column a field.
//!
//! A batch in which nothing is wrong is taken in column by column. Only a batch in which
//! something is wrong is read again row by row, to tell the bad rows from their neighbours.

mod rows;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowDictionaryKeyType, Decimal128Type, Int64Type, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt64Type,
};
use arrow_array::{Array, ArrayAccessor, DictionaryArray, RecordBatch, downcast_dictionary_array};
use arrow_buffer::ArrowNativeType;
use arrow_schema::{DataType, TimeUnit};

use super::row::{LAST_SEQ, Sink};
use super::{Undecodable, decimal};
use rows::{by_row, text_at};

use crate::ipc::{self, Bounds, Column, ReadError, is_text};

const TEXT: &str = "utf8, or a dictionary of utf8";

/// An Arrow IPC stream of any number of batches.
pub(super) fn decode_arrow(sink: &mut Sink<'_>, body: &[u8]) -> Result<(), Undecodable> {
    let fields = &sink.stream.fields;
    let columns = [
        Column {
            name: &fields.source,
            accepts: is_text,
            expected: TEXT,
        },
        Column {
            name: &fields.seq,
            accepts: |data_type| matches!(data_type, DataType::UInt64 | DataType::Int64),
            expected: "uint64 or int64",
        },
        Column {
            name: &fields.ts,
            accepts: |data_type| matches!(data_type, DataType::Timestamp(..) | DataType::Int64),
            expected: "timestamp, or int64 milliseconds",
        },
        Column {
            name: &fields.key,
            accepts: is_text,
            expected: TEXT,
        },
        Column {
            name: &fields.value,
            accepts: |data_type| matches!(data_type, DataType::Decimal128(..) | DataType::Int64),
            expected: "decimal128, or int64 minor units",
        },
    ];
    let bounds = Bounds {
        rows: sink.stream.limits.rows,
        bytes: sink.stream.limits.decompressed_bytes,
    };
    let mut place = 0;
    ipc::read(body, &columns, bounds, |batch| {
        let rows = batch.num_rows();
        sink.expect(rows)?;
        let before = sink.tuples.len();
        let smooth = by_column(sink, batch);
        sink.check_new_keys()?;
        if !smooth {
            sink.tuples.truncate(before);
            by_row(sink, batch, place)?;
        }
        place += rows;
        Ok(())
    })
    .map_err(|error| match error {
        ReadError::Stream(reason) => Undecodable(reason),
        ReadError::Batch(refusal) => refusal,
    })
}

/// Takes in all of `batch`; `false` if any row is bad, whereupon the columns are ragged.
fn by_column(sink: &mut Sink<'_>, batch: &RecordBatch) -> bool {
    let [source, seq, ts, key, amount] = columns(batch);
    seqs(sink, seq)
        && times(sink, ts)
        && amounts(sink, amount)
        && texts(source, Which::Source, sink)
        && texts(key, Which::Key, sink)
}

fn columns(batch: &RecordBatch) -> [&dyn Array; 5] {
    std::array::from_fn(|at| batch.column(at).as_ref())
}

fn seqs(sink: &mut Sink<'_>, array: &dyn Array) -> bool {
    let out = &mut sink.tuples.seq;
    if array.null_count() > 0 {
        return false;
    }
    if let Some(array) = array.as_primitive_opt::<UInt64Type>() {
        out.extend_from_slice(array.values());
        array
            .values()
            .iter()
            .fold(true, |good, &seq| good & (seq <= LAST_SEQ))
    } else {
        let values = array.as_primitive::<Int64Type>().values();
        out.extend(values.iter().map(|&seq| seq as u64));
        values.iter().fold(true, |good, &seq| good & (seq >= 0))
    }
}

fn times(sink: &mut Sink<'_>, array: &dyn Array) -> bool {
    let Some(values) = raw_times(array) else {
        return false;
    };
    if array.null_count() > 0 {
        return false;
    }
    let latest = sink.latest_ts();
    let (low, high) = values
        .iter()
        .fold((i64::MAX, i64::MIN), |(low, high), &ts| {
            (low.min(ts), high.max(ts))
        });
    // The units are monotonic, so the extremes speak for all.
    let per = Unit::of(array.data_type());
    let in_range = |ts| per.to_ms(ts).is_some_and(|ms| (0..=latest).contains(&ms));
    if low <= high && !(in_range(low) && in_range(high)) {
        return false;
    }
    let out = &mut sink.tuples.ts;
    match per {
        Unit::Milliseconds => out.extend_from_slice(values),
        Unit::Seconds => out.extend(values.iter().map(|ts| ts * 1_000)),
        // All are known to be positive by now: unsigned division by a constant is a multiplication.
        Unit::Microseconds => out.extend(values.iter().map(|&ts| (ts as u64 / 1_000) as i64)),
        Unit::Nanoseconds => out.extend(values.iter().map(|&ts| (ts as u64 / 1_000_000) as i64)),
    }
    true
}

fn raw_times(array: &dyn Array) -> Option<&[i64]> {
    Some(match array.data_type() {
        DataType::Int64 => array.as_primitive_opt::<Int64Type>()?.values(),
        DataType::Timestamp(TimeUnit::Second, _) => {
            array.as_primitive_opt::<TimestampSecondType>()?.values()
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => array
            .as_primitive_opt::<TimestampMillisecondType>()?
            .values(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => array
            .as_primitive_opt::<TimestampMicrosecondType>()?
            .values(),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => array
            .as_primitive_opt::<TimestampNanosecondType>()?
            .values(),
        _ => return None,
    })
}

#[derive(Clone, Copy)]
enum Unit {
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

impl Unit {
    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Timestamp(TimeUnit::Second, _) => Self::Seconds,
            DataType::Timestamp(TimeUnit::Microsecond, _) => Self::Microseconds,
            DataType::Timestamp(TimeUnit::Nanosecond, _) => Self::Nanoseconds,
            _ => Self::Milliseconds,
        }
    }

    /// Rounds towards minus infinity; `None` where milliseconds overflow.
    fn to_ms(self, ts: i64) -> Option<i64> {
        match self {
            Self::Seconds => ts.checked_mul(1_000),
            Self::Milliseconds => Some(ts),
            Self::Microseconds => Some(ts.div_euclid(1_000)),
            Self::Nanoseconds => Some(ts.div_euclid(1_000_000)),
        }
    }
}

fn amounts(sink: &mut Sink<'_>, array: &dyn Array) -> bool {
    let (before, scale) = (sink.tuples.amount.len(), sink.stream.scale);
    unchecked_amounts(sink, array)
        // With two places there is none that is not kept.
        && (scale >= 2
            || sink.tuples.amount[before..]
                .iter()
                .all(|&amount| decimal::kept(amount, scale).is_ok()))
}

fn unchecked_amounts(sink: &mut Sink<'_>, array: &dyn Array) -> bool {
    if array.null_count() > 0 {
        return false;
    }
    let scale = sink.stream.scale;
    let out = &mut sink.tuples.amount;
    if let Some(array) = array.as_primitive_opt::<Int64Type>() {
        out.extend_from_slice(array.values());
        return true;
    }
    let array = array.as_primitive::<Decimal128Type>();
    if i16::from(array.scale()) == i16::from(scale) {
        let mut lost = 0;
        out.extend(array.values().iter().map(|&value| {
            let low = value as i64;
            lost |= (value >> 64) as i64 ^ (low >> 63);
            low
        }));
        return lost == 0;
    }
    out.reserve(array.len());
    for &value in array.values() {
        match decimal::rescale(value, array.scale(), scale) {
            Ok(value) => out.push(value),
            Err(_) => return false,
        }
    }
    true
}

#[derive(Clone, Copy)]
enum Which {
    Source,
    Key,
}

impl Which {
    /// The number of `text` in the right dictionary, if it may stand there.
    fn number(self, sink: &mut Sink<'_>, text: &str) -> Option<u32> {
        match self {
            Self::Source => sink
                .is_source(text)
                .then(|| sink.dictionaries.sources.intern(text)),
            Self::Key => sink
                .is_key(text)
                .then(|| sink.dictionaries.keys.intern(text)),
        }
    }

    fn out<'s>(self, sink: &'s mut Sink<'_>) -> &'s mut Vec<u32> {
        match self {
            Self::Source => &mut sink.tuples.source,
            Self::Key => &mut sink.tuples.key,
        }
    }
}

fn texts(array: &dyn Array, which: Which, sink: &mut Sink<'_>) -> bool {
    if array.null_count() > 0 {
        return false;
    }
    downcast_dictionary_array!(
        array => dictionary_texts(array, which, sink),
        DataType::Utf8 => plain_texts(array.as_string::<i32>(), which, sink),
        DataType::LargeUtf8 => plain_texts(array.as_string::<i64>(), which, sink),
        DataType::Utf8View => plain_texts(array.as_string_view(), which, sink),
        _ => false
    )
}

fn plain_texts<'a>(
    array: impl ArrayAccessor<Item = &'a str>,
    which: Which,
    sink: &mut Sink<'_>,
) -> bool {
    which.out(sink).reserve(array.len());
    for row in 0..array.len() {
        let Some(number) = which.number(sink, array.value(row)) else {
            return false;
        };
        which.out(sink).push(number);
        // A plain column can bring a new key with every row.
        if matches!(which, Which::Key) && sink.check_new_keys().is_err() {
            return false;
        }
    }
    true
}

/// Number of a dictionary's value that no row refers to, or that may not stand in a tuple.
const NONE: u32 = u32::MAX;

fn dictionary_texts<K: ArrowDictionaryKeyType>(
    array: &DictionaryArray<K>,
    which: Which,
    sink: &mut Sink<'_>,
) -> bool {
    let indices = array.keys().values();
    let values = array.values();
    let mut used = vec![false; values.len()];
    for index in indices.iter() {
        match used.get_mut(index.as_usize()) {
            Some(used) => *used = true,
            None => return false,
        }
    }
    let mut numbers = vec![NONE; values.len()];
    for (at, _) in used.iter().enumerate().filter(|(_, used)| **used) {
        match text_at(values.as_ref(), at).and_then(|text| which.number(sink, text)) {
            Some(number) => numbers[at] = number,
            None => return false,
        }
        if matches!(which, Which::Key) && sink.check_new_keys().is_err() {
            return false;
        }
    }
    which
        .out(sink)
        .extend(indices.iter().map(|index| numbers[index.as_usize()]));
    true
}
