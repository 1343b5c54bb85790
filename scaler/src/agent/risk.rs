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
        let mut late = Vec::new();
        let mut cheapest = f64::INFINITY;
        for pods in least..=max.max(1) {
            let each = forecast.points.iter().map(|point| {
                let tuples = point.tuples + forecast.queued;
                point.weight * batches.late(tuples, pods, &self.orders)
            });
            let mean: f64 = each.sum();
            late.push(mean);
            cheapest = cheapest.min(f64::from(pods) + HYSTERESIS * price * mean);
            // Pods alone cost more than the best so far, whatever lateness they prevent.
            if mean < NEVER || f64::from(pods) >= cheapest {
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
