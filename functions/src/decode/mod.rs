//! From message bodies to tuples.
//!
//! A message ends in one of two ways: its good rows are appended and its bad rows listed, or the
//! whole message is refused with a reason. A bad row never holds up its neighbours.

mod arrow;
mod decimal;
mod json;
mod row;
mod scan;

use crate::stream::Stream;
use crate::tuple::{Dictionaries, Tuples};

use row::Sink;

/// Content type of one tuple object, or an array of them.
pub const JSON: &str = "application/json";
/// Content type of one tuple object a line.
pub const NDJSON: &str = "application/x-ndjson";
/// Content type of an Arrow IPC stream with one column a field.
pub const ARROW_STREAM: &str = "application/vnd.apache.arrow.stream";

/// A row that cannot be counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    /// Its source and seq where both are legible: then its fate is settled in the ledger.
    pub identity: Option<(String, u64)>,
    /// Its place in the message, from 0.
    pub row: usize,
    /// What is wrong and what was expected, for a person.
    pub reason: String,
    /// The row as JSON text, so that it can be read and replayed; of a line of NDJSON that is not
    /// JSON, its bytes as they came.
    pub body: Vec<u8>,
}

/// A message refused as a whole: what is wrong and what was expected, for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Undecodable(pub String);

/// Decodes one message body, appending its good rows to `tuples` and returning the bad ones.
///
/// `unix_ms` is the wall clock: a timestamp more than `limits.max_ahead_ms` beyond it is bad.
/// On `Err`, `tuples` is as it was (dictionaries may have grown, by at most `limits.keys` keys).
///
/// # Errors
/// If the content type is unknown, the body is over a limit, holds no row at all, or does not
/// parse; or if listing its bad rows would take more memory than `limits.decompressed_bytes`.
pub fn decode(
    stream: &Stream,
    unix_ms: i64,
    content_type: Option<&str>,
    body: &[u8],
    dictionaries: &mut Dictionaries,
    tuples: &mut Tuples,
) -> Result<Vec<BadRow>, Undecodable> {
    let format = Format::of(content_type)?;
    let most = stream.limits.message_bytes;
    if body.len() > most {
        return Err(Undecodable(format!(
            "the body is {} bytes, more than the {most} allowed; send fewer tuples a message",
            body.len()
        )));
    }
    if body.is_empty() {
        return Err(Undecodable(
            "the body is empty; expected at least one tuple".into(),
        ));
    }
    let before = tuples.len();
    let mut sink = Sink::new(stream, unix_ms, dictionaries, tuples);
    let outcome = match format {
        Format::Json => json::decode_json(&mut sink, body),
        Format::Ndjson => json::decode_ndjson(&mut sink, body),
        Format::Arrow => arrow::decode_arrow(&mut sink, body),
    }
    .and_then(|()| sink.finish());
    if outcome.is_err() {
        tuples.truncate(before);
    }
    outcome
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Ndjson,
    Arrow,
}

impl Format {
    fn of(content_type: Option<&str>) -> Result<Self, Undecodable> {
        let media_type = content_type
            .and_then(|text| text.split(';').next())
            .map(str::trim)
            .unwrap_or_default();
        let is = |name: &str| media_type.eq_ignore_ascii_case(name);
        if is(JSON) {
            Ok(Self::Json)
        } else if is(NDJSON) {
            Ok(Self::Ndjson)
        } else if is(ARROW_STREAM) {
            Ok(Self::Arrow)
        } else {
            let came = match media_type {
                "" => "the message has no content type".to_owned(),
                other => format!("unknown content type {}", row::show(other)),
            };
            Err(Undecodable(format!(
                "{came}; expected {JSON}, {NDJSON} or {ARROW_STREAM}"
            )))
        }
    }
}

#[cfg(test)]
mod tests;
