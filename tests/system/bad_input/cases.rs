//! What cannot be counted, and what is said of it.

use super::frames;
use crate::harness::unix_ms;
use crate::raw::{ARROW, JSON, NDJSON, order};

/// One message that cannot be counted.
pub struct Bad {
    pub name: &'static str,
    pub content_type: Option<&'static str>,
    pub body: Vec<u8>,
    /// Whether its source and seq are legible, so that the ledger settles it.
    pub identified: bool,
    /// Words of the reason.
    pub says: &'static str,
}

fn bad(
    name: &'static str,
    content_type: impl Into<Option<&'static str>>,
    body: impl Into<Vec<u8>>,
    identified: bool,
    says: &'static str,
) -> Bad {
    Bad {
        name,
        content_type: content_type.into(),
        body: body.into(),
        identified,
        says,
    }
}

/// An order with one field written otherwise.
pub fn with(source: &str, field: &str, value: &str) -> String {
    let fields = [
        ("source", format!("\"{source}\"")),
        ("seq", "1".to_owned()),
        ("ts", unix_ms().to_string()),
        ("province", "\"Hunan\"".to_owned()),
        ("amount", "1.00".to_owned()),
    ];
    let fields = fields.map(|(name, usual)| match name == field {
        true => format!("\"{name}\":{value}"),
        false => format!("\"{name}\":{usual}"),
    });
    format!("{{{}}}", fields.join(","))
}

/// Rows that are JSON, but no order. Each is of the source `{prefix}{its name}`.
pub fn bad_rows(prefix: &str) -> Vec<Bad> {
    let far = (unix_ms() + 3_600_000).to_string();
    let long = format!("\"{}\"", "x".repeat(100_000));
    let source = |name: &str| format!("{prefix}{name}");
    let row = |name: &'static str, field: &str, value: &str, identified, says| {
        bad(
            name,
            JSON,
            with(&source(name), field, value),
            identified,
            says,
        )
    };
    vec![
        row("text-nan", "amount", "\"NaN\"", true, "expected a decimal"),
        row("1e300", "amount", "1e300", true, "out of range"),
        row("precise", "amount", "1.234", true, "at most 2 decimals"),
        row("null-amount", "amount", "null", true, "expected a decimal"),
        row(
            "negative-seq",
            "seq",
            "-1",
            false,
            "expected an integer from 0",
        ),
        row(
            "text-seq",
            "seq",
            "\"1\"",
            false,
            "expected an integer from 0",
        ),
        row(
            "broken-seq",
            "seq",
            "1.5",
            false,
            "expected an integer from 0",
        ),
        row(
            "word-ts",
            "ts",
            "\"yesterday\"",
            true,
            "expected whole milliseconds",
        ),
        row("negative-ts", "ts", "-1", true, "before 1970"),
        row(
            "ts-in-nanoseconds",
            "ts",
            "1794355200000000000",
            true,
            "milliseconds",
        ),
        row("far-future", "ts", &far, true, "check the producer's clock"),
        row(
            "empty-province",
            "province",
            "\"\"",
            true,
            "province is empty",
        ),
        row(
            "long-province",
            "province",
            &long,
            true,
            "100000 bytes; expected at most 255",
        ),
        row("empty-source", "source", "\"\"", false, "source is empty"),
        row(
            "number-source",
            "source",
            "7",
            false,
            "source is a number; expected text",
        ),
        bad(
            "missing-seq",
            JSON,
            format!(
                r#"{{"source":"{}","ts":{},"province":"Hunan","amount":1}}"#,
                source("missing-seq"),
                unix_ms()
            ),
            false,
            "must number its tuples",
        ),
        bad(
            "twice",
            JSON,
            with(&source("twice"), "amount", r#"1.00,"amount":2.00"#),
            true,
            "stands twice",
        ),
    ]
}

/// Messages of which nothing can be counted.
pub fn bad_messages(prefix: &str) -> Vec<Bad> {
    let good = order(&format!("{prefix}good"), 9, unix_ms(), "Hunan", "1.00");
    let nan = with(&format!("{prefix}nan"), "amount", "NaN");
    let frame = frames::good("frame", unix_ms(), None);
    let keys: Vec<String> = (0..10_001)
        .map(|n| order(prefix, n, unix_ms(), &format!("key-{n}"), "1"))
        .collect();
    vec![
        bad("broken", JSON, &good.as_bytes()[..40], false, "not JSON"),
        bad("nan", JSON, nan, false, "not JSON"),
        bad("empty", JSON, "", false, "the body is empty"),
        bad("blank", JSON, "  \n", false, "only white space"),
        bad("no-rows", JSON, "[]", false, "holds no tuple"),
        bad(
            "deep",
            JSON,
            nested(100_000),
            false,
            "nested more than 32 deep",
        ),
        bad(
            "deep-line",
            NDJSON,
            nested(99_999),
            false,
            "nested more than 32 deep",
        ),
        bad(
            "deep-open",
            JSON,
            "[{\"a\":".repeat(50_000),
            false,
            "not JSON",
        ),
        bad(
            "latin-1",
            JSON,
            &b"{\"source\":\"Z\xfcrich\"}"[..],
            false,
            "not UTF-8",
        ),
        bad(
            "latin-1-line",
            NDJSON,
            &b"{\"source\":\"B\xe2le\"}"[..],
            false,
            "not UTF-8",
        ),
        bad("a-word", JSON, "\"order\"", false, "expected a JSON object"),
        bad(
            "half-an-array",
            JSON,
            format!("[{good},{{]"),
            false,
            "not JSON",
        ),
        bad(
            "too-many-keys",
            NDJSON,
            keys.join("\n"),
            false,
            "10000 distinct keys",
        ),
        bad("untyped", None, good.clone(), false, "no content type"),
        bad(
            "csv",
            "text/csv",
            "a,1,2",
            false,
            "unknown content type \"text/csv\"",
        ),
        bad("empty-arrow", ARROW, "", false, "the body is empty"),
        bad("no-arrow", ARROW, good, false, "Arrow"),
        bad(
            "cut-arrow",
            ARROW,
            &frame[..frame.len() / 2],
            false,
            "Arrow",
        ),
        bad(
            "no-schema",
            ARROW,
            frames::END,
            false,
            "ends before its schema",
        ),
        bad(
            "other-schema",
            ARROW,
            frames::other_schema(),
            false,
            "column source",
        ),
        bad(
            "lz4",
            ARROW,
            frames::lz4(),
            false,
            "LZ4-compressed; expected none or ZSTD",
        ),
        bad(
            "forged-length",
            ARROW,
            frames::forged_length(),
            false,
            "unpack to more than",
        ),
        bad("bomb", ARROW, frames::bomb(), false, "unpack to more than"),
        bad(
            "many-rows",
            ARROW,
            frames::many_rows(),
            false,
            "more than the 262144 allowed",
        ),
    ]
}

fn nested(deep: usize) -> String {
    format!("{}1{}", "[".repeat(deep), "]".repeat(deep))
}
