//! What the poller writes and the handlers read: the page's state, and the events that tell viewers of it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{Semaphore, broadcast};
use windlass_dispatcher::store::BoardReader;

use crate::schema::{Operations, Policy, Status};
use crate::screen::Screen;

/// Frames that a slow viewer may be behind before it is sent the whole anew.
const BACKLOG: usize = 64;
/// Reads of some minutes of the past at once.
const READS: usize = 4;
/// Reads of more than that at once. They take a database seconds, so that no number of them keeps a
/// replay waiting.
const LONG_READS: usize = 1;

/// What the poller writes and the handlers read.
pub(crate) struct Shared {
    pub reader: BoardReader,
    pub live: Mutex<Live>,
    pub viewers: AtomicUsize,
    pub frames: AtomicU64,
    pub reads: Semaphore,
    pub long_reads: Semaphore,
}

/// The page's state, and who is told of its changes.
pub(crate) struct Live {
    /// Replaced, not changed: whoever answers from it holds nobody up, the poller least of all.
    pub screen: Arc<Screen>,
    pub status: Status,
    pub operations: VecDeque<Operations>,
    /// The scaler's newest Q-table.
    pub policy: Option<Arc<Policy>>,
    /// Whether the last poll found the screen up to date or brought it there.
    pub fresh: bool,
    sender: broadcast::Sender<Bytes>,
}

impl Shared {
    pub fn new(reader: BoardReader) -> Self {
        Self {
            reader,
            live: Mutex::new(Live {
                screen: Arc::default(),
                status: Status::default(),
                operations: VecDeque::new(),
                policy: None,
                fresh: false,
                sender: broadcast::channel(BACKLOG).0,
            }),
            viewers: 0.into(),
            frames: 0.into(),
            reads: Semaphore::new(READS),
            long_reads: Semaphore::new(LONG_READS),
        }
    }

    pub fn live(&self) -> MutexGuard<'_, Live> {
        self.live
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
    }
}

impl Live {
    /// Everything up to now, and what comes after it: no frame is missed or met twice.
    pub fn subscribe(&self) -> (Bytes, broadcast::Receiver<Bytes>) {
        (self.whole(), self.sender.subscribe())
    }

    /// Everything up to now, as events.
    pub fn whole(&self) -> Bytes {
        // Before the first snapshot nothing is known, which is not the same as no sales.
        let mut bytes = match self.screen.server() {
            "" => Vec::new(),
            _ => event("whole", &self.screen.whole()).to_vec(),
        };
        bytes.extend_from_slice(&event("operations", &self.operations));
        if let Some(policy) = &self.policy {
            bytes.extend_from_slice(&event("policy", policy.as_ref()));
        }
        bytes.extend_from_slice(&event("status", &self.status));
        bytes.into()
    }

    /// Sends an event to every viewer.
    pub fn tell(&self, name: &str, value: &impl Serialize) {
        // Nobody may be watching.
        let _ = self.sender.send(event(name, value));
    }
}

/// A server-sent event; JSON has no line breaks outside of strings, and escapes those within.
fn event(name: &str, value: &impl Serialize) -> Bytes {
    let json = serde_json::to_string(value).unwrap_or_default();
    format!("event: {name}\ndata: {json}\n\n").into()
}
