//! A process that holds shards, and the ways in which it dies, stands still, is cut off or drains.

use super::seat::Phase;
use super::settings::Step;
use super::world::{Client, Event, World};

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

impl World {
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
    pub fn goes_on(&mut self, seat: usize, step: Step) -> bool {
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
            self.faults_left = self.faults_left.saturating_sub(1);
            self.crash(self.seats[seat].owner);
            return false;
        }
        if self.dice.chance(faults.channel_loss) {
            self.faults_left = self.faults_left.saturating_sub(1);
            self.lose_channel(seat);
            return false;
        }
        if self.dice.chance(faults.partition)
            && let Some(channel) = self.seats[seat].channel
        {
            self.faults_left = self.faults_left.saturating_sub(1);
            self.log(|| format!("seat {seat} is cut off from its channel"));
            self.at(self.now, Event::CloseChannel(channel));
            let at_ms = self.now + self.dice.range(0, 6_000);
            self.client_at(at_ms, seat, Client::ChannelLost(channel));
        }
        if self.dice.chance(faults.freeze) {
            self.faults_left = self.faults_left.saturating_sub(1);
            self.freeze(self.seats[seat].owner);
        }
        if self.dice.chance(faults.drain) {
            self.faults_left = self.faults_left.saturating_sub(1);
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
            self.seats[seat].reset(Phase::Down);
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
    pub fn leave(&mut self, seat: usize) {
        self.close_channel(seat);
        self.seats[seat].reset(Phase::Down);
    }

    fn close_channel(&mut self, seat: usize) {
        if let Some(channel) = self.seats[seat].channel {
            self.broker.close(channel, &mut self.dice);
            self.send();
        }
    }

    pub fn lose_channel(&mut self, seat: usize) {
        self.log(|| format!("seat {seat} loses its channel"));
        self.close_channel(seat);
        if self.seats[seat].committing && self.dice.chance(0.5) {
            self.seats[seat].phase = Phase::Closing;
        } else {
            self.begin_again(seat);
        }
    }

    /// Any doubt: close the channel before anything else, discard everything, stand by.
    pub fn begin_again(&mut self, seat: usize) {
        self.log(|| format!("seat {seat} begins again"));
        self.leave(seat);
        if !self.owners[self.seats[seat].owner].draining {
            let at_ms = self.now + self.dice.range(1, 300);
            self.client_at(at_ms, seat, Client::Connect);
        }
    }
}
