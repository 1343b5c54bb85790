//! The tables as the real store keeps them, the transaction with its fence, and what must hold of
//! every transaction that passes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use windlass_dispatcher::plan::{
    CommitPlan, Loaded, Outcome, OutcomeKind, Reached, SourceRecord, Tallies,
};
use windlass_functions::ledger::Settled;
use windlass_functions::partial::Partial;
use windlass_functions::window::WindowStart;

/// Length of a window, ms.
pub const WINDOW_MS: i64 = 1_000;

/// How long an owner is given without a sign of life, ms.
pub const LEASE_MS: u64 = 1_500;

#[derive(Clone, Debug, Default)]
pub struct ShardRow {
    pub epoch: u64,
    pub commit_no: u64,
    pub watermark: Option<i64>,
    pub final_before: Option<i64>,
    /// Until when the owner's lease runs; `None` if it was never owned, or was given up.
    pub lease_until_ms: Option<u64>,
    pub tallies: Tallies,
}

#[derive(Clone, Debug)]
pub struct SourceRow {
    pub home: u32,
    pub active: bool,
    pub max_ts: Option<i64>,
    pub low: u64,
    pub blocks: BTreeMap<u64, Vec<u8>>,
    pub counted: i64,
    pub late: i64,
    pub quarantined: i64,
    /// `low` and `blocks`, legible.
    pub settled: Settled,
}

/// Why a transaction was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Superseded,
    SourceClaimed,
    ReplayGone,
}

/// All tables.
#[derive(Debug, Default)]
pub struct Database {
    pub shards: Vec<ShardRow>,
    pub sources: BTreeMap<Arc<str>, SourceRow>,
    pub results: BTreeMap<(u32, WindowStart, Arc<str>), (Partial, u32)>,
    pub totals: BTreeMap<(u32, Arc<str>), Partial>,
    pub outcomes: BTreeMap<(Arc<str>, u64), Outcome>,
    /// The largest seq that each source publishes, for looking all of them up.
    pub seqs: BTreeMap<Arc<str>, u64>,
}

impl Database {
    pub fn new(shards: u32) -> Self {
        Self {
            shards: vec![ShardRow::default(); shards as usize],
            ..Self::default()
        }
    }

    pub fn is_free(&self, shard: usize, now_ms: u64) -> bool {
        (self.shards[shard].lease_until_ms).is_none_or(|until| until <= now_ms)
    }

    pub fn raise_epoch(&mut self, shard: usize, now_ms: u64) -> u64 {
        let row = &mut self.shards[shard];
        row.epoch += 1;
        row.lease_until_ms = Some(now_ms + LEASE_MS);
        row.epoch
    }

    /// Extends a lease, or gives it up; `false` under an old epoch.
    pub fn lease(&mut self, shard: usize, epoch: u64, until_ms: Option<u64>) -> bool {
        let row = &mut self.shards[shard];
        if row.epoch != epoch {
            return false;
        }
        row.lease_until_ms = until_ms;
        true
    }

    /// What an owner that raised the epoch to `epoch` reads.
    pub fn load(&self, shard: usize, epoch: u64) -> Loaded {
        let row = &self.shards[shard];
        let number = shard as u32;
        let ends = || {
            let rows = self.results.keys();
            rows.filter(move |(of, _, _)| *of == number)
                .map(|(_, window, _)| window + WINDOW_MS)
        };
        let mut open_ends: Vec<i64> = ends().filter(|&end| row.watermark < Some(end)).collect();
        open_ends.dedup();
        Loaded {
            epoch,
            commit_no: row.commit_no,
            watermark: row.watermark,
            final_before: row.final_before,
            open_ends,
            last_end: ends().max(),
            active_sources: self
                .sources
                .iter()
                .filter(|(_, source)| source.home == number && source.active)
                .map(|(name, _)| self.record(name))
                .collect(),
        }
    }

    /// The end of the last window that has rows, of all shards.
    pub fn last_end(&self) -> Option<i64> {
        let windows = self.results.keys().map(|(_, window, _)| window + WINDOW_MS);
        windows.max()
    }

