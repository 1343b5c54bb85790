//! The loop of the scaler in charge: a second is measured, decided, carried out and kept.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};
use windlass_dispatcher::metrics::{Kind, ScalerMetrics};
use windlass_dispatcher::store::{Journal, ScalerState, TableRow};
use windlass_functions::worker::worker_id;
use windlass_scaler::agent::capacity::Volatility;
use windlass_scaler::agent::controller::{Controller, Second};
use windlass_scaler::agent::decision::Decision;
use windlass_scaler::agent::layout::Layout;
use windlass_scaler::agent::meter::{Meter, Missing};
use windlass_scaler::agent::presets;
use windlass_scaler::agent::sarsa::{Agent, Luck};
use windlass_scaler::agent::snapshot::Snapshot;
use windlass_scaler::tuning::live::{Live, Outcome};
use windlass_scaler::tuning::{Mode, Tuning};

use super::measure::{Ledger, Look};
use super::pool::{GoOn, Seen};
use super::rows::{LINE, Now, Rows};
use super::source::{Source, Text};
use super::writer::{Entry, Writer};
use super::{Parts, View};

/// Names of the agents whose tables are kept.
pub const AGENTS: [&str; 2] = ["elastic", "paper"];

const SECOND: Duration = Duration::from_secs(1);
/// How long a change of the pool may take: less than would break off measuring.
const RESIZE: Duration = Duration::from_secs(2);
/// Seconds between two checkpoints of what has been learned.
const CHECKPOINT: f64 = 60.0;
/// Seconds between two signs of life.
const ALIVE: f64 = 5.0;

/// See the module's documentation.
pub struct Active {
    run: i64,
    started: Instant,
    controller: Controller,
    live: Live,
    meter: Meter,
    ledger: Ledger,
    luck: StdRng,
    seen: Seen,
    /// Why nothing was measured last, if so.
    unmeasured: Option<String>,
    rows: Rows,
    writer: Writer,
    brought: UnboundedReceiver<TableRow>,
    texts: watch::Receiver<Text>,
    /// The tuning in force as it was written, and the edit that was refused since.
    tuning: String,
    refused: Option<String>,
    show: watch::Sender<View>,
    metrics: ScalerMetrics,
    pool_name: String,
    checkpoint_at: f64,
    alive_at: f64,
    saved: [u64; 2],
    /// The source's follower, and Events on their way.
    tasks: JoinSet<()>,
}

impl Active {
    /// Takes charge: reads the tuning and what was learned before.
    ///
    /// # Errors
    /// If the store does not answer, or the tuning is invalid and none was in force before.
    pub async fn begin(parts: &Parts, show: watch::Sender<View>) -> anyhow::Result<Self> {
        let mut journal = parts.store.journal(&parts.stream);
        let before = journal.state().await?.map(|(state, _)| state);
        let text = parts.source.read().await?;
        let mut live = Live::default();
        let mut tuning = text.clone().unwrap_or_default();
        let mut refused = None;
        if let Err(refusal) = live.edit_text(text.as_deref()) {
            let last = before.as_ref().map(|state| state.tuning.as_str());
            let good = last.and_then(|last| Some((last, Tuning::from_text(last).ok()?)));
            match good {
                Some((last, good)) => {
                    live = Live::resumed(good);
                    tuning = last.to_owned();
                }
                None if matches!(parts.source, Source::File(_)) => {
                    bail!("{}: {refusal}", parts.source.name())
                }
                None => tuning.clear(),
            }
            // Once more, so that it shows why the newest edit is not in force.
            let _ = live.edit_text(text.as_deref());
            warn!("{} is not in force: {refusal}", parts.source.name());
            refused = Some(text.clone().unwrap_or_default());
        }
        let ([elastic, paper], newest) = restore(&mut journal).await?;
        let saved = [&elastic, &paper].map(|agent| agent.snapshot().decisions);
        let controller = Controller::new(live.tuning().clone(), elastic, paper);
        let (sender, texts) = watch::channel(text);
        let mut tasks = JoinSet::new();
        tasks.spawn(parts.source.clone().follow(sender));
        let run = unix_ms();
        let (writer, brought) = Writer::start(parts.store.journal(&parts.stream), newest);
        let mut active = Self {
            run,
            started: now(),
            controller,
            live,
            meter: Meter::default(),
            ledger: Ledger::default(),
            luck: StdRng::seed_from_u64(run.cast_unsigned() ^ u64::from(std::process::id())),
            seen: Seen::default(),
            unmeasured: None,
            rows: Rows::new(run),
            writer,
            brought,
            texts,
            tuning,
            refused,
            show,
            metrics: parts.metrics.clone(),
            pool_name: parts.pool.name(),
            checkpoint_at: CHECKPOINT,
            alive_at: 0.0,
            saved,
            tasks,
        };
        active.show_tuning();
        // A pool that is to be left alone, or that others have sized, is left as it is; else one
        // begins with the size that the last run ended with.
        if let Some(size) = before.map(|state| state.size).filter(|size| *size > 0)
            && active.live.tuning().mode != Mode::Off
            && matches!(parts.pool, super::pool::Pool::Here(_))
        {
            let Tuning {
                min_size, max_size, ..
            } = *active.live.tuning();
            let _ = parts.pool.resize(size.clamp(min_size, max_size)).await;
        }
        active.save_tables("start", true);
        info!(
            mode = active.live.tuning().mode.name(),
            pool = active.pool_name,
            tuning = parts.source.name(),
            "the scaler is in charge"
        );
        Ok(active)
    }

