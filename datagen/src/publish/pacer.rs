//! Real time: when a message that is due on the schedule may be sent.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How fast a schedule is played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// So many times as fast as it was: 1 is real time.
    Times(f64),
    /// As fast as the broker takes it.
    Max,
}

/// A speed that is none: what was expected, what came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a speed such as 1x, 10x or max, got {0:?}")]
pub struct InvalidSpeed(String);

impl FromStr for Speed {
    type Err = InvalidSpeed;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "max" {
            return Ok(Self::Max);
        }
        let times = text.strip_suffix('x').unwrap_or(text).parse::<f64>();
        match times {
            Ok(times) if times.is_finite() && times > 0.0 => Ok(Self::Times(times)),
            _ => Err(InvalidSpeed(text.to_owned())),
        }
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Times(times) => write!(f, "{times}x"),
            Self::Max => f.write_str("max"),
        }
    }
}

/// How a schedule is played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// How fast.
    pub speed: Speed,
    /// For how long it has been played already, by a process that died: what was due in that time
    /// is sent at once, and may come too late.
    pub passed: Duration,
}

impl From<Speed> for Pace {
    fn from(speed: Speed) -> Self {
        Self {
            speed,
            passed: Duration::ZERO,
        }
    }
}

impl Pace {
    /// Whether what is due `due_ns` nanoseconds after the start was due before this process began.
    pub(super) fn is_past(&self, due_ns: u64) -> bool {
        match self.speed {
            Speed::Max => !self.passed.is_zero(),
            Speed::Times(times) => (due_ns as f64) < self.passed.as_nanos() as f64 * times,
        }
    }
}

/// Holds messages back until they are due.
///
/// A publisher that was held up catches up as fast as it can: the schedule is what producers did,
/// and they would not have sold less because their broker was away.
#[derive(Clone, Copy, Debug)]
pub struct Pacer {
    started: Instant,
    pace: Pace,
}

impl Pacer {
    /// Starts the schedule now.
    pub fn start(pace: impl Into<Pace>) -> Self {
        Self {
            started: Instant::now(),
            pace: pace.into(),
        }
    }

    /// Waits until `due_ns` nanoseconds of the schedule have passed; at once if they have.
    pub async fn wait(&self, due_ns: u64) {
        if let Some(at) = self.instant(due_ns)
            && at > Instant::now()
        {
            sleep_until(at).await;
        }
    }

    /// How long ago that was, ms; 0 at speed `max`, which has no schedule.
    pub fn behind_ms(&self, due_ns: u64) -> u64 {
        let behind = self.instant(due_ns).map(|at| at.elapsed().as_millis());
        behind.map_or(0, |ms| u64::try_from(ms).unwrap_or(u64::MAX))
    }

    fn instant(&self, due_ns: u64) -> Option<Instant> {
        match self.pace.speed {
            Speed::Max => None,
            Speed::Times(times) => {
                let after = Duration::try_from_secs_f64(due_ns as f64 / 1e9 / times).ok()?;
                let left = after.saturating_sub(self.pace.passed);
                self.started.checked_add(left)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_a_multiple_or_max() {
        assert_eq!("10x".parse(), Ok(Speed::Times(10.0)));
        assert_eq!("0.5".parse(), Ok(Speed::Times(0.5)));
        assert_eq!("max".parse(), Ok(Speed::Max));
        for bad in ["", "x", "-1x", "0", "fast", "inf"] {
            assert!(bad.parse::<Speed>().is_err(), "{bad:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_is_held_back_until_it_is_due_at_the_speed_asked_for() {
        let pacer = Pacer::start(Speed::Times(10.0));
        let before = Instant::now();
        pacer.wait(20_000_000_000).await;
        assert_eq!(before.elapsed(), Duration::from_secs(2));
        pacer.wait(10_000_000_000).await;
        assert_eq!(before.elapsed(), Duration::from_secs(2));
        assert_eq!(pacer.behind_ms(10_000_000_000), 1_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_schedule_taken_up_again_is_at_once_where_it_would_be() {
        let pace = Pace {
            speed: Speed::Times(1.0),
            passed: Duration::from_secs(60),
        };
        assert!(pace.is_past(59_999_999_999));
        assert!(!pace.is_past(60_000_000_000));
        let pacer = Pacer::start(pace);
        let before = Instant::now();
        pacer.wait(59_000_000_000).await;
        assert_eq!(before.elapsed(), Duration::ZERO);
        pacer.wait(62_000_000_000).await;
        assert_eq!(before.elapsed(), Duration::from_secs(2));
    }
}
