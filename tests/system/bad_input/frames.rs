//! Arrow IPC streams, good and hostile.

use std::sync::Arc;

use arrow_array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};

/// The end of a stream and nothing before it.
pub const END: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

const NAMES: [&str; 5] = ["source", "seq", "ts", "province", "amount"];

fn stream(columns: Vec<(&str, ArrayRef)>, compression: Option<CompressionType>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns
            .into_iter()
            .map(|(name, column)| (name, column, true)),
    );
    let batch = batch.expect("columns of one length");
    let options = IpcWriteOptions::default().try_with_compression(compression);
    let options = options.expect("the codec is built in");
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &batch.schema(), options)
        .expect("a schema that can be written");
    writer.write(&batch).expect("a batch that can be written");
    writer.into_inner().expect("the end of the stream")
}

fn orders(source: &str, rows: usize, ts: i64, compression: Option<CompressionType>) -> Vec<u8> {
    let columns: [ArrayRef; 5] = [
        Arc::new(StringArray::from(vec![source; rows])),
        Arc::new(Int64Array::from_iter_values(1..=rows as i64)),
        Arc::new(Int64Array::from(vec![ts; rows])),
        Arc::new(StringArray::from(vec!["Hunan"; rows])),
        Arc::new(Int64Array::from(vec![100; rows])),
    ];
    stream(NAMES.into_iter().zip(columns).collect(), compression)
}

/// Two orders of 1.00, of seqs 1 and 2.
pub fn good(source: &str, ts: i64, compression: Option<CompressionType>) -> Vec<u8> {
    orders(source, 2, ts, compression)
}

/// One row of [`mixed`]; the amount in ten-thousandths.
pub struct Row<'a> {
    pub source: &'a str,
    pub seq: Option<i64>,
    pub ts: i64,
    pub province: &'a str,
    pub amount: Option<i128>,
}

/// Rows of any quality in one batch.
pub fn mixed(rows: &[Row]) -> Vec<u8> {
    let amounts: Decimal128Array = rows.iter().map(|row| row.amount).collect();
    let amounts = amounts.with_precision_and_scale(38, 4);
    let columns: [ArrayRef; 5] = [
        Arc::new(StringArray::from_iter_values(
            rows.iter().map(|row| row.source),
        )),
        Arc::new(rows.iter().map(|row| row.seq).collect::<Int64Array>()),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.ts))),
        Arc::new(StringArray::from_iter_values(
            rows.iter().map(|row| row.province),
        )),
        Arc::new(amounts.expect("a scale of 4 fits")),
    ];
    stream(NAMES.into_iter().zip(columns).collect(), None)
}

/// A table of something else.
pub fn other_schema() -> Vec<u8> {
    let column = || Arc::new(Int64Array::from(vec![1, 2]));
    stream(vec![("id", column()), ("weight", column())], None)
}

/// A stream whose header says LZ4.
pub fn lz4() -> Vec<u8> {
    let mut frame = good("lz4", 0, Some(CompressionType::ZSTD));
    let word = |at: usize| i32::from_le_bytes(frame[at..at + 4].try_into().expect("four bytes"));
    // A message is a marker, the header's length, the header, the body; a schema has no body.
    let batch = 8 + word(4) as usize;
    let header = batch + 8..batch + 8 + word(batch + 4) as usize;
    let is_lz4 = |header: &[u8]| {
        let message = arrow_ipc::root_as_message(header).ok()?;
        let codec = message.header_as_record_batch()?.compression()?.codec();
        Some(codec == CompressionType::LZ4_FRAME)
    };
    for at in header.clone() {
        // The codec is a byte of the header: 1 is ZSTD, 0 is LZ4.
        if frame[at] == 1 {
            frame[at] = 0;
            if is_lz4(&frame[header.clone()]) == Some(true) {
                return frame;
            }
            frame[at] = 1;
        }
    }
    panic!("the header names no codec");
}

/// A compressed stream in which one column claims to unpack to 8 EiB.
pub fn forged_length() -> Vec<u8> {
    const ROWS: usize = 1 << 12;
    let mut frame = orders("forged", ROWS, 1, Some(CompressionType::ZSTD));
    let claim = (ROWS as i64 * 8).to_le_bytes();
    let at = frame.windows(8).rposition(|bytes| bytes == claim);
    let at = at.expect("a column of 64-bit values says how long it will be");
    frame[at..at + 8].copy_from_slice(&i64::MAX.to_le_bytes());
    frame
}

/// A few kilobytes that unpack to 80 MB.
pub fn bomb() -> Vec<u8> {
    let frame = orders(&"x".repeat(80 << 20), 1, 1, Some(CompressionType::ZSTD));
    assert!(frame.len() < 100_000, "{} bytes", frame.len());
    frame
}

/// A few kilobytes that hold one row more than a message may.
pub fn many_rows() -> Vec<u8> {
    orders("many", (1 << 18) + 1, 1, Some(CompressionType::ZSTD))
}
