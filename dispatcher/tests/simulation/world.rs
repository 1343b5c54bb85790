//! The simulated world: one queue of events in virtual time, and what each of them does to broker,
//! database, workers and owners.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use windlass_dispatcher::broker::QuarantineMessage;
use windlass_dispatcher::plan::{CommitPlan, Loaded, OutcomeKind, SourceRecord};
use windlass_dispatcher::shard::Answer;
use windlass_functions::stream::Stream;

use super::broker::{Broker, ChannelId};
use super::database::{Database, Refused};
use super::dice::Dice;
use super::owner::Owner;
use super::replays;
use super::schedule::{Publish, schedule};
use super::seat::{SILENCE_LIMIT_MS, Seat};
use super::settings::Run;

/// A request on its way to the database.
#[derive(Debug)]
pub enum Request {
    /// Raise the epoch; or, if nobody's lease covers the shard.
    Raise,
    RaiseIfFree,
    /// Read under this epoch; the lease had been given up before.
    Load(u64),
    Sources(Vec<Arc<str>>),
    Outcomes(Vec<(Arc<str>, u64)>),
    Commit(Box<CommitPlan>),
}

/// An answer on its way back.
#[derive(Debug)]
pub enum Reply {
    Raised(u64),
    NotFree,
    Loaded(Box<Loaded>),
    Sources(Vec<Arc<str>>, Vec<SourceRecord>),
    Outcomes(Vec<((Arc<str>, u64), OutcomeKind)>),
    Committed(Result<(), Refused>),
    /// The connection was lost: the request may have been carried out or not.
    Lost,
}

/// Something that happens to a seat (one owner's hold on one shard) on the owner's side.
#[derive(Debug)]
pub enum Client {
    Connect,
    Arrive(ChannelId),
    ChannelLost(ChannelId),
    Reply(Reply),
    Answer(Answer),
    Confirmed(u64),
    QuarantineFailed,
    Durable(u64),
    Wake,
    Poll,
}

/// Something that happens.
#[derive(Debug)]
pub enum Event {
    Publish(Box<Publish>),
    CloseChannel(ChannelId),
    Ack(ChannelId, u64),
    Request(usize, u64, Request),
    StoreCopies(Vec<QuarantineMessage>),
    Start(usize),
    Replay,
    /// To a seat, as long as its incarnation is this one.
    Client(usize, u64, Client),
}

/// The quarantine queue.
#[derive(Debug, Default)]
pub struct Quarantine {
    /// What is in it.
    pub copies: Vec<QuarantineMessage>,
    /// What was ever in it.
    pub ids: BTreeSet<String>,
    pub bodies: BTreeSet<(&'static str, Bytes)>,
}

impl Quarantine {
    /// Whether a copy of one source's misrouted tuples was in it that has this one.
    pub fn holds_misrouted(&self, source: &str, seq: u64) -> bool {
        let bodies = self.bodies.iter();
        bodies
            .filter(|(outcome, _)| *outcome == "misrouted")
            .filter_map(|(_, body)| serde_json::from_slice::<serde_json::Value>(body).ok())
            .flat_map(|rows| rows.as_array().cloned().unwrap_or_default())
            .any(|row| row["source"] == source && row["seq"] == seq)
    }
}

/// Everything there is in one run.
pub struct World {
    pub run: Run,
    pub now: u64,
    pub broker: Broker,
    pub database: Database,
    pub quarantine: Quarantine,
    pub owners: Vec<Owner>,
    pub seats: Vec<Seat>,
    pub dice: Dice,
    pub faults_left: u32,
    /// Tuples replayed after their outcome was committed, with content that can be counted.
    pub must_count: BTreeSet<(Arc<str>, u64)>,
    pub stream: Stream,
    events: BTreeMap<(u64, u64), Event>,
    ties: u64,
    to_publish: usize,
    trace: bool,
}

impl World {
    pub fn new(run: Run, trace: bool) -> Self {
        let shards = run.shards as usize;
        let mut dice = Dice::new(run.seed, 3);
        let owners: Vec<Owner> = (0..run.owners)
            .map(|_| Owner::new(dice.range(0, 1_000_000)))
            .collect();
        let seats = (0..run.owners * shards)
            .map(|seat| Seat::new(seat / shards, seat % shards))
            .collect();
        let mut world = Self {
            now: 0,
            broker: Broker::new(
                run.shards,
                run.settings.prefetch,
                run.broker_ms,
                run.faults.perturb,
            ),
            database: Database::new(run.shards),
            quarantine: Quarantine::default(),
            owners,
            seats,
            dice,
            faults_left: run.faults.most,
            must_count: BTreeSet::new(),
            stream: Stream::default(),
            events: BTreeMap::new(),
            ties: 0,
            to_publish: 0,
            trace,
            run,
        };
        for publish in schedule(&world.run) {
            for (source, seq) in publish.rows.iter().filter_map(|row| row.identity.clone()) {
                let most = world.database.seqs.entry(source).or_default();
                *most = seq.max(*most);
            }
            world.publish(publish);
        }
        for owner in 0..world.run.owners {
            let at_ms = world.dice.range(0, 500);
            world.at(at_ms, Event::Start(owner));
        }
        if let Some(at_ms) = world.run.replay_ms {
            world.at(at_ms, Event::Replay);
        }
        world
    }

