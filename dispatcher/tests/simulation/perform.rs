//! The dull part of an owner: hand deliveries in, carry actions out; and what must hold whenever
//! the shard asks for something.

use windlass_dispatcher::broker::Delivery;
use windlass_dispatcher::shard::Action;

use super::broker::MessageId;
use super::settings::Step;
use super::workers;
use super::world::{Client, Event, Request, World};

impl World {
    /// Hands in what the shard wants, carries out what it asks for, and sets its alarm.
    pub fn pump(&mut self, seat: usize) {
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
            let (number, epoch) = self.held(seat);
            self.leave(seat);
            self.database.lease(number, epoch, None);
            return;
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
        // Its rows, their sources, and sources that it crowds out: each is charged as touched.
        let touched = publish.rows.len() + before.sources;
        let most = 2 * publish.body.len() + 2_000 * publish.rows.len().max(1) + 512 * touched;
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
                    self.faults_left = self.faults_left.saturating_sub(1);
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
                    Some(_) => {
                        copied("misrouted", &row.text)
                            || self.quarantine.holds_misrouted(source, *seq)
                    }
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
