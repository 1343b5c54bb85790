//! Orders as on a Singles' Day: skewed over provinces, lognormal in amount, from many sources,
//! slightly out of order. A pure iterator: the start time is an argument, the generator is seeded,
//! and the same options give the same orders from the same build.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::weighted::WeightedAliasIndex;
use rand_distr::{Distribution, LogNormal};
use serde::{Deserialize, Serialize};
use windlass_functions::tuple::Dictionaries;

use crate::feed::LateRule;
use crate::pattern::{Pattern, Schedule};
use crate::provinces::PROVINCES;

/// Median order, minor units (fen): CNY 89.00.
const MEDIAN_AMOUNT: f64 = 8_900.0;
/// Standard deviation of the amount's logarithm: the mean is 1.65 medians, one order in a
/// hundred is over ten medians.
const SIGMA: f64 = 1.0;
/// Most sources a workload may have: each costs a batch buffer and a ledger entry downstream.
const MAX_SOURCES: u32 = 10_000;

/// One order. Source and key are numbers in the dictionaries of the feed it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Number of the source.
    pub source: u32,
    /// Number of the key (province).
    pub key: u32,
    /// Number within the source, gap-free from 1 when generated.
    pub seq: u64,
    /// Event time, ms UTC.
    pub ts: i64,
    /// Amount, minor units.
    pub amount: i64,
    /// When it is to be sent at speed 1, nanoseconds after the run's start.
    pub due_ns: u64,
    /// Whether it may arrive after its window is final ([`LateRule`]).
    pub late: bool,
}

/// What determines a workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Seed of every random choice.
    pub seed: u64,
    /// How many sources; orders go round them in turn.
    pub sources: u32,
    /// Put before every source's name, `source-00` and so on.
    pub source_prefix: String,
    /// When the run starts, ms UTC: the event time of an order due at once and in order.
    pub start_ms: i64,
    /// Orders a second, before the pattern shapes them.
    pub rate: f64,
    /// How long the run lasts, ms; the pattern spans it.
    pub duration_ms: u64,
    /// If set, exactly so many orders, however long they take.
    pub orders: Option<u64>,
    /// The shape of the rate.
    pub pattern: Pattern,
    /// An order's event time lies up to so many ms (uniformly) before its time of sending.
    pub disorder_ms: u32,
    /// Share of orders sent when they are certainly late.
    pub late: f64,
    /// By how much those are late, ms.
    pub late_by_ms: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 7,
            sources: 8,
            source_prefix: String::new(),
            start_ms: 0,
            rate: 1_000.0,
            duration_ms: 60_000,
            orders: None,
            pattern: Pattern::Steady,
            disorder_ms: 300,
            late: 0.0,
            late_by_ms: 30_000,
        }
    }
}

/// Options that make no workload: what was expected, what came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidOptions(String);

impl Options {
    /// A prefix that keeps the sources of two runs apart: eight hexadecimal digits drawn from all
    /// other options and a dash.
    ///
    /// A run numbers its tuples from 1; two runs under one name would repeat (source, seq) with
    /// other content, and the second would be dropped as duplicates. The same options give the
    /// same prefix, and then the tuples are the same too.
    pub fn run_prefix(&self) -> String {
        let text = serde_json::to_string(&Self {
            source_prefix: String::new(),
            ..self.clone()
        })
        .expect("options of plain fields serialise");
        // FNV-1a (Fowler, Noll, Vo), 64 bits folded to 32: stable across builds, unlike std's.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        format!("{:08x}-", (hash >> 32) ^ (hash & 0xffff_ffff))
    }

