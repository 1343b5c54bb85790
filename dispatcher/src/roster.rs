//! Which workers there are, which of them have been told to leave, and what they have done: what the
//! warm pool is sized by. Pure: it is told the time.
//!
//! A worker is *ready* from its first call on, for as long as it waits for work or runs some, and a
//! moment beyond: between an answer and the next call it is neither. One that was dismissed is given
//! nothing more: its next call is answered with "drain and exit". Because handing out and dismissing
//! happen under one lock, no batch is ever lost to a pool that shrinks. One that is parked is given nothing
//! for the time being: see [`parking`].

pub mod parking;

use std::sync::Arc;

use hashbrown::HashMap;

/// A worker that has not called for this long and has nothing to do is no longer there.
const ABSENT_MS: u64 = 3_000;
/// A worker that was told to leave and has not been heard of for this long is forgotten.
const FORGOTTEN_MS: u64 = 600_000;

/// What workers have done since the start. Counters only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Time that warm workers have been busy, those that still are included, ms.
    pub busy_ms: u64,
    /// Time that warm workers have been ready, busy or not, ms.
    pub ready_ms: u64,
    /// Time that Jobs have been busy, ms.
    pub job_ms: u64,
    /// Tuples of the batches that warm workers have answered.
    pub answered_tuples: u64,
    /// Time that these batches took from handing out to answer, ms.
    pub answered_ms: u64,
    /// How many these were.
    pub answered_batches: u64,
}

/// An attempt that has ended, as far as the roster cares.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// When it was handed out, monotonic ms.
    pub since_ms: u64,
    /// Whether a program launched for this attempt ran it, and not a warm worker.
    pub job: bool,
    /// Tuples of the batch, if this attempt answered it.
    pub answered: Option<usize>,
}

#[derive(Debug, Default)]
struct Present {
    seen_ms: u64,
    /// Calls of `next` that wait.
    waiting: u32,
    /// When the batch at hand was handed out.
    busy_since: Option<u64>,
    /// Whether it can show that it is parked.
    parkable: bool,
    parked: bool,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Roster {
    present: HashMap<Arc<str>, Present>,
    /// And when they were told.
    leaving: HashMap<Arc<str>, u64>,
    keep: Option<parking::Keep>,
    done: Done,
    ticked_ms: Option<u64>,
}

impl Roster {
    /// A worker begins to wait for work.
    pub fn waits(&mut self, name: &Arc<str>, now_ms: u64) {
        let present = self.present.entry(Arc::clone(name)).or_default();
        present.seen_ms = now_ms;
        present.busy_since = None;
        present.waiting += 1;
    }

    /// A worker's call for work has ended.
    pub fn stopped_waiting(&mut self, name: &str, now_ms: u64) {
        if let Some(present) = self.present.get_mut(name) {
            present.seen_ms = now_ms;
            present.waiting = present.waiting.saturating_sub(1);
        }
    }

    /// A warm worker was given a batch.
    pub fn took(&mut self, name: &Arc<str>, now_ms: u64) {
        let present = self.present.entry(Arc::clone(name)).or_default();
        present.seen_ms = now_ms;
        present.busy_since = Some(now_ms);
    }

    /// An attempt has ended, well or not. `name` is its worker's.
    pub fn ended(&mut self, name: &str, ended: Ended, now_ms: u64) {
        let took = now_ms.saturating_sub(ended.since_ms);
        if ended.job {
            self.done.job_ms += took;
            return;
        }
        self.done.busy_ms += took;
        if let Some(tuples) = ended.answered {
            self.done.answered_tuples += tuples as u64;
            self.done.answered_ms += took;
            self.done.answered_batches += 1;
        }
        if let Some(present) = self.present.get_mut(name) {
            present.seen_ms = now_ms;
            present.busy_since = None;
        }
    }

    /// A worker is gone; another of its name is a new one.
    pub fn gone(&mut self, name: &str) {
        self.present.remove(name);
        self.leaving.remove(name);
    }

    /// Adds up for how long workers have been ready. To be called every fraction of a second. Whether
    /// anyone was parked or returned to work.
    pub fn tick(&mut self, now_ms: u64) -> bool {
        self.present.retain(|_, present| {
            let there = present.waiting > 0 || present.busy_since.is_some();
            there || now_ms.saturating_sub(present.seen_ms) < ABSENT_MS
        });
        self.leaving
            .retain(|_, told_ms| now_ms.saturating_sub(*told_ms) < FORGOTTEN_MS);
        let elapsed = now_ms.saturating_sub(self.ticked_ms.unwrap_or(now_ms));
        self.ticked_ms = Some(now_ms);
        self.done.ready_ms += elapsed * u64::from(self.ready());
        self.park(now_ms)
    }

    /// Workers that take batches: there, not parked, and not told to leave.
    pub fn ready(&self) -> u32 {
        let staying = self
            .present
            .iter()
            .filter(|(name, present)| !present.parked && !self.is_leaving(name));
        staying.count() as u32
    }

