//! The wire form of an invocation: a batch out as Arrow IPC, partials back as Arrow IPC.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int64Type, UInt32Type, UInt64Type};
use arrow_array::{
    Array, ArrayRef, Decimal128Array, DictionaryArray, Int64Array, RecordBatch, StringArray,
    UInt32Array, UInt64Array,
};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;

use crate::ipc::{self, Bounds, Column, ReadError};
use crate::partial::{Partial, Partials};
use crate::tuple::{Dictionary, Tuples};

/// Most bytes that a compressed answer of a worker may decompress to.
const DECOMPRESSED_BYTES: usize = 64 << 20;

/// One window's tuples as a function sees them: key and value, nothing that identifies a tuple.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Distinct keys.
    pub keys: Vec<Arc<str>>,
    /// Index into `keys`, one a tuple.
    pub key: Vec<u32>,
    /// Value in minor units, one a tuple.
    pub amount: Vec<i64>,
}

/// A body that is not the Arrow IPC it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WireError(pub String);

impl From<ReadError<WireError>> for WireError {
    fn from(error: ReadError<WireError>) -> Self {
        match error {
            ReadError::Stream(reason) => Self(reason),
            ReadError::Batch(error) => error,
        }
    }
}

static BATCH_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let key = DataType::Dictionary(DataType::UInt32.into(), DataType::Utf8.into());
    Arc::new(Schema::new(vec![
        Field::new("key", key, false),
        Field::new("amount", DataType::Int64, false),
    ]))
});

static PARTIALS_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("count", DataType::UInt64, false),
        Field::new("sum", DataType::Decimal128(38, 0), false),
        Field::new("min", DataType::Int64, false),
        Field::new("max", DataType::Int64, false),
    ]))
});

/// Encodes rows `range` of `tuples` as an Arrow IPC stream with columns
/// `key: dictionary<uint32, utf8>` and `amount: int64` (minor units). Only keys that occur in the
/// range are written.
///
/// # Panics
/// If `range` is not within `tuples`, or `keys` is not the dictionary they refer to.
pub fn encode_batch(keys: &Dictionary, tuples: &Tuples, range: Range<usize>) -> Bytes {
    const UNSEEN: u32 = u32::MAX;
    let mut numbers = vec![UNSEEN; keys.len()];
    let mut used = Vec::new();
    let indices: Vec<u32> = tuples.key[range.clone()]
        .iter()
        .map(|&key| {
            let number = &mut numbers[key as usize];
            if *number == UNSEEN {
                *number = used.len() as u32;
                used.push(key);
            }
            *number
        })
        .collect();
    let texts = StringArray::from_iter_values(used.iter().map(|&key| &**keys.text(key)));
    let key = DictionaryArray::try_new(UInt32Array::from(indices), Arc::new(texts))
        .expect("every index is below the number of texts");
    let amount = Int64Array::from(tuples.amount[range].to_vec());
    encode(&BATCH_SCHEMA, vec![Arc::new(key), Arc::new(amount)])
}

/// Decodes what [`encode_batch`] made.
///
/// # Errors
/// If the body is truncated or of another schema.
pub fn decode_batch(body: &[u8]) -> Result<Batch, WireError> {
    let columns = [
        Column {
            name: "key",
            accepts: |data_type| data_type == BATCH_SCHEMA.field(0).data_type(),
            expected: "dictionary<uint32, utf8>",
        },
        Column {
            name: "amount",
            accepts: |data_type| *data_type == DataType::Int64,
            expected: "int64 minor units",
        },
    ];
    let mut decoded: Option<Batch> = None;
    ipc::read(body, &columns, bounds(body), |batch| {
        no_nulls(batch, &columns)?;
        let key = batch.column(0).as_dictionary::<UInt32Type>();
        let texts = key.values().as_string::<i32>();
        if texts.null_count() > 0 {
            return Err(WireError("a key is null; expected text".into()));
        }
        let batch = Batch {
            keys: (0..texts.len())
                .map(|at| Arc::from(texts.value(at)))
                .collect(),
            key: key.keys().values().to_vec(),
            amount: batch
                .column(1)
                .as_primitive::<Int64Type>()
                .values()
                .to_vec(),
        };
        match decoded.replace(batch) {
            None => Ok(()),
            Some(_) => Err(WireError(
                "the body holds a second batch; expected one".into(),
            )),
        }
    })?;
    decoded.ok_or_else(|| WireError("the body holds no batch; expected one".into()))
}

