//! The owner's side: a process that holds shards, drives each through its state machine, and dies
//! at any step. One owner's hold on one shard is a seat.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use windlass_dispatcher::broker::Delivery;
use windlass_dispatcher::shard::{Action, Shard};
use windlass_functions::time::Now;

use super::broker::{ChannelId, MessageId};
use super::schedule::BASE_MS;
use super::settings::Step;
use super::workers;
use super::world::{Client, Event, Reply, Request, World};

/// An idle shard is taken over without a delivery after this long.
const LEASE_MS: u64 = 1_500;

/// A process.
#[derive(Debug)]
pub struct Owner {
    pub alive: bool,
    pub draining: bool,
    /// It stands still until then.
    pub frozen_until: u64,
    /// Its monotonic clock's lead over virtual time.
    pub mono_ms: u64,
}

impl Owner {
    pub fn new(mono_ms: u64) -> Self {
        Self {
            alive: false,
            draining: false,
            frozen_until: 0,
            mono_ms,
        }
    }
}

/// How far a seat has come in taking its shard over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
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
    phase: Phase,
    since_ms: u64,
    channel: Option<ChannelId>,
    buffer: VecDeque<(Delivery, MessageId)>,
    /// Handed to the shard and not acknowledged.
    handed: VecDeque<(u64, MessageId)>,
    shard: Option<Box<Shard>>,
    committing: bool,
    wake_ms: Option<u64>,
    /// `final_before` by which each tuple was first judged.
    judged: BTreeMap<(Arc<str>, u64), Option<i64>>,
    replayed: BTreeSet<(Arc<str>, u64)>,
    /// Whether a commit became as durable as asked for since the last acknowledgement.
    durable: bool,
}

