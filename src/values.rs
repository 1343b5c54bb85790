//! Values as people write them: `500ms`, `64MiB`, `1%`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use jiff::{SignedDuration, SpanRelativeTo};
use serde::{Deserialize, Deserializer};

/// A length of time such as `500ms`, `5s`, `2m`, `1h 30m` or `30d`, days of 24 hours; never negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A text that is no [`Span`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a length of time such as 500ms, 5s or 2m, got {0:?}")]
pub struct NotASpan(String);

impl FromStr for Span {
    type Err = NotASpan;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let signed: Option<SignedDuration> = text.parse().ok();
        // Days and weeks, by the clock and not by the calendar.
        let days = || {
            let span: jiff::Span = text.parse().ok()?;
            span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()
        };
        let signed = signed.or_else(days);
        let unsigned = signed.and_then(|signed| Duration::try_from(signed).ok());
        unsigned.map(Self).ok_or_else(|| NotASpan(text.into()))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SignedDuration::try_from(self.0) {
            Ok(signed) => write!(f, "{signed:#}"),
            Err(_) => write!(f, "{} s", self.0.as_secs()),
        }
    }
}

/// How many local workers: a number, or `auto` for as many as the scaler decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "toml::Value")]
pub enum Workers {
    /// So many.
    Count(usize),
    /// As many as the scaler decides.
    Auto,
}

/// A text that is no [`Workers`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a number of workers from 0 to 1000, or auto, got {0}")]
pub struct NotWorkers(String);

impl FromStr for Workers {
    type Err = NotWorkers;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let count = text.parse().ok().filter(|count| *count <= 1_000);
        count
            .map(Self::Count)
            .ok_or_else(|| NotWorkers(text.into()))
    }
}

impl TryFrom<toml::Value> for Workers {
    type Error = NotWorkers;

    fn try_from(value: toml::Value) -> Result<Self, Self::Error> {
        match &value {
            toml::Value::String(text) => text.parse(),
            toml::Value::Integer(count) => count.to_string().parse(),
            other => Err(NotWorkers(format!("{other:?}"))),
        }
    }
}

/// How long a batch takes at least: `50ms+600us` is 50 ms and 0.6 ms a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// For the batch.
    pub batch: Duration,
    /// For each tuple.
    pub tuple: Duration,
}

/// A text that is no [`Pace`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a time a batch and a time a tuple such as 50ms+600us, got {0:?}")]
pub struct NotAPace(String);

impl FromStr for Pace {
    type Err = NotAPace;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = text.split_once('+').and_then(|(batch, tuple)| {
            let time = |text: &str| text.parse::<Span>().ok().map(|span| span.0);
            Some(Self {
                batch: time(batch)?,
                tuple: time(tuple)?,
            })
        });
        read.ok_or_else(|| NotAPace(text.into()))
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}us+{}ns",
            self.batch.as_micros(),
            self.tuple.as_nanos()
        )
    }
}

/// A number of bytes such as `65536`, `64KiB` or `64MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A text that is no [`Size`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a number of bytes such as 65536, 64KiB or 64MiB, got {0:?}")]
pub struct NotASize(String);

impl FromStr for Size {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let size: Option<ByteSize> = text.parse().ok();
        size.map(|size| Self(size.as_u64()))
            .ok_or_else(|| NotASize(text.into()))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ByteSize(self.0).display().iec().fmt(f)
    }
}

/// A share of a whole, such as `1%` or `0.01`: from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Share(pub f64);

/// A text that is no [`Share`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a share from 0% to 100%, such as 1% or 0.01, got {0:?}")]
pub struct NotAShare(String);

impl FromStr for Share {
    type Err = NotAShare;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, whole) = match text.trim().strip_suffix('%') {
            Some(percent) => (percent.trim_end(), 100.0),
            None => (text.trim(), 1.0),
        };
        let share = number.parse::<f64>().map(|number| number / whole);
        match share {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(Self(share)),
            _ => Err(NotAShare(text.into())),
        }
    }
}

/// Deserializes from the text that a person wrote.
macro_rules! from_text {
    ($($kind:ty),*) => {
        $(impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        })*
    };
}

from_text!(Span, Size, Share);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        let ms = |text: &str| text.parse::<Span>().unwrap().0.as_millis();
        assert_eq!(ms("500ms"), 500);
        assert_eq!(ms("5s"), 5_000);
        assert_eq!(ms("2m"), 120_000);
        assert_eq!(ms("1h 30m"), 5_400_000);
        assert_eq!(ms("30d"), 30 * 86_400_000);
        for bad in ["", "5", "-5s", "5 parsecs"] {
            let error = bad.parse::<Span>().unwrap_err().to_string();
            assert!(error.contains("such as 500ms"), "{error}");
        }
    }

    #[test]
    fn a_span_is_shown_as_it_is_written() {
        let shown = |text: &str| text.parse::<Span>().unwrap().to_string();
        assert_eq!(shown("500ms"), "500ms");
        assert_eq!(shown("2m"), "2m");
    }

    #[test]
    fn sizes_are_binary_where_their_unit_says_so() {
        let bytes = |text: &str| text.parse::<Size>().unwrap().0;
        assert_eq!(bytes("65536"), 65_536);
        assert_eq!(bytes("64KiB"), 65_536);
        assert_eq!(bytes("64MiB"), 64 << 20);
        assert_eq!(bytes("1MB"), 1_000_000);
        assert!("64 parsecs".parse::<Size>().is_err());
    }

    #[test]
    fn shares_are_percentages_or_fractions() {
        let share = |text: &str| text.parse::<Share>().unwrap().0;
        assert!((share("1%") - 0.01).abs() < 1e-12);
        assert!((share("0.1 %") - 0.001).abs() < 1e-12);
        assert!((share("0.25") - 0.25).abs() < 1e-12);
        for bad in ["", "101%", "-1%", "NaN", "one"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
    }
}
