//! The wire form of an invocation: a batch out as Arrow IPC, partials back as Arrow IPC.

use std::sync::Arc;

use bytes::Bytes;

use crate::partial::Partials;
use crate::tuple::{Dictionary, Tuples};

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
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WireError(pub String);

/// Encodes rows `range` of `tuples` as an Arrow IPC stream with columns
/// `key: dictionary<uint32, utf8>` and `amount: int64` (minor units).
pub fn encode_batch(keys: &Dictionary, tuples: &Tuples, range: std::ops::Range<usize>) -> Bytes {
    let _ = (keys, tuples, range);
    Bytes::new()
}

/// Decodes what [`encode_batch`] made.
///
/// # Errors
/// If the body is truncated or of another schema.
pub fn decode_batch(body: &[u8]) -> Result<Batch, WireError> {
    Err(WireError(format!(
        "not implemented for {} bytes",
        body.len()
    )))
}

/// Encodes partials as an Arrow IPC stream with columns `key: utf8`, `count: uint64`,
/// `sum: decimal128(38, 0)` (minor units), `min: int64`, `max: int64`.
pub fn encode_partials(partials: &Partials) -> Bytes {
    let _ = partials;
    Bytes::new()
}

/// Decodes what [`encode_partials`] made, or a worker in another language.
///
/// # Errors
/// If the body is truncated or of another schema, a key stands twice, a count is 0, or `min > max`.
pub fn decode_partials(body: &[u8]) -> Result<Partials, WireError> {
    Err(WireError(format!(
        "not implemented for {} bytes",
        body.len()
    )))
}