    /// Sizes the pool for as long as it is polled. May be dropped at any time.
    pub async fn run(&mut self, parts: &Parts) {
        let mut seconds = interval(SECOND);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = seconds.tick() => self.second(parts).await,
                Ok(()) = self.texts.changed() => self.retune(parts),
                Some(row) = self.brought.recv() => self.adopt(&row),
                Some(_) = self.tasks.join_next() => {}
            }
        }
    }

    async fn second(&mut self, parts: &Parts) {
        // When it was asked: after an answer that took its time the next would seem to come too soon.
        let (now, unix_ms) = (self.elapsed(), unix_ms());
        let reading = match look(parts).await {
            Ok((look, seen)) => {
                self.seen = seen;
                self.unmeasured = None;
                let goal = self.live.tuning().latency_goal;
                Ok(self.ledger.reading(now, seen.paid, goal, &look.workload))
            }
            Err(Unseen { missing, error }) => {
                let why = format!("{error:#}");
                if self.unmeasured.as_deref() != Some(&why) {
                    warn!("no measurement, as {missing}: {why}");
                }
                self.unmeasured = Some(why);
                Err(missing)
            }
        };
        let second = Second {
            now,
            seen: self.meter.read(now, reading),
            pool: self.seen.pool,
            calendar: self.live.tuning().calendar.floor(unix_ms),
            luck: Luck {
                explore: self.luck.random(),
                direction: self.luck.random(),
            },
        };
        let decision = self.controller.second(second);
        self.act(parts, decision.as_ref(), reading.is_ok()).await;
        let row_now = Now {
            unix_ms,
            generation: self.live.generation(),
            mode: self.live.tuning().mode.name(),
        };
        if let Some((row, followed)) = self.rows.second(&second, decision.as_ref(), row_now) {
            self.writer.keep(Entry::Decided(Box::new(row), followed));
        }
        self.metrics.size.set(self.seen.pool.size().into());
        self.metrics.dropped_rows.set(self.writer.dropped() as i64);
        self.show.send_modify(|view| {
            view.active = true;
            view.size = self.seen.pool.size();
            view.ready = self.seen.pool.ready;
        });
        if now >= self.checkpoint_at {
            self.checkpoint_at = now + CHECKPOINT;
            self.save_tables("checkpoint", false);
        }
        if now >= self.alive_at {
            self.say_alive();
        }
    }

    /// Carries out what was decided, or goes on with what was decided before.
    async fn act(&mut self, parts: &Parts, decision: Option<&Decision>, measured: bool) {
        if let Some(decision) = decision {
            let kind = decision.cause_name();
            self.metrics.decisions.get_or_create(&Kind { kind }).inc();
            self.metrics.desired.set(decision.desired.into());
            self.show
                .send_modify(|view| view.reason = decision.reason());
        }
        let resized = match decision.filter(|decision| decision.desired != decision.before) {
            Some(decision) => {
                let resize = parts.pool.resize(decision.desired);
                tokio::time::timeout(RESIZE, resize)
                    .await
                    .map(|said| said.map(|()| true))
            }
            None if measured => {
                let how = match self.live.tuning().mode {
                    Mode::Off => GoOn::GiveUp,
                    _ if self.controller.forbids_scale_in() => GoOn::Hold,
                    _ => GoOn::Shrink,
                };
                tokio::time::timeout(RESIZE, parts.pool.go_on(how)).await
            }
            None => return,
        };
        let late = || Err(anyhow::anyhow!("no answer within {RESIZE:?}"));
        match resized.unwrap_or_else(|_| late()) {
            Ok(false) => {}
            Ok(true) => self.show.send_modify(|view| view.trouble = None),
            Err(error) => {
                self.metrics.resize_failures.inc();
                let text = format!("{error:#}");
                if self.show.borrow().trouble.as_deref() != Some(&text) {
                    warn!("the pool cannot be resized: {text}");
                }
                self.show.send_modify(|view| view.trouble = Some(text));
            }
        }
    }

    /// Takes the newest edit, whole or not at all.
    fn retune(&mut self, parts: &Parts) {
        let text = self.texts.borrow_and_update().clone();
        let said = match self.live.edit_text(text.as_deref()) {
            Ok(outcome) => {
                self.tuning = text.unwrap_or_default();
                self.refused = None;
                if let Outcome::Applied(generation) = outcome {
                    let text = self.tuning.clone();
                    self.changed("tuning", &text);
                    self.controller.retune(self.live.tuning().clone());
                    info!(
                        generation,
                        tuning = parts.source.name(),
                        "an edit of the tuning is in force"
                    );
                    Some((false, format!("generation {generation} is in force")))
                } else {
                    None
                }
            }
            Err(refusal) => {
                self.refused = Some(text.unwrap_or_default());
                self.metrics.refused.inc();
                warn!("{} is not in force: {refusal}", parts.source.name());
                Some((true, refusal.to_string()))
            }
        };
        if let (Some((warning, note)), Source::ConfigMap(map)) = (said, &parts.source) {
            let map = map.clone();
            self.tasks.spawn(async move {
                let reason = if warning {
                    "TuningRefused"
                } else {
                    "TuningApplied"
                };
                if let Err(error) = map.tell(warning, reason, &note).await {
                    warn!("{error:#}");
                }
            });
        }
        self.show_tuning();
        self.say_alive();
    }

    /// Goes on from a table that somebody has brought in.
    fn adopt(&mut self, row: &TableRow) {
        let agent = match row.agent.as_str() {
            "paper" => &mut self.controller.paper,
            _ => &mut self.controller.elastic,
        };
        match Snapshot::from_text(&row.body, layout(&row.agent)) {
            Ok(snapshot) => {
                agent.interrupt();
                agent.learner.table = snapshot.table;
                self.changed("table", &format!("{} {}", row.agent, row.version));
                info!(
                    agent = row.agent,
                    version = row.version,
                    "goes on from the table that was brought in"
                );
            }
            Err(refused) => warn!(
                agent = row.agent,
                version = row.version,
                "the table that was brought in is not used: {refused}"
            ),
        }
    }

    /// Records that what follows is decided by something else.
    fn changed(&mut self, what: &str, detail: &str) {
        let now = Now {
            unix_ms: unix_ms(),
            generation: self.live.generation(),
            mode: self.live.tuning().mode.name(),
        };
        let size = self.seen.pool.size();
        let row = self.rows.changed(what, detail, size, now);
        self.writer.keep(Entry::Decided(Box::new(row), None));
    }

    fn show_tuning(&self) {
        let refused = self.live.refused().map(ToString::to_string);
        self.metrics.generation.set(self.live.generation() as i64);
        self.metrics.edit_refused.set(refused.is_some().into());
        self.show.send_modify(|view| {
            view.mode = self.live.tuning().mode.name();
            view.generation = self.live.generation();
            view.refused = refused;
        });
    }

    fn say_alive(&mut self) {
        self.alive_at = self.elapsed() + ALIVE;
        let cut = |text: String| text.chars().take(LINE).collect();
        let state = ScalerState {
            at_ms: 0,
            run: self.run,
            owner: worker_id(),
            pool: self.pool_name.clone(),
            mode: self.live.tuning().mode.name().into(),
            generation: self.live.generation(),
            tuning: self.tuning.clone(),
            refused: self.live.refused().map(|refusal| cut(refusal.to_string())),
            refused_tuning: self.refused.clone(),
            refused_total: self.live.refused_total(),
            size: self.seen.pool.size(),
            reason: cut(self.show.borrow().reason.clone()),
        };
        self.writer.keep(Entry::State(Box::new(state)));
    }

    fn save_tables(&mut self, kind: &str, unchanged_too: bool) {
        let agents = [&self.controller.elastic, &self.controller.paper];
        for (at, agent) in agents.into_iter().enumerate() {
            let snapshot = agent.snapshot();
            if snapshot.decisions == self.saved[at] && !unchanged_too {
                continue;
            }
            self.saved[at] = snapshot.decisions;
            self.writer.keep(Entry::Table(Box::new(TableRow {
                agent: AGENTS[at].into(),
                version: 0,
                at_ms: if kind == "start" { self.run } else { unix_ms() },
                kind: kind.into(),
                layout: format!("{:016x}", snapshot.table.layout().fingerprint()),
                tuning: self.tuning.clone(),
                decisions: snapshot.decisions,
                body: snapshot.to_text(),
            })));
        }
    }

    /// Keeps what is not kept yet.
    pub async fn finish(mut self) {
        let now = Now {
            unix_ms: unix_ms(),
            generation: self.live.generation(),
            mode: self.live.tuning().mode.name(),
        };
        if let Some(row) = self.rows.rest(self.seen.pool.size(), now) {
            self.writer.keep(Entry::Decided(Box::new(row), None));
        }
        self.save_tables("checkpoint", false);
        self.say_alive();
        self.writer.finish().await;
    }

    fn elapsed(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}

