//! Queues inside this process: the same promises as RabbitMQ's, without its durability.
//!
//! Each shard's queue has one active consumer; further ones stand in line. The active one is pushed
//! up to its prefetch; what it has not acknowledged when it goes returns to the front of the queue
//! in order, marked redelivered. Publishing waits while the shards' queues hold their bound of bytes;
//! the quarantine has no bound.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::{
    BrokerError, ChannelLost, Delivery, QuarantineFilter, QuarantineMessage, Quarantined, Replayed,
    Topology,
};

/// Most bytes of messages in the shards' queues together, unacknowledged ones included.
const BOUND_BYTES: usize = 64 << 20;

/// What a message takes beside its body, roughly, bytes.
const MESSAGE_BYTES: usize = 128;

/// The in-process broker of one stream.
pub struct Memory {
    topology: Topology,
    state: Arc<Mutex<State>>,
    space: Arc<Semaphore>,
}

impl Memory {
    pub(super) fn new(topology: Topology) -> Self {
        let queues = (0..topology.shards).map(|_| Queue::default()).collect();
        Self {
            topology,
            state: Arc::new(Mutex::new(State {
                queues,
                quarantine: VecDeque::new(),
                next_consumer: 0,
                closed: false,
            })),
            space: Arc::new(Semaphore::new(BOUND_BYTES)),
        }
    }

    pub(super) fn topology(&self) -> &Topology {
        &self.topology
    }

    pub(super) fn consume(&self, shard: u32, prefetch: u16) -> Result<MemoryConsumer, BrokerError> {
        let queue = self.topology.queue(shard);
        let failed = |reason: &str| BrokerError::Failed {
            what: format!("consuming {queue}"),
            reason: reason.into(),
        };
        let mut state = lock(&self.state);
        if state.closed {
            return Err(failed("the broker was closed"));
        }
        let id = state.next_consumer;
        state.next_consumer += 1;
        let wake = Arc::new(Notify::new());
        let home = state
            .queues
            .get_mut(shard as usize)
            .ok_or_else(|| failed("no such queue"))?;
        home.consumers.push_back(Held {
            id,
            prefetch: prefetch.max(1).into(),
            acked: 0,
            unacked: VecDeque::new(),
            taken: 0,
            wake: Arc::clone(&wake),
        });
        home.push();
        drop(state);
        Ok(MemoryConsumer {
            state: Arc::clone(&self.state),
            shard: shard as usize,
            queue,
            id,
            wake,
        })
    }

    pub(super) async fn publish(
        &self,
        routing_key: &str,
        content_type: Option<&str>,
        body: Bytes,
    ) -> Result<(), BrokerError> {
        // A message larger than the whole bound may pass, alone.
        let bytes = (body.len() + MESSAGE_BYTES).min(BOUND_BYTES) as u32;
        let space = Arc::clone(&self.space).acquire_many_owned(bytes).await;
        let Ok(space) = space else {
            return Err(BrokerError::NotConfirmed {
                to: self.topology.stream.clone(),
                reason: "the broker was closed".into(),
            });
        };
        self.enqueue(
            routing_key,
            Message {
                redelivered: false,
                content_type: content_type.map(Into::into),
                message_id: None,
                replay: false,
                body,
                _space: Some(space),
            },
        );
        Ok(())
    }

    fn enqueue(&self, routing_key: &str, message: Message) {
        let shard = self.shard_of(routing_key);
        let mut state = lock(&self.state);
        let queue = &mut state.queues[shard];
        queue.ready.push_back(message);
        queue.push();
    }

    fn shard_of(&self, routing_key: &str) -> usize {
        let mut hasher = DefaultHasher::new();
        routing_key.hash(&mut hasher);
        (hasher.finish() % u64::from(self.topology.shards)) as usize
    }

    pub(super) fn quarantine(&self, messages: Vec<QuarantineMessage>) {
        let fitted = messages.into_iter().map(|message| message.fitted().into());
        lock(&self.state).quarantine.extend(fitted);
    }

    pub(super) fn browse_quarantine(
        &self,
        filter: &QuarantineFilter,
        limit: usize,
    ) -> Vec<Quarantined> {
        let state = lock(&self.state);
        let passed = state.quarantine.iter().filter(|m| filter.lets_pass(m));
        passed.take(limit).cloned().collect()
    }

    pub(super) fn replay_quarantine(&self, filter: &QuarantineFilter) -> Replayed {
        let mut state = lock(&self.state);
        let (chosen, kept): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut state.quarantine)
            .into_iter()
            .partition(|message| filter.lets_pass(message));
        state.quarantine = kept;
        let counts = Replayed {
            replayed: chosen.len() as u64,
            kept: state.quarantine.len() as u64,
        };
        drop(state);
        for message in chosen {
            let source = message.source.clone().unwrap_or_default();
            // Replays take no part in the bound: waiting for space with messages in hand, which are
            // in no queue, could lose them.
            self.enqueue(
                &source,
                Message {
                    redelivered: false,
                    replay: message.is_settled(),
                    content_type: message.content_type,
                    message_id: Some(message.id),
                    body: message.body,
                    _space: None,
                },
            );
        }
        counts
    }

    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        for queue in &mut state.queues {
            while let Some(consumer) = queue.consumers.front() {
                let id = consumer.id;
                queue.remove(id);
            }
        }
        self.space.close();
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("topology", &self.topology)
            .finish_non_exhaustive()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

struct State {
    queues: Vec<Queue>,
    quarantine: VecDeque<Quarantined>,
    next_consumer: u64,
    closed: bool,
}

struct Message {
    redelivered: bool,
    content_type: Option<String>,
    message_id: Option<String>,
    replay: bool,
    body: Bytes,
    /// Gives its bytes back when the message is acknowledged, that is, dropped.
    _space: Option<OwnedSemaphorePermit>,
}

