//! Policies that are formulas: what users would otherwise run, and what the agent falls back to.
//!
//! Each sees a [`View`] a second and says what size it wants, or nothing. They keep no clock and
//! resize nothing themselves.

use crate::agent::history::View;

pub mod ds2;
pub mod hpa;
pub mod kpa;
pub mod named;
pub mod stabilize;
pub mod threshold;

pub use ds2::Ds2;
pub use hpa::{Autoscaler, Signal};
pub use kpa::Kpa;
pub use named::Named;
pub use threshold::Threshold;

/// A formula and what it remembers.
#[derive(Clone, Debug)]
pub enum Formula {
    /// Always the same size.
    Static(u32),
    /// Kubernetes' horizontal pod autoscaler, alone or fed by KEDA.
    Autoscaler(Autoscaler),
    /// One pod more above a utilization, one less below another.
    Threshold(Threshold),
    /// Rate through measured capacity.
    Ds2(Ds2),
    /// Knative's pod autoscaler.
    Kpa(Kpa),
}

impl Formula {
    /// The size it wants at `view.now`, before any limit; `None` to leave the pool as it is.
    pub fn desired(&mut self, view: &View<'_>) -> Option<u32> {
        match self {
            Self::Static(size) => Some(*size),
            Self::Autoscaler(policy) => policy.desired(view),
            Self::Threshold(policy) => policy.desired(view),
            Self::Ds2(policy) => policy.desired(view),
            Self::Kpa(policy) => policy.desired(view),
        }
    }
}

/// A computed size as a number of pods: never negative, never above what fits.
fn pods(size: f64) -> u32 {
    // `as` saturates, and turns NaN into 0, which the caller's minimum lifts.
    size as u32
}
