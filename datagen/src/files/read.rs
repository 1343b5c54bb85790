//! Reading one file, some thousand rows at a time.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use arrow_array::RecordBatch;
use arrow_ipc::reader::{FileReader, StreamReader};
use csv::ByteRecord;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Deserialize;
use serde_json::value::RawValue;
use windlass_functions::tuple::Dictionaries;

use super::{FileFormat, columns, text};

/// Rows read ahead at a time.
const CHUNK_ROWS: usize = 4_096;
/// Longest line of an NDJSON file, bytes.
const LINE_BYTES: u64 = 1 << 20;

/// A row of a file; texts by their numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) source: u32,
    pub(super) seq: u64,
    pub(super) ts: i64,
    pub(super) key: u32,
    pub(super) amount: i64,
}

/// What a row lacks is filled in: the source from the file's name, the seq from the row's number.
#[derive(Debug)]
pub(super) struct Defaults {
    pub(super) prefix: String,
    pub(super) source: String,
    /// Rows met so far: the next one's number is one more.
    pub(super) rows: u64,
}

impl Defaults {
    /// The number of a row's source, prefixed.
    pub(super) fn source(&self, given: Option<&str>, dictionaries: &mut Dictionaries) -> u32 {
        let name = given.unwrap_or(&self.source);
        if self.prefix.is_empty() {
            return dictionaries.sources.intern(name);
        }
        dictionaries
            .sources
            .intern(&format!("{}{name}", self.prefix))
    }
}

/// An open file of orders.
pub(super) struct Reader {
    path: PathBuf,
    body: Body,
    defaults: Defaults,
}

enum Body {
    Csv(Box<csv::Reader<File>>, CsvColumns),
    Ndjson(BufReader<File>),
    Batches(Box<dyn Iterator<Item = anyhow::Result<RecordBatch>> + Send>),
}

struct CsvColumns {
    source: Option<usize>,
    seq: Option<usize>,
    ts: usize,
    key: usize,
    amount: usize,
}

#[derive(Deserialize)]
struct JsonRow<'a> {
    source: Option<String>,
    seq: Option<u64>,
    #[serde(borrow)]
    ts: &'a RawValue,
    province: String,
    #[serde(borrow)]
    amount: &'a RawValue,
}

impl Reader {
    pub(super) fn open(path: &Path, prefix: &str) -> anyhow::Result<Self> {
        let format = FileFormat::of(path)?;
        let body =
            open_body(path, format).with_context(|| format!("cannot read {}", path.display()))?;
        let stem = path.file_stem().unwrap_or_default();
        Ok(Self {
            path: path.to_owned(),
            body,
            defaults: Defaults {
                prefix: prefix.to_owned(),
                source: stem.to_string_lossy().into_owned(),
                rows: 0,
            },
        })
    }

    /// Appends some rows to `rows`; none are left when it appends nothing.
    pub(super) fn read(
        &mut self,
        dictionaries: &mut Dictionaries,
        rows: &mut VecDeque<Row>,
    ) -> anyhow::Result<()> {
        let defaults = &mut self.defaults;
        let read = match &mut self.body {
            Body::Csv(reader, columns) => read_csv(reader, columns, defaults, dictionaries, rows),
            Body::Ndjson(reader) => read_ndjson(reader, defaults, dictionaries, rows),
            Body::Batches(batches) => loop {
                match batches.next() {
                    None => break Ok(()),
                    Some(Err(error)) => break Err(error),
                    Some(Ok(batch)) if batch.num_rows() == 0 => {}
                    Some(Ok(batch)) => break columns::read(&batch, defaults, dictionaries, rows),
                }
            },
        };
        read.with_context(|| {
            format!(
                "cannot read {} beyond row {}",
                self.path.display(),
                self.defaults.rows
            )
        })
    }
}

