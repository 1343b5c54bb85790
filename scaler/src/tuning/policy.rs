//! What a run can be scored by: a mode of the scaler, or a formula as users know it from elsewhere.

use super::Mode;
use crate::policies::Named;

/// A policy that a run can be replayed through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// A mode of the scaler, with its guards and limits.
    Mode(Mode),
    /// A formula as the benchmark knows it, within the same limits.
    Formula(Named),
}

/// A name that no policy has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {}, got {found:?}", Policy::expected())]
pub struct NotAPolicy {
    found: String,
}

impl Policy {
    /// What is compared unless somebody says otherwise.
    pub const USUAL: [Self; 6] = [
        Self::Mode(Mode::Elastic),
        Self::Mode(Mode::Paper),
        Self::Mode(Mode::SloDs2),
        Self::Formula(Named::Ds2VolatilityTuned),
        Self::Formula(Named::HpaDefault),
        Self::Formula(Named::KedaQueueTuned),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mode(mode) => mode.name(),
            Self::Formula(named) => named.name(),
        }
    }

    /// Which names there are.
    pub fn expected() -> String {
        let formulas = Named::ALL.map(Named::name).join(", ");
        format!("a mode (elastic, paper, slo-ds2, hpa, static) or a formula ({formulas})")
    }
}

impl std::str::FromStr for Policy {
    type Err = NotAPolicy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mode = Mode::named(text).filter(|mode| *mode != Mode::Off);
        mode.map(Self::Mode)
            .or_else(|| text.parse().ok().map(Self::Formula))
            .ok_or_else(|| NotAPolicy { found: text.into() })
    }
}
