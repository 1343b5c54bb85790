//! One shard's state machine: deliveries in, actions out; no IO, no clock, no lock.
//!
//! The unit of safety is the *slice*, a contiguous run of deliveries. A slice is cut into one batch
//! a window, each batch into chunks, each chunk is an invocation; when all have answered and every
//! quarantined copy is confirmed, the slice's results, ledger and watermark go out as one
//! transaction, and only then is it acknowledged. Acks never wait for a window, so nothing jams;
//! a crash loses at most the slices in flight, which come again.
//!
//! Invariants, which the seeded simulation in `tests/simulation` checks against a serial oracle:
//! * slices commit in the order in which they were cut, one commit at a time;
//! * what a commit says of ledger and watermark is as of its last slice's last delivery;
//! * a tag is acknowledged only after the commit that holds its slice;
//! * a tuple is settled once: counted, late or quarantined.
//!
//! A `Shard` lives for one epoch. Any doubt (a lost channel, a lost connection, a fence that does
//! not match) ends it: its owner drops it and opens another from what the database says. Answers
//! meant for an earlier `Shard` must not reach a later one, but for [`Shard::answered`], whose ids
//! carry the epoch. After every event the shell calls [`Shard::advance`] and performs the actions.

mod cut;
mod intake;
mod quarantine;
mod replay;
mod slice;
mod sources;

use std::cell::OnceCell;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use windlass_functions::ledger::{DamagedBlock, Settled};
use windlass_functions::partial::Partials;
use windlass_functions::stream::Stream;
use windlass_functions::time::Now;
use windlass_functions::tuple::{Dictionaries, Tuples};
use windlass_functions::watermark::{SourceNumber, Times, Watermark};
use windlass_functions::window::WindowStart;

use crate::broker::QuarantineMessage;
use crate::placement::Ran;
use crate::plan::{CommitPlan, Loaded, OutcomeKind, Reached};
use slice::Slice;

/// How a shard cuts and how much it may hold.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Delay, allowed lateness and the rest of event time.
    pub times: Times,
    /// A slice is cut at the latest when its first delivery is this old.
    pub max_slice_ms: u64,
    /// While deliveries are waiting, closing windows cut no more often than this.
    pub min_cut_ms: u64,
    /// Slices that may be in flight; while all are, the open one keeps growing.
    pub slices_in_flight: usize,
    /// Unacknowledged deliveries that the broker allows.
    pub prefetch: u16,
    /// Decoded bytes that all uncommitted slices together may hold.
    pub budget_bytes: usize,
    /// Most tuples in one chunk.
    pub chunk_rows: usize,
    /// A source idle for this long leaves memory; its ledger stays in the database.
    pub source_ttl_ms: u64,
    /// Most sources in memory: beyond it those silent for longest are not waited for.
    pub max_sources: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            times: Times::default(),
            max_slice_ms: 1_000,
            min_cut_ms: 20,
            slices_in_flight: 4,
            prefetch: 2_000,
            budget_bytes: 48 << 20,
            chunk_rows: 64 << 10,
            source_ttl_ms: 3_600_000,
            max_sources: 65_536,
        }
    }
}

/// A delivery as the shard needs it.
pub use crate::broker::Delivery;

/// Names one chunk of one window of one slice; never reused within an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkId {
    /// The shard.
    pub shard: u32,
    /// The epoch under which the slice was cut.
    pub epoch: u64,
    /// The slice's number within the epoch.
    pub slice: u64,
    /// The window.
    pub window: WindowStart,
    /// The chunk's number within the slice's window.
    pub chunk: u32,
}

/// Rows of one window that a worker is to aggregate.
#[derive(Clone, Debug)]
pub struct Work {
    /// Its name.
    pub id: ChunkId,
    /// The window's end, ms UTC.
    pub window_end: i64,
    /// 0 while the window is open, 1 for a revision of a closed one.
    pub revision: u32,
    /// The slice's rows of this window; `rows` says which of them are meant.
    pub tuples: Arc<Tuples>,
    /// What the rows' numbers stand for.
    pub dictionaries: Arc<Dictionaries>,
    /// Which rows of `tuples`.
    pub rows: std::ops::Range<usize>,
}

