//! What makes a row good, whatever its format; and where rows go.

use std::fmt::Write as _;

use hashbrown::HashSet;

use super::decimal::DecimalError;
use super::{BadRow, Undecodable, scan};
use crate::stream::Stream;
use crate::tuple::{Dictionaries, Tuples};
use crate::window;

/// The last millisecond of the year 9999, the largest `DATETIME`.
const LAST_TS: i64 = 253_402_300_799_999;

/// The largest seq: one more must still be a number, for "every seq below this is settled".
pub(super) const LAST_SEQ: u64 = u64::MAX - 1;

/// A row whose fields were read one by one, each good or with its reason.
pub(super) struct Row<S, K> {
    pub(super) source: Result<S, String>,
    pub(super) seq: Result<u64, String>,
    pub(super) ts: Result<i64, String>,
    pub(super) key: Result<K, String>,
    pub(super) amount: Result<i64, String>,
}

/// Takes one message's rows: good ones into the columns, bad ones into the list.
pub(super) struct Sink<'a> {
    pub(super) stream: &'a Stream,
    pub(super) dictionaries: &'a mut Dictionaries,
    pub(super) tuples: &'a mut Tuples,
    /// The fields' names: source, seq, ts, key, value.
    pub(super) names: [&'a str; 5],
    /// Whether JSON writes those names as they are.
    pub(super) plain_names: bool,
    unix_ms: i64,
    first: usize,
    keys_before: usize,
    sources_before: usize,
    rows: usize,
    bad: Vec<BadRow>,
    bad_bytes: usize,
}

impl<'a> Sink<'a> {
    pub(super) fn new(
        stream: &'a Stream,
        unix_ms: i64,
        dictionaries: &'a mut Dictionaries,
        tuples: &'a mut Tuples,
    ) -> Self {
        let fields = &stream.fields;
        let names: [&str; 5] = [
            &fields.source,
            &fields.seq,
            &fields.ts,
            &fields.key,
            &fields.value,
        ];
        Self {
            stream,
            names,
            plain_names: scan::are_plain(&names),
            unix_ms,
            first: tuples.len(),
            keys_before: dictionaries.keys.len(),
            sources_before: dictionaries.sources.len(),
            rows: 0,
            bad: Vec::new(),
            bad_bytes: 0,
            dictionaries,
            tuples,
        }
    }

    /// Counts `rows` more rows, before they are taken in.
    pub(super) fn expect(&mut self, rows: usize) -> Result<(), Undecodable> {
        self.rows = self.rows.saturating_add(rows);
        let most = self.stream.limits.rows;
        if self.rows > most {
            return Err(Undecodable(format!(
                "the message holds more than the {most} rows allowed; send fewer a message"
            )));
        }
        Ok(())
    }

    /// Takes one row in; `place` is its place in the message and `body` makes it JSON text.
    pub(super) fn take<S: AsRef<str>, K: AsRef<str>>(
        &mut self,
        place: usize,
        row: Row<S, K>,
        body: impl FnOnce() -> Vec<u8>,
    ) -> Result<(), Undecodable> {
        match row {
            Row {
                source: Ok(source),
                seq: Ok(seq),
                ts: Ok(ts),
                key: Ok(key),
                amount: Ok(amount),
            } => {
                let source = self.dictionaries.sources.intern(source.as_ref());
                let key = self.dictionaries.keys.intern(key.as_ref());
                self.tuples.push(source, seq, ts, key, amount);
                self.check_new_keys()
            }
            Row {
                source,
                seq,
                ts,
                key,
                amount,
            } => {
                let identity = match (&source, &seq) {
                    (Ok(source), Ok(seq)) => Some((source.as_ref().to_owned(), *seq)),
                    _ => None,
                };
                let reason = [source.err(), seq.err(), ts.err(), key.err(), amount.err()]
                    .into_iter()
                    .flatten()
                    .next()
                    .unwrap_or_default();
                self.refuse(place, identity, reason, body())
            }
        }
    }

    /// Lists one bad row.
    pub(super) fn refuse(
        &mut self,
        place: usize,
        identity: Option<(String, u64)>,
        reason: String,
        body: Vec<u8>,
    ) -> Result<(), Undecodable> {
        self.bad_bytes += size_of::<BadRow>() + reason.len() + body.len();
        self.bad_bytes += identity.as_ref().map_or(0, |(source, _)| source.len());
        if self.bad_bytes > self.stream.limits.decompressed_bytes {
            return Err(Undecodable(format!(
                "too many bad rows to list them one by one ({} so far); the last: {reason}",
                self.bad.len() + 1
            )));
        }
        self.bad.push(BadRow {
            identity,
            row: place,
            reason,
            body,
        });
        Ok(())
    }

    /// Refuses the message once it has brought more new keys or sources than one message may hold.
    pub(super) fn check_new_keys(&self) -> Result<(), Undecodable> {
        let most = self.stream.limits.keys;
        if self.dictionaries.keys.len() - self.keys_before > most {
            return Err(self.too_many_keys());
        }
        if self.dictionaries.sources.len() - self.sources_before > most {
            return Err(Undecodable(format!(
                "the message holds more than the {most} distinct sources allowed in {}; is that the right field?",
                self.stream.fields.source
            )));
        }
        Ok(())
    }

