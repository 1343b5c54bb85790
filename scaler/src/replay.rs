//! What other policies would have done with a recorded run: its arrivals and its batches' measured
//! durations, served by a simulated pool that each policy sizes for itself.
//!
//! What is simulated is the pool: how long a worker takes to start, that batches are served first in,
//! first out, and what the policy then sees. It is an estimate; the recorded run itself is the row
//! `actual` beside it.

use serde::Serialize;

use crate::agent::capacity::Assumed;
use crate::agent::controller::{Controller, Second};
use crate::agent::history::{History, View};
use crate::agent::meter::Missing;
use crate::policies::Formula;
use crate::simulator::{Measured, Setting, Trace, World};
use crate::tuning::{Policy, Tuning};

/// Seconds over which a batch's size and duration are averaged.
const SMOOTHED: f64 = 30.0;

/// What a policy made of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Its name.
    pub policy: String,
    /// Pod-seconds.
    pub cost: f64,
    /// Windows that were late.
    pub late: f64,
    /// The same in percent of the windows.
    pub late_percent: f64,
    /// Pod-seconds and late windows at the price of the tuning.
    pub price: f64,
    /// 99th percentile of the windows' latency, seconds; not known of the recorded run.
    pub p99: Option<f64>,
    /// Resizes.
    pub actions: u32,
    /// Smallest and largest size.
    pub sizes: (u32, u32),
}

/// A recorded run, ready to be replayed.
#[derive(Clone, Debug)]
pub struct Run {
    seconds: Vec<Second>,
    trace: Trace,
    tuning: Tuning,
}

impl Run {
    /// A run from its records, judged by a tuning. Seconds without a measurement are left out of
    /// the simulated ones: nobody knows what arrived in them.
    pub fn new(records: Vec<Second>, tuning: Tuning) -> Self {
        let seconds: Vec<Second> = records.into_iter().filter(|s| s.seen.is_ok()).collect();
        let Assumed {
            mut tuples,
            seconds: mut each,
        } = Assumed::default();
        let measured = seconds.iter().map(|second| {
            let sample = second.seen.unwrap_or_default();
            if sample.started_batches > 0.0 {
                let weight = (sample.started_batches / SMOOTHED).min(1.0);
                tuples += weight * (sample.started_tuples / sample.started_batches - tuples);
                each += weight * (sample.started_seconds / sample.started_batches - each);
            }
            Measured {
                tuples: sample.arrived.round().clamp(0.0, 1e9) as u32,
                batch_tuples: tuples.max(1.0),
                batch_seconds: each.max(1e-6),
            }
        });
        let setting = Setting {
            min: tuning.min_size,
            max: tuning.max_size,
            goal: tuning.latency_goal,
            jobs_max: 0,
            ..Setting::default()
        };
        let trace = Trace::measured(&measured.collect::<Vec<_>>(), setting);
        Self {
            seconds,
            trace,
            tuning,
        }
    }

    /// How many seconds were measured.
    pub fn len(&self) -> usize {
        self.seconds.len()
    }

    /// Whether none were.
    pub fn is_empty(&self) -> bool {
        self.seconds.is_empty()
    }

    /// The run as it was.
    pub fn actual(&self) -> Outcome {
        let sum = |of: fn(&crate::agent::sample::Sample) -> f64| -> f64 {
            let seen = self.seconds.iter().filter_map(|s| s.seen.as_ref().ok());
            seen.map(of).sum()
        };
        let sizes: Vec<u32> = self.seconds.iter().map(|s| s.pool.size()).collect();
        let actions = sizes.windows(2).filter(|pair| pair[0] != pair[1]).count();
        self.outcome(
            "actual",
            sum(|s| s.cost),
            sum(|s| s.late),
            None,
            actions as u32,
            &sizes,
        )
    }

