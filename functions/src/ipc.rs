//! Arrow IPC streams from anyone: every claim of a message's header is checked against its body
//! before a decoder that trusts headers sees it.
//!
//! Only the columns asked for are read. LZ4 is refused unread: its decoder believes the length a
//! body claims. ZSTD is read once all claims together stay within the bound. Whatever still makes
//! the decoder panic is caught here.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{read_dictionary, read_record_batch};
use arrow_ipc::{
    BodyCompressionMethod, CompressionType, Endianness, MessageHeader, MetadataVersion,
    root_as_message,
};
use arrow_schema::{DataType, Schema, SchemaRef};

/// A column to read.
pub(crate) struct Column<'a> {
    /// Its name, of which the schema must hold exactly one.
    pub(crate) name: &'a str,
    /// Which types will do.
    pub(crate) accepts: fn(&DataType) -> bool,
    /// Those types in words.
    pub(crate) expected: &'a str,
}

/// What a stream may cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Most rows of one batch or dictionary.
    pub(crate) rows: usize,
    /// Most bytes that decompression, and merging pieces of dictionaries, may produce.
    pub(crate) bytes: usize,
}

/// Why a stream could not be read to its end.
#[derive(Debug)]
pub(crate) enum ReadError<E> {
    /// The stream is at fault: what is wrong and what was expected.
    Stream(String),
    /// The reader of batches stopped.
    Batch(E),
}

impl<E> From<String> for ReadError<E> {
    fn from(reason: String) -> Self {
        Self::Stream(reason)
    }
}

/// Whether a type is text, plain or through a dictionary.
pub(crate) fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(index, values) => {
            index.is_integer()
                && matches!(
                    **values,
                    DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
                )
        }
        _ => false,
    }
}

/// Reads the stream in `body`, giving `on_batch` each batch's `columns` in the order asked for.
pub(crate) fn read<E>(
    body: &[u8],
    columns: &[Column<'_>],
    bounds: Bounds,
    mut on_batch: impl FnMut(&RecordBatch) -> Result<(), E>,
) -> Result<(), ReadError<E>> {
    let mut reader = Reader::new(columns, bounds);
    let mut rest = body;
    while let Some(message) = next_message(&mut rest)? {
        // The decoder's state is dropped after a panic, so nothing broken is ever seen.
        let batch = catch_unwind(AssertUnwindSafe(|| reader.message(&message)))
            .unwrap_or_else(|_| Err("a message of the Arrow stream contradicts itself".into()))?;
        if let Some(batch) = batch {
            on_batch(&batch).map_err(ReadError::Batch)?;
        }
    }
    if reader.schema.is_none() {
        return Err(ReadError::Stream(
            "the Arrow stream ends before its schema".into(),
        ));
    }
    Ok(())
}

/// One message of a stream: its verified header and the bytes that belong to it.
struct Message<'a> {
    header: arrow_ipc::Message<'a>,
    body: &'a [u8],
}

/// Cuts the next message off `rest`; `None` at the end of the stream.
fn next_message<'a>(rest: &mut &'a [u8]) -> Result<Option<Message<'a>>, String> {
    if rest.is_empty() {
        return Ok(None);
    }
    let mut length = take_u32(rest)?;
    if length == u32::MAX {
        length = take_u32(rest)?;
    }
    if length == 0 {
        return if rest.is_empty() {
            Ok(None)
        } else {
            Err(format!(
                "{} bytes follow the end of the Arrow stream; expected none",
                rest.len()
            ))
        };
    }
    let metadata = take(rest, length as usize)?;
    let header = root_as_message(metadata)
        .map_err(|_| "a header is not Arrow IPC; expected an Arrow IPC stream".to_owned())?;
    let body_length = usize::try_from(header.bodyLength())
        .map_err(|_| "a header claims a body of negative length".to_owned())?;
    let body = take(rest, body_length)?;
    Ok(Some(Message { header, body }))
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, String> {
    let bytes = take(rest, 4)?;
    Ok(bytes
        .iter()
        .rev()
        .fold(0, |value, &byte| value << 8 | u32::from(byte)))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    let Some((taken, left)) = rest.split_at_checked(length) else {
        return Err(format!(
            "the Arrow stream is truncated: {length} more bytes expected, {} left",
            rest.len()
        ));
    };
    *rest = left;
    Ok(taken)
}

