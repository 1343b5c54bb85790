//! `windlass schedule run`: the loop in the cluster that starts what is due.
//!
//! A due time is noted after its work was begun (datagen) or done (upkeep). A scheduler that dies in
//! between, or a second one beside it, begins it once more: for a run of datagen that is a Job of a
//! name that exists, for upkeep it is nothing left to remove. What failed is begun again, with pauses
//! that grow, until it is too late for it or the next time is due.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;
use windlass_jobs::kubernetes::Cluster;
use windlass_jobs::kubernetes::names;
use windlass_jobs::kubernetes::task::TaskError;
use windlass_jobs::schedule::{Decision, decide, retry_pause};

use super::action::Action;
use super::entry::{Entry, Note, run_name};
use crate::commands::retain::{Keep, Places};
use crate::config::Config;
use crate::output::instant;
use crate::shutdown::Signals;
use crate::values::Span;

/// How often the schedules are read, and at the latest how late something begins.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What a piece of work came to.
struct Done {
    schedule: String,
    due: i64,
    /// What was done, or why it failed.
    outcome: Result<String, String>,
}

/// Work that failed and is to be begun again.
struct Failed {
    due: i64,
    /// In a row.
    times: u32,
    /// When, ms UTC.
    again: i64,
    why: String,
}

struct Scheduler {
    cluster: Cluster,
    places: Places,
    stream: windlass_functions::stream::Stream,
    /// The last good version of each schedule, and the text that it was read from.
    entries: BTreeMap<String, (String, Option<Entry>)>,
    notes: BTreeMap<String, Note>,
    working: BTreeMap<String, i64>,
    failed: BTreeMap<String, Failed>,
    work: JoinSet<Done>,
}

/// Starts what is due until a signal says to stop; waits for what was begun.
pub(super) async fn run(
    cluster: Cluster,
    places: Places,
    config: &Config,
) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::catch()?;
    let mut scheduler = Scheduler {
        cluster,
        places,
        stream: config.stream.clone(),
        entries: BTreeMap::new(),
        notes: BTreeMap::new(),
        working: BTreeMap::new(),
        failed: BTreeMap::new(),
        work: JoinSet::new(),
    };
    // An error at the start is for whoever deploys; later ones pass.
    scheduler.read().await?;
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            () = signals.next() => break,
            _ = ticks.tick() => {
                if let Err(error) = scheduler.look().await {
                    tracing::warn!(%error, "cannot look after the schedules; trying again");
                }
            }
            Some(done) = scheduler.work.join_next() => scheduler.note_done(done?).await,
        }
    }
    // What is removed in part is removed in full next time.
    scheduler.work.abort_all();
    Ok(ExitCode::SUCCESS)
}

impl Scheduler {
    /// Reads the notes of an earlier scheduler.
    async fn read(&mut self) -> Result<(), TaskError> {
        let notes = self.cluster.map(names::SCHEDULES_STATE).await?;
        let notes = notes.unwrap_or_default().into_iter();
        self.notes = notes
            .filter_map(|(name, text)| Some((name, Note::parse(&text)?)))
            .collect();
        Ok(())
    }

    async fn look(&mut self) -> Result<(), TaskError> {
        let texts = self
            .cluster
            .map(names::SCHEDULES)
            .await?
            .unwrap_or_default();
        self.entries.retain(|name, _| texts.contains_key(name));
        self.failed.retain(|name, _| texts.contains_key(name));
        for (name, text) in texts {
            self.take_in(&name, text);
        }
        let now = Timestamp::now().as_millisecond();
        let entries = self.entries.iter();
        let due: Vec<(String, Entry)> = entries
            .filter_map(|(name, (_, entry))| Some((name.clone(), entry.clone()?)))
            .filter(|(name, _)| !self.working.contains_key(name))
            .collect();
        for (name, entry) in due {
            let Some(note) = self.notes.get(&name) else {
                let note = Note {
                    since: now,
                    ..Note::default()
                };
                self.write(&name, note).await?;
                continue;
            };
            let decision = decide(&entry.cadence, note.dealt_with(), entry.start_within, now);
            // What failed at an earlier time gives way to what is due now.
            let failed = self.failed.get(&name);
            match decision {
                Decision::Wait => {}
                Decision::Missed(due) => {
                    let outcome = match failed.filter(|failed| failed.due == due) {
                        Some(failed) => format!("failed: {}", failed.why),
                        None => "missed".to_owned(),
                    };
                    tracing::warn!(schedule = name, due = instant(due), outcome, "given up");
                    self.note(&name, due, outcome).await?;
                    self.failed.remove(&name);
                }
                Decision::Start(due) => {
                    if failed.is_none_or(|failed| failed.due != due || failed.again <= now) {
                        self.begin(name, due, entry.action);
                    }
                }
            }
        }
        Ok(())
    }