#[derive(Default)]
struct Queue {
    ready: VecDeque<Message>,
    /// The first is active.
    consumers: VecDeque<Held>,
}

/// A consumer as its queue holds it. Tag `acked + 1 + i` belongs to `unacked[i]`.
struct Held {
    id: u64,
    prefetch: usize,
    acked: u64,
    unacked: VecDeque<Message>,
    /// How many of `unacked` the consumer has taken already.
    taken: usize,
    wake: Arc<Notify>,
}

impl Queue {
    /// Hands the active consumer what its prefetch allows.
    fn push(&mut self) {
        let Some(active) = self.consumers.front_mut() else {
            return;
        };
        let room = active.prefetch.saturating_sub(active.unacked.len());
        let pushed = room.min(self.ready.len());
        active.unacked.extend(self.ready.drain(..pushed));
        if pushed > 0 {
            active.wake.notify_one();
        }
    }

    /// Ends a consumer; what it had not acknowledged comes again, in order.
    fn remove(&mut self, id: u64) {
        let Some(at) = self.consumers.iter().position(|held| held.id == id) else {
            return;
        };
        if let Some(gone) = self.consumers.remove(at) {
            for mut message in gone.unacked.into_iter().rev() {
                message.redelivered = true;
                self.ready.push_front(message);
            }
            gone.wake.notify_one();
        }
        self.push();
    }
}

/// A consumer of one in-process queue.
pub struct MemoryConsumer {
    state: Arc<Mutex<State>>,
    shard: usize,
    queue: String,
    id: u64,
    wake: Arc<Notify>,
}

impl MemoryConsumer {
    pub(super) async fn next(&mut self) -> Result<Delivery, ChannelLost> {
        loop {
            if let Some(delivery) = self.try_next()? {
                return Ok(delivery);
            }
            self.wake.notified().await;
        }
    }

    pub(super) fn try_next(&mut self) -> Result<Option<Delivery>, ChannelLost> {
        self.with(|queue, at| {
            let held = &mut queue.consumers[at];
            let message = held.unacked.get(held.taken)?;
            held.taken += 1;
            Some(Delivery {
                tag: held.acked + held.taken as u64,
                redelivered: message.redelivered,
                content_type: message.content_type.clone(),
                message_id: message.message_id.clone(),
                replay: message.replay,
                body: message.body.clone(),
            })
        })
    }

    pub(super) fn ack(&self, tag: u64) -> Result<(), ChannelLost> {
        let known = self.with(|queue, at| {
            let held = &mut queue.consumers[at];
            let count = tag.checked_sub(held.acked)? as usize;
            if count == 0 || count > held.unacked.len() {
                return None;
            }
            held.unacked.drain(..count);
            held.taken = held.taken.saturating_sub(count);
            held.acked = tag;
            queue.push();
            Some(())
        })?;
        // RabbitMQ closes the channel on a tag that it never gave out or that is settled already.
        if known.is_none() {
            lock(&self.state).queues[self.shard].remove(self.id);
            return Err(self.lost(format!("unknown delivery tag {tag}")));
        }
        Ok(())
    }

    pub(super) fn ready_count(&self) -> Result<Option<u32>, ChannelLost> {
        self.with(|queue, _| Some(u32::try_from(queue.ready.len()).unwrap_or(u32::MAX)))
    }

    /// Runs `act` on our queue and our place in its line of consumers.
    fn with<T>(&self, act: impl FnOnce(&mut Queue, usize) -> T) -> Result<T, ChannelLost> {
        let mut state = lock(&self.state);
        let queue = &mut state.queues[self.shard];
        match queue.consumers.iter().position(|held| held.id == self.id) {
            Some(at) => Ok(act(queue, at)),
            None => Err(self.lost("the channel was closed".into())),
        }
    }

    fn lost(&self, reason: String) -> ChannelLost {
        ChannelLost::Closed {
            queue: self.queue.clone(),
            reason,
        }
    }
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        lock(&self.state).queues[self.shard].remove(self.id);
    }
}

impl fmt::Debug for MemoryConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryConsumer")
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn broker(shards: u32) -> Memory {
        Memory::new(Topology {
            stream: "orders".into(),
            shards,
        })
    }

    #[tokio::test]
    async fn publishing_waits_for_space_and_goes_on_when_a_message_is_acknowledged() {
        let broker = broker(1);
        let half = Bytes::from(vec![0; BOUND_BYTES / 2]);
        broker.publish("a", None, half.clone()).await.unwrap();
        let mut second = Box::pin(broker.publish("a", None, half));
        assert!((&mut second).now_or_never().is_none());
        let mut consumer = broker.consume(0, 10).unwrap();
        let tag = consumer.next().await.unwrap().tag;
        consumer.ack(tag).unwrap();
        second.await.unwrap();
        assert_eq!(consumer.next().await.unwrap().tag, 2);
    }

    #[tokio::test]
    async fn a_source_always_goes_to_the_same_shard_and_sources_spread() {
        let broker = broker(4);
        let shards: Vec<_> = (0..100).map(|n| broker.shard_of(&n.to_string())).collect();
        let again: Vec<_> = (0..100).map(|n| broker.shard_of(&n.to_string())).collect();
        assert_eq!(shards, again);
        assert!((0..4).all(|shard| shards.contains(&shard)));
    }

    #[tokio::test]
    async fn a_closed_broker_ends_its_consumers_and_takes_no_more_messages() {
        let broker = broker(1);
        let mut consumer = broker.consume(0, 1).unwrap();
        broker.close();
        assert!(consumer.next().await.is_err());
        assert!(broker.publish("a", None, Bytes::new()).await.is_err());
        assert!(broker.consume(0, 1).is_err());
    }
}
