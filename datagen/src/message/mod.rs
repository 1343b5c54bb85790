//! From orders to message bodies: batching by source, encoding, duplicates on purpose.
//!
//! A message holds tuples of one source, because the source is the routing key. Duplicates are
//! whole messages sent again, byte for byte, at once or up to 64 messages later.

mod encode;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::feed::Feed;
use crate::workload::Order;
use encode::Encoder;

/// A duplicate follows its original at a distance of up to so many messages.
const DUPLICATE_SPREAD: u64 = 64;
/// A batch that is not full is sent once its oldest order has waited so long, nanoseconds.
const LINGER_NS: u64 = 100_000_000;

/// How tuples are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A JSON object a tuple; an array of them when batched.
    #[default]
    Json,
    /// A line of JSON a tuple.
    Ndjson,
    /// Arrow IPC stream of one record batch.
    Arrow,
}

impl Format {
    /// The AMQP `content-type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    /// How many tuples a message holds unless told otherwise: one for JSON, and about 64 KiB for
    /// Arrow.
    pub fn default_batch(self) -> usize {
        match self {
            Self::Json => 1,
            Self::Ndjson => 100,
            Self::Arrow => 2_400,
        }
    }
}

/// How orders become messages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Packing {
    /// How tuples are written.
    pub format: Format,
    /// Most tuples in a message.
    pub batch: usize,
    /// Share of messages that are sent twice.
    pub duplicates: f64,
    /// Seed of the choice of duplicates.
    pub seed: u64,
}

/// A message ready to be published.
#[derive(Clone, Debug)]
pub struct Message {
    /// Routing key: the source of all its tuples.
    pub source: Arc<str>,
    /// AMQP `content-type`.
    pub content_type: &'static str,
    /// Body.
    pub body: Bytes,
    /// When it is to be sent at speed 1, nanoseconds after the run's start.
    pub due_ns: u64,
    /// What it holds.
    pub orders: Arc<[Order]>,
}

/// The messages of a feed, in the order of their sending.
#[derive(Debug)]
pub struct Messages {
    feed: Feed,
    packing: Packing,
    encoder: Encoder,
    /// Orders not yet sent, by source number.
    waiting: Vec<Vec<Order>>,
    /// When the oldest order of a source began to wait, and its source; ascending. An entry whose
    /// batch has left meanwhile is stale: its time is not that of the batch's first order.
    since: VecDeque<(u64, u32)>,
    ready: VecDeque<Message>,
    rng: ChaCha8Rng,
    sent: u64,
    /// Duplicates by the number of messages after which each is sent.
    duplicates: BTreeMap<u64, Vec<Message>>,
    ended: bool,
}

impl Messages {
    /// The messages that `packing` makes of `feed`.
    pub fn new(feed: Feed, packing: Packing) -> Self {
        Self {
            feed,
            packing: Packing {
                batch: packing.batch.max(1),
                ..packing
            },
            encoder: Encoder::new(packing.format),
            waiting: Vec::new(),
            since: VecDeque::new(),
            ready: VecDeque::new(),
            // The feed draws from stream 0 of the same seed.
            rng: {
                let mut rng = ChaCha8Rng::seed_from_u64(packing.seed);
                rng.set_stream(1);
                rng
            },
            sent: 0,
            duplicates: BTreeMap::new(),
            ended: false,
        }
    }

    /// The feed that the messages are made of.
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    fn take_order(&mut self, order: Order) {
        let source = order.source as usize;
        if self.waiting.len() <= source {
            self.waiting.resize_with(source + 1, Vec::new);
        }
        while let Some(&(since, waiting)) = self.since.front()
            && since + LINGER_NS <= order.due_ns
        {
            self.since.pop_front();
            let first = self.waiting[waiting as usize].first();
            if first.is_some_and(|first| first.due_ns == since) {
                self.flush(waiting, order.due_ns);
            }
        }
        let batch = &mut self.waiting[source];
        batch.push(order);
        if batch.len() >= self.packing.batch {
            self.flush(order.source, order.due_ns);
        } else if batch.len() == 1 {
            self.since.push_back((order.due_ns, order.source));
        }
    }

    fn flush(&mut self, source: u32, due_ns: u64) {
        let orders: Arc<[Order]> = self.waiting[source as usize].as_slice().into();
        self.waiting[source as usize].clear();
        let dictionaries = self.feed.dictionaries();
        self.ready.push_back(Message {
            source: Arc::clone(dictionaries.sources.text(source)),
            content_type: self.packing.format.content_type(),
            body: self.encoder.encode(dictionaries, &orders),
            due_ns,
            orders,
        });
    }

    fn end(&mut self) {
        self.ended = true;
        for source in 0..self.waiting.len() {
            if let Some(last) = self.waiting[source].last() {
                self.flush(source as u32, last.due_ns);
            }
        }
    }

    /// Counts `message` as sent and perhaps plans to send it again.
    fn send(&mut self, message: Message) -> Message {
        if self.packing.duplicates > 0.0 && self.rng.random_bool(self.packing.duplicates.min(1.0)) {
            let distance = self.rng.random_range(0..=DUPLICATE_SPREAD);
            let copies = self.duplicates.entry(self.sent + distance).or_default();
            copies.push(message.clone());
        }
        self.sent += 1;
        message
    }

    fn due_duplicate(&mut self, all: bool) -> Option<Message> {
        let mut entry = self.duplicates.first_entry()?;
        if !all && *entry.key() >= self.sent {
            return None;
        }
        let message = entry.get_mut().pop();
        if entry.get().is_empty() {
            entry.remove();
        }
        message
    }
}

/// An error means that the feed cannot be read on; what was read before it is sent first.
impl Iterator for Messages {
    type Item = anyhow::Result<Message>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(copy) = self.due_duplicate(false) {
                return Some(Ok(copy));
            }
            if let Some(message) = self.ready.pop_front() {
                return Some(Ok(self.send(message)));
            }
            if self.ended {
                return self.due_duplicate(true).map(Ok);
            }
            match self.feed.next() {
                Some(Ok(order)) => self.take_order(order),
                Some(Err(error)) => {
                    self.end();
                    return Some(Err(error));
                }
                None => self.end(),
            }
        }
    }
}