struct Reader<'a> {
    columns: &'a [Column<'a>],
    bounds: Bounds,
    schema: Option<StreamSchema>,
    dictionaries: HashMap<i64, ArrayRef>,
    spent: usize,
}

struct StreamSchema {
    all: SchemaRef,
    /// Only the columns asked for; dictionaries are looked up here.
    asked: Schema,
    projection: Vec<usize>,
    dictionary_ids: Vec<i64>,
}

impl<'a> Reader<'a> {
    fn new(columns: &'a [Column<'a>], bounds: Bounds) -> Self {
        Self {
            columns,
            bounds,
            schema: None,
            dictionaries: HashMap::new(),
            spent: 0,
        }
    }

    fn message(&mut self, message: &Message<'_>) -> Result<Option<RecordBatch>, String> {
        let version = message.header.version();
        if !matches!(version, MetadataVersion::V4 | MetadataVersion::V5) {
            return Err(format!(
                "Arrow metadata version {version:?}; expected V4 or V5"
            ));
        }
        let kind = message.header.header_type();
        if kind == MessageHeader::Schema {
            let header = message.header.header_as_schema();
            self.read_schema(header.ok_or("a schema message has no schema")?)?;
            return Ok(None);
        }
        let Some(schema) = self.schema.take() else {
            return Err(format!(
                "the Arrow stream begins with {kind:?}; expected a schema"
            ));
        };
        let batch = match kind {
            MessageHeader::RecordBatch => self.read_batch(&schema, message).map(Some),
            MessageHeader::DictionaryBatch => self.read_dictionary(&schema, message).map(|()| None),
            other => Err(format!(
                "the Arrow stream holds {other:?}; expected record batches"
            )),
        };
        self.schema = Some(schema);
        batch
    }

    fn read_schema(&mut self, header: arrow_ipc::Schema<'_>) -> Result<(), String> {
        if self.schema.is_some() {
            return Err("the Arrow stream holds a second schema; expected one".into());
        }
        if header.endianness() != Endianness::Little {
            return Err("the Arrow stream is big-endian; expected little-endian".into());
        }
        let all = Arc::new(try_fb_to_schema(header).map_err(|error| said("schema", &error))?);
        let mut projection = Vec::with_capacity(self.columns.len());
        let mut dictionary_ids = Vec::new();
        for column in self.columns {
            let at = find(&all, column)?;
            projection.push(at);
            if let Some(encoding) = header
                .fields()
                .filter(|fields| at < fields.len())
                .and_then(|fields| fields.get(at).dictionary())
            {
                dictionary_ids.push(encoding.id());
            }
        }
        let asked = all
            .project(&projection)
            .map_err(|error| said("schema", &error))?;
        self.schema = Some(StreamSchema {
            all,
            asked,
            projection,
            dictionary_ids,
        });
        Ok(())
    }

    fn read_dictionary(
        &mut self,
        schema: &StreamSchema,
        message: &Message<'_>,
    ) -> Result<(), String> {
        let header = message
            .header
            .header_as_dictionary_batch()
            .ok_or("a dictionary message has no dictionary")?;
        if !schema.dictionary_ids.contains(&header.id()) {
            return Ok(());
        }
        let data = header.data().ok_or("a dictionary message has no data")?;
        self.check(data, message.body)?;
        if header.isDelta()
            && let Some(before) = self.dictionaries.get(&header.id())
        {
            // Appending copies what is there; many small pieces would copy it many times over.
            self.spend(before.get_array_memory_size())?;
        }
        read_dictionary(
            &Buffer::from(message.body),
            header,
            &schema.asked,
            &mut self.dictionaries,
            &message.header.version(),
        )
        .map_err(|error| said("dictionary", &error))
    }

    fn read_batch(
        &mut self,
        schema: &StreamSchema,
        message: &Message<'_>,
    ) -> Result<RecordBatch, String> {
        let header = message
            .header
            .header_as_record_batch()
            .ok_or("a batch message has no batch")?;
        self.check(header, message.body)?;
        read_record_batch(
            &Buffer::from(message.body),
            header,
            Arc::clone(&schema.all),
            &self.dictionaries,
            Some(&schema.projection),
            &message.header.version(),
        )
        .map_err(|error| said("batch", &error))
    }

    /// Checks a batch's claims: lengths, places in the body, and what it would decompress to.
    fn check(&mut self, batch: arrow_ipc::RecordBatch<'_>, body: &[u8]) -> Result<(), String> {
        let rows = usize::try_from(batch.length())
            .map_err(|_| "a batch claims a negative number of rows".to_owned())?;
        if rows > self.bounds.rows {
            return Err(format!(
                "a batch claims {rows} rows, more than the {} allowed; send fewer a message",
                self.bounds.rows
            ));
        }
        let compressed = match batch.compression() {
            None => false,
            Some(compression) if compression.codec() == CompressionType::LZ4_FRAME => {
                return Err(
                    "the Arrow stream is LZ4-compressed; expected none or ZSTD compression".into(),
                );
            }
            Some(compression)
                if compression.codec() == CompressionType::ZSTD
                    && compression.method() == BodyCompressionMethod::BUFFER =>
            {
                true
            }
            Some(_) => {
                return Err(
                    "the Arrow stream's compression is unknown; expected none or ZSTD".into(),
                );
            }
        };
        for node in batch.nodes().into_iter().flatten() {
            if node.length() < 0 || !(0..=node.length()).contains(&node.null_count()) {
                return Err("a column claims more nulls than values".into());
            }
        }
        for buffer in batch.buffers().into_iter().flatten() {
            let bytes = usize::try_from(buffer.offset())
                .ok()
                .zip(usize::try_from(buffer.length()).ok())
                .and_then(|(start, length)| body.get(start..start.checked_add(length)?))
                .ok_or("a column claims bytes outside its message")?;
            if compressed && !bytes.is_empty() {
                let claim = bytes
                    .first_chunk::<8>()
                    .map(|claim| i64::from_le_bytes(*claim))
                    .filter(|claim| *claim >= -1)
                    .ok_or("a compressed column does not say how long it will be")?;
                self.spend(usize::try_from(claim).unwrap_or(0))?;
            }
        }
        Ok(())
    }

    fn spend(&mut self, bytes: usize) -> Result<(), String> {
        self.spent = self.spent.saturating_add(bytes);
        if self.spent > self.bounds.bytes {
            return Err(format!(
                "the Arrow stream would unpack to more than the {} bytes allowed; send fewer rows a message",
                self.bounds.bytes
            ));
        }
        Ok(())
    }
}

