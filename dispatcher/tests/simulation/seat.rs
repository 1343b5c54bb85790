//! One owner's hold on one shard: it consumes, raises the epoch, reads, and then drives the state
//! machine by what arrives.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use windlass_dispatcher::broker::Delivery;
use windlass_dispatcher::shard::Shard;
use windlass_functions::time::Now;

use super::broker::{ChannelId, MessageId};
use super::database::LEASE_MS;
use super::schedule::BASE_MS;
use super::settings::Step;
use super::world::{Client, Reply, Request, World};

/// How often an owner extends its lease.
const RENEW_MS: u64 = LEASE_MS / 4;

/// After how long every consumer that was silent when an epoch was raised is gone from the broker:
/// longer than faults last, so that no run breaks what the broker promises.
pub const SILENCE_LIMIT_MS: u64 = 25_000;

/// How far a seat has come in taking its shard over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Down,
    /// Consuming, and waiting for the first delivery.
    Waiting,
    /// Raising the epoch, then reading.
    Opening,
    Running,
    /// The channel is lost, the commit in flight awaited.
    Closing,
}

/// One owner's hold on one shard.
pub struct Seat {
    pub owner: usize,
    pub shard_number: usize,
    /// Rises with every new beginning; what was meant for an earlier one is dropped.
    pub incarnation: u64,
    pub phase: Phase,
    /// Since when it has run, and when it extends its lease again.
    pub since_ms: u64,
    pub renew_ms: u64,
    pub channel: Option<ChannelId>,
    pub buffer: VecDeque<(Delivery, MessageId)>,
    /// Handed to the shard and not acknowledged.
    pub handed: VecDeque<(u64, MessageId)>,
    pub shard: Option<Box<Shard>>,
    pub committing: bool,
    pub wake_ms: Option<u64>,
    /// `final_before` by which each tuple was first judged.
    pub judged: BTreeMap<(Arc<str>, u64), Option<i64>>,
    pub replayed: BTreeSet<(Arc<str>, u64)>,
    /// Whether a commit became as durable as asked for since the last acknowledgement.
    pub durable: bool,
}

impl Seat {
    pub fn new(owner: usize, shard_number: usize) -> Self {
        Self {
            owner,
            shard_number,
            incarnation: 0,
            phase: Phase::Down,
            since_ms: 0,
            renew_ms: 0,
            channel: None,
            buffer: VecDeque::new(),
            handed: VecDeque::new(),
            shard: None,
            committing: false,
            wake_ms: None,
            judged: BTreeMap::new(),
            replayed: BTreeSet::new(),
            durable: false,
        }
    }

    /// Forgets everything and begins a new incarnation.
    pub fn reset(&mut self, phase: Phase) {
        *self = Self {
            incarnation: self.incarnation + 1,
            phase,
            ..Self::new(self.owner, self.shard_number)
        };
    }

    pub fn is_at_rest(&self) -> bool {
        (self.shard.as_ref()).is_none_or(|shard| shard.figures().slices_in_flight == 0)
    }

    pub fn check_rest(&self) {
        if let Some(shard) = &self.shard
            && shard.is_drained()
        {
            assert_eq!(shard.figures().bytes_held, 0, "bytes are held for nothing");
        }
    }

    pub fn standing(&self) -> String {
        let shard = self.shard.as_ref().map(|shard| shard.figures());
        let buffered = self.buffer.len();
        format!("{:?} {buffered} buffered, {shard:?}", self.phase)
    }
}

impl World {
    pub fn clock(&self, seat: usize) -> Now {
        Now {
            mono_ms: self.now + self.owners[self.seats[seat].owner].mono_ms,
            unix_ms: BASE_MS + self.now as i64,
        }
    }

    pub fn shard(&mut self, seat: usize) -> &mut Shard {
        let shard = self.seats[seat].shard.as_mut();
        shard.expect("a running seat has a shard")
    }

    pub fn on_client(&mut self, seat: usize, client: Client) {
        let now = self.clock(seat);
        let is_running = self.seats[seat].phase == Phase::Running;
        match client {
            Client::Connect => return self.connect(seat),
            Client::Arrive(channel) => return self.on_arrive(seat, channel),
            Client::ChannelLost(channel) if self.seats[seat].channel == Some(channel) => {
                return self.lose_channel(seat);
            }
            Client::Reply(reply) => return self.on_reply(seat, reply),
            Client::Poll => return self.on_poll(seat),
            Client::QuarantineFailed if is_running => return self.begin_again(seat),
            Client::Answer(answer) if is_running => {
                if !self.goes_on(seat, Step::Answer) {
                    return;
                }
                self.shard(seat).answered(answer);
            }
            Client::Confirmed(slice) if is_running => {
                if !self.goes_on(seat, Step::Confirmed) {
                    return;
                }
                self.shard(seat).quarantine_confirmed(slice);
            }
            Client::Durable(commit_no) if is_running => {
                if !self.goes_on(seat, Step::Durable) {
                    return;
                }
                self.seats[seat].durable = true;
                self.shard(seat).durable(commit_no);
            }
            Client::Wake if is_running => {
                self.seats[seat].wake_ms = None;
                self.shard(seat).advance(now, false);
            }
            _ => return,
        }
        self.pump(seat);
    }

