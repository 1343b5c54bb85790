//! JSON: one object, an array of objects, or one object a line.
//!
//! An object is read by [`scan`] where that can, else by a complete parser; both leave each
//! field's raw text, so that amounts never pass through a float.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::decimal::{self, DecimalError};
use super::row::{LAST_SEQ, Row, Sink, show};
use super::scan::{self, Fields};
use super::{NDJSON, Undecodable};

/// Deepest nesting accepted in one row. A tuple is flat; what its unknown fields hold may not be.
const DEEPEST: usize = 32;

/// One object, or an array of them.
pub(super) fn decode_json(sink: &mut Sink<'_>, body: &[u8]) -> Result<(), Undecodable> {
    let text = str::from_utf8(body).map_err(|error| {
        Undecodable(format!(
            "the body is not UTF-8 from byte {} on; expected JSON",
            error.valid_up_to()
        ))
    })?;
    let bytes = text.as_bytes();
    let start = scan::space(bytes, 0);
    match bytes.get(start) {
        Some(b'{') => {
            let end = element(sink, text, start, 0)?;
            end_of_body(text, end)
        }
        Some(b'[') => array(sink, text, start),
        Some(_) => Err(Undecodable(format!(
            "expected a JSON object or an array of them, the body begins {}",
            show(&text[start..])
        ))),
        None => Err(Undecodable(
            "the body is only white space; expected a JSON object or an array of them".into(),
        )),
    }
}

fn array(sink: &mut Sink<'_>, text: &str, start: usize) -> Result<(), Undecodable> {
    let bytes = text.as_bytes();
    let mut at = scan::space(bytes, start + 1);
    if bytes.get(at) == Some(&b']') {
        return end_of_body(text, at + 1);
    }
    for place in 0.. {
        at = scan::space(bytes, element(sink, text, at, place)?);
        match bytes.get(at) {
            Some(b',') => at = scan::space(bytes, at + 1),
            Some(b']') => break,
            Some(_) => return Err(broken(at, "expected , or ] after a row")),
            None => return Err(broken(at, "the array has no end")),
        }
    }
    end_of_body(text, at + 1)
}

/// Takes in the value that starts at `at`; returns where it ends.
fn element(sink: &mut Sink<'_>, text: &str, at: usize, place: usize) -> Result<usize, Undecodable> {
    sink.expect(1)?;
    if let Some((fields, end)) = scan(sink, text, at) {
        take(sink, place, &fields, &text[at..end])?;
        return Ok(end);
    }
    let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<&RawValue>();
    match values.next() {
        Some(Ok(value)) => {
            let end = at + values.byte_offset();
            if depth(value.get()) > DEEPEST {
                return Err(Undecodable(format!(
                    "the value at byte {at} is nested more than {DEEPEST} deep; expected flat objects"
                )));
            }
            take_any(sink, place, value.get())?;
            Ok(end)
        }
        Some(Err(error)) => Err(broken(at, &error.to_string())),
        None => Err(broken(at, "expected a row")),
    }
}

fn end_of_body(text: &str, at: usize) -> Result<(), Undecodable> {
    let end = scan::space(text.as_bytes(), at);
    if end == text.len() {
        return Ok(());
    }
    Err(broken(
        end,
        &format!("expected the end after one JSON value; for one object a line use {NDJSON}"),
    ))
}

fn broken(at: usize, why: &str) -> Undecodable {
    Undecodable(format!("not JSON at byte {at}: {why}"))
}

/// One object a line; a bad line is a bad row and holds up no other.
pub(super) fn decode_ndjson(sink: &mut Sink<'_>, body: &[u8]) -> Result<(), Undecodable> {
    let mut start = 0;
    let mut place = 0;
    for end in memchr::memchr_iter(b'\n', body).chain([body.len()]) {
        let line = body[start..end].trim_ascii();
        start = end + 1;
        if line.is_empty() {
            continue;
        }
        sink.expect(1)?;
        take_line(sink, place, line)?;
        place += 1;
    }
    Ok(())
}