    pub fn log(&self, text: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>7} {}", self.now, text());
        }
    }

    pub fn at(&mut self, at_ms: u64, event: Event) {
        self.ties += 1;
        self.events.insert((at_ms.max(self.now), self.ties), event);
    }

    pub fn client_at(&mut self, at_ms: u64, seat: usize, client: Client) {
        let incarnation = self.seats[seat].incarnation;
        self.at(at_ms, Event::Client(seat, incarnation, client));
    }

    pub fn publish(&mut self, publish: Publish) {
        self.to_publish += 1;
        self.at(publish.at_ms, Event::Publish(Box::new(publish)));
    }

    /// Whether faults still happen.
    pub fn is_rough(&self) -> bool {
        self.now < self.run.faults.calm_ms && self.faults_left > 0
    }

    /// Runs until everything has come to rest.
    pub fn run(&mut self) {
        while !self.is_at_rest() {
            let ((at_ms, _), event) = self.events.pop_first().expect("owners poll for ever");
            self.now = at_ms;
            if self.now > self.deadline_ms() {
                panic!("not at rest in time: {}", self.standing());
            }
            self.handle(event);
        }
        for seat in &self.seats {
            seat.check_rest();
        }
    }

    /// A bound on when a healthy system has worked everything off.
    fn deadline_ms(&self) -> u64 {
        let times = &self.run.settings.times;
        let quiet_ms = self.run.faults.calm_ms.max(self.run.publish_ms)
            + times.idle_timeout_ms
            + times.allowed_lateness_ms as u64;
        let trip_ms = self.run.worker_ms + 3 * self.run.database_ms + 3 * self.run.broker_ms;
        let messages = self.broker.messages().len() as u64;
        quiet_ms + SILENCE_LIMIT_MS + 40_000 + 8 * messages * trip_ms
    }

    fn is_at_rest(&self) -> bool {
        if self.to_publish > 0 || self.now < self.run.faults.calm_ms || !self.broker.is_drained() {
            return false;
        }
        let ends = self.database.last_end();
        let all_final = self
            .database
            .shards
            .iter()
            .all(|row| row.watermark >= ends && row.final_before >= ends);
        all_final && self.seats.iter().all(Seat::is_at_rest)
    }

    fn standing(&self) -> String {
        let shards: Vec<String> = (self.database.shards.iter())
            .map(|row| {
                format!(
                    "epoch {} commit {} watermark {:?} final before {:?}",
                    row.epoch, row.commit_no, row.watermark, row.final_before
                )
            })
            .collect();
        format!(
            "{shards:?}; broker drained: {}; seats: {:?}",
            self.broker.is_drained(),
            self.seats.iter().map(Seat::standing).collect::<Vec<_>>()
        )
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Publish(publish) => {
                self.to_publish -= 1;
                self.log(|| {
                    let body = String::from_utf8_lossy(&publish.body);
                    format!(
                        "publish to {} replay {} {body}",
                        publish.shard, publish.replay
                    )
                });
                self.broker.publish(*publish);
                self.send();
            }
            Event::CloseChannel(channel) => {
                self.log(|| format!("broker closes channel {channel}"));
                self.broker.close(channel, &mut self.dice);
                self.send();
            }
            Event::Ack(channel, tag) => {
                self.broker.ack(channel, tag);
                self.send();
            }
            Event::Request(seat, incarnation, request) => {
                self.on_request(seat, incarnation, request);
            }
            Event::StoreCopies(copies) => {
                for copy in copies {
                    self.quarantine.ids.insert(copy.id.clone());
                    let body = (copy.outcome, copy.body.clone());
                    self.quarantine.bodies.insert(body);
                    self.quarantine.copies.push(copy);
                }
            }
            Event::Start(owner) => self.start(owner),
            Event::Replay => replays::replay(self),
            Event::Client(seat, incarnation, client) => {
                let frozen_until = self.owners[self.seats[seat].owner].frozen_until;
                if frozen_until > self.now {
                    self.at(frozen_until, Event::Client(seat, incarnation, client));
                } else if incarnation == self.seats[seat].incarnation
                    || matches!(client, Client::Answer(_))
                {
                    self.log(|| format!("seat {seat}: {client:?}"));
                    self.on_client(seat, client);
                }
            }
        }
    }

    /// Lets the broker send what it may.
    pub fn send(&mut self) {
        for sent in self.broker.send(self.now, &mut self.dice) {
            self.client_at(sent.at_ms, sent.seat, Client::Arrive(sent.channel));
        }
    }

    /// Sends a request to the database, or loses it on the way.
    pub fn request(&mut self, seat: usize, request: Request) {
        let faults = self.run.faults;
        let mut at_ms = self.now + self.dice.latency(self.run.database_ms);
        if self.is_rough() && self.dice.chance(faults.request_lost) {
            self.faults_left = self.faults_left.saturating_sub(1);
            let lost_ms = at_ms + self.dice.range(0, 1_000);
            self.client_at(lost_ms, seat, Client::Reply(Reply::Lost));
            return;
        }
        if self.is_rough()
            && matches!(request, Request::Commit(_))
            && self.dice.chance(faults.commit_slow)
        {
            self.faults_left = self.faults_left.saturating_sub(1);
            if self.dice.chance(0.5) {
                // The owner gives it up before it arrives.
                let lost_ms = at_ms + self.dice.range(0, 1_000);
                self.client_at(lost_ms, seat, Client::Reply(Reply::Lost));
            }
            at_ms += self.dice.range(500, 8_000);
        }
        let incarnation = self.seats[seat].incarnation;
        if let Request::Commit(plan) = &request
            && self.is_rough()
            && self.dice.chance(faults.commit_twice)
        {
            self.faults_left = self.faults_left.saturating_sub(1);
            let again_ms = at_ms + self.dice.range(0, 2_000);
            let again = Request::Commit(plan.clone());
            self.at(again_ms, Event::Request(seat, incarnation, again));
        }
        self.at(at_ms, Event::Request(seat, incarnation, request));
    }

    fn on_request(&mut self, seat: usize, incarnation: u64, request: Request) {
        let shard = self.seats[seat].shard_number;
        let reply = match request {
            Request::RaiseIfFree if !self.database.is_free(shard, self.now) => Reply::NotFree,
            Request::Raise | Request::RaiseIfFree => {
                Reply::Raised(self.database.raise_epoch(shard, self.now))
            }
            Request::Load(epoch) => {
                let loaded = self.database.load(shard, epoch);
                Reply::Loaded(Box::new(loaded))
            }
            Request::Sources(names) => {
                let records = self.database.records(&names);
                Reply::Sources(names, records)
            }
            Request::Outcomes(identities) => {
                Reply::Outcomes(self.database.find_outcomes(&identities))
            }
            Request::Commit(plan) => {
                let result = self.database.commit(&plan, self.now);
                self.log(|| format!("database: seat {seat} {result:?} {plan:?}"));
                self.check_copies(&plan, result);
                Reply::Committed(result)
            }
        };
        let lost = self.is_rough() && self.dice.chance(self.run.faults.reply_lost);
        let reply = if lost {
            self.faults_left = self.faults_left.saturating_sub(1);
            Reply::Lost
        } else {
            reply
        };
        let at_ms = self.now + self.dice.latency(self.run.database_ms);
        let event = Event::Client(seat, incarnation, Client::Reply(reply));
        self.at(at_ms, event);
    }

    /// A tuple is settled without being counted only once its copy is safe.
    fn check_copies(&self, plan: &CommitPlan, result: Result<(), Refused>) {
        for outcome in plan.outcomes.iter().filter(|_| result.is_ok()) {
            assert!(
                self.quarantine.ids.contains(&outcome.quarantine_id),
                "settled without a copy in quarantine: {outcome:?}"
            );
        }
    }
}
