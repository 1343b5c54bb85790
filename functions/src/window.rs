//! Tumbling windows over event time: half-open `[start, end)`, aligned to the epoch.

/// A window's start, milliseconds since the epoch (UTC).
pub type WindowStart = i64;

/// The start of the window of length `window_ms` that holds event time `ts`.
///
/// Rounds towards minus infinity, so times before the epoch fall into the window that holds them.
#[inline]
pub fn start_of(ts: i64, window_ms: i64) -> WindowStart {
    ts.div_euclid(window_ms) * window_ms
}

/// The first instant after the window that starts at `start`.
#[inline]
pub fn end_of(start: WindowStart, window_ms: i64) -> i64 {
    start.saturating_add(window_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_holds_its_start_and_not_its_end() {
        assert_eq!(start_of(1_000, 1_000), 1_000);
        assert_eq!(start_of(1_999, 1_000), 1_000);
        assert_eq!(start_of(2_000, 1_000), 2_000);
        assert_eq!(end_of(1_000, 1_000), 2_000);
    }

    #[test]
    fn a_time_before_the_epoch_falls_into_the_window_that_holds_it() {
        assert_eq!(start_of(-1, 1_000), -1_000);
        assert_eq!(start_of(-1_000, 1_000), -1_000);
    }
}
