//! A broker with one queue a shard: single active consumer, prefetch, returned messages at the
//! head and marked redelivered, tags that mean something on their own channel only.

use std::collections::{BTreeMap, VecDeque};

use windlass_dispatcher::broker::Delivery;

use super::dice::Dice;
use super::schedule::Publish;

/// Names one channel for ever.
pub type ChannelId = usize;

/// A published message's number.
pub type MessageId = usize;

#[derive(Debug)]
struct Message {
    publish: Publish,
    handed_out: bool,
}

#[derive(Debug)]
struct Channel {
    shard: usize,
    seat: usize,
    open: bool,
    next_tag: u64,
    unacked: VecDeque<(u64, MessageId)>,
    /// Sent and not yet arrived; they arrive even when the channel is closed meanwhile.
    transit: VecDeque<(Delivery, MessageId)>,
    arrives_ms: u64,
}

#[derive(Debug, Default)]
struct Queue {
    ready: VecDeque<MessageId>,
    consumers: Vec<ChannelId>,
}

/// A delivery that was sent: the event of its arrival is due.
pub struct Sent {
    pub channel: ChannelId,
    pub seat: usize,
    pub at_ms: u64,
}

/// All queues and channels.
#[derive(Debug)]
pub struct Broker {
    messages: Vec<Message>,
    queues: Vec<Queue>,
    channels: BTreeMap<ChannelId, Channel>,
    prefetch: usize,
    latency_ms: u64,
    perturb: bool,
}

impl Broker {
    pub fn new(shards: u32, prefetch: u16, latency_ms: u64, perturb: bool) -> Self {
        Self {
            messages: Vec::new(),
            queues: (0..shards).map(|_| Queue::default()).collect(),
            channels: BTreeMap::new(),
            prefetch: usize::from(prefetch),
            latency_ms,
            perturb,
        }
    }

    pub fn publish(&mut self, publish: Publish) -> MessageId {
        let (id, shard) = (self.messages.len(), publish.shard as usize);
        self.messages.push(Message {
            publish,
            handed_out: false,
        });
        self.queues[shard].ready.push_back(id);
        id
    }

    pub fn message(&self, id: MessageId) -> &Publish {
        &self.messages[id].publish
    }

    /// All messages in the order of publishing.
    pub fn messages(&self) -> impl ExactSizeIterator<Item = &Publish> {
        self.messages.iter().map(|message| &message.publish)
    }

    /// Opens a channel and consumes; deliveries come once all earlier consumers are gone.
    pub fn consume(&mut self, shard: usize, seat: usize) -> ChannelId {
        let id = self.channels.len();
        let channel = Channel {
            shard,
            seat,
            open: true,
            next_tag: 1,
            unacked: VecDeque::new(),
            transit: VecDeque::new(),
            arrives_ms: 0,
        };
        self.channels.insert(id, channel);
        self.queues[shard].consumers.push(id);
        id
    }

    /// What a channel can learn of its queue: nothing is ready, and all that was sent to it has
    /// arrived. Another consumer may hold messages all the same.
    pub fn seen_empty(&self, id: ChannelId) -> bool {
        let channel = &self.channels[&id];
        channel.transit.is_empty() && self.queues[channel.shard].ready.is_empty()
    }

    pub fn is_drained(&self) -> bool {
        self.queues.iter().all(|queue| queue.ready.is_empty())
            && self.channels.values().all(|c| c.unacked.is_empty())
    }

    /// Closes a channel: what it did not acknowledge returns to the head of the queue.
    pub fn close(&mut self, id: ChannelId, dice: &mut Dice) {
        let channel = self.channels.get_mut(&id).expect("channels are kept");
        if !channel.open {
            return;
        }
        channel.open = false;
        let queue = &mut self.queues[channel.shard];
        queue.consumers.retain(|&other| other != id);
        let mut returned: Vec<MessageId> = channel.unacked.drain(..).map(|(_, id)| id).collect();
        if self.perturb {
            for last in (1..returned.len()).rev() {
                returned.swap(last, dice.range(0, last as u64) as usize);
            }
        }
        for id in returned.into_iter().rev() {
            queue.ready.push_front(id);
        }
    }

    /// `basic.ack(tag, multiple)`; nothing happens on a closed channel.
    pub fn ack(&mut self, id: ChannelId, tag: u64) {
        let channel = self.channels.get_mut(&id).expect("channels are kept");
        if !channel.open {
            return;
        }
        assert!(
            channel.unacked.iter().any(|&(other, _)| other == tag),
            "tag {tag} is unknown on channel {id}: the broker would close it"
        );
        channel.unacked.retain(|&(other, _)| other > tag);
    }

    /// Sends what the active consumer of each queue may have.
    pub fn send(&mut self, now_ms: u64, dice: &mut Dice) -> Vec<Sent> {
        let mut sent = Vec::new();
        for queue in &mut self.queues {
            let Some(&id) = queue.consumers.first() else {
                continue;
            };
            let channel = self.channels.get_mut(&id).expect("channels are kept");
            while channel.unacked.len() < self.prefetch
                && let Some(message_id) = queue.ready.pop_front()
            {
                let message = &mut self.messages[message_id];
                let tag = channel.next_tag;
                channel.next_tag += 1;
                channel.unacked.push_back((tag, message_id));
                let delivery = Delivery {
                    tag,
                    redelivered: std::mem::replace(&mut message.handed_out, true),
                    content_type: message.publish.content_type.map(str::to_owned),
                    message_id: message.publish.message_id.clone(),
                    replay: message.publish.replay,
                    body: message.publish.body.clone(),
                };
                channel.transit.push_back((delivery, message_id));
                let at_ms = now_ms + dice.latency(self.latency_ms);
                channel.arrives_ms = channel.arrives_ms.max(at_ms);
                sent.push(Sent {
                    channel: id,
                    seat: channel.seat,
                    at_ms: channel.arrives_ms,
                });
            }
        }
        sent
    }

    /// The next delivery to arrive on a channel.
    pub fn arrive(&mut self, id: ChannelId) -> Option<(Delivery, MessageId)> {
        self.channels.get_mut(&id)?.transit.pop_front()
    }
}
