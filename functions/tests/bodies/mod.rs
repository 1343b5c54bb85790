//! Arrow message bodies of every kind that the decoder promises to read.

use std::sync::Arc;

use arrow_array::types::{Int8Type, Int64Type, UInt16Type, UInt32Type};
use arrow_array::{
    ArrayRef, Decimal128Array, DictionaryArray, Int64Array, LargeStringArray, RecordBatch,
    StringArray, StringViewArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};

/// 2026-11-11T00:00:00Z.
pub const NOW: i64 = 1_794_355_200_000;

/// The five columns of four orders, in the stream's order.
pub type Columns = [ArrayRef; 5];

/// Names of the five columns.
pub const NAMES: [&str; 5] = ["source", "seq", "ts", "province", "amount"];

const SOURCES: [&str; 4] = ["a", "a", "b", "a"];
const KEYS: [&str; 4] = ["浙江", "Hunan", "浙江", "浙江"];

/// Four plain orders: seqs 0 to 3, one second apart, of 1.00, -2.50, 3.00 and 4.99.
pub fn plain() -> Columns {
    [
        Arc::new(StringArray::from(SOURCES.to_vec())),
        Arc::new(UInt64Array::from(vec![0, 1, 2, 3])),
        Arc::new(Int64Array::from_iter_values(
            (0..4).map(|n| NOW - n * 1_000),
        )),
        Arc::new(StringArray::from(KEYS.to_vec())),
        Arc::new(Int64Array::from(vec![100, -250, 300, 499])),
    ]
}

/// The same orders in each way to say them, with a word for it.
pub fn variants() -> Vec<(&'static str, Columns)> {
    let times = || (0..4).map(|n| NOW - n * 1_000);
    let decimals = |scale: u32| {
        let factor = 10i128.pow(scale) / 100;
        let values = [100, -250, 300, 499].map(|value: i128| value * factor);
        Decimal128Array::from_iter_values(values)
    };
    let edits: Vec<(&'static str, usize, ArrayRef)> = vec![
        (
            "large text",
            0,
            Arc::new(LargeStringArray::from(SOURCES.to_vec())),
        ),
        (
            "text view",
            3,
            Arc::new(StringViewArray::from(KEYS.to_vec())),
        ),
        (
            "i8 dictionary",
            0,
            Arc::new(DictionaryArray::<Int8Type>::from_iter(SOURCES)),
        ),
        (
            "u32 dictionary",
            3,
            Arc::new(DictionaryArray::<UInt32Type>::from_iter(KEYS)),
        ),
        (
            "i64 dictionary",
            3,
            Arc::new(DictionaryArray::<Int64Type>::from_iter(KEYS)),
        ),
        (
            "u16 dictionary of large text",
            3,
            Arc::new(DictionaryArray::<UInt16Type>::new(
                vec![1, 2, 1, 1].into(),
                Arc::new(LargeStringArray::from(vec!["unused", "浙江", "Hunan"])),
            )),
        ),
        ("i64 seq", 1, Arc::new(Int64Array::from(vec![0, 1, 2, 3]))),
        (
            "s",
            2,
            Arc::new(TimestampSecondArray::from_iter_values(
                times().map(|ts| ts / 1_000),
            )),
        ),
        (
            "ms in a zone",
            2,
            Arc::new(TimestampMillisecondArray::from_iter_values(times()).with_timezone("+08:00")),
        ),
        (
            "µs",
            2,
            Arc::new(TimestampMicrosecondArray::from_iter_values(
                times().map(|ts| ts * 1_000 + 999),
            )),
        ),
        (
            "ns",
            2,
            Arc::new(TimestampNanosecondArray::from_iter_values(
                times().map(|ts| ts * 1_000_000),
            )),
        ),
        (
            "decimal",
            4,
            Arc::new(decimals(2).with_precision_and_scale(18, 2).unwrap()),
        ),
        (
            "finer decimal",
            4,
            Arc::new(decimals(6).with_precision_and_scale(38, 6).unwrap()),
        ),
    ];
    let mut variants = vec![("plain", plain())];
    variants.extend(edits.into_iter().map(|(what, at, column)| {
        let mut columns = plain();
        columns[at] = column;
        (what, columns)
    }));
    variants
}

/// A batch of named columns.
pub fn batch(columns: Columns) -> RecordBatch {
    RecordBatch::try_from_iter(NAMES.into_iter().zip(columns)).unwrap()
}

/// The stream that holds `batches`, all of one schema.
pub fn stream(batches: &[RecordBatch], compression: Option<CompressionType>) -> Vec<u8> {
    let options = IpcWriteOptions::default()
        .try_with_compression(compression)
        .unwrap();
    let mut body = Vec::new();
    let mut writer =
        StreamWriter::try_new_with_options(&mut body, &batches[0].schema(), options).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.finish().unwrap();
    drop(writer);
    body
}