/// The answer to one [`Work`].
#[derive(Clone, Debug)]
pub struct Answer {
    /// Whose.
    pub id: ChunkId,
    /// Partials of all its rows but the poisoned ones.
    pub partials: Partials,
    /// Where its parts ran.
    pub ran: Vec<Ran>,
    /// Rows (indices into `Work::tuples`) that no worker could digest, each with the last error.
    pub poisoned: Vec<(usize, String)>,
}

/// What the shell is to do. Each is answered by the event that its comment names.
#[derive(Debug)]
pub enum Action {
    /// Load these sources' ledgers → [`Shard::sources_loaded`]. No delivery is taken until then.
    LoadSources(Vec<Arc<str>>),
    /// Look up whether these settled tuples have outcome rows → [`Shard::outcomes_found`].
    FindOutcomes(Vec<(Arc<str>, u64)>),
    /// Have a worker answer → [`Shard::answered`].
    Invoke(Work),
    /// Publish with confirms → [`Shard::quarantine_confirmed`] with the slice's number.
    Quarantine(u64, Vec<QuarantineMessage>),
    /// Run the transaction → [`Shard::committed`].
    Commit(Box<CommitPlan>),
    /// Commit number `commit_no` must be durable before acks → [`Shard::durable`].
    AwaitDurable(u64),
    /// Acknowledge this tag and all before it.
    Ack(u64),
}

/// A source as the shard holds it in memory.
#[derive(Debug)]
struct Source {
    name: Arc<str>,
    home: u32,
    /// Not yet in a slice that was cut: the next one claims it.
    unclaimed: bool,
    settled: Settled,
    clock: SourceNumber,
    /// Slices in flight that touch it.
    in_flight: u32,
    /// Its counts in the open slice; `None` while that slice has not touched it.
    open: Option<Counts>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    counted: i64,
    late: i64,
    quarantined: i64,
}

impl Counts {
    fn of(&mut self, kind: OutcomeKind) -> &mut i64 {
        match kind {
            OutcomeKind::Late => &mut self.late,
            OutcomeKind::Quarantined => &mut self.quarantined,
        }
    }
}