/// Encodes partials as an Arrow IPC stream with columns `key: utf8`, `count: uint64`,
/// `sum: decimal128(38, 0)` (minor units), `min: int64`, `max: int64`.
///
/// # Panics
/// If the keys are together longer than 2 GiB.
pub fn encode_partials(partials: &Partials) -> Bytes {
    let column = || partials.iter().map(|(_, partial)| partial);
    let key = StringArray::from_iter_values(partials.iter().map(|(key, _)| key));
    let sum: Decimal128Array = column().map(|partial| Some(partial.sum)).collect();
    let sum = sum
        .with_precision_and_scale(38, 0)
        .expect("38 digits and no decimals are valid");
    encode(
        &PARTIALS_SCHEMA,
        vec![
            Arc::new(key),
            Arc::new(UInt64Array::from_iter_values(
                column().map(|partial| partial.count),
            )),
            Arc::new(sum),
            Arc::new(Int64Array::from_iter_values(
                column().map(|partial| partial.min),
            )),
            Arc::new(Int64Array::from_iter_values(
                column().map(|partial| partial.max),
            )),
        ],
    )
}

/// Decodes what [`encode_partials`] made, or a worker in another language: there the rows may
/// come in several batches.
///
/// # Errors
/// If the body is truncated or of another schema, a key stands twice, a count is 0, `min > max`,
/// or the sum is not one that so many values between `min` and `max` can have.
pub fn decode_partials(body: &[u8]) -> Result<Partials, WireError> {
    let columns = [
        Column {
            name: "key",
            accepts: |data_type| *data_type == DataType::Utf8,
            expected: "utf8",
        },
        Column {
            name: "count",
            accepts: |data_type| *data_type == DataType::UInt64,
            expected: "uint64",
        },
        Column {
            name: "sum",
            accepts: |data_type| matches!(data_type, DataType::Decimal128(_, 0)),
            expected: "decimal128(38, 0) minor units",
        },
        Column {
            name: "min",
            accepts: |data_type| *data_type == DataType::Int64,
            expected: "int64 minor units",
        },
        Column {
            name: "max",
            accepts: |data_type| *data_type == DataType::Int64,
            expected: "int64 minor units",
        },
    ];
    let mut partials = Partials::new();
    let mut met = HashSet::new();
    ipc::read(body, &columns, bounds(body), |batch| {
        no_nulls(batch, &columns)?;
        let key = batch.column(0).as_string::<i32>();
        let count = batch.column(1).as_primitive::<UInt64Type>();
        let sum = batch.column(2).as_primitive::<Decimal128Type>();
        let min = batch.column(3).as_primitive::<Int64Type>();
        let max = batch.column(4).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let key: Arc<str> = Arc::from(key.value(row));
            let partial = Partial {
                count: count.value(row),
                sum: sum.value(row),
                min: min.value(row),
                max: max.value(row),
            };
            if !partial.is_possible() {
                return Err(WireError(format!(
                    "row {row} of the partials contradicts itself: no {} values from {} to {} have the sum {}",
                    partial.count, partial.min, partial.max, partial.sum
                )));
            }
            if !met.insert(Arc::clone(&key)) {
                return Err(WireError(format!(
                    "row {row} of the partials has a key that stood before; expected each key once"
                )));
            }
            partials.push((key, partial));
        }
        Ok(())
    })?;
    Ok(partials)
}

/// A row takes some bytes of the body, so the body bounds the rows.
fn bounds(body: &[u8]) -> Bounds {
    Bounds {
        rows: body.len().max(DECOMPRESSED_BYTES),
        bytes: DECOMPRESSED_BYTES,
    }
}

fn no_nulls(batch: &RecordBatch, columns: &[Column<'_>]) -> Result<(), WireError> {
    for (array, column) in batch.columns().iter().zip(columns) {
        if array.null_count() > 0 {
            return Err(WireError(format!(
                "column {} holds {} nulls; expected none",
                column.name,
                array.null_count()
            )));
        }
    }
    Ok(())
}

fn encode(schema: &SchemaRef, columns: Vec<ArrayRef>) -> Bytes {
    let room = columns
        .iter()
        .map(|column| column.get_buffer_memory_size())
        .sum::<usize>();
    let mut body = Vec::with_capacity(room + 2_048);
    RecordBatch::try_new(Arc::clone(schema), columns)
        .and_then(|batch| {
            let mut writer = StreamWriter::try_new(&mut body, schema)?;
            writer.write(&batch)?;
            writer.finish()
        })
        .expect("columns that fit the schema can be written to memory");
    body.into()
}

#[cfg(test)]
mod tests;
