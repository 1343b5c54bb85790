//! The one place of this crate that reads the clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use windlass_functions::time::Now;

/// A monotonic clock with a zero of its own, and the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    zero: Instant,
}

impl Clock {
    /// A clock whose monotonic time starts at 0.
    #[allow(clippy::disallowed_methods)]
    pub fn start() -> Self {
        Self {
            zero: Instant::now(),
        }
    }

    /// Both clocks.
    #[allow(clippy::disallowed_methods)]
    pub fn now(&self) -> Now {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Now {
            mono_ms: self.zero.elapsed().as_millis() as u64,
            unix_ms: since_epoch.as_millis() as i64,
        }
    }

    /// The monotonic clock in microseconds, for what is shown: decisions are made by [`Clock::now`].
    pub fn mono_us(&self) -> u64 {
        self.zero.elapsed().as_micros() as u64
    }

    /// The instant at which the monotonic clock shows `mono_ms`.
    pub fn instant(&self, mono_ms: u64) -> Instant {
        self.zero + Duration::from_millis(mono_ms)
    }
}
