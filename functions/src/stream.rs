//! What a stream's messages look like: field names, the value's scale, the window, the limits.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Longest name of a stream or query, bytes.
const NAME_BYTES: usize = 64;

/// Longest source or key that the store's columns and the broker's routing keys take, bytes.
const TEXT_BYTES: usize = 255;

/// Most decimal places of a value: what the store keeps.
const PLACES: u8 = 2;

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
    /// Most distinct keys in one message; as many sources, and windows that its tuples lie in.
    pub keys: usize,
    /// Longest source or key, bytes of UTF-8; at most 255.
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
            rows: 1 << 18,
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
    /// The query whose rows this stream feeds; names the function too. `[a-z0-9_-]{1,64}`.
    pub query: String,
    /// Names of the fields in messages.
    pub fields: FieldNames,
    /// Decimal places of the value, 0 to 2: 2 keeps amounts in hundredths.
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
    /// Refuses what no broker or store could keep, before anything is taken in: found out later, it
    /// would come back with every redelivery.
    ///
    /// # Errors
    /// What was expected, for a person.
    pub fn check(&self) -> Result<(), String> {
        for (what, name) in [("name", &self.name), ("query", &self.query)] {
            let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
            if name.is_empty() || name.len() > NAME_BYTES || !name.bytes().all(is_plain) {
                return Err(format!(
                    "{what} is {name:?}; expected 1 to {NAME_BYTES} of a-z, 0-9, _ and -"
                ));
            }
        }
        let FieldNames {
            source,
            seq,
            ts,
            key,
            value,
        } = &self.fields;
        let names = BTreeSet::from([source, seq, ts, key, value]);
        if names.len() < 5 || names.iter().any(|name| name.is_empty()) {
            return Err("fields: expected five different names, none of them empty".into());
        }
        if self.scale > PLACES {
            return Err(format!(
                "scale is {}; money is kept as DECIMAL(38,2), so use 0, 1 or 2",
                self.scale
            ));
        }
        if self.window_ms < 1 {
            return Err(format!(
                "window-ms is {}; expected at least 1",
                self.window_ms
            ));
        }
        let Limits {
            message_bytes,
            rows,
            keys,
            text_bytes,
            decompressed_bytes,
            max_ahead_ms,
        } = self.limits;
        if !(1..=TEXT_BYTES).contains(&text_bytes) {
            return Err(format!(
                "limits.text-bytes is {text_bytes}; expected 1 to {TEXT_BYTES}, which is what the \
                 tables hold"
            ));
        }
        if message_bytes.min(rows).min(keys).min(decompressed_bytes) == 0 || max_ahead_ms < 0 {
            return Err("limits: expected at least 1 of each, and max-ahead-ms from 0".into());
        }
        Ok(())
    }

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

    #[test]
    fn what_no_store_could_keep_is_refused() {
        assert_eq!(Stream::default().check(), Ok(()));
        type Spoil = fn(&mut Stream);
        let spoil: [(&str, Spoil); 11] = [
            ("name is \"\"", |s| s.name.clear()),
            ("name is \"Orders\"", |s| s.name = "Orders".into()),
            ("name is \"aaa", |s| s.name = "a".repeat(65)),
            ("query is \"a.b\"", |s| s.query = "a.b".into()),
            ("five different names", |s| s.fields.seq = "ts".into()),
            ("five different names", |s| s.fields.value.clear()),
            ("scale is 3", |s| s.scale = 3),
            ("window-ms is 0", |s| s.window_ms = 0),
            ("text-bytes is 256", |s| s.limits.text_bytes = 256),
            ("at least 1", |s| s.limits.rows = 0),
            ("max-ahead-ms", |s| s.limits.max_ahead_ms = -1),
        ];
        for (expected, spoil) in spoil {
            let mut stream = Stream::default();
            spoil(&mut stream);
            let why = stream.check().expect_err(expected);
            assert!(why.contains(expected), "{why}");
        }
    }
}
