//! A size from a model that learns while it runs: pods + price · P(a window is late), at its least.
//!
//! Learned from the samples are how the rate moves ([`super::forecast`]), how long a batch takes by
//! its tuples ([`super::batches`]) and how large batches get. What an agent learns on top of it is the
//! price to use in which state: [`super::layout::Action::Risk`].

use super::batches::{Batches, Orders};
use super::capacity::Assumed;
use super::forecast::{Forecaster, Point};
use super::history::View;

/// Seconds in which a queue should be gone.
const CATCH_UP: f64 = 2.0;
/// Price of a late window for scale-in, as a multiple of that for scale-out.
const HYSTERESIS: f64 = 4.0;
/// Pods per pod-second of expected work that there are at least.
const SPARE: f64 = 1.3;
/// A probability that is as good as none.
const NEVER: f64 = 1e-6;
/// Pods up to which every number of them is looked at…
const FINE: u32 = 48;
/// …and how many numbers above are, as large a share apart each: a decision takes as long for a pool of
/// thousands as for one of a hundred.
const COARSE: f64 = 24.0;

/// What has been learned about rate and batches.
#[derive(Clone, Debug)]
pub struct Model {
    assumed: Assumed,
    forecaster: Forecaster,
    largest_batch: f64,
    orders: Orders,
}

/// The windows to expect.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// What may arrive in a window.
    pub points: Vec<Point>,
    /// The middle of it, and the queue's share.
    pub tuples: f64,
    /// Tuples that wait already and are to be done beside each window's own.
    pub queued: f64,
}

impl Model {
    /// Knows nothing but what is assumed.
    pub fn new(assumed: Assumed) -> Self {
        Self {
            assumed,
            forecaster: Forecaster::default(),
            largest_batch: assumed.tuples,
            orders: Orders::new(),
        }
    }

    /// Sees a second, and forecasts those to come.
    pub fn second(&mut self, view: &View<'_>) -> Forecast {
        let last = view.history.last().copied().unwrap_or_default();
        self.forecaster.second(last.arrived);
        if last.started_batches >= 1.0 {
            let mean = last.started_tuples / last.started_batches;
            self.largest_batch = (0.9999 * self.largest_batch).max(mean);
        }
        Forecast {
            points: self.forecaster.points(),
            tuples: self.forecaster.middle(),
            queued: last.queued_tuples / CATCH_UP,
        }
    }

    /// How long batches take at present, for a latency goal in seconds.
    pub fn batches(&self, view: &View<'_>, goal: f64) -> Batches {
        Batches::fit(view, self.assumed, self.largest_batch, goal)
    }

    /// How likely a window is late, by the number of pods, as far as a window's `price` of so many
    /// pods can make it worth looking.
    pub fn curve(&self, forecast: &Forecast, batches: &Batches, max: u32, price: f64) -> Curve {
        // One window late is not all that comes of too small a pool: the backlog grows. So no fewer
        // than do the expected work with some to spare.
        let most = f64::from(max.max(1));
        let work = batches.seconds(forecast.tuples);
        let least = (SPARE * work / batches.goal).floor().clamp(1.0, most) as u32;
        // Pods without a batch prevent nothing: so no more than there are batches of the largest window,
        // and one beside them.
        let windows = || {
            forecast
                .points
                .iter()
                .map(|point| point.tuples + forecast.queued)
        };
        let batches_at_most = windows()
            .map(|tuples| batches.count(tuples))
            .fold(0.0, f64::max);
        let largest = (batches_at_most + 1.0).clamp(f64::from(least), most) as u32;
        let range = f64::from(largest) / f64::from(least.max(FINE));
        let ratio = range.max(1.0).powf(1.0 / COARSE);
        let mut late = Vec::new();
        let mut cheapest = f64::INFINITY;
        let mut pods = least;
        loop {
            let crew = self.orders.of(pods);
            let each = forecast.points.iter().map(|point| {
                let tuples = point.tuples + forecast.queued;
                point.weight * batches.late(tuples, crew)
            });
            let mean: f64 = each.sum();
            late.push((pods, mean));
            cheapest = cheapest.min(f64::from(pods) + HYSTERESIS * price * mean);
            // Pods alone cost more than the best so far, whatever lateness they prevent.
            if mean < NEVER || f64::from(pods) >= cheapest || pods == largest {
                break;
            }
            let further = if pods < FINE {
                0
            } else {
                (f64::from(pods) * ratio) as u32
            };
            pods = further.clamp(pods + 1, largest);
        }
        Curve { late }
    }
}

/// How likely a window is late, by the number of pods.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Numbers of pods, ascending, and the probability with each; one at least.
    late: Vec<(u32, f64)>,
}

impl Curve {
    fn least(&self) -> u32 {
        self.late.first().map_or(1, |&(pods, _)| pods)
    }

    /// The size of least expected price, pods + `price` · P(late).
    pub fn size(&self, price: f64) -> u32 {
        let (mut best, mut price_of_best) = (self.least(), f64::INFINITY);
        for &(pods, late) in &self.late {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn batches() -> Batches {
        Batches {
            tuples: 500.0,
            base: 0.05,
            each: 0.0006,
            goal: 1.0,
        }
    }

    /// A window of about so many tuples, give or take a fifth.
    fn forecast(tuples: f64) -> Forecast {
        let share = |part: u32| 0.8 + 0.01 * f64::from(part);
        let points = (0..40).map(|part| Point {
            tuples: share(part) * tuples,
            weight: 1.0 / 40.0,
        });
        Forecast {
            points: points.collect(),
            tuples,
            queued: 0.0,
        }
    }

    #[test]
    fn however_large_the_pool_may_be_few_sizes_are_looked_at() {
        let model = Model::new(Assumed::default());
        for tuples in [1e3, 1e5, 1e6, 5e6, 1e9] {
            for price in [60.0, 100_000.0] {
                let curve = model.curve(&forecast(tuples), &batches(), 10_000, price);
                let looked_at = curve.late.len();
                assert!(looked_at <= FINE as usize + 25, "{looked_at} at {tuples}");
            }
        }
    }

    #[test]
    fn the_size_found_in_coarse_steps_is_nearly_as_good_as_the_best() {
        let model = Model::new(Assumed::default());
        let (forecast, batches) = (forecast(1e6), batches());
        for price in [60.0, 1_000.0, 100_000.0] {
            let late = |pods: u32| {
                let crew = model.orders.of(pods);
                let points = forecast.points.iter();
                points
                    .map(|point| point.weight * batches.late(point.tuples, crew))
                    .sum::<f64>()
            };
            let paid = |pods: u32| f64::from(pods) + price * late(pods);
            let curve = model.curve(&forecast, &batches, 10_000, price);
            let best = (curve.least()..=3_000)
                .map(paid)
                .fold(f64::INFINITY, f64::min);
            let found = paid(curve.size(price));
            assert!(found <= 1.05 * best, "{found} instead of {best} at {price}");
        }
    }

    #[test]
    fn a_small_pool_is_looked_at_pod_by_pod() {
        let curve = Model::new(Assumed::default()).curve(&forecast(1e4), &batches(), 48, 60.0);
        let sizes: Vec<u32> = curve.late.iter().map(|&(pods, _)| pods).collect();
        let expected: Vec<u32> = (sizes[0]..).take(sizes.len()).collect();
        assert_eq!(sizes, expected);
        assert!(sizes.len() > 3, "{sizes:?}");
    }
}
