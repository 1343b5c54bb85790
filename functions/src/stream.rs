//! What a stream's messages look like: field names, the value's scale, the window, the limits.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The names under which a message carries a tuple's five fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct FieldNames {
    /// Who numbers the tuples (text).
    pub source: String,
    /// The tuple's number within its source (unsigned integer, gap-free).
    pub seq: String,
    /// Event time: epoch milliseconds or RFC 3339.
    pub ts: String,
    /// The grouping key (text).
    pub key: String,
    /// The value to aggregate (decimal).
    pub value: String,
}

impl Default for FieldNames {
    fn default() -> Self {
        Self {
            source: "source".into(),
            seq: "seq".into(),
            ts: "ts".into(),
            key: "province".into(),
            value: "amount".into(),
        }
    }
}

/// Bounds that are checked before or while a message is parsed, so that no message can make the
/// process allocate without limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Limits {
    /// Largest accepted message body, bytes.
    pub message_bytes: usize,
    /// Most rows in one message.
    pub rows: usize,
    /// Most distinct keys in one message.
    pub keys: usize,
    /// Longest source or key, bytes of UTF-8.
    pub text_bytes: usize,
    /// Most bytes that a compressed Arrow body may decompress to.
    pub decompressed_bytes: usize,
    /// How far ahead of the wall clock a timestamp may lie, milliseconds.
    pub max_ahead_ms: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 16 << 20,
            rows: 1 << 20,
            keys: 10_000,
            text_bytes: 255,
            decompressed_bytes: 64 << 20,
            max_ahead_ms: 60_000,
        }
    }
}

/// One stream: its name, its tuples' shape and its window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Stream {
    /// Exchange name and prefix of the queues; `[a-z0-9_-]{1,64}`.
    pub name: String,
    /// The query whose rows this stream feeds; names the function too.
    pub query: String,
    /// Names of the fields in messages.
    pub fields: FieldNames,
    /// Decimal places of the value: 2 keeps amounts in hundredths.
    pub scale: u8,
    /// If not empty, the only keys accepted.
    pub allowed_keys: BTreeSet<String>,
    /// Length of a tumbling window, milliseconds.
    pub window_ms: i64,
    /// Bounds on messages.
    pub limits: Limits,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            name: "orders".into(),
            query: "gmv".into(),
            fields: FieldNames::default(),
            scale: 2,
            allowed_keys: BTreeSet::new(),
            window_ms: 1_000,
            limits: Limits::default(),
        }
    }
}

impl Stream {
    /// One tuple as a JSON object under the stream's field names, as a producer would publish it;
    /// the amount as a string, so that no reader rounds it.
    pub fn tuple_json(&self, source: &str, seq: u64, ts: i64, key: &str, amount: i64) -> Vec<u8> {
        let mut object = serde_json::Map::new();
        object.insert(self.fields.source.clone(), source.into());
        object.insert(self.fields.seq.clone(), seq.into());
        object.insert(self.fields.ts.clone(), ts.into());
        object.insert(self.fields.key.clone(), key.into());
        object.insert(
            self.fields.value.clone(),
            self.decimal(amount.into()).into(),
        );
        serde_json::Value::Object(object).to_string().into_bytes()
    }

    /// Minor units as a decimal: 12345 at scale 2 is `123.45`.
    pub fn decimal(&self, minor: i128) -> String {
        let scale = usize::from(self.scale);
        if scale == 0 {
            return minor.to_string();
        }
        let digits = format!("{:0width$}", minor.unsigned_abs(), width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let sign = if minor < 0 { "-" } else { "" };
        format!("{sign}{whole}.{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minor_units_become_decimals() {
        let stream = Stream::default();
        assert_eq!(stream.decimal(12_345), "123.45");
        assert_eq!(stream.decimal(-5), "-0.05");
        assert_eq!(stream.decimal(0), "0.00");
    }
}
