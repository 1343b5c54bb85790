//! Sums in JSON: a number while every reader keeps its digits, a string beyond.

use serde::{Deserialize, Deserializer, Serializer, de};

/// Largest integer that a reader using 64-bit floats keeps exactly: 2⁵³.
const EXACT: i128 = 1 << 53;

pub(super) fn serialize<S: Serializer>(sum: &i128, serializer: S) -> Result<S::Ok, S::Error> {
    if (-EXACT..=EXACT).contains(sum) {
        serializer.serialize_i64(*sum as i64)
    } else {
        serializer.collect_str(sum)
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i128, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Sum {
        Number(i64),
        Text(String),
    }
    match Sum::deserialize(deserializer)? {
        Sum::Number(sum) => Ok(sum.into()),
        Sum::Text(text) => text.parse().map_err(|_| {
            de::Error::custom(format!(
                "expected a sum in minor units such as \"9007199254740993\", got {text:?}"
            ))
        }),
    }
}
