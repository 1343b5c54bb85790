//! The rate to expect when a pod that is asked for now takes batches, as a distribution.
//!
//! How a rate moves is not assumed but found out: a bank of filters follows its logarithm, each for
//! another pace, from a level that stands still to one that jumps, and each is believed as far as
//! it foretold the last seconds (interacting multiple models, Blom & Bar-Shalom 1988). So a steady
//! rate is averaged, a wandering one is followed, a step is taken over at once, and none of them makes
//! the next minutes look uncertain. The noise of a second around its level is learned, too.
//!
//! It says nothing of days or weeks: known events belong in the calendar.

use super::capacity::SMOOTHING;

/// Seconds ahead: a pod that is asked for now takes batches by then.
const AHEAD: f64 = 4.0;
/// Variance that the level's logarithm gains a second, by pace; the last is a jump.
const PACES: [f64; 5] = [1e-5, 4e-4, 3e-3, 1.2e-2, 0.3];
const JUMP: usize = PACES.len() - 1;
/// How likely the pace is another one in the next second…
const CHANGES: f64 = 0.01;
/// …and how likely a jump is over by then.
const JUMP_ENDS: f64 = 0.7;
/// Share of jumps among changes of pace; the other paces share the rest.
const JUMPS: f64 = 0.2;
/// Variance of a second around its level, before any was seen: 5%.
const FIRST_NOISE: f64 = 0.003;
/// Range of what is learned of it: 1% to 30%.
const NOISE: (f64, f64) = (1e-4, 0.1);
/// Weight of a second in the noise.
const WEIGHT: f64 = 0.01;
/// Paces slow enough for a deviation from them to be noise.
const SLOW: usize = 2;
/// A squared deviation counts at most so many times the noise: what is more is no noise.
const LARGEST: f64 = 9.0;
/// A likelihood that any observation has at any pace, so that no pace is ruled out for long.
const LEAST_LIKELIHOOD: f64 = 1e-9;
/// A rise of the rate's logarithm within a second above which it is expected to go on…
const RISE: f64 = 0.2;
/// …by this factor of what is above.
const RISE_GAIN: f64 = 2.0;
/// Paces less likely than this are left out of the distribution.
const UNLIKELY: f64 = 0.002;
/// Middles of eight equally likely parts of the standard normal.
const EIGHTHS: [f64; 8] = [-1.534, -0.887, -0.489, -0.157, 0.157, 0.489, 0.887, 1.534];

/// One filter: the level at its pace.
#[derive(Clone, Copy, Debug)]
struct Level {
    /// How likely this is the pace.
    weight: f64,
    /// Mean of the level's logarithm.
    mean: f64,
    /// Its variance.
    variance: f64,
}

/// A possible rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Tuples of a window.
    pub tuples: f64,
    /// How likely; those of a forecast sum up to 1.
    pub weight: f64,
}

/// Follows the rate.
#[derive(Clone, Debug)]
pub struct Forecaster {
    levels: [Level; PACES.len()],
    /// Variance of a second's logarithm around the level.
    noise: f64,
    /// The logarithm of the last second's rate.
    last: Option<f64>,
    /// What a steep rise in the last second adds to the logarithm.
    rise: f64,
}

impl Default for Forecaster {
    fn default() -> Self {
        let level = Level {
            weight: 1.0 / PACES.len() as f64,
            mean: 0.0,
            variance: 0.01,
        };
        Self {
            levels: [level; PACES.len()],
            noise: FIRST_NOISE,
            last: None,
            rise: 0.0,
        }
    }
}

impl Forecaster {
    /// Sees the tuples of the second that has just ended.
    pub fn second(&mut self, tuples: f64) {
        let seen = (tuples + SMOOTHING).ln();
        let Some(last) = self.last.replace(seen) else {
            for level in &mut self.levels {
                level.mean = seen;
            }
            return;
        };
        self.rise = RISE_GAIN * (seen - last - RISE).max(0.0);
        let before = self.moved();
        let mut noise = 0.0;
        for ((level, prior), pace) in self.levels.iter_mut().zip(before).zip(PACES) {
            let variance = prior.variance + pace;
            let expected = variance + self.noise;
            let error = seen - prior.mean;
            let likelihood = (-0.5 * error * error / expected).exp() / expected.sqrt();
            let gain = variance / expected;
            *level = Level {
                weight: prior.weight * (likelihood + LEAST_LIKELIHOOD),
                mean: prior.mean + gain * error,
                variance: (1.0 - gain) * variance,
            };
        }
        let total: f64 = self.levels.iter().map(|level| level.weight).sum();
        for level in &mut self.levels {
            level.weight /= total;
        }
        for at in 0..SLOW {
            let error = seen - before[at].mean;
            let squared = error * error - before[at].variance - PACES[at];
            let deviation = squared.min(LARGEST * self.noise) - self.noise;
            noise += WEIGHT * self.levels[at].weight * deviation;
        }
        self.noise = (self.noise + noise).clamp(NOISE.0, NOISE.1);
    }

