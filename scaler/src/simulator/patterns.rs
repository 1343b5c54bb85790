//! The eight patterns of the benchmark: an hour of arrivals, tuples a second.

use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::draws::{Stream, normal, uniform};

/// Length of a simulated run, seconds.
pub const HOUR: usize = 3_600;

/// How the rate moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// 6,000 tuples a second.
    Steady,
    /// A day compressed into an hour.
    Diurnal,
    /// Alternating low and high levels of 200 to 600 s.
    Step,
    /// Midnight of a Singles' Day: ×10 to ×18 within seconds, then a slow decay.
    Singles,
    /// Spikes of ×4 to ×9 for 20 to 60 s.
    Flash,
    /// A ramp from 2,000 to 14,000, then a fall.
    Sawtooth,
    /// A mean-reverting random walk of the logarithm.
    Walk,
    /// A product of diurnal, walk and flash; never trained or tuned on.
    Mixed,
}

impl Pattern {
    /// The seven that a score is the mean of.
    pub const SCORED: [Self; 7] = [
        Self::Steady,
        Self::Diurnal,
        Self::Step,
        Self::Singles,
        Self::Flash,
        Self::Sawtooth,
        Self::Walk,
    ];
    /// The seven and the held-out one.
    pub const ALL: [Self; 8] = [
        Self::Steady,
        Self::Diurnal,
        Self::Step,
        Self::Singles,
        Self::Flash,
        Self::Sawtooth,
        Self::Walk,
        Self::Mixed,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Diurnal => "diurnal",
            Self::Step => "step",
            Self::Singles => "singles",
            Self::Flash => "flash",
            Self::Sawtooth => "sawtooth",
            Self::Walk => "walk",
            Self::Mixed => "mixed",
        }
    }

    /// The expected rate of every second of an hour, tuples a second.
    pub fn rate(self, seed: u64) -> Vec<f64> {
        match self {
            Self::Steady => vec![6_000.0; HOUR],
            Self::Diurnal => diurnal(seed),
            Self::Step => step(seed),
            Self::Singles => singles(seed),
            Self::Flash => flash(seed),
            Self::Sawtooth => sawtooth(seed),
            Self::Walk => walk(seed),
            Self::Mixed => mixed(seed),
        }
    }

    /// The tuples of every second's window: the rate with 5% lognormal noise, then nearly Poisson.
    pub fn arrivals(self, seed: u64) -> Vec<u32> {
        let noisy = |(second, rate): (usize, f64)| {
            let second = second as u64;
            let rate = rate * (0.05 * normal(seed, Stream::Rate, second) - 0.00125).exp();
            let tuples = rate + rate.sqrt() * normal(seed, Stream::Arrivals, second);
            tuples.round_ties_even().max(0.0) as u32
        };
        self.rate(seed).into_iter().enumerate().map(noisy).collect()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that no pattern has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected steady, diurnal, step, singles, flash, sawtooth, walk or mixed as a pattern, got {0:?}"
)]
pub struct NotAPattern(String);

impl FromStr for Pattern {
    type Err = NotAPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|pattern| pattern.name() == text);
        found.ok_or_else(|| NotAPattern(text.into()))
    }
}

fn shape(seed: u64, index: u64) -> f64 {
    uniform(seed, Stream::Pattern, index)
}

fn diurnal(seed: u64) -> Vec<f64> {
    let phase = 2.0 * PI * shape(seed, 0);
    let at = |second: usize| {
        let t = second as f64;
        let day = 0.65 * (2.0 * PI * t / 3_600.0 + phase).sin();
        let half_day = 0.15 * (4.0 * PI * t / 3_600.0 + 2.0 * phase).sin();
        6_000.0 * (1.0 + day + half_day)
    };
    (0..HOUR).map(at).collect()
}

