//! One epoch of one shard: carries the state machine's actions out and its events in.

use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::tasks::{self, Event, Request};
use super::{Deps, Taken, ticks};
use crate::broker::{ChannelLost, Consumer, Delivery, QuarantineMessage};
use crate::metrics::ShardLabel;
use crate::plan::Reached;
use crate::shard::{Action, Answer, Shard};
use crate::store::Gate;
use crate::workload::Level;

/// How often the queue is asked whether it is empty.
const DEPTH_TICK: Duration = Duration::from_millis(200);
/// How often a shard without active sources looks how far the others have come.
const OTHERS_TICK: Duration = Duration::from_secs(1);
/// How long a lost session waits for the commit in flight before it is opened again.
const LAST_COMMIT: Duration = Duration::from_secs(30);
/// Deliveries taken in one go before other events get their turn.
const BURST: usize = 256;
/// Deliveries taken in a row that count as of one moment: times are in milliseconds, and reading two
/// clocks for each order shows in a profile.
const SAME_TIME: usize = 16;
/// From looking for deliveries until looking again, milliseconds: what came meanwhile is taken in one
/// go. Woken for every single one, this thread and the client's spend their time on switching.
const GATHER_MS: u64 = 1;

/// How a session ends when nothing is wrong.
pub(super) enum End {
    /// It was asked to stop, and everything taken in is committed and acknowledged.
    Drained,
    /// Another dispatcher owns the shard.
    Superseded,
}

pub(super) struct Session<'a> {
    number: u32,
    deps: &'a Deps,
    shard: Shard,
    consumer: Consumer,
    first: Option<Delivery>,
    stop: watch::Receiver<bool>,
    answers: UnboundedReceiver<Answer>,
    events: UnboundedReceiver<Event>,
    store: UnboundedSender<Request>,
    quarantine: UnboundedSender<(u64, Vec<QuarantineMessage>)>,
    durability: Option<UnboundedSender<(u64, Gate)>>,
    /// What the other shards had reached when last asked, until it is used.
    reached: Option<Reached>,
    /// The gate of the commit that the state machine is about to ask about.
    gate: Option<Gate>,
    store_task: JoinSet<()>,
    /// Aborted with the session.
    _tasks: JoinSet<()>,
    last_tag: u64,
    acked_tag: u64,
    /// From when on (monotonic ms) the broker has dropped every consumer that was silent when the
    /// epoch was raised.
    dropped_ms: Option<u64>,
}

impl<'a> Session<'a> {
    pub fn open(
        number: u32,
        deps: &'a Deps,
        taken: Taken,
        stop: watch::Receiver<bool>,
    ) -> anyhow::Result<Self> {
        let epoch = taken.loaded.epoch;
        let now = deps.clock.now();
        let limit = taken.consumer.silence_limit();
        let dropped_ms = limit.map(|limit| now.mono_ms + limit.as_millis() as u64);
        let shard = Shard::open(
            number,
            deps.stream.clone(),
            deps.settings.clone(),
            taken.loaded,
            now,
        )
        .context("the shard's ledger cannot be read")?;
        let (event, events) = unbounded_channel();
        let (store, requests) = unbounded_channel();
        let mut store_task = JoinSet::new();
        store_task.spawn(tasks::store(
            taken.writer,
            epoch,
            deps.clone(),
            requests,
            event.clone(),
        ));
        let mut tasks = JoinSet::new();
        let (quarantine, slices) = unbounded_channel();
        tasks.spawn(tasks::quarantine(deps.clone(), slices, event.clone()));
        let durability = deps.replicas.clone().map(|replicas| {
            let (sender, commits) = unbounded_channel();
            tasks.spawn(tasks::durability(replicas, commits, event));
            sender
        });
        Ok(Self {
            number,
            deps,
            shard,
            consumer: taken.consumer,
            first: taken.first,
            stop,
            answers: deps.invoker.attach(number),
            events,
            store,
            quarantine,
            durability,
            reached: None,
            gate: None,
            store_task,
            _tasks: tasks,
            last_tag: 0,
            acked_tag: 0,
            dropped_ms,
        })
    }