    /// Refuses a message whose tuples are spread over so many windows that each of these costs more
    /// than the tuples do.
    fn check_windows(&self) -> Result<(), Undecodable> {
        let (ts, most) = (&self.tuples.ts[self.first..], self.stream.limits.keys);
        if ts.len() <= most {
            return Ok(());
        }
        let window_ms = self.stream.window_ms;
        let (least, last) = ts.iter().fold((i64::MAX, i64::MIN), |(least, last), &ts| {
            (least.min(ts), last.max(ts))
        });
        if (last - least) / window_ms < most as i64 {
            return Ok(());
        }
        let starts = ts.iter().map(|&ts| window::start_of(ts, window_ms));
        if starts.collect::<HashSet<_>>().len() > most {
            return Err(Undecodable(format!(
                "the message's tuples lie in more than the {most} windows allowed; send fewer a message"
            )));
        }
        Ok(())
    }

    fn too_many_keys(&self) -> Undecodable {
        Undecodable(format!(
            "the message holds more than the {} distinct keys allowed in {}; is that the right field?",
            self.stream.limits.keys, self.stream.fields.key
        ))
    }

    /// The message's bad rows, once all rows are in.
    pub(super) fn finish(self) -> Result<Vec<BadRow>, Undecodable> {
        if self.rows == 0 {
            return Err(Undecodable(
                "the message holds no tuple; expected at least one".into(),
            ));
        }
        self.check_windows()?;
        // Only a dictionary larger than the limit can hide a message over the limit.
        if self.dictionaries.keys.len() > self.stream.limits.keys {
            let mut met = vec![false; self.dictionaries.keys.len()];
            for &key in &self.tuples.key[self.first..] {
                met[key as usize] = true;
            }
            if met.iter().filter(|met| **met).count() > self.stream.limits.keys {
                return Err(self.too_many_keys());
            }
        }
        Ok(self.bad)
    }

    /// The largest acceptable event time, ms UTC.
    pub(super) fn latest_ts(&self) -> i64 {
        self.unix_ms
            .saturating_add(self.stream.limits.max_ahead_ms)
            .min(LAST_TS)
    }

    pub(super) fn check_ts(&self, ts: i64) -> Result<i64, String> {
        let name = &self.stream.fields.ts;
        if (0..=self.latest_ts()).contains(&ts) {
            Ok(ts)
        } else if ts < 0 {
            Err(format!(
                "{name} is {ts} ms, before 1970; is its unit milliseconds?"
            ))
        } else if ts > LAST_TS {
            Err(format!(
                "{name} is {ts} ms, after the year 9999; is its unit milliseconds?"
            ))
        } else {
            Err(format!(
                "{name} is {} s ahead of this machine's clock, more than the {} s allowed; check the producer's clock",
                (ts - self.unix_ms) / 1_000,
                self.stream.limits.max_ahead_ms / 1_000
            ))
        }
    }

    /// Whether `text` may be a source.
    pub(super) fn is_source(&self, text: &str) -> bool {
        is_name(text, self.stream.limits.text_bytes)
    }

    /// Whether `text` may be a key.
    pub(super) fn is_key(&self, text: &str) -> bool {
        let allowed = &self.stream.allowed_keys;
        is_name(text, self.stream.limits.text_bytes)
            && (allowed.is_empty() || allowed.contains(text))
    }

    pub(super) fn check_source<T: AsRef<str>>(&self, text: T) -> Result<T, String> {
        if self.is_source(text.as_ref()) {
            return Ok(text);
        }
        Err(self.why_not(&self.stream.fields.source, text.as_ref()))
    }

    pub(super) fn check_key<T: AsRef<str>>(&self, text: T) -> Result<T, String> {
        if self.is_key(text.as_ref()) {
            return Ok(text);
        }
        Err(self.why_not(&self.stream.fields.key, text.as_ref()))
    }

    fn why_not(&self, name: &str, text: &str) -> String {
        let most = self.stream.limits.text_bytes;
        if text.is_empty() {
            format!("{name} is empty; expected 1 to {most} bytes of text")
        } else if text.len() > most {
            format!(
                "{name} is {} bytes; expected at most {most} bytes of text",
                text.len()
            )
        } else if text.chars().any(char::is_control) {
            format!(
                "{name} is {}; expected text without control characters",
                show(text)
            )
        } else {
            format!(
                "{name} is {}, which the stream's allowed keys do not list",
                show(text)
            )
        }
    }

    pub(super) fn check_seq(&self, seq: u64) -> Result<u64, String> {
        if seq <= LAST_SEQ {
            return Ok(seq);
        }
        Err(self.no_seq(&format!("is {seq}")))
    }

    /// The reason for a seq that is none; `came` says what came instead.
    pub(super) fn no_seq(&self, came: &str) -> String {
        format!(
            "{} {came}; expected an integer from 0 to {LAST_SEQ}",
            self.stream.fields.seq
        )
    }

    pub(super) fn amount_reason(&self, error: DecimalError, came: &str) -> String {
        let (name, scale, came) = (&self.stream.fields.value, self.stream.scale, show(came));
        match error {
            DecimalError::Syntax => {
                format!("{name} is {came}; expected a decimal such as 12.34")
            }
            DecimalError::TooPrecise => {
                format!("{name} is {came}; expected at most {scale} decimals")
            }
            DecimalError::OutOfRange => {
                format!("{name} is {came}, out of range; expected what fits 64 bits as hundredths")
            }
        }
    }
}

fn is_name(text: &str, most: usize) -> bool {
    let bytes = text.as_bytes();
    if bytes.is_empty() || bytes.len() > most {
        return false;
    }
    let printable_ascii = bytes
        .iter()
        .fold(true, |all, &byte| all & (b' '..0x7f).contains(&byte));
    printable_ascii || !text.chars().any(char::is_control)
}

/// `text` for a person: quoted, escaped, and cut where it is long.
pub(super) fn show(text: &str) -> String {
    const MOST: usize = 60;
    let mut shown = String::from("\"");
    for character in text.chars().take(MOST) {
        let _ = write!(shown, "{}", character.escape_debug());
    }
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown.push('"');
    shown
}
