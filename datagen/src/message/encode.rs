//! Bodies: JSON written by hand (amounts never pass through a float), Arrow IPC with the smallest
//! columns that hold the orders.

use std::io::Write;
use std::sync::Arc;

use arrow_array::types::{Int8Type, Int32Type};
use arrow_array::{
    ArrayRef, DictionaryArray, Int8Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray, UInt64Array,
};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use bytes::{BufMut, Bytes, BytesMut};
use windlass_functions::tuple::{Dictionaries, Dictionary};

use super::Format;
use crate::workload::Order;

/// Writes bodies of one format.
#[derive(Debug)]
pub(super) struct Encoder {
    format: Format,
    buffer: BytesMut,
    /// Texts as JSON strings, by number.
    sources: Vec<Box<[u8]>>,
    keys: Vec<Box<[u8]>>,
    /// The keys as an Arrow column, for as long as the dictionary does not grow.
    key_texts: Option<ArrayRef>,
}

impl Encoder {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            buffer: BytesMut::new(),
            sources: Vec::new(),
            keys: Vec::new(),
            key_texts: None,
        }
    }

    /// The body that holds `orders`, which are of one source and at least one.
    pub(super) fn encode(&mut self, dictionaries: &Dictionaries, orders: &[Order]) -> Bytes {
        match self.format {
            Format::Arrow => self.arrow(dictionaries, orders),
            Format::Json | Format::Ndjson => self.json(dictionaries, orders),
        }
    }

    fn json(&mut self, dictionaries: &Dictionaries, orders: &[Order]) -> Bytes {
        quote_new(&dictionaries.sources, &mut self.sources);
        quote_new(&dictionaries.keys, &mut self.keys);
        let array = self.format == Format::Json && orders.len() > 1;
        let separator = if array { b',' } else { b'\n' };
        if array {
            self.buffer.put_u8(b'[');
        }
        for (row, order) in orders.iter().enumerate() {
            if row > 0 {
                self.buffer.put_u8(separator);
            }
            self.buffer.put_slice(b"{\"source\":");
            self.buffer.put_slice(&self.sources[order.source as usize]);
            let sign = if order.amount < 0 { "-" } else { "" };
            let (units, fen) = (
                order.amount.unsigned_abs() / 100,
                order.amount.unsigned_abs() % 100,
            );
            let mut out = (&mut self.buffer).writer();
            write!(
                out,
                ",\"seq\":{},\"ts\":{},\"amount\":{sign}{units}.{fen:02},\"province\":",
                order.seq, order.ts
            )
            .expect("a growing buffer takes every write");
            self.buffer.put_slice(&self.keys[order.key as usize]);
            self.buffer.put_u8(b'}');
        }
        if array {
            self.buffer.put_u8(b']');
        }
        self.buffer.split().freeze()
    }

    fn arrow(&mut self, dictionaries: &Dictionaries, orders: &[Order]) -> Bytes {
        let grown = |texts: &ArrayRef| texts.len() != dictionaries.keys.len();
        if self.key_texts.as_ref().is_none_or(grown) {
            self.key_texts = None;
        }
        let key_texts = self.key_texts.get_or_insert_with(|| {
            let texts = dictionaries.keys.texts().iter().map(|text| Some(&**text));
            Arc::new(texts.collect::<StringArray>())
        });
        let source = dictionaries.sources.text(orders[0].source);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(DictionaryArray::<Int8Type>::new(
                Int8Array::from(vec![0; orders.len()]),
                Arc::new(StringArray::from(vec![&**source])),
            )),
            Arc::new(UInt64Array::from_iter_values(orders.iter().map(|o| o.seq))),
            Arc::new(
                TimestampMillisecondArray::from_iter_values(orders.iter().map(|o| o.ts))
                    .with_timezone("UTC"),
            ),
            key_column(key_texts, orders),
            Arc::new(Int64Array::from_iter_values(
                orders.iter().map(|o| o.amount),
            )),
        ];
        let schema = Arc::new(schema(columns[3].data_type().clone()));
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)
            .expect("columns are built by this schema");
        // Vec, not BytesMut: the writer's own buffer becomes the body without a copy.
        let mut writer =
            StreamWriter::try_new(Vec::with_capacity(orders.len() * 28 + 4_096), &schema)
                .expect("memory takes every write");
        writer.write(&batch).expect("memory takes every write");
        let body = writer.into_inner().expect("memory takes every write");
        Bytes::from(body)
    }
}

/// Keys as the smallest dictionary: 8-bit indices up to 128 keys, 32-bit beyond.
fn key_column(texts: &ArrayRef, orders: &[Order]) -> ArrayRef {
    if texts.len() <= 1 << 7 {
        let indices = Int8Array::from_iter_values(orders.iter().map(|o| o.key as i8));
        Arc::new(DictionaryArray::<Int8Type>::new(indices, Arc::clone(texts)))
    } else {
        let indices = Int32Array::from_iter_values(orders.iter().map(|o| o.key as i32));
        Arc::new(DictionaryArray::<Int32Type>::new(
            indices,
            Arc::clone(texts),
        ))
    }
}

/// The columns of a stream's Arrow messages; `amount` counts minor units.
fn schema(key: DataType) -> Schema {
    let utc = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let text = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
    Schema::new(vec![
        Field::new("source", text, false),
        Field::new("seq", DataType::UInt64, false),
        Field::new("ts", utc, false),
        Field::new("province", key, false),
        Field::new("amount", DataType::Int64, false),
    ])
}

/// Brings `quoted` up to the length of `dictionary`.
fn quote_new(dictionary: &Dictionary, quoted: &mut Vec<Box<[u8]>>) {
    for text in &dictionary.texts()[quoted.len()..] {
        let text = serde_json::to_vec(&**text).expect("text serialises");
        quoted.push(text.into_boxed_slice());
    }
}