fn open_body(path: &Path, format: FileFormat) -> anyhow::Result<Body> {
    let mut file = File::open(path)?;
    Ok(match format {
        FileFormat::Csv => {
            let mut reader = csv::ReaderBuilder::new()
                .buffer_capacity(1 << 16)
                .from_reader(file);
            let columns = csv_columns(reader.headers()?)?;
            Body::Csv(Box::new(reader), columns)
        }
        FileFormat::Ndjson => Body::Ndjson(BufReader::with_capacity(1 << 16, file)),
        FileFormat::Parquet => {
            let reader = ParquetRecordBatchReaderBuilder::try_new(file)?
                .with_batch_size(CHUNK_ROWS)
                .build()?;
            Body::Batches(Box::new(reader.map(|batch| Ok(batch?))))
        }
        FileFormat::Arrow => {
            let mut magic = [0; 6];
            let is_file = file.read_exact(&mut magic).is_ok() && magic == *b"ARROW1";
            file.rewind()?;
            let file = BufReader::new(file);
            if is_file {
                let reader = FileReader::try_new(file, None)?;
                Body::Batches(Box::new(reader.map(|batch| Ok(batch?))))
            } else {
                let reader = StreamReader::try_new(file, None)?;
                Body::Batches(Box::new(reader.map(|batch| Ok(batch?))))
            }
        }
    })
}

fn csv_columns(header: &csv::StringRecord) -> anyhow::Result<CsvColumns> {
    let find = |name: &str| header.iter().position(|column| column.trim() == name);
    let need = |name: &str| {
        find(name).with_context(|| {
            format!(
                "expected a header with columns ts, province and amount (source and seq if \
                 present), got {:?}: {name} is missing",
                header.iter().collect::<Vec<_>>().join(",")
            )
        })
    };
    Ok(CsvColumns {
        source: find("source"),
        seq: find("seq"),
        ts: need("ts")?,
        key: need("province")?,
        amount: need("amount")?,
    })
}

fn read_csv(
    reader: &mut csv::Reader<File>,
    columns: &CsvColumns,
    defaults: &mut Defaults,
    dictionaries: &mut Dictionaries,
    rows: &mut VecDeque<Row>,
) -> anyhow::Result<()> {
    let mut record = ByteRecord::new();
    for _ in 0..CHUNK_ROWS {
        if !reader.read_byte_record(&mut record)? {
            break;
        }
        let field = |column: usize| -> anyhow::Result<&str> {
            Ok(std::str::from_utf8(record.get(column).unwrap_or_default())?)
        };
        let number = defaults.rows + 1;
        let seq = match columns.seq {
            None => number,
            Some(column) => {
                let text = field(column)?;
                text.parse()
                    .with_context(|| format!("expected a seq such as 1, got {text:?}"))?
            }
        };
        let source = columns.source.map(field).transpose()?;
        let row = Row {
            source: defaults.source(source, dictionaries),
            seq,
            ts: legible("ts", field(columns.ts)?, text::time)?,
            key: dictionaries.keys.intern(field(columns.key)?),
            amount: legible("amount", field(columns.amount)?, text::amount)?,
        };
        rows.push_back(row);
        defaults.rows = number;
    }
    Ok(())
}

fn read_ndjson(
    reader: &mut BufReader<File>,
    defaults: &mut Defaults,
    dictionaries: &mut Dictionaries,
    rows: &mut VecDeque<Row>,
) -> anyhow::Result<()> {
    let mut line = String::new();
    let mut read = 0;
    while read < CHUNK_ROWS {
        line.clear();
        let bytes = reader.by_ref().take(LINE_BYTES).read_line(&mut line)?;
        ensure!(
            (bytes as u64) < LINE_BYTES,
            "expected lines shorter than {LINE_BYTES} bytes"
        );
        if bytes == 0 {
            break;
        }
        if line.trim().is_empty() {
            continue;
        }
        let number = defaults.rows + 1;
        let json: JsonRow = serde_json::from_str(&line)
            .context("expected a JSON object with ts, province and amount on each line")?;
        rows.push_back(Row {
            source: defaults.source(json.source.as_deref(), dictionaries),
            seq: json.seq.unwrap_or(number),
            ts: legible("ts", json.ts.get().trim_matches('"'), text::time)?,
            key: dictionaries.keys.intern(&json.province),
            amount: legible("amount", json.amount.get().trim_matches('"'), text::amount)?,
        });
        defaults.rows = number;
        read += 1;
    }
    Ok(())
}

fn legible(field: &str, text: &str, parse: fn(&str) -> Option<i64>) -> anyhow::Result<i64> {
    match parse(text) {
        Some(value) => Ok(value),
        None if field == "ts" => {
            bail!("expected ts in epoch milliseconds or RFC 3339, got {text:?}")
        }
        None => bail!("expected {field} with at most two decimals such as 89.00, got {text:?}"),
    }
}