impl Seat {
    pub fn new(owner: usize, shard_number: usize) -> Self {
        Self {
            owner,
            shard_number,
            incarnation: 0,
            phase: Phase::Down,
            since_ms: 0,
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

    fn reset(&mut self, phase: Phase, now_ms: u64) {
        *self = Self {
            incarnation: self.incarnation + 1,
            phase,
            since_ms: now_ms,
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
    fn clock(&self, seat: usize) -> Now {
        Now {
            mono_ms: self.now + self.owners[self.seats[seat].owner].mono_ms,
            unix_ms: BASE_MS + self.now as i64,
        }
    }

    pub fn start(&mut self, owner: usize) {
        let seats = self.seats_of(owner);
        if seats
            .iter()
            .any(|&seat| self.seats[seat].phase != Phase::Down)
        {
            // It has not drained within the grace period, and is killed.
            return self.crash(owner);
        }
        self.log(|| format!("owner {owner} starts"));
        self.owners[owner].alive = true;
        self.owners[owner].draining = false;
        for seat in seats {
            self.client_at(self.now, seat, Client::Connect);
        }
    }

    fn seats_of(&self, owner: usize) -> Vec<usize> {
        (0..self.seats.len())
            .filter(|&seat| self.seats[seat].owner == owner)
            .collect()
    }

    /// One step of an owner: here it may die, freeze, drain or lose its channel. `false` if the
    /// seat is no longer what it was.
    fn goes_on(&mut self, seat: usize, step: Step) -> bool {
        if !self.is_rough() {
            return true;
        }
        let faults = self.run.faults;
        let crash = if faults.focus == Some(step) {
            0.1
        } else {
            faults.crash
        };
        if self.dice.chance(crash) {
            self.faults_left -= 1;
            self.crash(self.seats[seat].owner);
            return false;
        }
        if self.dice.chance(faults.channel_loss) {
            self.faults_left -= 1;
            self.lose_channel(seat);
            return false;
        }
        if self.dice.chance(faults.partition)
            && let Some(channel) = self.seats[seat].channel
        {
            self.faults_left -= 1;
            self.log(|| format!("seat {seat} is cut off from its channel"));
            self.at(self.now, Event::CloseChannel(channel));
            let at_ms = self.now + self.dice.range(0, 6_000);
            self.client_at(at_ms, seat, Client::ChannelLost(channel));
        }
        if self.dice.chance(faults.freeze) {
            self.faults_left -= 1;
            self.freeze(self.seats[seat].owner);
        }
        if self.dice.chance(faults.drain) {
            self.faults_left -= 1;
            return self.drain(seat);
        }
        true
    }

    fn crash(&mut self, owner: usize) {
        self.log(|| format!("owner {owner} crashes"));
        for seat in self.seats_of(owner) {
            if let Some(channel) = self.seats[seat].channel {
                let linger_ms = if self.dice.chance(0.5) { 0 } else { 3_000 };
                let at_ms = self.now + self.dice.range(0, linger_ms);
                self.at(at_ms, Event::CloseChannel(channel));
            }
            self.seats[seat].reset(Phase::Down, self.now);
        }
        self.owners[owner].alive = false;
        let at_ms = self.now + self.dice.range(1, 3_000);
        self.at(at_ms, Event::Start(owner));
    }

    fn freeze(&mut self, owner: usize) {
        let thaw_ms = self.now + self.dice.range(10, 6_000);
        self.log(|| format!("owner {owner} freezes until {thaw_ms}"));
        self.owners[owner].frozen_until = thaw_ms;
        for seat in self.seats_of(owner) {
            if let Some(channel) = self.seats[seat].channel
                && self.dice.chance(0.5)
            {
                let at_ms = self.dice.range(self.now, thaw_ms);
                self.at(at_ms, Event::CloseChannel(channel));
                let at_ms = thaw_ms + self.dice.range(0, 3_000);
                self.client_at(at_ms, seat, Client::ChannelLost(channel));
            }
        }
    }

    /// Tells the seat's owner to drain; whether this seat goes on.
    fn drain(&mut self, at: usize) -> bool {
        let owner = self.seats[at].owner;
        if self.owners[owner].draining {
            return true;
        }
        self.log(|| format!("owner {owner} drains"));
        self.owners[owner].draining = true;
        for seat in self.seats_of(owner) {
            match self.seats[seat].phase {
                Phase::Running => {
                    let now = self.clock(seat);
                    self.shard(seat).drain(now);
                    self.client_at(self.now, seat, Client::Wake);
                }
                Phase::Waiting | Phase::Opening => self.leave(seat),
                Phase::Down | Phase::Closing => {}
            }
        }
        let at_ms = self.now + self.dice.range(3_000, 6_000);
        self.at(at_ms, Event::Start(owner));
        self.seats[at].phase != Phase::Down
    }

    /// Closes the channel and is gone until the owner starts again.
    fn leave(&mut self, seat: usize) {
        self.close_channel(seat);
        self.seats[seat].reset(Phase::Down, self.now);
    }

    fn close_channel(&mut self, seat: usize) {
        if let Some(channel) = self.seats[seat].channel {
            self.broker.close(channel, &mut self.dice);
            self.send();
        }
    }

    fn lose_channel(&mut self, seat: usize) {
        self.log(|| format!("seat {seat} loses its channel"));
        self.close_channel(seat);
        if self.seats[seat].committing && self.dice.chance(0.5) {
            self.seats[seat].phase = Phase::Closing;
        } else {
            self.begin_again(seat);
        }
    }

    /// Any doubt: close the channel before anything else, discard everything, stand by.
    fn begin_again(&mut self, seat: usize) {
        self.log(|| format!("seat {seat} begins again"));
        self.leave(seat);
        if !self.owners[self.seats[seat].owner].draining {
            let at_ms = self.now + self.dice.range(1, 300);
            self.client_at(at_ms, seat, Client::Connect);
        }
    }

    fn shard(&mut self, seat: usize) -> &mut Shard {
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
        self.seats[seat].since_ms = self.now;
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
            Phase::Waiting => self.take_over(seat),
            Phase::Running => self.pump(seat),
            Phase::Down | Phase::Opening | Phase::Closing => {}
        }
    }

    fn take_over(&mut self, seat: usize) {
        self.seats[seat].phase = Phase::Opening;
        if self.goes_on(seat, Step::Raise) {
            self.request(seat, Request::Raise);
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
            Reply::Loaded(loaded) => {
                if !self.goes_on(seat, Step::Open) {
                    return;
                }
                let (number, settings) = (self.seats[seat].shard_number as u32, &self.run.settings);
                let stream = self.stream.clone();
                let shard = Shard::open(number, stream, settings.clone(), *loaded, now);
                self.seats[seat].shard = Some(Box::new(shard.expect("blocks are legible")));
                self.seats[seat].phase = Phase::Running;
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
        match self.seats[seat].phase {
            Phase::Waiting
                if self.broker.is_active(channel)
                    && self.now >= self.seats[seat].since_ms + LEASE_MS =>
            {
                self.take_over(seat);
            }
            Phase::Running => {
                if !self.goes_on(seat, Step::Poll) {
                    return;
                }
                let empty = self.broker.seen_empty(channel) && self.seats[seat].buffer.is_empty();
                if empty {
                    let now = self.clock(seat);
                    let reached = self.database.reached(self.seats[seat].shard_number);
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

    /// Hands in what the shard wants, carries out what it asks for, and sets its alarm.
    fn pump(&mut self, seat: usize) {
        let incarnation = self.seats[seat].incarnation;
        loop {
            while let Some(action) = self.shard(seat).poll_action() {
                if !self.perform(seat, action) {
                    return;
                }
            }
            let wanted = self.shard(seat).wants_deliveries();
            match self.seats[seat].buffer.pop_front() {
                Some((delivery, message)) if wanted => self.hand_in(seat, delivery, message),
                Some(left) => {
                    self.seats[seat].buffer.push_front(left);
                    break;
                }
                None => break,
            }
        }
        let now = self.clock(seat);
        self.shard(seat).advance(now, false);
        while let Some(action) = self.shard(seat).poll_action() {
            if !self.perform(seat, action) {
                return;
            }
        }
        debug_assert_eq!(incarnation, self.seats[seat].incarnation);
        if self.owners[self.seats[seat].owner].draining && self.shard(seat).is_drained() {
            return self.leave(seat);
        }
        if let Some(mono_ms) = self.shard(seat).next_timeout_ms() {
            assert!(
                mono_ms > now.mono_ms,
                "the shard asks to be woken at once although it has just been advanced"
            );
            let at_ms = self.now + (mono_ms - now.mono_ms);
            if self.seats[seat].wake_ms.is_none_or(|wake| wake > at_ms) {
                self.seats[seat].wake_ms = Some(at_ms);
                self.client_at(at_ms, seat, Client::Wake);
            }
        }
    }

    fn hand_in(&mut self, seat: usize, delivery: Delivery, message: MessageId) {
        let now = self.clock(seat);
        let before = self.shard(seat).figures();
        let publish = self.broker.message(message).clone();
        let judged_by = before.final_before;
        let state = &mut self.seats[seat];
        for identity in publish.rows.iter().filter_map(|row| row.identity.clone()) {
            if delivery.replay {
                state.replayed.insert(identity.clone());
            }
            state.judged.entry(identity).or_insert(judged_by);
        }
        state.handed.push_back((delivery.tag, message));
        let waiting = !state.buffer.is_empty();
        let shard = self.shard(seat);
        shard.deliver(now, delivery);
        shard.advance(now, waiting);
        let after = shard.figures();
        let most = 2 * publish.body.len() + 2_000 * publish.rows.len().max(1);
        assert!(
            before.bytes_held < self.run.settings.budget_bytes
                && after.bytes_held <= before.bytes_held + most,
            "the budget is {} bytes, held are {}",
            self.run.settings.budget_bytes,
            after.bytes_held
        );
        assert!(after.slices_in_flight <= self.run.settings.slices_in_flight);
    }

    /// Carries one action out; `false` if the seat is no longer what it was.
    fn perform(&mut self, seat: usize, action: Action) -> bool {
        self.log(|| format!("seat {seat}: does {action:?}"));
        let step = match &action {
            Action::LoadSources(_) | Action::FindOutcomes(_) => Step::Lookup,
            Action::Invoke(_) => Step::Invoke,
            Action::Quarantine(..) => Step::Quarantine,
            Action::Commit(_) => Step::Commit,
            Action::AwaitDurable(_) => Step::AwaitDurable,
            Action::Ack(_) => Step::Ack,
        };
        if !self.goes_on(seat, step) {
            return false;
        }
        match action {
            Action::LoadSources(names) => self.request(seat, Request::Sources(names)),
            Action::FindOutcomes(tuples) => self.request(seat, Request::Outcomes(tuples)),
            Action::Invoke(work) => {
                let state = &self.seats[seat];
                workers::check(&work, &state.judged, &state.replayed);
                workers::invoke(self, seat, work);
            }
            Action::Quarantine(slice, copies) => {
                let stored_ms = self.now + self.dice.latency(self.run.broker_ms);
                let confirmed_ms = stored_ms + self.dice.latency(self.run.broker_ms);
                let lost = self.is_rough() && self.dice.chance(self.run.faults.quarantine_lost);
                let mut client = Client::Confirmed(slice);
                if lost {
                    self.faults_left -= 1;
                    client = Client::QuarantineFailed;
                }
                if !lost || self.dice.chance(0.5) {
                    self.at(stored_ms, Event::StoreCopies(copies));
                }
                self.client_at(confirmed_ms, seat, client);
            }
            Action::Commit(plan) => {
                assert!(!self.seats[seat].committing, "two commits at a time");
                self.seats[seat].committing = true;
                workers::check_lateness(&plan, &self.seats[seat].judged);
                self.request(seat, Request::Commit(plan));
            }
            Action::AwaitDurable(commit_no) => {
                let at_ms = self.now + self.dice.latency(self.run.database_ms);
                self.client_at(at_ms, seat, Client::Durable(commit_no));
            }
            Action::Ack(tag) => self.acknowledge(seat, tag),
        }
        self.goes_on(seat, step)
    }

    /// Everything up to the tag must be settled in the database, or safe in quarantine.
    fn acknowledge(&mut self, seat: usize, tag: u64) {
        let state = &mut self.seats[seat];
        assert!(
            std::mem::take(&mut state.durable),
            "acknowledged before the commit was durable"
        );
        let channel = state.channel.expect("a running seat has a channel");
        let shard = state.shard_number as u32;
        let mut acknowledged = Vec::new();
        while let Some(&(handed, message)) = state.handed.front()
            && handed <= tag
        {
            state.handed.pop_front();
            acknowledged.push(message);
        }
        assert!(
            !acknowledged.is_empty(),
            "tag {tag} was acknowledged before"
        );
        for message in acknowledged {
            self.check_safe(shard, message);
        }
        // Acknowledgements of one channel arrive in their order.
        let at_ms = self.now + self.run.broker_ms;
        self.at(at_ms, Event::Ack(channel, tag));
    }

    fn check_safe(&self, shard: u32, message: MessageId) {
        let publish = self.broker.message(message);
        let copied = |outcome, text: &str| {
            let bodies = &self.quarantine.bodies;
            bodies.contains(&(outcome, publish.body.clone()))
                || bodies.contains(&(outcome, text.to_owned().into()))
        };
        if publish.rows.is_empty() {
            assert!(
                copied("undecodable", ""),
                "acknowledged without a copy: {publish:?}"
            );
        }
        for row in &publish.rows {
            let safe = match &row.identity {
                None => copied("undecodable", &row.text),
                Some((source, seq)) => match self.database.home(source) {
                    Some(home) if home == shard => self.database.is_settled(source, *seq),
                    Some(_) => copied("misrouted", &row.text),
                    None => false,
                },
            };
            assert!(
                safe,
                "acknowledged before it was safe: {row:?} of {publish:?}"
            );
        }
    }
}
