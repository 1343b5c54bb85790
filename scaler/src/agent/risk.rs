//! A size from a model that learns while it runs: pods + price · P(a window is late), at its least.
//!
//! Three things are learned from the samples: how long a batch takes by its tuples (a ridge
//! regression over the last minute), how large batches get, and how wrong forecasts of the rate
//! four seconds ahead have been. What an agent learns on top of it is the price to use in which
//! state: [`super::layout::Action::Risk`].

use super::capacity::{Assumed, SMOOTHING};
use super::history::View;

/// Seconds ahead that are forecast: a pod that is asked for now takes batches by then.
const AHEAD: usize = 4;
/// Weight of the newest forecast error: half of it is forgotten in two minutes.
const WEIGHT: f64 = 0.006;
/// Forecast errors count at most this much, so that a spike does not look like noise for minutes.
const LARGEST_ERROR: f64 = 0.5;
/// Share of the squared errors that a forecast's variance is.
const SHARE: f64 = 1.08;
/// Deviation of the rate's logarithm that is always assumed.
const LEAST_DEVIATION: f64 = 0.01;
/// Weight of the newest second in the rate; the rest is the mean of three.
const NEWEST: f64 = 0.19;
/// A rise of the rate's logarithm within a second above which it is expected to go on…
const RISE: f64 = 0.2;
/// …by this factor of what is above.
const RISE_GAIN: f64 = 2.0;
/// Seconds in which a queue should be gone.
const CATCH_UP: f64 = 1.9;
/// Relative standard deviation of a batch's time.
const NOISE: f64 = 0.1;
/// Seconds of batches that the model of a batch's time is fitted to.
const FITTED: usize = 60;
/// Points at which the distribution of the rate is looked at.
const POINTS: usize = 16;
/// Price of a late window for scale-in, as a multiple of that for scale-out.
const HYSTERESIS: f64 = 2.0;
/// Pods per pod-second of expected work that there are at least.
const SPARE: f64 = 1.3;
/// A probability that is as good as none.
const NEVER: f64 = 1e-6;

/// What has been learned about rate and batches.
#[derive(Clone, Debug)]
pub struct Model {
    assumed: Assumed,
    variance: f64,
    /// Forecasts by second, for the seconds to come.
    forecasts: [Option<f64>; AHEAD],
    next: usize,
    largest_batch: f64,
    points: [f64; POINTS],
    orders: Orders,
}

/// Expected order statistics of standard normals, worked out once.
#[derive(Clone, Debug)]
struct Orders(Vec<f64>);

/// Numbers of pods for which they are kept.
const KEPT_PODS: usize = 64;

impl Orders {
    fn new() -> Self {
        let pairs = (1..=KEPT_PODS).flat_map(|pods| (1..=pods).map(move |rank| (rank, pods)));
        Self(
            pairs
                .map(|(rank, pods)| order(rank as f64, pods as f64))
                .collect(),
        )
    }

    /// The `rank`-th smallest of `pods`.
    fn get(&self, rank: f64, pods: u32) -> f64 {
        let (at, of) = (rank as usize, pods as usize);
        let kept = self.0.get((of * (of - 1) / 2 + at).saturating_sub(1));
        match kept {
            Some(kept) if of <= KEPT_PODS => *kept,
            _ => order(rank, f64::from(pods)),
        }
    }
}

/// Blom 1958.
fn order(rank: f64, pods: f64) -> f64 {
    inverse_normal((rank - 0.375) / (pods + 0.25))
}

/// The rate to expect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// Tuples of a window, the queue's share included, in the middle.
    pub tuples: f64,
    /// Tuples of them that wait already.
    pub queued: f64,
    /// Standard deviation of the logarithm.
    pub deviation: f64,
}

/// How long batches take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Batches {
    /// Most tuples of one.
    pub tuples: f64,
    /// Seconds that one of no tuples would take.
    pub base: f64,
    /// Seconds that a tuple adds.
    pub each: f64,
    /// Latency goal, seconds.
    pub goal: f64,
}

impl Model {
    /// Knows nothing but what is assumed.
    pub fn new(assumed: Assumed) -> Self {
        let middle = |at: usize| inverse_normal((at as f64 + 0.5) / POINTS as f64);
        Self {
            assumed,
            variance: 0.01,
            forecasts: [None; AHEAD],
            next: 0,
            largest_batch: assumed.tuples,
            points: std::array::from_fn(middle),
            orders: Orders::new(),
        }
    }

    /// Sees a second: compares the rate with what was forecast, and forecasts anew.
    pub fn second(&mut self, view: &View<'_>) -> Forecast {
        let history = view.history;
        let ln = |tuples: f64| (tuples + SMOOTHING).ln();
        let last = history.last().copied().unwrap_or_default();
        let newest = ln(last.arrived);
        let before = if history.seconds() < 3 {
            newest
        } else {
            ln(history.mean_before(1, 1, |s| s.arrived))
        };
        if let Some(forecast) = self.forecasts[self.next] {
            let error = (newest - forecast).clamp(-LARGEST_ERROR, LARGEST_ERROR);
            self.variance += WEIGHT * (error * error - self.variance);
        }
        let three = ln(history.mean(3, |s| s.arrived));
        let level = NEWEST * newest + (1.0 - NEWEST) * three;
        self.forecasts[self.next] = Some(level);
        self.next = (self.next + 1) % AHEAD;
        if last.started_batches >= 1.0 {
            let mean = last.started_tuples / last.started_batches;
            self.largest_batch = (0.9999 * self.largest_batch).max(mean);
        }
        let rise = RISE_GAIN * (newest - before - RISE).max(0.0);
        Forecast {
            tuples: ((level + rise).exp() - SMOOTHING).max(0.0),
            queued: last.queued_tuples / CATCH_UP,
            deviation: (LEAST_DEVIATION * LEAST_DEVIATION + SHARE * self.variance).sqrt(),
        }
    }