fn take_line(sink: &mut Sink<'_>, place: usize, line: &[u8]) -> Result<(), Undecodable> {
    let text = match str::from_utf8(line) {
        Ok(text) => text,
        Err(error) => {
            let reason = format!("the line is not UTF-8 from byte {} on", error.valid_up_to());
            return sink.refuse(place, None, reason, line.to_vec());
        }
    };
    if let Some((fields, end)) = scan(sink, text, 0)
        && end == text.len()
    {
        return take(sink, place, &fields, text);
    }
    let reason = match serde_json::from_str::<&RawValue>(text) {
        Ok(_) if depth(text) > DEEPEST => {
            format!("the line is nested more than {DEEPEST} deep; expected a flat object")
        }
        Ok(_) => return take_any(sink, place, text),
        Err(error) => format!("the line is not JSON: {error}"),
    };
    sink.refuse(place, None, reason, line.to_vec())
}

fn scan<'t>(sink: &Sink<'_>, text: &'t str, at: usize) -> Option<(Fields<'t>, usize)> {
    sink.plain_names
        .then(|| scan::object(text, at, &sink.names))
        .flatten()
}

/// How deep arrays and objects stand in each other in `text`, which is valid JSON.
fn depth(text: &str) -> usize {
    let (mut now, mut most) = (0usize, 0);
    let (mut quoted, mut escaped) = (false, false);
    for &byte in text.as_bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' | b'{' => {
                now += 1;
                most = most.max(now);
            }
            b']' | b'}' => now -= 1,
            _ => {}
        }
    }
    most
}

/// Takes in any valid JSON value, by way of the complete parser.
fn take_any(sink: &mut Sink<'_>, place: usize, text: &str) -> Result<(), Undecodable> {
    let kind = match text.as_bytes().first() {
        Some(b'{') => {
            let mut parser = serde_json::Deserializer::from_str(text);
            return match parser.deserialize_map(FieldsOf(sink.names)) {
                Ok(Object {
                    fields,
                    twice: None,
                }) => take(sink, place, &fields, text),
                Ok(Object {
                    mut fields,
                    twice: Some(slot),
                }) => {
                    // Which of the two is meant is anyone's guess, so neither is legible.
                    fields[slot] = "";
                    let reason = format!("{} stands twice in one object", sink.names[slot]);
                    let identity = match (source(sink, fields[0]), seq(sink, fields[1])) {
                        (Ok(source), Ok(seq)) => Some((source.into_owned(), seq)),
                        _ => None,
                    };
                    sink.refuse(place, identity, reason, text.into())
                }
                Err(error) => sink.refuse(
                    place,
                    None,
                    format!("the object is not legible: {error}"),
                    text.into(),
                ),
            };
        }
        other => kind(other.copied()),
    };
    let reason = format!("expected a JSON object, came {kind}");
    sink.refuse(place, None, reason, text.into())
}

fn kind(first: Option<u8>) -> &'static str {
    match first {
        Some(b'[') => "an array",
        Some(b'{') => "an object",
        Some(b'"') => "text",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        Some(_) => "a number",
        None => "nothing",
    }
}

/// Finds a tuple's fields in an object by the names given.
struct FieldsOf<'n>([&'n str; 5]);

struct Object<'de> {
    fields: Fields<'de>,
    /// The first field that stands twice.
    twice: Option<usize>,
}

impl<'de> Visitor<'de> for FieldsOf<'_> {
    type Value = Object<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut object = Object {
            fields: [""; 5],
            twice: None,
        };
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            match self.0.iter().position(|known| *known == name) {
                Some(slot) => {
                    let value = map.next_value::<&RawValue>()?.get();
                    if !object.fields[slot].is_empty() {
                        object.twice.get_or_insert(slot);
                    }
                    object.fields[slot] = value;
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(object)
    }
}

/// Takes in one object's fields, each raw JSON text.
fn take(
    sink: &mut Sink<'_>,
    place: usize,
    fields: &Fields<'_>,
    text: &str,
) -> Result<(), Undecodable> {
    let row = Row {
        source: source(sink, fields[0]),
        seq: seq(sink, fields[1]),
        ts: ts(sink, fields[2]),
        key: key(sink, fields[3]),
        amount: amount(sink, fields[4]),
    };
    sink.take(place, row, || text.as_bytes().to_vec())
}