    fn record(&self, name: &Arc<str>) -> SourceRecord {
        let source = &self.sources[name];
        SourceRecord {
            source: Arc::clone(name),
            shard: source.home,
            active: source.active,
            max_ts: source.max_ts,
            low: source.low,
            blocks: source
                .blocks
                .iter()
                .map(|(&number, bytes)| (number, bytes.clone()))
                .collect(),
        }
    }

    pub fn records(&self, names: &[Arc<str>]) -> Vec<SourceRecord> {
        let known = names.iter().filter(|name| self.sources.contains_key(*name));
        known.map(|name| self.record(name)).collect()
    }

    pub fn find_outcomes(
        &self,
        identities: &[(Arc<str>, u64)],
    ) -> Vec<((Arc<str>, u64), OutcomeKind)> {
        identities
            .iter()
            .filter_map(|identity| {
                let outcome = self.outcomes.get(identity)?;
                Some((identity.clone(), outcome.kind))
            })
            .collect()
    }

    /// The furthest that shards other than `shard` have come.
    pub fn reached(&self, shard: usize) -> Reached {
        let others = || {
            let rows = self.shards.iter().enumerate();
            rows.filter(move |(number, _)| *number != shard)
                .map(|(_, row)| row)
        };
        Reached {
            watermark: others().filter_map(|row| row.watermark).max(),
            final_before: others().filter_map(|row| row.final_before).max(),
        }
    }

    pub fn home(&self, source: &str) -> Option<u32> {
        self.sources.get(source).map(|row| row.home)
    }

    pub fn is_settled(&self, source: &str, seq: u64) -> bool {
        self.sources
            .get(source)
            .is_some_and(|row| row.settled.contains(seq))
    }

    /// The transaction of DESIGN §3: fence, rows, totals, ledger, watermark; all or nothing.
    pub fn commit(&mut self, plan: &CommitPlan, now_ms: u64) -> Result<(), Refused> {
        let row = &self.shards[plan.shard as usize];
        if row.epoch != plan.epoch || row.commit_no != plan.commit_no {
            return Err(Refused::Superseded);
        }
        let claims = plan.sources.iter().filter(|delta| delta.new);
        let mut claimed = claims.filter_map(|delta| self.home(&delta.source));
        if let Some(home) = claimed.next() {
            assert_ne!(home, plan.shard, "a shard claims its own source again");
            return Err(Refused::SourceClaimed);
        }
        if !(plan.replayed.iter()).all(|identity| self.outcomes.contains_key(identity)) {
            return Err(Refused::ReplayGone);
        }
        self.check_event_time(plan);
        let row = &mut self.shards[plan.shard as usize];
        row.commit_no += 1;
        row.lease_until_ms = Some(now_ms + LEASE_MS);
        row.watermark = plan.watermark;
        row.final_before = plan.final_before;
        row.tallies.duplicates += plan.tallies.duplicates;
        row.tallies.redeliveries += plan.tallies.redeliveries;
        row.tallies.undecodable += plan.tallies.undecodable;
        row.tallies.misrouted += plan.tallies.misrouted;
        for delta in &plan.rows {
            let id = (plan.shard, delta.window, Arc::clone(&delta.key));
            let (partial, revision) = self.results.entry(id).or_insert((Partial::EMPTY, 0));
            partial.merge(&delta.partial);
            *revision += delta.revision;
        }
        for (key, partial) in &plan.totals {
            let id = (plan.shard, Arc::clone(key));
            let total = self.totals.entry(id).or_insert(Partial::EMPTY);
            total.merge(partial);
        }
        for identity in &plan.replayed {
            let gone = self.outcomes.remove(identity);
            assert!(gone.is_some(), "{identity:?} is replayed twice in one plan");
        }
        for outcome in &plan.outcomes {
            let identity = (Arc::clone(&outcome.source), outcome.seq);
            let before = self.outcomes.insert(identity, outcome.clone());
            assert!(before.is_none(), "two outcomes of one tuple: {before:?}");
        }
        self.write_ledger(plan);
        self.check_sums(plan.shard);
        Ok(())
    }

