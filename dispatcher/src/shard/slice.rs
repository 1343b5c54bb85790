//! A slice: what a contiguous run of deliveries holds until it is committed.

use std::collections::BTreeMap;
use std::sync::Arc;

use windlass_functions::partial::Partial;
use windlass_functions::tuple::{Dictionaries, Tuples};
use windlass_functions::window::WindowStart;

use crate::broker::QuarantineMessage;
use crate::plan::{Logged, Outcome, SourceDelta, Tallies};

#[derive(Debug, Default)]
pub(super) struct Slice {
    pub no: u64,
    /// When its first delivery came, on the monotonic clock.
    pub first_at_ms: Option<u64>,
    pub last_tag: Option<u64>,
    pub deliveries: usize,
    pub bytes: usize,
    /// While open: what the rows' numbers stand for. Shared with the invocations once cut.
    pub dictionaries: Dictionaries,
    pub windows: BTreeMap<WindowStart, Tuples>,
    /// Sources (indices into `Shard::sources`) that it touches.
    pub touched: Vec<usize>,
    pub outcomes: Vec<Outcome>,
    pub quarantine: Vec<QuarantineMessage>,
    pub replayed: Vec<(Arc<str>, u64)>,
    pub tallies: Tallies,
    /// Set when cut.
    pub cut: Option<Cut>,
}

/// A slice's state as of its last delivery, and what has been answered since.
#[derive(Debug)]
pub(super) struct Cut {
    pub watermark: Option<i64>,
    pub final_before: Option<i64>,
    pub sources: Vec<SourceDelta>,
    /// Windows that it closes: end, and when the watermark passed it.
    pub closed: Vec<(i64, u64)>,
    pub shared: Arc<Dictionaries>,
    pub batches: BTreeMap<WindowStart, SharedBatch>,
    /// Chunks without an answer.
    pub unanswered: usize,
    /// Publishes to quarantine without a confirm.
    pub unconfirmed: usize,
    pub partials: BTreeMap<(WindowStart, Arc<str>), Partial>,
    /// Where the answers came from.
    pub log: Vec<Logged>,
}

/// One window's rows in a slice that was cut.
#[derive(Debug)]
pub(super) struct SharedBatch {
    pub tuples: Arc<Tuples>,
    pub revision: u32,
    /// Which chunks have been answered: the first answer wins.
    pub answered: Vec<bool>,
}

impl Slice {
    pub fn new(no: u64) -> Self {
        Self {
            no,
            ..Self::default()
        }
    }

    /// Whether there is nothing in it that a commit would change.
    pub fn is_empty(&self) -> bool {
        self.deliveries == 0 && self.touched.is_empty()
    }

    pub fn is_ready(&self) -> bool {
        self.cut
            .as_ref()
            .is_some_and(|cut| cut.unanswered == 0 && cut.unconfirmed == 0)
    }
}
