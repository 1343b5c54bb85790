//! What a shard asks its shell to make durable, and what it is opened with.

use std::sync::Arc;

use windlass_functions::partial::Partial;
use windlass_functions::window::WindowStart;

use crate::placement::Ran;

/// One transaction: the results, the ledger's share and the watermark of some adjacent slices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommitPlan {
    /// Which shard.
    pub shard: u32,
    /// The epoch under which this owner writes; the fence.
    pub epoch: u64,
    /// The shard's commit number before this commit; the fence.
    pub commit_no: u64,
    /// The shard's watermark as of the last delivery, ms UTC; `None` before any tuple.
    pub watermark: Option<i64>,
    /// Windows that end at or before this are final, ms UTC.
    pub final_before: Option<i64>,
    /// What to merge into `results`, one entry a (window, key).
    pub rows: Vec<RowDelta>,
    /// What to merge into `totals`, one entry a key.
    pub totals: Vec<(Arc<str>, Partial)>,
    /// The ledger of every source that the slices touched.
    pub sources: Vec<SourceDelta>,
    /// Tuples that were settled without being counted.
    pub outcomes: Vec<Outcome>,
    /// Outcome rows to delete because their tuples are counted now (a replay). Each must exist,
    /// else the whole commit is refused.
    pub replayed: Vec<(Arc<str>, u64)>,
    /// Informational counts to add.
    pub tallies: Tallies,
    /// Where the invocations behind it ran.
    pub log: Vec<Logged>,
    /// Windows that this commit closes, for measuring latency: end (ms UTC), and when the
    /// watermark passed it (monotonic ms). Not stored.
    pub closed: Vec<(i64, u64)>,
}

/// A row of `commit_log`: where one invocation ran.
#[derive(Clone, Debug, PartialEq)]
pub struct Logged {
    /// The slice, by its number within the epoch.
    pub slice: u64,
    /// The window.
    pub window: WindowStart,
    /// The chunk of the slice's batch.
    pub chunk: u32,
    /// Where, why and how long.
    pub ran: Ran,
}

/// A merge into one row of `results`.
#[derive(Clone, Debug, PartialEq)]
pub struct RowDelta {
    /// The window.
    pub window: WindowStart,
    /// The key.
    pub key: Arc<str>,
    /// What to merge.
    pub partial: Partial,
    /// By how much the revision rises: 0 while the window is open.
    pub revision: u32,
}

/// A source's ledger as of a slice's last delivery.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceDelta {
    /// The source.
    pub source: Arc<str>,
    /// Whether this shard meets it for the first time and claims it.
    pub new: bool,
    /// Whether it counts for the watermark.
    pub active: bool,
    /// Its largest event time, ms UTC; `None` if no valid tuple was ever seen.
    pub max_ts: Option<i64>,
    /// Every seq below this is settled.
    pub low: u64,
    /// Added to its count of counted tuples (negative when one moves to quarantine).
    pub counted: i64,
    /// Added to its count of late tuples.
    pub late: i64,
    /// Added to its count of quarantined tuples.
    pub quarantined: i64,
    /// Blocks of settled seqs at and above `low` that changed: number, and content or `None`
    /// when the block is empty above `low` and its row goes.
    pub blocks: Vec<(u64, Option<Vec<u8>>)>,
}

/// What became of a tuple that was settled without being counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeKind {
    /// Its window was final.
    Late,
    /// It was legible enough to be identified, but could not be counted.
    Quarantined,
}

impl OutcomeKind {
    /// The word stored in the database and in the `windlass-outcome` header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Quarantined => "quarantined",
        }
    }
}

/// A row of `outcomes`: one settled, uncounted tuple.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Its source.
    pub source: Arc<str>,
    /// Its number.
    pub seq: u64,
    /// Late or quarantined.
    pub kind: OutcomeKind,
    /// Why, for a person.
    pub reason: String,
    /// The `message_id` of its copy in the quarantine queue.
    pub quarantine_id: String,
    /// Event time (ms UTC), window, key and value (minor units) where they are legible.
    pub tuple: Option<OutcomeTuple>,
}

/// The legible fields of a late or poisonous tuple.
#[derive(Clone, Debug, PartialEq)]
pub struct OutcomeTuple {
    /// Event time, ms UTC.
    pub ts: i64,
    /// Start of its window, ms UTC.
    pub window: WindowStart,
    /// Its key.
    pub key: Arc<str>,
    /// Its value, minor units.
    pub amount: i64,
}

/// Informational counts: they say what passed by, they take no part in the audit's equation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tallies {
    /// Tuples met again after they were settled or taken in.
    pub duplicates: u64,
    /// Messages that the broker marked as redelivered.
    pub redeliveries: u64,
    /// Messages or rows with no legible (source, seq), or with a seq that is no number in a row.
    pub undecodable: u64,
    /// Tuples of a source whose home is another shard.
    pub misrouted: u64,
}

/// A shard as its last commit left it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// The epoch just raised, by which this owner writes.
    pub epoch: u64,
    /// The last commit's number.
    pub commit_no: u64,
    /// The watermark, ms UTC.
    pub watermark: Option<i64>,
    /// Windows that end at or before this are final, ms UTC.
    pub final_before: Option<i64>,
    /// The ends (ms UTC) of windows that have rows of this shard and end after the watermark.
    pub open_ends: Vec<i64>,
    /// The largest end of a window that has rows of this shard, ms UTC.
    pub last_end: Option<i64>,
    /// The sources at home here that counted for the watermark.
    pub active_sources: Vec<SourceRecord>,
}

/// A source as the ledger has it.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceRecord {
    /// The source.
    pub source: Arc<str>,
    /// Its home shard.
    pub shard: u32,
    /// Whether it counted for the watermark.
    pub active: bool,
    /// Its largest event time, ms UTC.
    pub max_ts: Option<i64>,
    /// Every seq below this is settled.
    pub low: u64,
    /// Blocks of settled seqs at and above `low`.
    pub blocks: Vec<(u64, Vec<u8>)>,
}

/// The furthest that other shards of the stream have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// The largest of their watermarks, ms UTC.
    pub watermark: Option<i64>,
    /// The largest of their `final_before`, ms UTC.
    pub final_before: Option<i64>,
}
