//! Reads and checks each key.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::calendar::Calendar;
use super::{Invalid, Mode, Policy, Tuning};

const MODES: &str = "elastic, paper, slo-ds2, hpa, static or off";
const LARGEST_POOL: u32 = 10_000;

/// The pairs that have not been read yet, and what was wrong so far.
struct Pairs<'a> {
    left: BTreeMap<&'a str, &'a str>,
    known: Vec<&'static str>,
    invalid: Vec<Invalid>,
}

pub fn tuning<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Tuning, Vec<Invalid>> {
    let mut pairs = Pairs {
        left: pairs.map(|(key, value)| (key, value.trim())).collect(),
        known: Vec::new(),
        invalid: Vec::new(),
    };
    let default = Tuning::default();
    let mode = pairs.read("mode", default.mode, MODES, mode);
    let min_size = pairs.pods("min-size", default.min_size, 1..=LARGEST_POOL);
    let largest = default.max_size.max(min_size);
    let max_size = pairs.pods("max-size", largest, min_size..=LARGEST_POOL);
    let usual = default.static_size.clamp(min_size, max_size.max(min_size));
    let tuning = Tuning {
        mode,
        min_size,
        max_size,
        static_size: pairs.pods("static-size", usual, min_size..=max_size),
        latency_goal: pairs.span("latency-goal", default.latency_goal, 0.05..=60.0),
        late_window_price: pairs.number("late-window-price", 60.0, 0.0..=100_000.0),
        decision_interval: pairs.whole_seconds("decision-interval", default.decision_interval),
        learning_rate: pairs.number("learning-rate", default.learning_rate, 0.0..=1.0),
        learning_rate_floor: 0.0,
        discount: pairs.number("discount", default.discount, 0.0..=0.99),
        trace_decay: pairs.number("trace-decay", default.trace_decay, 0.0..=1.0),
        exploration: pairs.number("exploration", default.exploration, 0.0..=0.5),
        target_utilization: pairs.number("target-utilization", 0.6, 0.1..=0.95),
        guards: pairs.read("guards", default.guards, "on or off", switch),
        gap_patience: pairs.span("gap-patience", default.gap_patience, 2.0..=600.0),
        gap_boost: pairs.number("gap-boost", default.gap_boost, 0.0..=100.0),
        gap_caution: pairs.span("gap-caution", default.gap_caution, 0.0..=600.0),
        calendar: pairs.calendar(max_size),
        shadow: pairs.read(
            "shadow",
            Vec::new(),
            &format!("{}, more than one separated by commas", Policy::expected()),
            shadows,
        ),
    };
    let floor = default.learning_rate_floor.min(tuning.learning_rate);
    let learning_rate_floor =
        pairs.number("learning-rate-floor", floor, 0.0..=tuning.learning_rate);
    pairs.finish(Tuning {
        learning_rate_floor,
        ..tuning
    })
}

impl Pairs<'_> {
    /// The value of a key; its default if it is left out, or if it is invalid, which is noted.
    fn read<T>(
        &mut self,
        key: &'static str,
        default: T,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> T {
        self.known.push(key);
        let Some(text) = self.left.remove(key) else {
            return default;
        };
        parse(text).unwrap_or_else(|| {
            self.invalid.push(Invalid::Value {
                key: key.into(),
                expected: expected.into(),
                found: text.chars().take(80).collect(),
            });
            default
        })
    }

    fn pods(&mut self, key: &'static str, default: u32, range: RangeInclusive<u32>) -> u32 {
        let expected = format!("pods from {} to {}", range.start(), range.end());
        self.read(key, default, &expected, |text| {
            text.parse().ok().filter(|pods| range.contains(pods))
        })
    }

    fn number(&mut self, key: &'static str, default: f64, range: RangeInclusive<f64>) -> f64 {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        self.read(key, default, &expected, |text| {
            text.parse().ok().filter(|number| range.contains(number))
        })
    }

    fn span(&mut self, key: &'static str, default: f64, range: RangeInclusive<f64>) -> f64 {
        let (from, to) = (range.start(), range.end());
        let expected = format!("a time from {from}s to {to}s, such as 500ms, 5s or 2m");
        self.read(key, default, &expected, |text| {
            seconds(text).filter(|number| range.contains(number))
        })
    }

    fn whole_seconds(&mut self, key: &'static str, default: f64) -> f64 {
        self.read(key, default, "whole seconds from 1s to 60s", |text| {
            seconds(text).filter(|s| (1.0..=60.0).contains(s) && s.fract() == 0.0)
        })
    }

    fn calendar(&mut self, max_size: u32) -> Calendar {
        self.known.push("calendar");
        let Some(text) = self.left.remove("calendar") else {
            return Calendar::default();
        };
        Calendar::parse(text, max_size).unwrap_or_else(|reason| {
            self.invalid.push(Invalid::Value {
                key: "calendar".into(),
                expected: reason,
                found: text.chars().take(80).collect(),
            });
            Calendar::default()
        })
    }

    fn finish(mut self, tuning: Tuning) -> Result<Tuning, Vec<Invalid>> {
        self.known.sort_unstable();
        for key in self.left.keys() {
            self.invalid.push(Invalid::Unknown {
                key: (*key).into(),
                known: self.known.join(", "),
            });
        }
        if self.invalid.is_empty() {
            Ok(tuning)
        } else {
            Err(self.invalid)
        }
    }
}

fn mode(text: &str) -> Option<Mode> {
    Mode::named(text)
}

fn switch(text: &str) -> Option<bool> {
    match text {
        "on" | "true" => Some(true),
        "off" | "false" => Some(false),
        _ => None,
    }
}

fn shadows(text: &str) -> Option<Vec<Policy>> {
    let names = text
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    names.map(|name| name.parse().ok()).collect()
}

/// `500ms`, `5s`, `2m` or `1h` in seconds.
pub fn seconds(text: &str) -> Option<f64> {
    let at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(at);
    let factor = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return None,
    };
    let number: f64 = number.trim().parse().ok()?;
    Some(number * factor).filter(|seconds| seconds.is_finite() && *seconds >= 0.0)
}