/// A delivery whose sources or outcomes are being looked up.
#[derive(Debug)]
struct Pending {
    delivery: Delivery,
    bad: Vec<windlass_functions::decode::BadRow>,
    /// For a replay: the outcomes of its settled rows, once known.
    outcomes: HashMap<(Arc<str>, u64), OutcomeKind>,
    /// For a replay: those of its rows whose fate was not committed when it was asked for.
    uncommitted: HashMap<(Arc<str>, u64), OutcomeKind>,
    looked_up: bool,
    /// What copies of the message are named by, once one is needed.
    copy_id: OnceCell<String>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Shard {
    number: u32,
    epoch: u64,
    commit_no: u64,
    stream: Stream,
    settings: Settings,
    watermark: Watermark,
    /// The watermark and `final_before` of the last cut: what is closed, what is late.
    cut_watermark: Option<i64>,
    cut_final_before: Option<i64>,
    sources: Vec<Option<Source>>,
    by_name: HashMap<Arc<str>, usize>,
    /// Places in `sources` that are free.
    free_sources: Vec<usize>,
    /// When the sources were last looked through.
    tended_ms: u64,
    /// Ends of windows with data that no cut has closed yet.
    open_ends: BTreeSet<i64>,
    /// Those that the watermark has passed since the last cut, and when (monotonic ms).
    passed: Vec<(i64, u64)>,
    /// The end of the last window with data.
    last_end: Option<i64>,
    /// The tuples of the delivery at hand.
    scratch: Tuples,
    /// Columns of committed batches, emptied, to be filled again: fresh memory costs a page fault
    /// every 4 KiB. Given back when the queue is empty.
    spare: Vec<Tuples>,
    pending: Option<Pending>,
    open: Slice,
    flight: VecDeque<Slice>,
    /// How many slices at the head of `flight` the commit in progress covers.
    committing: usize,
    /// Commits that are not durable yet: number and last tag.
    undurable: VecDeque<(u64, u64)>,
    /// Replayed tuples of uncommitted slices.
    replaying: BTreeSet<(Arc<str>, u64)>,
    last_cut_ms: u64,
    bytes: usize,
    /// Deliveries taken in, and the tuples in them.
    taken: (u64, u64),
    draining: bool,
    /// No earlier consumer can hold deliveries any more: an empty queue means silence.
    alone: bool,
    /// The watermark rose to follow other shards and has not been cut since.
    following: bool,
    actions: VecDeque<Action>,
}

impl Shard {
    /// Opens a shard as the database has it, under the epoch just raised.
    ///
    /// # Errors
    /// If a stored ledger block is damaged.
    pub fn open(
        number: u32,
        stream: Stream,
        settings: Settings,
        loaded: Loaded,
        now: Now,
    ) -> Result<Self, DamagedBlock> {
        let watermark = Watermark::restore(
            settings.times,
            loaded.watermark,
            loaded.final_before,
            now.mono_ms,
        );
        let mut shard = Self {
            number,
            epoch: loaded.epoch,
            commit_no: loaded.commit_no,
            stream,
            settings,
            watermark,
            cut_watermark: loaded.watermark,
            cut_final_before: loaded.final_before,
            sources: Vec::new(),
            by_name: HashMap::new(),
            free_sources: Vec::new(),
            tended_ms: now.mono_ms,
            open_ends: loaded.open_ends.into_iter().collect(),
            passed: Vec::new(),
            last_end: loaded.last_end,
            scratch: Tuples::default(),
            spare: Vec::new(),
            pending: None,
            open: Slice::new(0),
            flight: VecDeque::new(),
            committing: 0,
            undurable: VecDeque::new(),
            replaying: BTreeSet::new(),
            last_cut_ms: now.mono_ms,
            bytes: 0,
            taken: (0, 0),
            draining: false,
            alone: false,
            following: false,
            actions: VecDeque::new(),
        };
        for record in loaded.active_sources {
            shard.add_source(&record.source.clone(), Some(record), now)?;
        }
        Ok(shard)
    }

    fn source(&mut self, number: usize) -> &mut Source {
        self.sources[number]
            .as_mut()
            .expect("a source that a slice refers to stays in memory")
    }

    /// The next thing to do, if any.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether another delivery may be handed in. While not, the shell leaves deliveries where
    /// they are; the broker's prefetch bounds them.
    pub fn wants_deliveries(&self) -> bool {
        self.pending.is_none() && !self.draining && self.bytes < self.settings.budget_bytes
    }

    /// When [`Shard::advance`] is due even if nothing happens, on the monotonic clock. `None`
    /// while only an event can make it due: after every event the shell calls it anyway.
    pub fn next_timeout_ms(&self) -> Option<u64> {
        if self.pending.is_some() || self.flight.len() >= self.settings.slices_in_flight {
            return None;
        }
        let oldest = self
            .open
            .first_at_ms
            .map(|first| first + self.settings.max_slice_ms);
        let closing = self
            .closes_a_window()
            .then(|| self.last_cut_ms + self.settings.min_cut_ms);
        oldest.into_iter().chain(closing).min()
    }

    /// The broker has dropped every earlier consumer that fell silent before the epoch was raised, and
    /// has returned what it held: the shell says so when that much time has passed. A first delivery
    /// on this channel says the same sooner, because a queue has one active consumer.
    pub fn earlier_consumers_gone(&mut self) {
        self.alone = true;
    }