/// Where the schema has `column`, of a type that will do.
fn find(schema: &Schema, column: &Column<'_>) -> Result<usize, String> {
    let mut places =
        (0..schema.fields().len()).filter(|&at| schema.field(at).name() == column.name);
    match (places.next(), places.next()) {
        (Some(at), None) => {
            let data_type = schema.field(at).data_type();
            if (column.accepts)(data_type) {
                return Ok(at);
            }
            Err(format!(
                "column {} is {}; expected {}",
                column.name,
                cut(&data_type.to_string()),
                column.expected
            ))
        }
        (Some(_), Some(_)) => Err(format!(
            "column {} stands twice in the schema; expected it once",
            column.name
        )),
        (None, _) => {
            let present: Vec<_> = schema
                .fields()
                .iter()
                .map(|field| field.name().as_str())
                .collect();
            Err(format!(
                "column {} ({}) is missing; the schema has {}",
                column.name,
                column.expected,
                cut(&present.join(", "))
            ))
        }
    }
}

fn said(part: &str, error: &arrow_schema::ArrowError) -> String {
    format!("the Arrow {part} is invalid: {}", cut(&error.to_string()))
}

/// At most 200 characters of what a stranger's message made up.
fn cut(text: &str) -> String {
    text.chars()
        .take(200)
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect()
}