    /// Fits how long batches take to the last minute.
    pub fn batches(&self, view: &View<'_>, goal: f64) -> Batches {
        let (mut n, mut x, mut y) = (0.0, 0.0, 0.0);
        for s in view.history.newest(FITTED) {
            n += s.started_batches;
            x += s.started_tuples;
            y += s.started_seconds;
        }
        let (mean_x, mean_y) = if n < 1.0 {
            (self.assumed.tuples, self.assumed.seconds)
        } else {
            (x / n, y / n)
        };
        // Drawn towards time proportional to tuples, as far as the minute says little.
        let proportional = mean_y / mean_x.max(1e-9);
        let ridge = 0.02 * mean_x * mean_x;
        let (mut xx, mut xy) = (ridge, ridge * proportional);
        for s in view
            .history
            .newest(FITTED)
            .filter(|s| s.started_batches >= 1.0)
        {
            let dx = s.started_tuples / s.started_batches - mean_x;
            let dy = s.started_seconds / s.started_batches - mean_y;
            xx += s.started_batches * dx * dx;
            xy += s.started_batches * dx * dy;
        }
        let each = (xy / xx.max(1e-9)).clamp(0.0, proportional);
        Batches {
            tuples: self.largest_batch.max(1.0),
            base: (mean_y - each * mean_x).max(0.0),
            each,
            goal,
        }
    }

    /// How likely a window is late, by the number of pods.
    pub fn curve(&self, forecast: &Forecast, batches: &Batches, max: u32) -> Curve {
        // One window late is not all that comes of too small a pool: the backlog grows. So no fewer
        // than do the expected work with some to spare.
        let most = f64::from(max.max(1));
        let work = batches.seconds(forecast.tuples);
        let least = (SPARE * work / batches.goal).floor().clamp(1.0, most) as u32;
        let mut late = Vec::new();
        for pods in least..=max.max(1) {
            let each = self.points.iter().map(|z| {
                let tuples = forecast.tuples * (forecast.deviation * z).exp();
                batches.late(tuples + forecast.queued, pods, &self.orders)
            });
            let mean = each.sum::<f64>() / POINTS as f64;
            late.push(mean);
            if mean < NEVER {
                break;
            }
        }
        Curve { least, late }
    }
}

/// How likely a window is late, from a smallest number of pods on.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    least: u32,
    late: Vec<f64>,
}

impl Curve {
    /// The size of least expected price, pods + `price` · P(late).
    pub fn size(&self, price: f64) -> u32 {
        let (mut best, mut price_of_best) = (self.least, f64::INFINITY);
        for (pods, late) in (self.least..).zip(&self.late) {
            let expected = f64::from(pods) + price * late;
            if expected < price_of_best {
                (best, price_of_best) = (pods, expected);
            }
        }
        best
    }

    /// The size to have when there are `current` pods: grow to what `price` is worth, shrink to what
    /// twice of it is; in between stay, since starting and stopping cost, too.
    pub fn band(&self, price: f64, current: u32) -> u32 {
        let grown = self.size(price);
        if grown >= current {
            return grown;
        }
        self.size(HYSTERESIS * price).min(current)
    }
}

impl Batches {
    /// Pod-seconds that a window of so many tuples takes.
    fn seconds(&self, tuples: f64) -> f64 {
        (tuples / self.tuples).ceil() * self.base + tuples * self.each
    }

    /// Probability that a window misses the goal if so many pods start idle.
    ///
    /// Batches go round by round; those of the last, partial round begin with the pods that are
    /// free first, whose times are order statistics.
    fn late(&self, tuples: f64, pods: u32, orders: &Orders) -> f64 {
        if tuples <= 0.0 {
            return 0.0;
        }
        let (size, pods) = (pods.max(1), f64::from(pods.max(1)));
        let count = (tuples / self.tuples).ceil();
        let each = 1.02 * (self.base + self.each * tuples / count);
        let (rounds, rest) = ((count / pods).floor(), count % pods);
        let spread = NOISE * each;
        let order = |rank: f64| orders.get(rank, size);
        let full = if rounds > 0.0 {
            let end = rounds * each + spread * rounds.sqrt() * order(pods);
            normal((end - self.goal) / (0.5 * spread * rounds.sqrt()))
        } else {
            0.0
        };
        let partial = if rest > 0.0 {
            let begin = rounds * each + spread * rounds.sqrt() * order(rest);
            let deviation = spread * (1.0 + 0.3 * rounds).sqrt();
            normal((begin + each - self.goal) / deviation)
        } else {
            0.0
        };
        full.max(partial)
    }
}

/// Φ, to 0.0002 (Page 1977).
fn normal(x: f64) -> f64 {
    1.0 / (1.0 + (-1.5976 * x - 0.070_56 * x * x * x).exp())
}

/// Φ⁻¹: three Newton steps from the logistic approximation.
fn inverse_normal(share: f64) -> f64 {
    let mut x = (share / (1.0 - share)).ln() / 1.702;
    for _ in 0..3 {
        let density = 0.398_94 * (-0.5 * x * x).exp();
        x -= (normal(x) - share) / density.max(1e-4);
    }
    x
}
