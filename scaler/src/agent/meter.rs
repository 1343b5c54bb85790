//! From a dispatcher's counters to samples of a second; what cannot be trusted becomes a gap.
//!
//! Counters only grow. One that shrinks means that the dispatcher has been restarted; the difference
//! to its last life says nothing, and neither does one across a clock that jumped.

use serde::{Deserialize, Serialize};

use super::sample::Sample;

/// Counters and gauges at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reading {
    /// Every counter of a [`Sample`], summed up since the dispatcher's start; its two queue fields
    /// are not sums but what waits now.
    pub totals: Sample,
}

/// Why there is no measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// This is the first reading since the start: there is nothing to compare it with.
    #[error("the first reading has nothing to be compared with")]
    First,
    /// The dispatcher did not answer.
    #[error("the dispatcher did not give its status")]
    NoAnswer,
    /// The API server, which knows how many pods there are, did not say so.
    #[error("the Kubernetes API server did not say how many pods there are")]
    ApiServer,
    /// The dispatcher answered, but has no pool to be sized.
    #[error("the dispatcher keeps no local workers")]
    NoPool,
    /// A figure is no finite number, or negative.
    #[error("a figure is no finite number of at least 0")]
    NotANumber,
    /// A counter is smaller than before.
    #[error("counters went back: the dispatcher was restarted")]
    Restarted,
    /// The time went back, or on by more than a few seconds.
    #[error("the clock jumped, or nobody looked for some seconds")]
    ClockJumped,
}

/// Shortest time between two readings that is measured, seconds; sooner ones are ignored.
const SHORTEST: f64 = 0.25;
/// Longest time between two readings that still counts as continuous, seconds.
const LONGEST: f64 = 3.0;

/// Compares each reading with the one before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    last: Option<(f64, Reading)>,
}

impl Meter {
    /// The rates between the reading before and this one, as amounts a second.
    ///
    /// # Errors
    /// Why they are unknown: what kept the reading from being taken, or what is wrong with it. The next
    /// reading is compared with this one, if it can be.
    pub fn read(&mut self, now: f64, reading: Result<Reading, Missing>) -> Result<Sample, Missing> {
        let reading = reading?;
        if !fields(&reading.totals)
            .iter()
            .all(|f| f.is_finite() && *f >= 0.0)
            || !now.is_finite()
        {
            return Err(Missing::NotANumber);
        }
        let Some((then, before)) = self.last.replace((now, reading)) else {
            return Err(Missing::First);
        };
        let elapsed = now - then;
        if !(SHORTEST..=LONGEST).contains(&elapsed) {
            return Err(Missing::ClockJumped);
        }
        let (new, old) = (counters(&reading.totals), counters(&before.totals));
        if new.iter().zip(&old).any(|(new, old)| new < old) {
            return Err(Missing::Restarted);
        }
        let mut rates = [0.0; 8];
        for (rate, (new, old)) in rates.iter_mut().zip(new.iter().zip(&old)) {
            *rate = (new - old) / elapsed;
        }
        let [
            arrived,
            busy,
            ready,
            started_tuples,
            started_seconds,
            started_batches,
            cost,
            late,
        ] = rates;
        Ok(Sample {
            arrived,
            busy,
            ready,
            queued_tuples: reading.totals.queued_tuples,
            queued_seconds: reading.totals.queued_seconds,
            started_tuples,
            started_seconds,
            started_batches,
            cost,
            late,
        })
    }
}

fn counters(sample: &Sample) -> [f64; 8] {
    [
        sample.arrived,
        sample.busy,
        sample.ready,
        sample.started_tuples,
        sample.started_seconds,
        sample.started_batches,
        sample.cost,
        sample.late,
    ]
}

fn fields(sample: &Sample) -> [f64; 10] {
    let [a, b, c, d, e, f, g, h] = counters(sample);
    [
        a,
        b,
        c,
        d,
        e,
        f,
        g,
        h,
        sample.queued_tuples,
        sample.queued_seconds,
    ]
}
