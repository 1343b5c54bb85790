//! Back-off: after a failure nothing is tried for a while, longer each time, until something works.

/// The first pause, before it is shortened at random.
const SHORTEST_MS: u64 = 500;
/// No pause is longer, unless the other side asked for it.
const LONGEST_MS: u64 = 30_000;

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct Pause {
    failures: u32,
    until_ms: u64,
    reason: Option<String>,
}

impl Pause {
    /// It works: no pause.
    pub fn well(&mut self) {
        *self = Self::default();
    }

    /// It failed: pauses from half to all of 500 ms · 2ⁿ by `random` in `[0, 1)`, at most 30 s, so
    /// that many who failed together do not come again together; at least `asked_ms`.
    pub fn failed(&mut self, reason: String, asked_ms: u64, random: f64, now_ms: u64) {
        let longest = (SHORTEST_MS << self.failures.min(6)).min(LONGEST_MS);
        let pause = longest / 2 + (longest as f64 / 2.0 * random) as u64;
        self.failures = self.failures.saturating_add(1);
        // Several calls in flight fail together: the later ones do not shorten what was asked for.
        self.until_ms = self.until_ms.max(now_ms + pause.max(asked_ms));
        self.reason = Some(reason);
    }

    /// Until when nothing may be tried, if that is later than now.
    pub fn blocks(&self, now_ms: u64) -> Option<u64> {
        (self.until_ms > now_ms).then_some(self.until_ms)
    }

    /// Why it paused, until something works.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_half_a_minute_and_end_with_success() {
        let mut pause = Pause::default();
        let mut now = 0;
        let mut lengths = Vec::new();
        for _ in 0..9 {
            pause.failed("no".into(), 0, 0.999_999, now);
            let until = pause.blocks(now).unwrap();
            lengths.push(until - now);
            now = until;
            assert_eq!(pause.blocks(now), None);
            assert_eq!(pause.reason(), Some("no"));
        }
        assert_eq!(lengths[..3], [499, 999, 1_999]);
        assert_eq!(lengths[8], 29_999);
        pause.well();
        assert_eq!(pause.reason(), None);
        pause.failed("no".into(), 0, 0.0, now);
        assert_eq!(pause.blocks(now), Some(now + 250));
    }

    #[test]
    fn what_the_other_side_asks_for_is_kept() {
        let mut pause = Pause::default();
        pause.failed("slow down".into(), 45_000, 0.5, 0);
        pause.failed("slow down".into(), 0, 0.5, 10);
        assert_eq!(pause.blocks(10), Some(45_000));
    }
}
