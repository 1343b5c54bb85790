//! How long batches take, measured, and how likely that makes a window of a size late.

use super::capacity::Assumed;
use super::history::View;

/// Seconds of batches that are fitted.
const FITTED: usize = 60;
/// Relative standard deviation of a batch's time.
const NOISE: f64 = 0.1;
/// Standard deviations from which on Φ is 0 or 1 to ten digits.
const FAR: f64 = 6.0;

/// Expected order statistics of standard normals: those of few pods worked out once, those of more from
/// quantiles that are.
#[derive(Clone, Debug)]
pub struct Orders {
    of_few: Vec<f64>,
    quantiles: Vec<f64>,
}

impl Default for Orders {
    fn default() -> Self {
        Self::new()
    }
}

/// Numbers of pods for which they are kept.
const KEPT_PODS: usize = 64;
/// Parts into which the quantiles divide the probabilities.
const PARTS: usize = 512;
/// Parts at each end in which quantiles are too far apart to draw a line between them.
const ENDS: usize = 8;

impl Orders {
    /// Works them out.
    pub fn new() -> Self {
        let pairs = (1..=KEPT_PODS).flat_map(|pods| (1..=pods).map(move |rank| (rank, pods)));
        let share = |part: usize| part as f64 / PARTS as f64;
        Self {
            of_few: pairs
                .map(|(rank, pods)| inverse_normal(position(rank as f64, pods as f64)))
                .collect(),
            quantiles: (0..=PARTS)
                .map(|part| inverse_normal(share(part.clamp(1, PARTS - 1))))
                .collect(),
        }
    }

    /// Those of so many pods.
    pub fn of(&self, pods: u32) -> Crew<'_> {
        let orders = self;
        Crew {
            orders,
            pods,
            last: self.get(f64::from(pods), pods),
        }
    }

    /// The `rank`-th smallest of `pods`.
    fn get(&self, rank: f64, pods: u32) -> f64 {
        let (at, of) = (rank as usize, pods as usize);
        if of <= KEPT_PODS
            && let Some(kept) = self.of_few.get((of * (of - 1) / 2 + at).saturating_sub(1))
        {
            return *kept;
        }
        let share = position(rank, f64::from(pods));
        let part = share * PARTS as f64;
        let below = part as usize;
        match self.quantiles.get(below..below + 2) {
            Some(&[from, to]) if (ENDS..PARTS - ENDS).contains(&below) => {
                from + part.fract() * (to - from)
            }
            _ => inverse_normal(share),
        }
    }
}

/// So many pods that share a window's batches.
#[derive(Clone, Copy, Debug)]
pub struct Crew<'a> {
    orders: &'a Orders,
    pods: u32,
    /// The order statistic of the last of them.
    last: f64,
}

/// The probability whose quantile the order statistic is about (Blom 1958).
fn position(rank: f64, pods: f64) -> f64 {
    (rank - 0.375) / (pods + 0.25)
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

impl Batches {
    /// Fits the last minute by ridge regression; without any batch in it, `assumed`. `largest` is the
    /// most tuples that a batch has, `goal` the latency goal in seconds.
    pub fn fit(view: &View<'_>, assumed: Assumed, largest: f64, goal: f64) -> Self {
        let (mut n, mut x, mut y) = (0.0, 0.0, 0.0);
        for s in view.history.newest(FITTED) {
            n += s.started_batches;
            x += s.started_tuples;
            y += s.started_seconds;
        }
        let (mean_x, mean_y) = if n < 1.0 {
            (assumed.tuples, assumed.seconds)
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
        Self {
            tuples: largest.max(1.0),
            base: (mean_y - each * mean_x).max(0.0),
            each,
            goal,
        }
    }

    /// Batches of a window of so many tuples.
    pub fn count(&self, tuples: f64) -> f64 {
        (tuples / self.tuples).ceil()
    }

    /// Pod-seconds that a window of so many tuples takes.
    pub fn seconds(&self, tuples: f64) -> f64 {
        self.count(tuples) * self.base + tuples * self.each
    }

    /// Probability that a window misses the goal if these pods start idle. With more pods than batches it
    /// is the same for any number of them.
    ///
    /// Batches go round by round; those of the last, partial round begin with the pods that are
    /// free first, whose times are order statistics.
    pub fn late(&self, tuples: f64, crew: Crew<'_>) -> f64 {
        if tuples <= 0.0 {
            return 0.0;
        }
        let pods = f64::from(crew.pods);
        let count = self.count(tuples);
        let each = 1.02 * (self.base + self.each * tuples / count);
        let rounds = (count / pods).floor();
        let rest = count - rounds * pods;
        let spread = NOISE * each;
        let full = if rounds > 0.0 {
            let end = rounds * each + spread * rounds.sqrt() * crew.last;
            normal((end - self.goal) / (0.5 * spread * rounds.sqrt()))
        } else {
            0.0
        };
        let partial = if rest > 0.0 {
            let order = crew.orders.get(rest, crew.pods);
            let begin = rounds * each + spread * rounds.sqrt() * order;
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
    // Most sizes are far too small or far too large for a window: no exponential for those.
    if x.abs() > FAR {
        return if x < 0.0 { 0.0 } else { 1.0 };
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_statistics_of_many_pods_are_those_of_the_formula() {
        let orders = Orders::new();
        for pods in [1, 2, 48, 64, 65, 100, 1_000, 10_000] {
            for tenth in 0..=10 {
                let rank = f64::from(1 + (pods - 1) * tenth / 10);
                let exact = inverse_normal(position(rank, f64::from(pods)));
                let found = orders.get(rank, pods);
                assert!(
                    (found - exact).abs() < 1e-3,
                    "{rank} of {pods}: {found} {exact}"
                );
            }
        }
    }

    #[test]
    fn more_pods_than_batches_change_nothing() {
        let batches = Batches {
            tuples: 500.0,
            base: 0.05,
            each: 0.0018,
            goal: 1.0,
        };
        let orders = Orders::new();
        let late = |pods| batches.late(150_000.0, orders.of(pods));
        assert!(late(301) > 1e-6, "300 batches");
        for pods in [302, 400, 10_000] {
            assert!((late(pods) - late(301)).abs() < 1e-15, "{pods}");
        }
    }
}
