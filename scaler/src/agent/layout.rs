//! What a table is indexed by: the state's axes with their bin edges, and the actions.

use serde::{Deserialize, Serialize};

/// A measured quantity that a state may be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// Rate ÷ (capacity × pods): 1 is a pool that just meets the goal.
    Load,
    /// ln(rate of 2 s ÷ rate of 30 s).
    Trend,
    /// Seconds of waiting work a pod.
    Backlog,
    /// Weighted mean of |Δ ln rate| in five seconds.
    Volatility,
    /// Measured utilization of ready pods.
    Utilization,
    /// Pods that would just meet the goal.
    Demand,
}

impl Feature {
    /// Its name, as users read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Trend => "trend",
            Self::Backlog => "backlog",
            Self::Volatility => "volatility",
            Self::Utilization => "utilization",
            Self::Demand => "demand",
        }
    }
}

/// One axis of the state: `edges.len() + 1` bins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// What is binned.
    pub feature: Feature,
    /// Where one bin ends and the next begins, ascending; an edge belongs to the bin above it.
    pub edges: Vec<f64>,
}

impl Axis {
    /// How many bins.
    pub fn bins(&self) -> usize {
        self.edges.len() + 1
    }

    /// The bin of a value; what is no number is in the lowest.
    pub fn bin(&self, value: f64) -> usize {
        self.edges.iter().filter(|&&edge| value >= edge).count()
    }

    /// A bin as a person reads it.
    pub fn label(&self, bin: usize) -> String {
        match (
            bin.checked_sub(1).map(|b| self.edges[b]),
            self.edges.get(bin),
        ) {
            (None, None) => "any".into(),
            (None, Some(to)) => format!("<{to}"),
            (Some(from), None) => format!("≥{from}"),
            (Some(from), Some(to)) => format!("{from}…{to}"),
        }
    }
}

/// What an agent may do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Leave the pool as it is.
    Hold,
    /// Have ⌈headroom × demand⌉ pods, where 1 × demand just meets the goal.
    Headroom(f64),
    /// Add so many pods; fewer if negative.
    Step(i32),
    /// Until the next choice, have what the model says at this share of the late window's price.
    Risk(f64),
}

impl Action {
    /// As a person reads it.
    pub fn label(self) -> String {
        match self {
            Self::Hold => "hold".into(),
            Self::Headroom(headroom) => format!("×{headroom:.2}"),
            Self::Step(pods) => format!("{pods:+}"),
            Self::Risk(share) => format!("κ×{share:.2}"),
        }
    }
}

/// Axes and actions of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    /// The state's axes, the slowest first.
    pub axes: Vec<Axis>,
    /// The actions, neighbours beside each other: exploration goes to a neighbour.
    pub actions: Vec<Action>,
}

impl Layout {
    /// How many states.
    pub fn states(&self) -> usize {
        self.axes.iter().map(Axis::bins).product()
    }

    /// How many pairs of state and action.
    pub fn pairs(&self) -> usize {
        self.states() * self.actions.len()
    }

    /// The state of one bin an axis.
    pub fn state(&self, bins: &[usize]) -> usize {
        let axes = self.axes.iter().zip(bins);
        axes.fold(0, |state, (axis, bin)| state * axis.bins() + bin)
    }

    /// The bins of a state: the inverse of [`Layout::state`].
    pub fn bins(&self, mut state: usize) -> Vec<usize> {
        let mut bins = vec![0; self.axes.len()];
        for (bin, axis) in bins.iter_mut().zip(&self.axes).rev() {
            *bin = state % axis.bins();
            state /= axis.bins();
        }
        bins
    }

    /// A hash of every edge and action: tables of different layouts must not be mixed.
    ///
    /// FNV-1a over the exact bits, the same on every machine.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Fnv(0xCBF2_9CE4_8422_2325);
        for axis in &self.axes {
            hash.text(axis.feature.name());
            for edge in &axis.edges {
                hash.bits(edge.to_bits());
            }
        }
        hash.text("actions");
        for action in &self.actions {
            match *action {
                Action::Hold => hash.text("hold"),
                Action::Headroom(headroom) => {
                    hash.text("headroom");
                    hash.bits(headroom.to_bits());
                }
                Action::Step(pods) => {
                    hash.text("step");
                    hash.bits(u64::from(pods.cast_unsigned()));
                }
                Action::Risk(share) => {
                    hash.text("risk");
                    hash.bits(share.to_bits());
                }
            }
        }
        hash.0
    }
}

struct Fnv(u64);

impl Fnv {
    fn text(&mut self, text: &str) {
        for byte in text.bytes() {
            self.byte(byte);
        }
        self.byte(0xFF);
    }

    fn bits(&mut self, bits: u64) {
        for byte in bits.to_le_bytes() {
            self.byte(byte);
        }
    }

    fn byte(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    }
}