    /// How many of these workers are ready.
    pub fn ready_of(&self, names: &[Arc<str>]) -> u32 {
        let ready = names
            .iter()
            .filter(|name| self.present.contains_key(*name) && !self.is_leaving(name));
        ready.count() as u32
    }

    /// What has been done so far, by attempts that have ended.
    pub fn done(&self) -> Done {
        self.done
    }

    /// Whether this worker is to be given nothing more.
    pub fn is_leaving(&self, name: &str) -> bool {
        self.leaving.contains_key(name)
    }

    /// Tells a worker to leave.
    pub fn dismiss(&mut self, name: &Arc<str>, now_ms: u64) {
        self.leaving.insert(Arc::clone(name), now_ms);
    }

    /// Tells `count` of these workers to leave, and says which: first those that have no work, the
    /// one that has waited for longest before others; then those that have not called yet; then
    /// busy ones, the one that began first before others, which finish what they run.
    pub fn dismiss_some(&mut self, names: &[Arc<str>], count: usize, now_ms: u64) -> Vec<Arc<str>> {
        let mut staying: Vec<((u8, u64), &Arc<str>)> = names
            .iter()
            .filter(|name| !self.is_leaving(name))
            .map(|name| {
                let order = match self.present.get(name) {
                    None => (1, 0),
                    Some(present) => match present.busy_since {
                        Some(since) => (2, since),
                        None => (0, present.seen_ms),
                    },
                };
                (order, name)
            })
            .collect();
        staying.sort();
        let chosen: Vec<Arc<str>> = staying
            .into_iter()
            .take(count)
            .map(|(_, name)| Arc::clone(name))
            .collect();
        for name in &chosen {
            self.dismiss(name, now_ms);
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: [&str; 4]) -> Vec<Arc<str>> {
        names.into_iter().map(Arc::from).collect()
    }

    /// Of four workers, `idle` waits, `old` and `new` are busy, and `fresh` has never called.
    fn four() -> (Roster, Vec<Arc<str>>) {
        let names = names(["new", "old", "fresh", "idle"]);
        let mut roster = Roster::default();
        for name in [&names[0], &names[1], &names[3]] {
            roster.waits(name, 0);
        }
        roster.stopped_waiting("old", 10);
        roster.took(&names[1], 10);
        roster.stopped_waiting("new", 20);
        roster.took(&names[0], 20);
        (roster, names)
    }

    #[test]
    fn the_idle_leave_first_then_those_that_have_not_called_then_the_busy() {
        let (mut roster, names) = four();
        assert_eq!(roster.ready(), 3);
        let told: Vec<Arc<str>> = (0..5)
            .flat_map(|_| roster.dismiss_some(&names, 1, 30))
            .collect();
        let told: Vec<&str> = told.iter().map(|name| &**name).collect();
        assert_eq!(told, ["idle", "fresh", "old", "new"]);
        assert_eq!(roster.ready(), 0, "who leaves takes nothing more");
        assert!(names.iter().all(|name| roster.is_leaving(name)));
    }

    #[test]
    fn a_name_that_comes_again_is_another_worker() {
        let (mut roster, names) = four();
        roster.dismiss_some(&names, 4, 30);
        roster.gone("idle");
        assert!(!roster.is_leaving("idle"));
        roster.waits(&names[3], 30);
        assert_eq!(roster.ready_of(&names), 1);
    }

    #[test]
    fn time_adds_up_by_state() {
        let (mut roster, _) = four();
        roster.tick(100);
        roster.tick(300);
        assert_eq!(roster.done().ready_ms, 600, "three workers for 200 ms");
        let answered = |since_ms, tuples| Ended {
            since_ms,
            job: false,
            answered: Some(tuples),
        };
        roster.ended("old", answered(10, 500), 310);
        let lost = Ended {
            answered: None,
            ..answered(20, 0)
        };
        roster.ended("new", lost, 120);
        let job = Ended {
            job: true,
            ..answered(0, 9)
        };
        roster.ended("windlass-job", job, 50);
        let done = roster.done();
        assert_eq!((done.busy_ms, done.job_ms), (400, 50));
        assert_eq!(
            (
                done.answered_batches,
                done.answered_tuples,
                done.answered_ms
            ),
            (1, 500, 300)
        );
    }

    #[test]
    fn a_worker_that_stays_away_is_no_longer_there() {
        let (mut roster, names) = four();
        roster.ended(
            "old",
            Ended {
                since_ms: 10,
                job: false,
                answered: Some(1),
            },
            50,
        );
        roster.tick(100);
        assert_eq!(roster.ready(), 3, "between an answer and the next call");
        roster.tick(4_000);
        assert_eq!(roster.ready(), 2, "one waits, one is busy");
        assert_eq!(roster.ready_of(&names), 2);
    }
}
