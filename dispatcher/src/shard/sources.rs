//! Which sources a shard holds in memory, and for how long.
//!
//! A source costs memory beside the budget for as long as it is known: its ledger, its clock, its
//! name. One that is idle beyond `source_ttl_ms` is forgotten; its ledger stays in the database and is
//! read again when it speaks. And there is a limit to their number, for producers that make up a
//! source an order: beyond it, all idle ones are forgotten, and of the active ones those that have been
//! silent for longest are no longer waited for.

use std::sync::Arc;

use windlass_functions::ledger::{DamagedBlock, Settled};
use windlass_functions::time::Now;

use super::{Shard, Source};
use crate::plan::SourceRecord;

/// What a source costs in a slice that touches it, for its changes, their statements and itself, bytes.
pub(super) const TOUCH_BYTES: usize = 512;

/// While there are too many sources, they are looked through no more often than this.
const CROWDED_MS: u64 = 100;

impl Shard {
    pub(super) fn add_source(
        &mut self,
        name: &Arc<str>,
        record: Option<SourceRecord>,
        now: Now,
    ) -> Result<(), DamagedBlock> {
        let source = match record {
            Some(record) => Source {
                name: Arc::clone(name),
                home: record.shard,
                unclaimed: false,
                settled: Settled::restore(record.low, &record.blocks)?,
                clock: self.watermark.add_known(
                    record.max_ts,
                    record.active && record.shard == self.number,
                    now.mono_ms,
                ),
                in_flight: 0,
                open: None,
            },
            None => Source {
                name: Arc::clone(name),
                home: self.number,
                unclaimed: true,
                settled: Settled::new(),
                clock: self.watermark.add(),
                in_flight: 0,
                open: None,
            },
        };
        let number = self.free_sources.pop().unwrap_or_else(|| {
            self.sources.push(None);
            self.sources.len() - 1
        });
        self.by_name.insert(Arc::clone(name), number);
        self.sources[number] = Some(source);
        Ok(())
    }

    /// Forgets sources that are idle for long, and makes room when there are too many.
    pub(super) fn tend_sources(&mut self, now: Now) {
        let since = now.mono_ms.saturating_sub(self.tended_ms);
        let is_crowded = self.by_name.len() > self.settings.max_sources;
        if since < CROWDED_MS || !(is_crowded || since >= self.settings.source_ttl_ms / 4) {
            return;
        }
        self.tended_ms = now.mono_ms;
        let ttl_ms = self.settings.source_ttl_ms;
        self.forget_idle_sources(now, if is_crowded { 0 } else { ttl_ms });
        if self.by_name.len() > self.settings.max_sources {
            self.retire_the_most_silent();
        }
    }

    fn forget_idle_sources(&mut self, now: Now, ttl_ms: u64) {
        for number in 0..self.sources.len() {
            let Some(source) = &self.sources[number] else {
                continue;
            };
            let idle_ms = now
                .mono_ms
                .saturating_sub(self.watermark.spoke_ms(source.clock));
            if source.in_flight == 0
                && source.open.is_none()
                && !source.unclaimed
                && !self.watermark.is_active(source.clock)
                && idle_ms >= ttl_ms
            {
                self.watermark.remove(source.clock);
                self.by_name.remove(&source.name);
                self.sources[number] = None;
                self.free_sources.push(number);
            }
        }
    }

    /// Makes idle so many of those that spoke longest ago that an eighth of the room is free once what
    /// the ledger must say of them is committed.
    fn retire_the_most_silent(&mut self) {
        let room = self.settings.max_sources - self.settings.max_sources / 8;
        let too_many = self.by_name.len().saturating_sub(room);
        let sources = self.sources.iter().enumerate();
        let mut silent: Vec<(bool, u64, usize)> = sources
            .filter_map(|(number, source)| {
                let clock = source.as_ref()?.clock;
                let (active, spoke_ms) = (
                    self.watermark.is_active(clock),
                    self.watermark.spoke_ms(clock),
                );
                // Those that are idle go by themselves, once they are in no slice.
                Some((active, spoke_ms, number))
            })
            .collect();
        silent.sort_unstable();
        for (active, _, number) in silent.into_iter().take(too_many) {
            if active {
                let clock = self.source(number).clock;
                self.watermark.retire(clock);
                self.touch(number);
            }
        }
    }
}