    fn write_ledger(&mut self, plan: &CommitPlan) {
        for delta in &plan.sources {
            let row = self
                .sources
                .entry(Arc::clone(&delta.source))
                .or_insert_with(|| SourceRow {
                    home: plan.shard,
                    active: false,
                    max_ts: None,
                    low: 1,
                    blocks: BTreeMap::new(),
                    counted: 0,
                    late: 0,
                    quarantined: 0,
                    settled: Settled::new(),
                });
            assert_eq!(row.home, plan.shard, "a foreign source's ledger is written");
            row.active = delta.active;
            row.max_ts = delta.max_ts;
            row.low = delta.low;
            row.counted += delta.counted;
            row.late += delta.late;
            row.quarantined += delta.quarantined;
            for (number, bytes) in &delta.blocks {
                match bytes {
                    Some(bytes) => row.blocks.insert(*number, bytes.clone()),
                    None => row.blocks.remove(number),
                };
            }
            let stored: Vec<(u64, Vec<u8>)> = row.blocks.clone().into_iter().collect();
            let settled = Settled::restore(row.low, &stored).expect("blocks are legible");
            let mut seqs = 0;
            for seq in 0..=self.seqs[&delta.source] {
                let holds = settled.contains(seq);
                assert!(
                    holds || !row.settled.contains(seq),
                    "{:?} forgets {seq}, which was settled",
                    delta.source
                );
                seqs += i64::from(holds);
            }
            row.settled = settled;
            assert_eq!(
                row.counted + row.late + row.quarantined,
                seqs,
                "{:?}: counted {} + late {} + quarantined {} is not the number of settled seqs",
                delta.source,
                row.counted,
                row.late,
                row.quarantined
            );
        }
    }

    /// Every committed state balances, not only the last one.
    fn check_sums(&self, shard: u32) {
        let rows: u64 = self
            .results
            .iter()
            .filter(|((of, _, _), _)| *of == shard)
            .map(|(_, (partial, _))| partial.count)
            .sum();
        let totals = self.totals.iter().filter(|((of, _), _)| *of == shard);
        let totals: u64 = totals.map(|(_, partial)| partial.count).sum();
        let ledger = self.sources.values().filter(|row| row.home == shard);
        let ledger: i64 = ledger.map(|row| row.counted).sum();
        assert_eq!(rows, totals, "results and totals of shard {shard} differ");
        assert_eq!(
            rows as i64, ledger,
            "results and ledger of shard {shard} differ"
        );
    }

    fn check_event_time(&self, plan: &CommitPlan) {
        let row = &self.shards[plan.shard as usize];
        assert!(plan.watermark >= row.watermark, "the watermark falls");
        assert!(plan.final_before >= row.final_before, "final_before falls");
        let end = |window: i64| Some(window + WINDOW_MS);
        let in_final: u64 = (plan.rows.iter())
            .filter(|delta| end(delta.window) <= row.final_before)
            .map(|delta| delta.partial.count)
            .sum();
        assert!(
            in_final <= plan.replayed.len() as u64,
            "{in_final} tuples go into final windows, {} of them replayed",
            plan.replayed.len()
        );
        for delta in &plan.rows {
            if end(delta.window) <= row.watermark {
                assert!(
                    delta.revision > 0,
                    "a closed row changes without a revision"
                );
            }
            if end(delta.window) > plan.watermark {
                assert_eq!(delta.revision, 0, "an open row gains a revision");
            }
        }
        for outcome in &plan.outcomes {
            if let (OutcomeKind::Late, Some(tuple)) = (outcome.kind, &outcome.tuple) {
                let window_end = end(tuple.window);
                assert!(
                    window_end <= plan.final_before,
                    "late, yet not final: {outcome:?}"
                );
            }
        }
    }
}
