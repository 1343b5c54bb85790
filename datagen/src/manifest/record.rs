//! Gathers a manifest while tuples are confirmed: memory grows with windows × keys and with the
//! gaps in each source's seqs, not with the number of tuples.

use std::collections::{BTreeMap, HashMap};

use roaring::RoaringTreemap;
use windlass_functions::partial::Partial;
use windlass_functions::tuple::Dictionaries;
use windlass_functions::window;

use super::{Manifest, Run, SourceRecord, Totals, VERSION, oracle_rows};
use crate::workload::Order;

/// A manifest in the making.
#[derive(Debug)]
pub struct Recorder {
    window_ms: i64,
    sources: Vec<Source>,
    /// Partials by key number, by window.
    windows: HashMap<i64, Vec<Partial>>,
}

#[derive(Clone, Debug, Default)]
struct Source {
    seen: RoaringTreemap,
    late: u64,
    duplicates: u64,
    unconfirmed: u64,
}

impl Recorder {
    /// An empty record of windows of `window_ms` milliseconds.
    pub fn new(window_ms: i64) -> Self {
        Self {
            window_ms,
            sources: Vec::new(),
            windows: HashMap::new(),
        }
    }

    /// Records tuples of one source that the broker has confirmed. Of tuples with the same
    /// (source, seq) the first wins, as it does downstream; others count as duplicates.
    pub fn record(&mut self, orders: &[Order]) {
        for order in orders {
            let source = source_of(&mut self.sources, order.source);
            if !source.seen.insert(order.seq) {
                source.duplicates += 1;
                continue;
            }
            source.late += u64::from(order.late);
            let window = window::start_of(order.ts, self.window_ms);
            let partials = self.windows.entry(window).or_default();
            let key = order.key as usize;
            if partials.len() <= key {
                partials.resize(key + 1, Partial::EMPTY);
            }
            partials[key].add(order.amount);
        }
    }

    /// Records tuples that were sent, but that the broker did not confirm before the run ended.
    pub fn unconfirmed(&mut self, orders: &[Order]) {
        for order in orders {
            let source = source_of(&mut self.sources, order.source);
            if !source.seen.contains(order.seq) {
                source.unconfirmed += 1;
            }
        }
    }

    /// The manifest of what was recorded; `dictionaries` are those of the feed.
    pub fn finish(self, dictionaries: &Dictionaries, run: Run) -> Manifest {
        let mut rows = BTreeMap::new();
        let mut totals = Totals::default();
        for (start, partials) in self.windows {
            for (key, partial) in partials.into_iter().enumerate() {
                if partial.count > 0 {
                    totals.orders += partial.count;
                    totals.sum += partial.sum;
                    let key = dictionaries.keys.text(key as u32).to_string();
                    rows.insert((start, key), partial);
                }
            }
        }
        let sources = (0..).zip(self.sources).filter_map(|(number, source)| {
            let (first, last) = match (source.seen.min(), source.seen.max()) {
                (Some(first), Some(last)) => (first, last),
                _ if source.unconfirmed > 0 => (0, 0),
                _ => return None,
            };
            let record = SourceRecord {
                first,
                last,
                published: source.seen.len(),
                late: source.late,
                duplicates: source.duplicates,
                unconfirmed: source.unconfirmed,
            };
            Some((dictionaries.sources.text(number).to_string(), record))
        });
        Manifest {
            version: VERSION,
            window_ms: self.window_ms,
            runs: vec![run],
            sources: sources.collect(),
            totals,
            windows: oracle_rows(rows),
        }
    }
}

fn source_of(sources: &mut Vec<Source>, number: u32) -> &mut Source {
    let number = number as usize;
    if sources.len() <= number {
        sources.resize(number + 1, Source::default());
    }
    &mut sources[number]
}