    /// The queue was seen empty and every delivery sent before that has been handed in.
    ///
    /// That proves silence only once this consumer is alone with the queue: a frozen owner's
    /// consumer holds what the broker sent ahead to it, the queue looks empty, and all of that will
    /// come again. Until then nothing happens here. `now` is the time at which the question was
    /// asked, because what came after it may be on its way.
    pub fn queue_empty(&mut self, now: Now) {
        if self.pending.is_some() || !self.alone {
            return;
        }
        let last_end = self.last_end;
        let idle = self.watermark.queue_empty(now.mono_ms, last_end);
        if !idle.is_empty() {
            let idle: HashSet<SourceNumber> = idle.into_iter().collect();
            let sources = self.sources.iter().enumerate();
            let numbers: Vec<usize> = sources
                .filter(|(_, source)| source.as_ref().is_some_and(|s| idle.contains(&s.clock)))
                .map(|(number, _)| number)
                .collect();
            for number in numbers {
                self.touch(number);
            }
        }
        self.spare = Vec::new();
        self.advance(now, false);
    }

    /// What the other shards have reached: a shard with no active source follows the furthest, so
    /// that it does not hold back what is closed and what is final.
    ///
    /// `reached` must have been read before the queue was last seen empty: what was published
    /// between the two would be judged by event time that it had no chance to hold back.
    pub fn others_reached(&mut self, reached: Reached, now: Now) {
        if self.all_idle(now) {
            self.following |= self
                .watermark
                .follow(reached.watermark, reached.final_before);
            self.advance(now, false);
        }
    }

    /// Whether no source is active, nor about to be: then the shell asks for
    /// [`Shard::others_reached`].
    pub fn all_idle(&self, now: Now) -> bool {
        self.alone && self.pending.is_none() && self.watermark.all_idle(now.mono_ms)
    }

    /// Takes no more deliveries, cuts what it holds, and lets what is in flight finish.
    pub fn drain(&mut self, now: Now) {
        self.draining = true;
        self.advance(now, false);
    }

    /// Whether [`Shard::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether everything handed in is committed and acknowledged.
    pub fn is_drained(&self) -> bool {
        self.pending.is_none()
            && self.flight.is_empty()
            && self.open.is_empty()
            && self.undurable.is_empty()
    }

    /// Figures for the status page.
    pub fn figures(&self) -> Figures {
        Figures {
            shard: self.number,
            epoch: self.epoch,
            commit_no: self.commit_no,
            watermark: self.cut_watermark,
            final_before: self.cut_final_before,
            windows_open: self.open_ends.len(),
            slices_in_flight: self.flight.len(),
            bytes_held: self.bytes,
            sources: self.by_name.len(),
            deliveries_taken: self.taken.0,
            rows_taken: self.taken.1,
            rows_held_back: self.rows_held_back(),
            closing: self.closing(),
        }
    }

    /// Rows of the open slice that workers could have, were not all slices in flight taken.
    fn rows_held_back(&self) -> usize {
        if self.flight.len() < self.settings.slices_in_flight {
            return 0;
        }
        self.open.windows.values().map(Tuples::len).sum()
    }

    fn closing(&self) -> Vec<(i64, u64)> {
        let cuts = self.flight.iter().filter_map(|slice| slice.cut.as_ref());
        let closing = cuts.flat_map(|cut| &cut.closed).chain(&self.passed);
        closing.copied().collect()
    }
}

/// A shard at a glance.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Figures {
    /// The shard.
    pub shard: u32,
    /// The epoch under which it is owned.
    pub epoch: u64,
    /// Its last commit.
    pub commit_no: u64,
    /// Its watermark as of the last cut, ms UTC.
    pub watermark: Option<i64>,
    /// Windows that end at or before this are final, ms UTC.
    pub final_before: Option<i64>,
    /// Windows with data that are not closed.
    pub windows_open: usize,
    /// Slices that are being answered or committed.
    pub slices_in_flight: usize,
    /// Decoded bytes in uncommitted slices.
    pub bytes_held: usize,
    /// Sources in memory.
    pub sources: usize,
    /// Deliveries taken in since the shard was opened here.
    pub deliveries_taken: u64,
    /// Tuples in these, duplicates included.
    pub rows_taken: u64,
    /// Tuples taken in that wait for a slice in flight to end before a worker may have them.
    pub rows_held_back: usize,
    /// The end of each window that is not committed, ms UTC, and when the watermark passed it, monotonic ms.
    #[serde(skip)]
    pub closing: Vec<(i64, u64)>,
}
