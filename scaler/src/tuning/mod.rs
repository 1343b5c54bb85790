//! What a user may change while the scaler runs.
//!
//! The pairs of a ConfigMap, or the lines of a file, are validated whole: one bad key refuses the
//! edit, and every reason is given at once. [`live`] keeps the last good tuning.

pub mod calendar;
pub mod live;
mod policy;
mod read;

use std::collections::BTreeMap;

pub use calendar::Calendar;
pub use policy::{NotAPolicy, Policy};

/// Documents every key at its default: the ConfigMap's `_example` block.
pub const EXAMPLE: &str = include_str!("../../data/tuning.example.txt");
/// The key of a ConfigMap under which [`EXAMPLE`] is kept; ignored when tuning is read.
pub const EXAMPLE_KEY: &str = "_example";

/// Who decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Sarsa, guarded.
    #[default]
    Elastic,
    /// The published Sarsa.
    Paper,
    /// A formula on capacity within the goal.
    SloDs2,
    /// Kubernetes' formula.
    Hpa,
    /// A constant.
    Static,
    /// Nobody.
    Off,
}

impl Mode {
    const ALL: [Self; 6] = [
        Self::Elastic,
        Self::Paper,
        Self::SloDs2,
        Self::Hpa,
        Self::Static,
        Self::Off,
    ];

    /// The mode of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Elastic => "elastic",
            Self::Paper => "paper",
            Self::SloDs2 => "slo-ds2",
            Self::Hpa => "hpa",
            Self::Static => "static",
            Self::Off => "off",
        }
    }
}

/// A valid tuning. Its defaults are those of [`EXAMPLE`], which says what each field means.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Tuning {
    pub mode: Mode,
    pub min_size: u32,
    pub max_size: u32,
    pub static_size: u32,
    /// Seconds.
    pub latency_goal: f64,
    /// Pod-seconds.
    pub late_window_price: f64,
    /// Whole seconds.
    pub decision_interval: f64,
    pub learning_rate: f64,
    pub learning_rate_floor: f64,
    pub discount: f64,
    pub trace_decay: f64,
    pub exploration: f64,
    pub target_utilization: f64,
    pub guards: bool,
    /// Seconds.
    pub gap_patience: f64,
    /// Percent.
    pub gap_boost: f64,
    /// Seconds.
    pub gap_caution: f64,
    pub calendar: Calendar,
    pub shadow: Vec<Policy>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            mode: Mode::Elastic,
            min_size: 1,
            max_size: 48,
            static_size: 4,
            latency_goal: 1.0,
            late_window_price: 60.0,
            decision_interval: 5.0,
            learning_rate: 0.5,
            learning_rate_floor: 0.0005,
            discount: 0.8,
            trace_decay: 0.8,
            exploration: 0.03,
            target_utilization: 0.6,
            guards: true,
            gap_patience: 5.0,
            gap_boost: 25.0,
            gap_caution: 15.0,
            calendar: Calendar::default(),
            shadow: Vec::new(),
        }
    }
}

/// Why one key refuses an edit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Nobody knows it.
    #[error("{key}: no such key; the known ones are {known}")]
    Unknown {
        /// The key.
        key: String,
        /// All keys.
        known: String,
    },
    /// Its value is out of range, or no value at all.
    #[error("{key}: expected {expected}, got {found:?}")]
    Value {
        /// The key.
        key: String,
        /// What would be valid.
        expected: String,
        /// What there is.
        found: String,
    },
    /// A line is no `key: value`.
    #[error("line {line}: expected `key: value`, got {found:?}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What there is.
        found: String,
    },
    /// A key is there twice.
    #[error("{0}: given twice; keep one")]
    Twice(String),
}

impl Tuning {
    /// Reads the pairs of a ConfigMap; keys left out have their defaults, `_example` is ignored.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Vec<Invalid>> {
        read::tuning(pairs.into_iter().filter(|(key, _)| *key != EXAMPLE_KEY))
    }

    /// Reads lines of `key: value`; empty lines and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn from_text(text: &str) -> Result<Self, Vec<Invalid>> {
        let (mut pairs, mut invalid) = (BTreeMap::new(), Vec::new());
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_once(':') {
                Some((key, value)) => {
                    if pairs.insert(key.trim(), value.trim()).is_some() {
                        invalid.push(Invalid::Twice(key.trim().into()));
                    }
                }
                None => invalid.push(Invalid::Line {
                    line: at + 1,
                    found: line.into(),
                }),
            }
        }
        match Self::from_pairs(pairs) {
            Ok(tuning) if invalid.is_empty() => Ok(tuning),
            Ok(_) => Err(invalid),
            Err(more) => Err(invalid.into_iter().chain(more).collect()),
        }
    }
}