fn source<'a>(sink: &Sink<'_>, raw: &'a str) -> Result<Cow<'a, str>, String> {
    string(&sink.stream.fields.source, raw).and_then(|text| sink.check_source(text))
}

fn key<'a>(sink: &Sink<'_>, raw: &'a str) -> Result<Cow<'a, str>, String> {
    string(&sink.stream.fields.key, raw).and_then(|text| sink.check_key(text))
}

/// The text that `raw` quotes.
fn string<'a>(name: &str, raw: &'a str) -> Result<Cow<'a, str>, String> {
    let Some(inner) = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')) else {
        return Err(match raw {
            "" => format!("{name} is missing; expected text"),
            _ => format!("{name} is {}; expected text", kind(raw.bytes().next())),
        });
    };
    if !inner.as_bytes().contains(&b'\\') {
        return Ok(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(raw)
        .map(Cow::Owned)
        .map_err(|error| format!("{name} is not legible text: {error}"))
}

/// A number of at most 18 digits and nothing else.
fn digits(text: &str) -> Option<u64> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    let mut plain = true;
    let value = text.bytes().fold(0, |value: u64, byte| {
        plain &= byte.is_ascii_digit();
        value * 10 + u64::from(byte & 0x0f)
    });
    plain.then_some(value)
}

fn seq(sink: &Sink<'_>, raw: &str) -> Result<u64, String> {
    if let Some(seq) = digits(raw) {
        return Ok(seq);
    }
    if raw.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(seq) = raw.parse()
        && seq <= LAST_SEQ
    {
        return Ok(seq);
    }
    Err(match raw {
        "" => format!(
            "{} is missing; a producer must number its tuples 0, 1, 2, …, so that none is counted twice",
            sink.stream.fields.seq
        ),
        _ => sink.no_seq(&format!("is {}", shorten(raw))),
    })
}

fn ts(sink: &Sink<'_>, raw: &str) -> Result<i64, String> {
    if let Some(ms) = digits(raw) {
        return sink.check_ts(ms as i64);
    }
    let name = &sink.stream.fields.ts;
    let text = raw
        .strip_prefix('"')
        .and_then(|raw| raw.strip_suffix('"'))
        .unwrap_or(raw);
    let digits = text.strip_prefix('-').unwrap_or(text);
    let ms = if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse::<i64>().ok()
    } else if text.len() < raw.len() {
        text.parse::<jiff::Timestamp>()
            .ok()
            .map(floor_to_milliseconds)
    } else {
        None
    };
    match ms {
        Some(ms) => sink.check_ts(ms),
        None if raw.is_empty() => Err(format!(
            "{name} is missing; expected milliseconds since 1970 or RFC 3339 text"
        )),
        None => Err(format!(
            "{name} is {}; expected whole milliseconds since 1970 or RFC 3339 text such as 2026-11-11T00:00:00Z",
            shorten(raw)
        )),
    }
}

fn floor_to_milliseconds(timestamp: jiff::Timestamp) -> i64 {
    timestamp.as_nanosecond().div_euclid(1_000_000) as i64
}

fn amount(sink: &Sink<'_>, raw: &str) -> Result<i64, String> {
    let unquoted = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"'));
    let scale = sink.stream.scale;
    let parsed = decimal::parse(unquoted.unwrap_or(raw), scale);
    match parsed.and_then(|amount| decimal::kept(amount, scale)) {
        Ok(amount) => Ok(amount),
        Err(_) if raw.is_empty() => Err(format!(
            "{} is missing; expected a decimal such as 12.34",
            sink.stream.fields.value
        )),
        Err(DecimalError::Syntax) => Err(format!(
            "{} is {}; expected a decimal such as 12.34",
            sink.stream.fields.value,
            shorten(raw)
        )),
        Err(error) => Err(sink.amount_reason(error, unquoted.unwrap_or(raw))),
    }
}

/// Raw JSON text for a person, cut where it is long.
fn shorten(raw: &str) -> Cow<'_, str> {
    match raw.char_indices().nth(60) {
        Some((cut, _)) => format!("{}…", &raw[..cut]).into(),
        None => raw.into(),
    }
}

#[cfg(test)]
mod tests;
