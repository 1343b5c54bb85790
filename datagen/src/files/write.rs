//! Writing one file of one source.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use arrow_array::types::Int8Type;
use arrow_array::{
    ArrayRef, Decimal128Array, DictionaryArray, Int8Array, RecordBatch, StringArray,
    TimestampMillisecondArray, UInt64Array,
};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use super::FileFormat;
use crate::provinces::PROVINCES;
use crate::workload::Order;

/// Rows gathered before a columnar file takes them: bounds memory at some 2 MB a file.
const BATCH_ROWS: usize = 32_768;
/// Rows in a Parquet row group.
const GROUP_ROWS: usize = 4 * BATCH_ROWS;
/// Digits of an amount in columnar files; 18 still fit 64 bits.
const PRECISION: u8 = 18;

/// A file being written.
pub(super) struct Writer {
    path: PathBuf,
    source: Arc<str>,
    sink: Sink,
    rows: Vec<Order>,
    schema: Arc<Schema>,
}

enum Sink {
    Csv(BufWriter<File>),
    Parquet(Box<ArrowWriter<File>>),
    Arrow(Box<FileWriter<BufWriter<File>>>),
}

impl Writer {
    /// Creates `path` for orders of `source` with keys of [`PROVINCES`].
    pub(super) fn create(
        format: FileFormat,
        path: &Path,
        source: &Arc<str>,
    ) -> anyhow::Result<Self> {
        let schema = Arc::new(schema());
        let create = || -> anyhow::Result<Sink> {
            let file = File::create(path)?;
            Ok(match format {
                FileFormat::Csv => {
                    let mut file = BufWriter::with_capacity(1 << 18, file);
                    file.write_all(b"source,seq,ts,province,amount\n")?;
                    Sink::Csv(file)
                }
                FileFormat::Parquet => {
                    let properties = WriterProperties::builder()
                        .set_compression(Compression::SNAPPY)
                        .set_max_row_group_row_count(Some(GROUP_ROWS))
                        .build();
                    let writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties))?;
                    Sink::Parquet(Box::new(writer))
                }
                FileFormat::Arrow => {
                    let writer = FileWriter::try_new(BufWriter::new(file), &schema)?;
                    Sink::Arrow(Box::new(writer))
                }
                FileFormat::Ndjson => anyhow::bail!(
                    "NDJSON is read, not generated; use --format csv, parquet or arrow"
                ),
            })
        };
        Ok(Self {
            sink: create().with_context(|| format!("cannot create {}", path.display()))?,
            path: path.to_owned(),
            source: Arc::clone(source),
            rows: Vec::new(),
            schema,
        })
    }

    /// Appends an order.
    pub(super) fn push(&mut self, order: &Order) -> anyhow::Result<()> {
        if let Sink::Csv(file) = &mut self.sink {
            let (source, province) = (&self.source, PROVINCES[order.key as usize].0);
            let (units, fen) = (order.amount / 100, order.amount % 100);
            return writeln!(
                file,
                "{source},{},{},{province},{units}.{fen:02}",
                order.seq, order.ts
            )
            .with_context(|| format!("cannot write {}", self.path.display()));
        }
        self.rows.push(*order);
        if self.rows.len() == BATCH_ROWS {
            self.flush()?;
        }
        Ok(())
    }

    /// Completes the file.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        self.flush()?;
        let finish = || -> anyhow::Result<()> {
            match self.sink {
                Sink::Csv(mut file) => file.flush()?,
                Sink::Parquet(writer) => {
                    writer.close()?;
                }
                Sink::Arrow(mut writer) => {
                    writer.finish()?;
                    writer.get_mut().flush()?;
                }
            }
            Ok(())
        };
        finish().with_context(|| format!("cannot complete {}", self.path.display()))
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let batch = batch(&self.schema, &self.source, &self.rows)?;
        self.rows.clear();
        match &mut self.sink {
            Sink::Csv(_) => Ok(()),
            Sink::Parquet(writer) => writer.write(&batch).map_err(anyhow::Error::from),
            Sink::Arrow(writer) => writer.write(&batch).map_err(anyhow::Error::from),
        }
        .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

fn schema() -> Schema {
    let text = || DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
    let utc = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    Schema::new(vec![
        Field::new("source", text(), false),
        Field::new("seq", DataType::UInt64, false),
        Field::new("ts", utc, false),
        Field::new("province", text(), false),
        Field::new("amount", DataType::Decimal128(PRECISION, 2), false),
    ])
}

fn batch(schema: &Arc<Schema>, source: &str, rows: &[Order]) -> anyhow::Result<RecordBatch> {
    let provinces = PROVINCES.iter().map(|&(name, _)| Some(name));
    let amounts = rows.iter().map(|order| i128::from(order.amount));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(DictionaryArray::<Int8Type>::try_new(
            Int8Array::from(vec![0; rows.len()]),
            Arc::new(StringArray::from(vec![source])),
        )?),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|o| o.seq))),
        Arc::new(
            TimestampMillisecondArray::from_iter_values(rows.iter().map(|o| o.ts))
                .with_timezone("UTC"),
        ),
        Arc::new(DictionaryArray::<Int8Type>::try_new(
            Int8Array::from_iter_values(rows.iter().map(|o| o.key as i8)),
            Arc::new(provinces.collect::<StringArray>()),
        )?),
        Arc::new(
            Decimal128Array::from_iter_values(amounts).with_precision_and_scale(PRECISION, 2)?,
        ),
    ];
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