    /// Runs until drained, superseded or at fault. The channel is closed before anything else; then
    /// the commit in flight is awaited, since only what it settled may not come again.
    pub async fn run(mut self) -> anyhow::Result<End> {
        let end = self.drive().await;
        let closed = self.consumer.close().await;
        if matches!(end, Ok(End::Drained)) && closed {
            let _ = self.store.send(Request::ReleaseLease);
        }
        drop(self.store);
        let last = async { while self.store_task.join_next().await.is_some() {} };
        // Beyond that it is the fence that keeps a late commit out.
        let _ = timeout(LAST_COMMIT, last).await;
        end
    }

    async fn drive(&mut self) -> anyhow::Result<End> {
        let mut depth = ticks(DEPTH_TICK);
        let mut others = ticks(OTHERS_TICK);
        let mut look_at = 0;
        if let Some(first) = self.first.take() {
            self.take_deliveries(first).await?;
        }
        loop {
            self.perform().await?;
            if *self.stop.borrow() && self.shard.is_drained() {
                return Ok(End::Drained);
            }
            let due = self.shard.next_timeout_ms();
            let due_at = self.deps.clock.instant(due.unwrap_or_default());
            tokio::select! {
                Some(answer) = self.answers.recv() => {
                    fail::fail_point!("invoke.answered", |_| crate::failpoint::die());
                    self.shard.answered(answer);
                    while let Ok(answer) = self.answers.try_recv() {
                        self.shard.answered(answer);
                    }
                }
                Some(event) = self.events.recv() => {
                    if let Some(end) = self.take_event(event)? {
                        return Ok(end);
                    }
                }
                delivery = next_after(&mut self.consumer, self.deps.clock.instant(look_at)), if self.shard.wants_deliveries() => {
                    look_at = self.deps.clock.now().mono_ms + GATHER_MS;
                    self.take_deliveries(delivery?).await?;
                }
                () = sleep_until(due_at), if due.is_some() => {
                    self.shard.advance(self.deps.clock.now(), false);
                }
                _ = depth.tick() => self.look_at_queue().await?,
                _ = others.tick() => {
                    if self.shard.all_idle(self.deps.clock.now()) {
                        self.request(Request::OthersReached);
                    }
                }
                _ = stopping(&mut self.stop), if !self.shard.is_draining() => {
                    self.shard.drain(self.deps.clock.now());
                }
            }
        }
    }

    /// Takes a delivery and those already here behind it.
    async fn take_deliveries(&mut self, first: Delivery) -> anyhow::Result<()> {
        let mut next = Some(first);
        let mut now = self.deps.clock.now();
        for taken in 0.. {
            let Some(delivery) = next.take() else { break };
            if taken % SAME_TIME == SAME_TIME - 1 {
                now = self.deps.clock.now();
            }
            self.last_tag = delivery.tag;
            self.shard.deliver(now, delivery);
            let burst_ends = taken == BURST;
            if !burst_ends && self.shard.wants_deliveries() {
                next = self.consumer.try_next()?;
            }
            // Behind a whole burst there is more as a rule.
            self.shard.advance(now, next.is_some() || burst_ends);
            self.perform().await?;
        }
        Ok(())
    }