    /// The same run with `policy` in charge; `controller` is one with what its agents know.
    pub fn play(&self, policy: Policy, controller: &Controller) -> Outcome {
        let first = self.seconds.first().map_or(1, |second| second.pool.size());
        let first = first.clamp(self.tuning.min_size, self.tuning.max_size);
        let mut world = World::new(&self.trace, first);
        let mut player = match policy {
            Policy::Mode(mode) => {
                let mut controller = controller.clone();
                controller.retune(Tuning {
                    mode,
                    ..self.tuning.clone()
                });
                Player::Controller(Box::new(controller))
            }
            Policy::Formula(named) => Player::Formula(Box::new(named.policy()), History::default()),
        };
        let mut seen = Err(Missing::First);
        let mut sizes = Vec::with_capacity(self.seconds.len());
        for (at, record) in self.seconds.iter().enumerate() {
            let second = Second {
                now: at as f64,
                seen,
                pool: world.pool(),
                ..*record
            };
            if let Some(size) = player.second(second) {
                let floor = record.calendar.max(self.tuning.min_size);
                world.resize(size.max(floor).min(self.tuning.max_size));
            }
            sizes.push(world.pool().size());
            match world.step() {
                Some(sample) => seen = Ok(sample),
                None => break,
            }
        }
        let metrics = world.metrics();
        self.outcome(
            policy.name(),
            metrics.cost,
            metrics.late.into(),
            Some(metrics.p99),
            metrics.actions,
            &sizes,
        )
    }

    fn outcome(
        &self,
        policy: &str,
        cost: f64,
        late: f64,
        p99: Option<f64>,
        actions: u32,
        sizes: &[u32],
    ) -> Outcome {
        Outcome {
            policy: policy.into(),
            cost,
            late,
            late_percent: 100.0 * late / self.seconds.len().max(1) as f64,
            price: cost + self.tuning.late_window_price * late,
            p99,
            actions,
            sizes: (
                sizes.iter().copied().min().unwrap_or(0),
                sizes.iter().copied().max().unwrap_or(0),
            ),
        }
    }
}

enum Player {
    Controller(Box<Controller>),
    Formula(Box<Formula>, History),
}

impl Player {
    fn second(&mut self, second: Second) -> Option<u32> {
        match self {
            Self::Controller(controller) => controller.second(second).map(|d| d.desired),
            Self::Formula(formula, history) => {
                if let Ok(sample) = second.seen {
                    history.push(sample);
                }
                let view = View {
                    now: second.now,
                    history,
                    pool: second.pool,
                };
                formula.desired(&view)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::sample::{Pool, Sample};
    use crate::agent::sarsa::Luck;
    use crate::tuning::Mode;

    #[test]
    fn a_pool_of_hundreds_is_replayed_as_such() {
        // Six hundred batches of 0.3 s a window: 200 pods do them within a second, 150 do not.
        let record = |second: u32| Second {
            now: f64::from(second),
            seen: Ok(Sample {
                arrived: 300_000.0,
                started_tuples: 300_000.0,
                started_seconds: 180.0,
                started_batches: 600.0,
                cost: 300.0,
                ..Sample::default()
            }),
            pool: Pool {
                ready: 300,
                ..Pool::default()
            },
            calendar: 0,
            luck: Luck {
                explore: 1.0,
                direction: 0.0,
            },
        };
        let tuning = Tuning {
            max_size: 600,
            ..Tuning::default()
        };
        let run = Run::new((0..300).map(record).collect(), tuning.clone());
        for mode in [Mode::SloDs2, Mode::Elastic] {
            let played = run.play(Policy::Mode(mode), &Controller::shipped(tuning.clone()));
            assert!((200..=600).contains(&played.sizes.0), "{played:?}");
            assert!(played.late_percent < 1.0, "{played:?}");
        }
        let few = Tuning {
            max_size: 150,
            ..tuning
        };
        let run = Run::new((0..300).map(record).collect(), few.clone());
        let played = run.play(Policy::Mode(Mode::SloDs2), &Controller::shipped(few));
        assert!(played.late_percent > 99.0, "{played:?}");
    }
}