    fn connect(&mut self, seat: usize) {
        let owner = &self.owners[self.seats[seat].owner];
        if !owner.alive || owner.draining || self.seats[seat].phase != Phase::Down {
            return;
        }
        let shard = self.seats[seat].shard_number;
        let channel = self.broker.consume(shard, seat);
        self.log(|| format!("seat {seat} consumes shard {shard} on channel {channel}"));
        self.seats[seat].channel = Some(channel);
        self.seats[seat].phase = Phase::Waiting;
        let at_ms = self.now + self.run.poll_ms;
        self.client_at(at_ms, seat, Client::Poll);
        self.send();
    }

    fn on_arrive(&mut self, seat: usize, channel: ChannelId) {
        let Some(arrived) = self.broker.arrive(channel) else {
            return;
        };
        if self.seats[seat].channel != Some(channel) || self.seats[seat].phase == Phase::Closing {
            return;
        }
        self.seats[seat].buffer.push_back(arrived);
        if !self.goes_on(seat, Step::Arrive) {
            return;
        }
        match self.seats[seat].phase {
            Phase::Waiting => self.take_over(seat, Request::Raise),
            Phase::Running => self.pump(seat),
            Phase::Down | Phase::Opening | Phase::Closing => {}
        }
    }

    fn take_over(&mut self, seat: usize, raise: Request) {
        self.seats[seat].phase = Phase::Opening;
        if self.goes_on(seat, Step::Raise) {
            self.request(seat, raise);
        }
    }

    fn on_reply(&mut self, seat: usize, reply: Reply) {
        if self.seats[seat].phase == Phase::Closing {
            if matches!(reply, Reply::Committed(_) | Reply::Lost) {
                self.begin_again(seat);
            }
            return;
        }
        let now = self.clock(seat);
        match reply {
            Reply::Lost | Reply::Committed(Err(_)) => return self.begin_again(seat),
            Reply::Raised(epoch) => {
                if self.goes_on(seat, Step::Load) {
                    self.request(seat, Request::Load(epoch));
                }
                return;
            }
            Reply::NotFree if self.seats[seat].buffer.is_empty() => {
                self.seats[seat].phase = Phase::Waiting;
                return;
            }
            Reply::NotFree => return self.take_over(seat, Request::Raise),
            Reply::Loaded(loaded) => {
                if !self.goes_on(seat, Step::Open) {
                    return;
                }
                let (number, settings) = (self.seats[seat].shard_number as u32, &self.run.settings);
                let stream = self.stream.clone();
                let shard = Shard::open(number, stream, settings.clone(), *loaded, now);
                self.seats[seat].shard = Some(Box::new(shard.expect("blocks are legible")));
                self.seats[seat].phase = Phase::Running;
                self.seats[seat].since_ms = self.now;
                self.seats[seat].renew_ms = self.now;
            }
            Reply::Sources(names, records) => {
                let loaded = self.shard(seat).sources_loaded(&names, records, now);
                loaded.expect("blocks are legible");
            }
            Reply::Outcomes(found) => self.shard(seat).outcomes_found(found, now),
            Reply::Committed(Ok(())) => {
                self.seats[seat].committing = false;
                if !self.goes_on(seat, Step::Committed) {
                    return;
                }
                self.shard(seat).committed();
            }
        }
        self.pump(seat);
    }

    fn on_poll(&mut self, seat: usize) {
        let at_ms = self.now + self.run.poll_ms;
        self.client_at(at_ms, seat, Client::Poll);
        let Some(channel) = self.seats[seat].channel else {
            return;
        };
        let number = self.seats[seat].shard_number;
        match self.seats[seat].phase {
            Phase::Waiting if self.database.is_free(number, self.now) => {
                self.take_over(seat, Request::RaiseIfFree);
            }
            Phase::Running => {
                if !self.goes_on(seat, Step::Poll) || !self.renews(seat) {
                    return;
                }
                if self.now >= self.seats[seat].since_ms + SILENCE_LIMIT_MS {
                    self.shard(seat).earlier_consumers_gone();
                }
                let empty = self.broker.seen_empty(channel) && self.seats[seat].buffer.is_empty();
                if empty {
                    let now = self.clock(seat);
                    let reached = self.database.reached(number);
                    self.shard(seat).queue_empty(now);
                    if self.shard(seat).all_idle(now) {
                        self.shard(seat).others_reached(reached, now);
                    }
                }
                self.pump(seat);
            }
            _ => {}
        }
    }

    /// Extends the lease when that is due; `false` if the shard has another owner.
    fn renews(&mut self, seat: usize) -> bool {
        if self.now < self.seats[seat].renew_ms {
            return true;
        }
        self.seats[seat].renew_ms = self.now + RENEW_MS;
        let (number, epoch) = self.held(seat);
        let until_ms = Some(self.now + LEASE_MS);
        let renewed = self.database.lease(number, epoch, until_ms);
        if !renewed {
            self.begin_again(seat);
        }
        renewed
    }

    /// The shard and the epoch under which a running seat holds it.
    pub fn held(&mut self, seat: usize) -> (usize, u64) {
        let epoch = self.shard(seat).figures().epoch;
        (self.seats[seat].shard_number, epoch)
    }
}