    /// The levels a second later: the pace may have changed, so each filter takes over what the
    /// others know in proportion to how likely the change to its pace is.
    fn moved(&self) -> [Level; PACES.len()] {
        std::array::from_fn(|to| {
            let share = |from: usize| change(from, to) * self.levels[from].weight;
            let from = || self.levels.iter().enumerate();
            let weight: f64 = from().map(|(at, _)| share(at)).sum();
            let mean = from().map(|(at, l)| share(at) * l.mean).sum::<f64>() / weight;
            let spread = |l: &Level| l.variance + (l.mean - mean) * (l.mean - mean);
            let variance = from().map(|(at, l)| share(at) * spread(l)).sum::<f64>() / weight;
            Level {
                weight,
                mean,
                variance,
            }
        })
    }

    /// The rate in the middle, tuples a second.
    pub fn middle(&self) -> f64 {
        let mean: f64 = self.levels.iter().map(|l| l.weight * l.mean).sum();
        ((mean + self.rise).exp() - SMOOTHING).max(0.0)
    }

    /// The rates to reckon with a few seconds from now.
    pub fn points(&self) -> Vec<Point> {
        let levels = self.moved();
        let likely = || {
            let at_pace = levels.iter().zip(PACES).enumerate();
            at_pace.filter(|(_, (level, _))| level.weight > UNLIKELY)
        };
        let total: f64 = likely().map(|(_, (level, _))| level.weight).sum();
        let points = likely().flat_map(|(at, (level, pace))| {
            // A jump is over in a second or two.
            let seconds = if at == JUMP { 1.0 } else { AHEAD };
            let deviation = (level.variance + seconds * pace + self.noise).sqrt();
            EIGHTHS.map(|z| Point {
                tuples: ((level.mean + self.rise + deviation * z).exp() - SMOOTHING).max(0.0),
                weight: level.weight / (total * EIGHTHS.len() as f64),
            })
        });
        points.collect()
    }
}

/// How likely the pace is `to` a second after it was `from`.
fn change(from: usize, to: usize) -> f64 {
    let leaves = if from == JUMP { JUMP_ENDS } else { CHANGES };
    let enters = if to == JUMP {
        JUMPS
    } else {
        (1.0 - JUMPS) / JUMP as f64
    };
    let stays = if from == to { 1.0 - leaves } else { 0.0 };
    stays + leaves * enters
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::draws::{Stream, normal};

    /// The share of the distribution that is above `tuples`.
    fn above(forecaster: &Forecaster, tuples: f64) -> f64 {
        let points = forecaster.points();
        let larger = points.iter().filter(|point| point.tuples > tuples);
        larger.map(|point| point.weight).sum()
    }

    fn noisy(second: u64, level: f64) -> f64 {
        level * (0.05 * normal(3, Stream::Rate, second)).exp()
    }

    fn steady(seconds: u64) -> Forecaster {
        let mut forecaster = Forecaster::default();
        for second in 0..seconds {
            forecaster.second(noisy(second, 6_000.0));
        }
        forecaster
    }

    #[test]
    fn chances_sum_up_to_one() {
        for from in 0..PACES.len() {
            let sum: f64 = (0..PACES.len()).map(|to| change(from, to)).sum();
            assert!((sum - 1.0).abs() < 1e-12, "{from}: {sum}");
        }
        let points = steady(30).points();
        let sum: f64 = points.iter().map(|point| point.weight).sum();
        assert!((sum - 1.0).abs() < 1e-12, "{sum}");
    }

    #[test]
    fn a_steady_rate_is_averaged_and_hardly_ever_expected_above_its_noise() {
        let forecaster = steady(120);
        let middle = forecaster.middle();
        assert!((middle / 6_000.0 - 1.0).abs() < 0.03, "{middle}");
        assert!(above(&forecaster, 7_500.0) < 0.02);
    }

    #[test]
    fn a_step_is_taken_over_within_three_seconds_and_is_certain_within_ten() {
        let mut forecaster = steady(120);
        for second in 120..123 {
            forecaster.second(noisy(second, 12_000.0));
        }
        let middle = forecaster.middle();
        assert!((middle / 12_000.0 - 1.0).abs() < 0.1, "{middle}");
        for second in 123..130 {
            forecaster.second(noisy(second, 12_000.0));
        }
        assert!(above(&forecaster, 15_000.0) < 0.05);
    }

    #[test]
    fn a_wandering_rate_is_expected_to_wander_on() {
        let mut forecaster = Forecaster::default();
        let mut level = 6_000.0_f64;
        for second in 0..120 {
            level *= (0.1 * normal(5, Stream::Walk, second)).exp();
            forecaster.second(noisy(second, level));
        }
        let middle = forecaster.middle();
        assert!(above(&forecaster, 1.25 * middle) > 0.1);
    }

    #[test]
    fn nothing_and_a_million_are_rates_like_others() {
        let mut forecaster = Forecaster::default();
        for tuples in [0.0, 1e6, 0.0, 0.0, 1e12, 0.0] {
            forecaster.second(tuples);
            let points = forecaster.points();
            assert!(
                points
                    .iter()
                    .all(|p| p.tuples.is_finite() && p.weight > 0.0)
            );
        }
    }
}
