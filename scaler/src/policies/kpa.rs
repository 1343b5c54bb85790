//! Knative's pod autoscaler: a stable window, and panic when a short one doubles it.

use super::pods;
use crate::agent::history::{Every, View};

/// Its settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    /// Tuples a second and pod to aim at.
    pub target: f64,
    /// Seconds of the stable window, and of a panic.
    pub stable: usize,
    /// Seconds of the panic window.
    pub panic: usize,
    /// Panic once the panic window wants so many times the ready pods.
    pub threshold: f64,
}

/// The autoscaler's state.
#[derive(Clone, Debug)]
pub struct Kpa {
    parameters: Parameters,
    every: Every,
    panic_until: Option<f64>,
    panic_size: u32,
}

/// Shrinks at most by this factor at once: Knative's default.
const SLOWEST_SHRINK: f64 = 2.0;

impl Kpa {
    /// Decides every 2 s, as Knative does.
    pub fn new(parameters: Parameters) -> Self {
        Self {
            parameters,
            every: Every::new(2.0),
            panic_until: None,
            panic_size: 0,
        }
    }

    /// The size it wants.
    pub fn desired(&mut self, view: &View<'_>) -> Option<u32> {
        let due = self.every.due(view.now);
        view.history.last()?;
        if !due {
            return None;
        }
        let p = self.parameters;
        let ready = f64::from(view.pool.ready.max(1));
        let least = (ready / SLOWEST_SHRINK).floor();
        let wanted = |window| {
            let rate = view.history.mean(window, |s| s.arrived);
            (rate / p.target).ceil().max(least)
        };
        let (stable, panic) = (wanted(p.stable), wanted(p.panic));
        if panic / ready >= p.threshold {
            self.panic_until = Some(view.now + p.stable as f64);
        }
        if self.panic_until.is_some_and(|until| view.now < until) {
            self.panic_size = self.panic_size.max(pods(panic)).max(pods(stable));
            return Some(self.panic_size.max(view.pool.size()));
        }
        self.panic_size = 0;
        Some(pods(stable))
    }
}
