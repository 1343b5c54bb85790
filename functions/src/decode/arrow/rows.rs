//! The slow way through a batch: row by row, to tell the bad rows from their neighbours.

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int64Type, UInt64Type};
use arrow_array::{Array, RecordBatch, downcast_dictionary_array};
use arrow_buffer::ArrowNativeType;
use arrow_schema::DataType;

use super::{Unit, columns, raw_times};
use crate::decode::Undecodable;
use crate::decode::decimal::{self, DecimalError};
use crate::decode::row::{Row, Sink};
use crate::stream::Stream;

/// Takes in the rows of `batch`, the first of which is row `first` of the message.
pub(super) fn by_row(
    sink: &mut Sink<'_>,
    batch: &RecordBatch,
    first: usize,
) -> Result<(), Undecodable> {
    let columns = columns(batch);
    for at in 0..batch.num_rows() {
        let row = read_row(sink, columns, at);
        let stream = sink.stream;
        sink.take(first + at, row, || row_as_json(stream, columns, at))?;
    }
    Ok(())
}

/// The text at `row` of a text column; `None` for null.
pub(super) fn text_at(array: &dyn Array, row: usize) -> Option<&str> {
    if !array.is_valid(row) {
        return None;
    }
    match array.data_type() {
        DataType::Utf8 => Some(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Some(array.as_string::<i64>().value(row)),
        DataType::Utf8View => Some(array.as_string_view().value(row)),
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let index = downcast_dictionary_array!(
                array => array.keys().value(row).as_usize(),
                _ => return None
            );
            let values = dictionary.values();
            (index < values.len())
                .then(|| text_at(values.as_ref(), index))
                .flatten()
        }
        _ => None,
    }
}

fn read_row<'b>(
    sink: &Sink<'_>,
    [source, seq, ts, key, amount]: [&'b dyn Array; 5],
    at: usize,
) -> Row<&'b str, &'b str> {
    let fields = &sink.stream.fields;
    let null = |name: &str, expected: &str| format!("{name} is null; expected {expected}");
    Row {
        source: text_at(source, at)
            .ok_or_else(|| null(&fields.source, "text"))
            .and_then(|text| sink.check_source(text)),
        seq: match seq_at(seq, at) {
            None => Err(sink.no_seq("is null")),
            Some(Err(negative)) => Err(sink.no_seq(&format!("is {negative}"))),
            Some(Ok(seq)) => sink.check_seq(seq),
        },
        ts: match raw_times(ts).filter(|_| ts.is_valid(at)) {
            None => Err(null(&fields.ts, "a time")),
            Some(times) => match Unit::of(ts.data_type()).to_ms(times[at]) {
                Some(ms) => sink.check_ts(ms),
                None => Err(format!("{} is {} s, out of range", fields.ts, times[at])),
            },
        },
        key: text_at(key, at)
            .ok_or_else(|| null(&fields.key, "text"))
            .and_then(|text| sink.check_key(text)),
        amount: match amount_at(amount, at, sink.stream.scale) {
            None => Err(null(&fields.value, "an amount")),
            Some(Ok(amount)) => Ok(amount),
            Some(Err(error)) => {
                let came = amount_as_text(amount, at, sink.stream.scale).unwrap_or_default();
                Err(sink.amount_reason(error, &came))
            }
        },
    }
}

fn seq_at(array: &dyn Array, at: usize) -> Option<Result<u64, i64>> {
    if !array.is_valid(at) {
        return None;
    }
    Some(match array.as_primitive_opt::<UInt64Type>() {
        Some(array) => Ok(array.value(at)),
        None => {
            let seq = array.as_primitive::<Int64Type>().value(at);
            u64::try_from(seq).map_err(|_| seq)
        }
    })
}

fn amount_at(array: &dyn Array, at: usize, scale: u8) -> Option<Result<i64, DecimalError>> {
    if !array.is_valid(at) {
        return None;
    }
    let amount = match array.as_primitive_opt::<Int64Type>() {
        Some(array) => Ok(array.value(at)),
        None => {
            let array = array.as_primitive::<Decimal128Type>();
            decimal::rescale(array.value(at), array.scale(), scale)
        }
    };
    Some(amount.and_then(|amount| decimal::kept(amount, scale)))
}

fn amount_as_text(array: &dyn Array, at: usize, scale: u8) -> Option<String> {
    if !array.is_valid(at) {
        return None;
    }
    Some(match array.as_primitive_opt::<Int64Type>() {
        Some(array) => decimal::render(array.value(at).into(), scale as i8),
        None => {
            let array = array.as_primitive::<Decimal128Type>();
            decimal::render(array.value(at), array.scale())
        }
    })
}

/// The row as a JSON object that [`crate::decode::json`] reads: the form in which it is kept and replayed.
fn row_as_json(
    stream: &Stream,
    [source, seq, ts, key, amount]: [&dyn Array; 5],
    at: usize,
) -> Vec<u8> {
    use serde_json::Value;
    let fields = &stream.fields;
    let ms = raw_times(ts)
        .filter(|_| ts.is_valid(at))
        .and_then(|times| Unit::of(ts.data_type()).to_ms(times[at]));
    let seq = seq_at(seq, at).map(|seq| match seq {
        Ok(seq) => Value::from(seq),
        Err(negative) => Value::from(negative),
    });
    let object: serde_json::Map<String, Value> = [
        (&fields.source, text_at(source, at).map(Value::from)),
        (&fields.seq, seq),
        (&fields.ts, ms.map(Value::from)),
        (&fields.key, text_at(key, at).map(Value::from)),
        (
            &fields.value,
            amount_as_text(amount, at, stream.scale).map(Value::from),
        ),
    ]
    .into_iter()
    .map(|(name, value)| (name.clone(), value.unwrap_or(Value::Null)))
    .collect();
    Value::Object(object).to_string().into_bytes()
}
