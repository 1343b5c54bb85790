//! From message bodies to tuples.
//!
//! A message ends in one of two ways: its good rows are appended and its bad rows listed, or the
//! whole message is refused with a reason. A bad row never holds up its neighbours.

use crate::stream::Stream;
use crate::tuple::{Dictionaries, Tuples};

/// A row that cannot be counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    /// Its source and seq where both are legible: then its fate is settled in the ledger.
    pub identity: Option<(String, u64)>,
    /// Its place in the message, from 0.
    pub row: usize,
    /// What is wrong and what was expected, for a person.
    pub reason: String,
    /// The row as JSON text, so that it can be read and replayed.
    pub body: Vec<u8>,
}

/// A message refused as a whole: what is wrong and what was expected, for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Undecodable(pub String);

/// Decodes one message body, appending its good rows to `tuples` and returning the bad ones.
///
/// `unix_ms` is the wall clock: a timestamp more than `limits.max_ahead_ms` beyond it is bad.
/// On `Err`, `tuples` is as it was (dictionaries may have grown).
///
/// # Errors
/// If the content type is unknown, the body is over a limit, or it does not parse.
pub fn decode(
    stream: &Stream,
    unix_ms: i64,
    content_type: Option<&str>,
    body: &[u8],
    dictionaries: &mut Dictionaries,
    tuples: &mut Tuples,
) -> Result<Vec<BadRow>, Undecodable> {
    let _ = (stream, unix_ms, dictionaries, tuples);
    Err(Undecodable(format!(
        "not implemented: {content_type:?}, {} bytes",
        body.len()
    )))
}