    async fn look_at_queue(&mut self) -> anyhow::Result<()> {
        // The answer speaks of this moment: what was published after it may be on its way.
        let asked = self.deps.clock.now();
        if self.dropped_ms.take_if(|at| *at <= asked.mono_ms).is_some() {
            self.shard.earlier_consumers_gone();
        }
        let Some(ready) = self.consumer.ready_count().await? else {
            return Ok(());
        };
        let shard = ShardLabel { shard: self.number };
        self.deps
            .metrics
            .queue_ready
            .get_or_create(&shard)
            .set(ready.into());
        if ready == 0 && self.shard.wants_deliveries() {
            // What was sent before the answer is here; only behind it is the queue empty.
            while self.shard.wants_deliveries() {
                match self.consumer.try_next()? {
                    Some(delivery) => self.take_deliveries(delivery).await?,
                    None => {
                        self.shard.queue_empty(asked);
                        if let Some(reached) = self.reached.take() {
                            self.shard.others_reached(reached, asked);
                        }
                        break;
                    }
                }
            }
        }
        let figures = self.shard.figures();
        let unacked = self.last_tag - self.acked_tag;
        self.deps.board.update(self.number, |shard| {
            shard.queue_ready = ready;
            shard.queue_unacked = unacked;
            shard.arrivals.look(&Level {
                deliveries: figures.deliveries_taken,
                rows: figures.rows_taken,
                ready: ready.into(),
            });
            shard.figures = Some(figures);
        });
        Ok(())
    }

    fn take_event(&mut self, event: Event) -> anyhow::Result<Option<End>> {
        let now = self.deps.clock.now();
        match event {
            Event::SourcesLoaded(names, records) => {
                self.shard
                    .sources_loaded(&names, records, now)
                    .context("a source's ledger cannot be read")?;
                self.shard.advance(now, false);
            }
            Event::OutcomesFound(found) => {
                self.shard.outcomes_found(found, now);
                self.shard.advance(now, false);
            }
            Event::Committed(gate) => {
                self.gate = Some(gate);
                self.shard.committed();
                self.shard.advance(now, false);
            }
            Event::Durable(commit_no) => {
                self.deps
                    .board
                    .update(self.number, |shard| shard.trouble = None);
                self.shard.durable(commit_no);
            }
            Event::QuarantineConfirmed(slice) => self.shard.quarantine_confirmed(slice),
            // Used once the queue has been seen empty after this: else a tuple published in between
            // would be judged by event time that it had no chance to hold back.
            Event::OthersReached(reached) => self.reached = Some(reached),
            Event::ReplicasLag(why) => {
                self.deps
                    .board
                    .update(self.number, |shard| shard.trouble = Some(why));
            }
            Event::Superseded => return Ok(Some(End::Superseded)),
            Event::Fault(fault) => return Err(fault),
        }
        Ok(None)
    }

    async fn perform(&mut self) -> anyhow::Result<()> {
        while let Some(action) = self.shard.poll_action() {
            match action {
                Action::LoadSources(names) => self.request(Request::LoadSources(names)),
                Action::FindOutcomes(tuples) => self.request(Request::FindOutcomes(tuples)),
                Action::Commit(plan) => self.request(Request::Commit(plan)),
                Action::Invoke(work) => {
                    fail::fail_point!("invoke.before", |_| crate::failpoint::die());
                    self.deps.invoker.submit(work);
                }
                Action::Quarantine(slice, messages) => {
                    // A task that is gone has said why, or says it in a moment.
                    let _ = self.quarantine.send((slice, messages));
                }
                Action::AwaitDurable(commit_no) => match &self.durability {
                    None => self.shard.durable(commit_no),
                    Some(replicas) => {
                        let gate = self.gate.clone().context("no commit to wait for")?;
                        let _ = replicas.send((commit_no, gate));
                    }
                },
                Action::Ack(tag) => {
                    fail::fail_point!("ack.before", |_| crate::failpoint::die());
                    self.consumer.ack(tag).await?;
                    self.acked_tag = tag;
                    fail::fail_point!("ack.after", |_| crate::failpoint::die());
                }
            }
        }
        Ok(())
    }

    fn request(&self, request: Request) {
        // A store task that is gone has sent its fault, which is next in the events.
        let _ = self.store.send(request);
    }
}

/// The next delivery, not looked for before `at`. Cancel safe.
async fn next_after(consumer: &mut Consumer, at: Instant) -> Result<Delivery, ChannelLost> {
    sleep_until(at).await;
    consumer.next().await
}

async fn stopping(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // Nobody can ask any more: never stop by itself.
        std::future::pending::<()>().await;
    }
}
