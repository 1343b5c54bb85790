//! The whole computation in one process: messages in, one partial a (window, key) out.
//!
//! It is the reference that a run's results are compared with, and the yardstick of what the
//! pipeline around it costs. It keeps every window, drops no duplicate and judges nothing late.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::decode::{BadRow, Undecodable, decode};
use crate::partial::{Partial, add_all};
use crate::stream::Stream;
use crate::tuple::{Dictionaries, Tuples};
use crate::window::{WindowStart, start_of};

/// Aggregates tuples by window and key.
#[derive(Debug)]
pub struct Rollup {
    stream: Stream,
    dictionaries: Dictionaries,
    tuples: Tuples,
    /// Per window, one partial a key number; keys that came later are missing at the end.
    windows: BTreeMap<WindowStart, Vec<Partial>>,
    table: Vec<Partial>,
}

impl Rollup {
    /// An empty rollup of `stream`, whose windows must be longer than 0 ms.
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            dictionaries: Dictionaries::default(),
            tuples: Tuples::default(),
            windows: BTreeMap::new(),
            table: Vec::new(),
        }
    }

    /// Decodes one message and aggregates its good rows; returns the bad ones.
    ///
    /// # Errors
    /// If the whole message is refused; see [`decode`]. Then nothing of it is aggregated.
    pub fn message(
        &mut self,
        unix_ms: i64,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Result<Vec<BadRow>, Undecodable> {
        self.tuples.clear();
        let bad = decode(
            &self.stream,
            unix_ms,
            content_type,
            body,
            &mut self.dictionaries,
            &mut self.tuples,
        )?;
        self.aggregate();
        Ok(bad)
    }

    /// Aggregates one tuple: event time in ms UTC, key, value in minor units.
    pub fn add(&mut self, ts: i64, key: &str, amount: i64) {
        let key = self.dictionaries.keys.intern(key) as usize;
        cell(&mut self.windows, start_of(ts, self.stream.window_ms), key).add(amount);
    }

    /// What was aggregated, ordered by window and, within one, by the keys' first appearance.
    pub fn rows(&self) -> impl Iterator<Item = (WindowStart, &Arc<str>, &Partial)> {
        self.windows.iter().flat_map(|(&window, partials)| {
            self.dictionaries
                .keys
                .texts()
                .iter()
                .zip(partials)
                .filter(|(_, partial)| partial.count > 0)
                .map(move |(key, partial)| (window, key, partial))
        })
    }

    fn aggregate(&mut self) {
        let (ts, amount) = (&self.tuples.ts, &self.tuples.amount);
        let (low, high) = ts.iter().fold((i64::MAX, i64::MIN), |(low, high), &ts| {
            (low.min(ts), high.max(ts))
        });
        if low > high {
            return;
        }
        let length = self.stream.window_ms;
        let keys = self.dictionaries.keys.len();
        let first = start_of(low, length);
        let span = (high - first) as u64;
        let cells = (span / length as u64 + 1).saturating_mul(keys as u64);

        // A message spans few windows as a rule: then a table of (window, key) takes all rows and
        // is merged once. Where it would be larger than the message, rows go one by one.
        if u32::try_from(span).is_err() || length == 1 || cells > ts.len() as u64 {
            for ((&ts, &key), &amount) in ts.iter().zip(&self.tuples.key).zip(amount) {
                cell(&mut self.windows, start_of(ts, length), key as usize).add(amount);
            }
            return;
        }
        self.table.clear();
        self.table.resize(cells as usize, Partial::EMPTY);
        // Exact for 32-bit operands: Lemire, Kaser, Kurz, "Faster remainder by direct
        // computation" (2019), section 3; a divisor of 1 has no such reciprocal.
        let reciprocal = u64::MAX / length as u64 + 1;
        let window_of =
            |ts: i64| ((u128::from((ts - first) as u64) * u128::from(reciprocal)) >> 64) as usize;
        let places = ts
            .iter()
            .zip(&self.tuples.key)
            .map(|(&ts, &key)| window_of(ts) * keys + key as usize);
        add_all(&mut self.table, places, amount);
        for (at, partials) in self.table.chunks_exact(keys).enumerate() {
            let Some(last) = partials.iter().rposition(|partial| partial.count > 0) else {
                continue;
            };
            let window = first + at as i64 * length;
            // Found once a window, and a new one written once: a window may have few rows in a message.
            let kept = self.windows.entry(window).or_default();
            if kept.is_empty() {
                kept.extend_from_slice(&partials[..=last]);
                continue;
            }
            if kept.len() <= last {
                kept.resize(last + 1, Partial::EMPTY);
            }
            for (kept, partial) in kept.iter_mut().zip(&partials[..=last]) {
                kept.merge(partial);
            }
        }
    }
}

fn cell(
    windows: &mut BTreeMap<WindowStart, Vec<Partial>>,
    window: WindowStart,
    key: usize,
) -> &mut Partial {
    let partials = windows.entry(window).or_default();
    if partials.len() <= key {
        partials.resize(key + 1, Partial::EMPTY);
    }
    &mut partials[key]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decode::NDJSON;

    proptest! {
        #[test]
        fn a_message_adds_up_to_what_its_tuples_do_one_by_one(
            tuples in prop::collection::vec((0i64..20_000, 0usize..5, any::<i64>()), 1..400),
            spread in 1i64..100_000,
        ) {
            let stream = Stream::default();
            let (mut whole, mut single) = (Rollup::new(stream.clone()), Rollup::new(stream.clone()));
            let mut body = String::new();
            for (seq, (ts, key, amount)) in tuples.iter().enumerate() {
                let (ts, key) = (ts * spread, ["a", "b", "c", "d", "e"][*key]);
                single.add(ts, key, *amount);
                let amount = stream.decimal((*amount).into());
                body += &format!(
                    "{{\"source\":\"s\",\"seq\":{seq},\"ts\":{ts},\"province\":\"{key}\",\"amount\":{amount}}}\n"
                );
            }
            let bad = whole.message(i64::MAX, Some(NDJSON), body.as_bytes()).unwrap();
            prop_assert_eq!(bad, vec![]);
            prop_assert!(whole.rows().eq(single.rows()));
        }
    }
}
