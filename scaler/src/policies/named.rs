//! The formulas under the names and parameters that the benchmark knows them by.

use std::fmt;
use std::str::FromStr;

use super::{Autoscaler, Ds2, Formula, Kpa, Signal, Threshold, ds2, kpa};

/// A formula with its parameters; `-tuned` ones were tuned by hand for the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Named {
    HpaDefault,
    HpaTuned,
    KedaQueueDefault,
    KedaQueueFiveSeconds,
    KedaQueueTuned,
    KedaRateDefault,
    KedaRateTuned,
    Threshold,
    ThresholdTuned,
    KpaDefault,
    KpaTuned,
    Ds2,
    Ds2Tuned,
    Ds2VolatilityTuned,
    SloDs2Tuned,
}

impl Named {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::HpaDefault,
        Self::HpaTuned,
        Self::KedaQueueDefault,
        Self::KedaQueueFiveSeconds,
        Self::KedaQueueTuned,
        Self::KedaRateDefault,
        Self::KedaRateTuned,
        Self::Threshold,
        Self::ThresholdTuned,
        Self::KpaDefault,
        Self::KpaTuned,
        Self::Ds2,
        Self::Ds2Tuned,
        Self::Ds2VolatilityTuned,
        Self::SloDs2Tuned,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::HpaDefault => "hpa-default",
            Self::HpaTuned => "hpa-tuned",
            Self::KedaQueueDefault => "keda-queue-default",
            Self::KedaQueueFiveSeconds => "keda-queue-5s",
            Self::KedaQueueTuned => "keda-queue-tuned",
            Self::KedaRateDefault => "keda-rate-default",
            Self::KedaRateTuned => "keda-rate-tuned",
            Self::Threshold => "threshold",
            Self::ThresholdTuned => "threshold-tuned",
            Self::KpaDefault => "kpa-default",
            Self::KpaTuned => "kpa-tuned",
            Self::Ds2 => "ds2",
            Self::Ds2Tuned => "ds2-tuned",
            Self::Ds2VolatilityTuned => "ds2-volatility-tuned",
            Self::SloDs2Tuned => "slo-ds2-tuned",
        }
    }

    /// A fresh policy of this name.
    pub fn policy(self) -> Formula {
        let autoscaler = |signal, interval, stabilization, growth| {
            Formula::Autoscaler(Autoscaler::new(signal, interval, stabilization, growth))
        };
        let utilization = |window| Signal::Utilization {
            target: 0.6,
            window,
        };
        let queue = |target| Signal::Queue { target };
        let rate = |target, window| Signal::Rate { target, window };
        let kpa = |target, stable, threshold| {
            let panic = 6;
            Formula::Kpa(Kpa::new(kpa::Parameters {
                target,
                stable,
                panic,
                threshold,
            }))
        };
        let ds2 = |parameters| Formula::Ds2(Ds2::new(parameters));
        match self {
            Self::HpaDefault => autoscaler(utilization(15), 15.0, 300.0, 4),
            Self::HpaTuned => autoscaler(utilization(5), 5.0, 0.0, 16),
            Self::KedaQueueDefault => autoscaler(queue(1_000.0), 15.0, 300.0, 4),
            Self::KedaQueueFiveSeconds => autoscaler(queue(800.0), 5.0, 0.0, 32),
            Self::KedaQueueTuned => autoscaler(queue(900.0), 1.0, 5.0, 32),
            Self::KedaRateDefault => autoscaler(rate(900.0, 15), 15.0, 300.0, 4),
            Self::KedaRateTuned => autoscaler(rate(800.0, 5), 5.0, 0.0, 32),
            Self::Threshold => Formula::Threshold(Threshold::new(1)),
            Self::ThresholdTuned => Formula::Threshold(Threshold::new(2)),
            Self::KpaDefault => kpa(800.0, 60, 2.0),
            Self::KpaTuned => kpa(900.0, 30, 1.5),
            Self::Ds2 => ds2(ds2::Parameters::PLAIN),
            Self::Ds2Tuned => ds2(ds2::Parameters::TUNED),
            Self::Ds2VolatilityTuned => ds2(ds2::Parameters::VOLATILITY),
            Self::SloDs2Tuned => ds2(ds2::Parameters::WITHIN_GOAL),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that no formula has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the name of a formula such as slo-ds2-tuned or hpa-default, got {0:?}")]
pub struct NotNamed(String);

impl FromStr for Named {
    type Err = NotNamed;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|named| named.name() == text);
        found.ok_or_else(|| NotNamed(text.into()))
    }
}