/// Who kept a second from being measured.
struct Unseen {
    missing: Missing,
    error: anyhow::Error,
}

/// Looks at dispatcher and pool within a second: what comes later is no measurement of this one.
async fn look(parts: &Parts) -> Result<(Look, Seen), Unseen> {
    let until = now() + SECOND;
    let unseen = |missing, error| Unseen { missing, error };
    let late = || anyhow::anyhow!("no answer within {SECOND:?}");
    let look = tokio::time::timeout_at(until, parts.dispatcher.look()).await;
    let look = look
        .unwrap_or_else(|_| Err(late()))
        .map_err(|error| unseen(Missing::NoAnswer, error))?;
    let seen = tokio::time::timeout_at(until, parts.pool.seen(&look)).await;
    let seen = seen
        .unwrap_or_else(|_| Err(late()))
        .map_err(|error| unseen(parts.pool.unseen(), error))?;
    Ok((look, seen))
}

/// The layout of an agent's table.
pub fn layout(agent: &str) -> Layout {
    if agent == "paper" {
        presets::paper_layout()
    } else {
        presets::elastic_layout()
    }
}

/// The agents with what they had learned; one whose table does not fit begins with the shipped one.
///
/// Beside them, the newest version of each.
async fn restore(journal: &mut Journal) -> anyhow::Result<([Agent; 2], Vec<(&'static str, u64)>)> {
    let mut elastic = presets::elastic(presets::ELASTIC, presets::shipped().table);
    let mut paper = presets::paper();
    let mut newest = Vec::new();
    for (name, agent) in AGENTS.into_iter().zip([&mut elastic, &mut paper]) {
        let row = journal.table(name, None).await?;
        newest.push((name, row.as_ref().map_or(0, |row| row.version)));
        let Some(row) = row else { continue };
        match Snapshot::from_text(&row.body, layout(name)) {
            Ok(snapshot) => {
                agent.volatility = Volatility::restored(snapshot.volatility);
                agent.learner.table = snapshot.table;
                info!(
                    agent = name,
                    version = row.version,
                    "goes on from its table"
                );
            }
            Err(refused) => warn!(
                agent = name,
                version = row.version,
                "the kept table is not used: {refused}"
            ),
        }
    }
    Ok(([elastic, paper], newest))
}

#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods)]
fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as i64
}