    fn check(&self) -> Result<(), InvalidOptions> {
        let refuse = |text: String| Err(InvalidOptions(text));
        if !(1..=MAX_SOURCES).contains(&self.sources) {
            return refuse(format!(
                "expected 1 to {MAX_SOURCES} sources, got {}",
                self.sources
            ));
        }
        if !(self.rate.is_finite() && self.rate > 0.0 && self.rate <= 1e9) {
            return refuse(format!(
                "expected a rate above 0 and up to 1,000,000,000 orders a second, got {}",
                self.rate
            ));
        }
        if self.duration_ms == 0 {
            return refuse("expected a run longer than 0 ms; give a duration such as 60s".into());
        }
        if !(0.0..=0.5).contains(&self.late) {
            return refuse(format!(
                "expected a share of late orders from 0% to 50%, got {}%",
                self.late * 100.0
            ));
        }
        let certain = LateRule::AFTER_MS + 1_000 + i64::from(self.disorder_ms);
        if self.late > 0.0 && i64::from(self.late_by_ms) < certain {
            return refuse(format!(
                "orders late by {} ms may still be in time; make them late by at least {certain} ms",
                self.late_by_ms
            ));
        }
        Ok(())
    }
}

/// The orders of one run, in the order of their sending.
#[derive(Debug)]
pub struct Workload {
    options: Options,
    dictionaries: Dictionaries,
    rng: ChaCha8Rng,
    schedule: Schedule,
    provinces: WeightedAliasIndex<u32>,
    amounts: LogNormal<f64>,
    late_rule: LateRule,
    issued: u64,
}

impl Workload {
    /// The workload that `options` describe.
    ///
    /// # Errors
    /// If an option lies outside its range.
    pub fn new(options: Options) -> Result<Self, InvalidOptions> {
        options.check()?;
        let mut dictionaries = Dictionaries::default();
        for number in 0..options.sources {
            let name = format!("{}source-{number:02}", options.source_prefix);
            dictionaries.sources.intern(&name);
        }
        for (name, _) in PROVINCES {
            dictionaries.keys.intern(name);
        }
        let shares = PROVINCES.iter().map(|&(_, share)| share).collect();
        Ok(Self {
            rng: ChaCha8Rng::seed_from_u64(options.seed),
            schedule: Schedule::new(options.pattern, options.rate, options.duration_ms),
            provinces: WeightedAliasIndex::new(shares).expect("shares are positive"),
            amounts: LogNormal::new(MEDIAN_AMOUNT.ln(), SIGMA).expect("sigma is positive"),
            late_rule: LateRule::default(),
            issued: 0,
            dictionaries,
            options,
        })
    }

    /// What determines this workload.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The names of sources and keys.
    pub fn dictionaries(&self) -> &Dictionaries {
        &self.dictionaries
    }

    /// How many orders the whole run has, if that is known beforehand.
    pub fn expected(&self) -> Option<u64> {
        let steady = self.options.pattern == Pattern::Steady;
        let by_time = || (self.options.rate * self.options.duration_ms as f64 / 1e3).ceil() as u64;
        self.options.orders.or_else(|| steady.then(by_time))
    }
}

impl Iterator for Workload {
    type Item = Order;

    fn next(&mut self) -> Option<Order> {
        let due_ns = self.schedule.next_due();
        let more = match self.options.orders {
            Some(orders) => self.issued < orders,
            None => due_ns < self.options.duration_ms * 1_000_000,
        };
        if !more {
            return None;
        }
        let sources = u64::from(self.options.sources);
        let key = self.provinces.sample(&mut self.rng) as u32;
        let amount = self.amounts.sample(&mut self.rng).round().clamp(1.0, 1e10) as i64;
        let disorder = self.rng.random_range(0..=self.options.disorder_ms);
        let mut ts = self.options.start_ms + (due_ns / 1_000_000) as i64 - i64::from(disorder);
        // The first order of a source tells where its time stands: it cannot itself be late.
        if self.options.late > 0.0
            && self.rng.random_bool(self.options.late)
            && self.issued >= sources
        {
            ts -= i64::from(self.options.late_by_ms);
        }
        let order = Order {
            source: (self.issued % sources) as u32,
            key,
            seq: self.issued / sources + 1,
            ts,
            amount,
            due_ns,
            late: self.late_rule.judge(ts),
        };
        self.issued += 1;
        Some(order)
    }
}
