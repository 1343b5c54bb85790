//! A shard on a bench: a clock to turn, deliveries to hand in, actions to answer one by one.

use std::sync::Arc;

use windlass_dispatcher::broker::{Delivery, QuarantineMessage};
use windlass_dispatcher::plan::{CommitPlan, Loaded, SourceRecord};
use windlass_dispatcher::shard::{Action, Answer, Settings, Shard, Work};
use windlass_functions::partial::Partial;
use windlass_functions::stream::Stream;
use windlass_functions::time::Now;
use windlass_functions::watermark::Times;

/// Wall clock when the monotonic clock shows 0, ms UTC.
pub const BASE_MS: i64 = 1_700_000_000_000;

/// A delay of 500 ms, an allowed lateness of 2 s, and defaults.
pub fn settings() -> Settings {
    Settings {
        times: Times {
            delay_ms: 500,
            allowed_lateness_ms: 2_000,
            ..Times::default()
        },
        ..Settings::default()
    }
}

/// One shard and what it has asked for so far.
pub struct Bench {
    pub shard: Shard,
    pub now_ms: u64,
    pub works: Vec<Work>,
    pub copies: Vec<(u64, QuarantineMessage)>,
    pub plans: Vec<CommitPlan>,
    pub awaited: Vec<u64>,
    pub acks: Vec<u64>,
    pub lookups: Vec<Vec<(Arc<str>, u64)>>,
    /// What the ledger knows of sources that are looked up.
    pub records: Vec<SourceRecord>,
    tag: u64,
}

impl Bench {
    pub fn new(settings: Settings) -> Self {
        let mut bench = Self::load(settings, Loaded::default());
        bench.shard.earlier_consumers_gone();
        bench
    }

    pub fn load(settings: Settings, loaded: Loaded) -> Self {
        let shard = Shard::open(0, Stream::default(), settings, loaded, at(0));
        Self {
            shard: shard.expect("nothing is damaged"),
            now_ms: 0,
            works: Vec::new(),
            copies: Vec::new(),
            plans: Vec::new(),
            awaited: Vec::new(),
            acks: Vec::new(),
            lookups: Vec::new(),
            records: Vec::new(),
            tag: 0,
        }
    }

    pub fn now(&self) -> Now {
        at(self.now_ms)
    }

    /// Hands in one tuple a row: source, seq, event time in ms after the base.
    pub fn deliver(&mut self, rows: &[(&str, u64, i64)]) -> u64 {
        self.hand_in(rows, false, false)
    }

    pub fn replay(&mut self, row: (&str, u64, i64)) -> u64 {
        self.hand_in(&[row], true, false)
    }

    /// Hands in what more deliveries wait behind.
    pub fn deliver_amid_others(&mut self, rows: &[(&str, u64, i64)]) -> u64 {
        self.hand_in(rows, false, true)
    }

    fn hand_in(&mut self, rows: &[(&str, u64, i64)], replay: bool, waiting: bool) -> u64 {
        let stream = Stream::default();
        let rows = rows.iter().map(|&(source, seq, after_ms)| {
            let json = stream.tuple_json(source, seq, BASE_MS + after_ms, "Hunan", 100);
            String::from_utf8(json).expect("JSON is UTF-8")
        });
        let body = format!("[{}]", rows.collect::<Vec<_>>().join(","));
        self.hand_in_body(body, None, replay, waiting)
    }

    /// Hands in a message as it is.
    pub fn deliver_body(&mut self, body: &str, message_id: Option<&str>) -> u64 {
        self.hand_in_body(body.to_owned(), message_id, false, false)
    }

    fn hand_in_body(
        &mut self,
        body: String,
        message_id: Option<&str>,
        replay: bool,
        waiting: bool,
    ) -> u64 {
        self.tag += 1;
        let delivery = Delivery {
            tag: self.tag,
            redelivered: false,
            content_type: Some("application/json".into()),
            message_id: message_id.map(str::to_owned),
            replay,
            body: body.into(),
        };
        self.shard.deliver(self.now(), delivery);
        self.shard.advance(self.now(), waiting);
        self.collect();
        self.shard.advance(self.now(), waiting);
        self.collect();
        self.tag
    }

    /// Lets time pass.
    pub fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.shard.advance(self.now(), false);
        self.collect();
    }

    pub fn queue_empty(&mut self) {
        self.shard.queue_empty(self.now());
        self.collect();
    }

    /// Gathers what the shard asks for; sources are looked up at once.
    pub fn collect(&mut self) {
        while let Some(action) = self.shard.poll_action() {
            match action {
                Action::LoadSources(names) => {
                    let known = |record: &&SourceRecord| names.contains(&record.source);
                    let records = self.records.iter().filter(known).cloned().collect();
                    let now = self.now();
                    let loaded = self.shard.sources_loaded(&names, records, now);
                    loaded.expect("nothing is damaged");
                }
                Action::FindOutcomes(tuples) => self.lookups.push(tuples),
                Action::Invoke(work) => self.works.push(work),
                Action::Quarantine(slice, copies) => {
                    self.copies
                        .extend(copies.into_iter().map(|copy| (slice, copy)));
                }
                Action::Commit(plan) => self.plans.push(*plan),
                Action::AwaitDurable(commit_no) => self.awaited.push(commit_no),
                Action::Ack(tag) => self.acks.push(tag),
            }
        }
    }

    /// Workers answer everything they were given.
    pub fn answer_all(&mut self) {
        for work in std::mem::take(&mut self.works) {
            self.answer(&work, &[]);
        }
    }

    /// A worker answers, having choked on some rows.
    pub fn answer(&mut self, work: &Work, poisoned: &[usize]) {
        let mut partial = Partial::EMPTY;
        let digested = work.rows.clone().filter(|row| !poisoned.contains(row));
        digested.for_each(|row| partial.add(work.tuples.amount[row]));
        let partials = if partial.count > 0 {
            vec![("Hunan".into(), partial)]
        } else {
            Vec::new()
        };
        self.shard.answered(Answer {
            ran: Vec::new(),
            id: work.id,
            partials,
            poisoned: poisoned.iter().map(|&row| (row, "no".to_owned())).collect(),
        });
        self.collect();
    }

    /// Answers, confirms, commits and makes durable until nothing is left to do.
    pub fn settle(&mut self) -> Vec<CommitPlan> {
        let mut done = Vec::new();
        loop {
            self.answer_all();
            let slices: std::collections::BTreeSet<u64> =
                self.copies.drain(..).map(|(slice, _)| slice).collect();
            for slice in slices {
                self.shard.quarantine_confirmed(slice);
            }
            self.collect();
            let plans = std::mem::take(&mut self.plans);
            if plans.is_empty() {
                return done;
            }
            done.extend(plans);
            self.commit();
        }
    }

    /// The commit in progress is in the database, and durable.
    pub fn commit(&mut self) {
        self.shard.committed();
        self.collect();
        for commit_no in std::mem::take(&mut self.awaited) {
            self.shard.durable(commit_no);
        }
        self.shard.advance(self.now(), false);
        self.collect();
    }
}

fn at(ms: u64) -> Now {
    Now {
        mono_ms: ms,
        unix_ms: BASE_MS + ms as i64,
    }
}