    /// Keeps the last good version of a schedule whose new one is bad.
    fn take_in(&mut self, name: &str, text: String) {
        if self
            .entries
            .get(name)
            .is_some_and(|(known, _)| *known == text)
        {
            return;
        }
        let entry = match Entry::parse(name, &text) {
            Ok(entry) => Some(entry),
            Err(problem) => {
                tracing::warn!(
                    schedule = name,
                    problem,
                    "a bad schedule; its last good version stays"
                );
                self.entries.remove(name).and_then(|(_, entry)| entry)
            }
        };
        self.entries.insert(name.to_owned(), (text, entry));
    }

    fn begin(&mut self, schedule: String, due: i64, action: Action) {
        tracing::info!(schedule, due = instant(due), "due");
        self.working.insert(schedule.clone(), due);
        let (cluster, places) = (self.cluster.clone(), self.places.clone());
        let stream = self.stream.clone();
        self.work.spawn(async move {
            let ended = match action {
                Action::Datagen(load) => datagen(&cluster, &schedule, due, &load).await,
                Action::Retain(keep) => retain(&places, &stream, &keep).await,
                Action::Sweep(sweep) => sweep_jobs(&cluster, sweep.keep).await,
            };
            let outcome = ended.map_err(|error| format!("{error:#}"));
            Done {
                schedule,
                due,
                outcome,
            }
        });
    }

    async fn note_done(&mut self, done: Done) {
        let Done {
            schedule,
            due,
            outcome,
        } = done;
        self.working.remove(&schedule);
        let noted = match outcome {
            Ok(outcome) => {
                tracing::info!(schedule, due = instant(due), outcome, "done");
                self.failed.remove(&schedule);
                self.note(&schedule, due, outcome).await
            }
            Err(why) => {
                tracing::warn!(
                    schedule,
                    due = instant(due),
                    why,
                    "failed, to be begun again"
                );
                self.note_failed(&schedule, due, why).await
            }
        };
        if let Err(error) = noted {
            // It comes up again, and finds that there is nothing left to do.
            tracing::warn!(schedule, %error, "cannot note what was done");
        }
    }

    /// The due time is not dealt with: it comes up again.
    async fn note_failed(&mut self, name: &str, due: i64, why: String) -> Result<(), TaskError> {
        let before = self.failed.get(name).filter(|failed| failed.due == due);
        let times = before.map_or(0, |failed| failed.times).saturating_add(1);
        let pause = i64::try_from(retry_pause(times).as_millis()).unwrap_or(i64::MAX);
        let note = Note {
            outcome: format!(
                "what was due at {} failed, to be begun again: {why}",
                instant(due)
            ),
            ..self.notes.get(name).cloned().unwrap_or_default()
        };
        let again = Timestamp::now().as_millisecond().saturating_add(pause);
        let failed = Failed {
            due,
            times,
            again,
            why,
        };
        self.failed.insert(name.to_owned(), failed);
        self.write(name, note).await
    }

    async fn note(&mut self, name: &str, due: i64, outcome: String) -> Result<(), TaskError> {
        let note = Note {
            due: Some(due),
            outcome,
            ..self.notes.get(name).cloned().unwrap_or_default()
        };
        self.write(name, note).await
    }

    async fn write(&mut self, name: &str, note: Note) -> Result<(), TaskError> {
        let text = serde_json::to_string(&note).unwrap_or_default();
        self.cluster
            .write_map(names::SCHEDULES_STATE, name, Some(&text))
            .await?;
        self.notes.insert(name.to_owned(), note);
        Ok(())
    }
}

async fn datagen(
    cluster: &Cluster,
    schedule: &str,
    due: i64,
    load: &crate::commands::datagen::Load,
) -> anyhow::Result<String> {
    let name = run_name(schedule, due)?;
    match cluster.start(&load.task(&name, &instant(due))).await {
        // Begun by a scheduler that did not live to note it.
        Ok(()) | Err(TaskError::Exists(_)) => Ok(format!("started run {name}")),
        Err(error) => Err(error.into()),
    }
}

async fn retain(
    places: &Places,
    stream: &windlass_functions::stream::Stream,
    keep: &Keep,
) -> anyhow::Result<String> {
    let removed = keep.carry_out(places, stream).await?;
    Ok(format!("removed {removed}"))
}

async fn sweep_jobs(cluster: &Cluster, keep: Span) -> anyhow::Result<String> {
    let keep = i64::try_from(keep.0.as_millis()).unwrap_or(i64::MAX);
    let before = Timestamp::now().as_millisecond().saturating_sub(keep);
    let mut removed = 0;
    for task in cluster.all_tasks().await? {
        if task.state.has_ended() && task.ended_ms.is_some_and(|ended| ended < before) {
            cluster.remove(&task.name).await?;
            removed += 1;
        }
    }
    Ok(format!("removed {removed} Jobs"))
}