fn step(seed: u64) -> Vec<f64> {
    let mut rates = Vec::with_capacity(HOUR);
    let mut high = shape(seed, 1_000) < 0.5;
    for level in 0.. {
        if rates.len() >= HOUR {
            break;
        }
        let dwell = (200.0 + 400.0 * shape(seed, level)) as usize;
        let rate = if high {
            9_000.0 + 6_000.0 * shape(seed, 2_000 + level)
        } else {
            2_000.0 + 2_000.0 * shape(seed, 2_000 + level)
        };
        rates.resize((rates.len() + dwell).min(HOUR), rate);
        high = !high;
    }
    rates
}

/// Seconds over which the rate after midnight decays, as 1 / (1 + t / this): fitted to the published
/// sales milestones of Tmall's Singles' Day 2019.
const DECAY: f64 = 370.0;

fn singles(seed: u64) -> Vec<f64> {
    let base = 1_600.0 + 400.0 * shape(seed, 0);
    let peak = base * (10.0 + 8.0 * shape(seed, 1));
    let midnight = (600.0 + 900.0 * shape(seed, 2)).trunc();
    let ramp = 1.0 + (8.0 * shape(seed, 3)).trunc();
    let at = |second: usize| {
        let since = second as f64 - midnight;
        if since < 0.0 {
            base
        } else if since < ramp {
            base + (peak - base) * (since / ramp).clamp(0.0, 1.0)
        } else {
            (peak - 1.5 * base) / (1.0 + (since - ramp) / DECAY) + 1.5 * base
        }
    };
    (0..HOUR).map(at).collect()
}

fn flash(seed: u64) -> Vec<f64> {
    let mut rates = vec![3_000.0; HOUR];
    let mut second = 0;
    for spike in 0.. {
        second += (60.0 - 240.0 * (1.0 - shape(seed, 3 * spike)).ln()) as usize;
        if second >= HOUR {
            break;
        }
        let length = (20.0 + 40.0 * shape(seed, 3 * spike + 1)) as usize;
        let height = 4.0 + 5.0 * shape(seed, 3 * spike + 2);
        for (at, rate) in rates.iter_mut().skip(second).take(length).enumerate() {
            let risen = ((at + 1) as f64 / 3.0).min(1.0);
            *rate = 3_000.0 * (1.0 + (height - 1.0) * risen);
        }
        second += length;
    }
    rates
}

fn sawtooth(seed: u64) -> Vec<f64> {
    let period = 240.0 + (240.0 * shape(seed, 0)).trunc();
    let offset = (period * shape(seed, 1)).trunc();
    let at = |second: usize| 2_000.0 + 12_000.0 * (((second as f64 + offset) % period) / period);
    (0..HOUR).map(at).collect()
}

fn walk(seed: u64) -> Vec<f64> {
    const REVERSION: f64 = 1.0 / 90.0;
    const DEVIATION: f64 = 0.55;
    let keep = (-REVERSION).exp();
    let kick = DEVIATION * (1.0 - keep * keep).sqrt();
    let mut x = DEVIATION * normal(seed, Stream::Walk, 0);
    let mut at = |second: usize| {
        let rate = (5_500.0 * x.exp()).clamp(800.0, 25_000.0);
        x = keep * x + kick * normal(seed, Stream::Walk, second as u64 + 1);
        rate
    };
    (0..HOUR).map(&mut at).collect()
}

fn mixed(seed: u64) -> Vec<f64> {
    let (days, walks, spikes) = (diurnal(seed), walk(seed + 7), flash(seed + 13));
    let parts = days.iter().zip(&walks).zip(&spikes);
    let product = |((day, walk), spike): ((&f64, &f64), &f64)| {
        let rate = day * 0.7 * (walk / 5_500.0).sqrt() * (spike / 3_000.0).powf(0.6);
        rate.clamp(500.0, 25_000.0)
    };
    parts.map(product).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back() {
        for pattern in Pattern::ALL {
            assert_eq!(pattern.name().parse(), Ok(pattern));
        }
        let error = "waltz".parse::<Pattern>().unwrap_err().to_string();
        assert!(
            error.contains("sawtooth") && error.contains("waltz"),
            "{error}"
        );
    }
}
