//! A token bucket: how many Jobs may be created, and when the next.

use std::num::NonZeroU32;

/// Tokens are counted in thousandths, so that a millisecond at one a second is a whole number.
const TOKEN: u64 = 1_000;

/// Fills at a rate, holds a burst; full at first.
#[derive(Clone, Debug)]
pub struct Bucket {
    per_second: u64,
    capacity: u64,
    held: u64,
    filled_ms: u64,
}

impl Bucket {
    /// `per_second` tokens a second, at most `burst` at once.
    pub fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        let capacity = u64::from(burst.get()) * TOKEN;
        Self {
            per_second: per_second.get().into(),
            capacity,
            held: capacity,
            filled_ms: 0,
        }
    }

    /// Takes a token; else says when there is one (monotonic ms). A clock that goes back gives none.
    ///
    /// # Errors
    /// The time to ask again.
    pub fn take(&mut self, now_ms: u64) -> Result<(), u64> {
        let passed_ms = now_ms.saturating_sub(self.filled_ms);
        self.filled_ms = self.filled_ms.max(now_ms);
        let more = passed_ms.saturating_mul(self.per_second);
        self.held = self.held.saturating_add(more).min(self.capacity);
        if self.held >= TOKEN {
            self.held -= TOKEN;
            return Ok(());
        }
        Err(self.filled_ms + (TOKEN - self.held).div_ceil(self.per_second))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bucket(per_second: u32, burst: u32) -> Bucket {
        let number = |n| NonZeroU32::new(n).unwrap();
        Bucket::new(number(per_second), number(burst))
    }

    #[test]
    fn a_burst_is_followed_by_the_rate() {
        let mut bucket = bucket(2, 3);
        for _ in 0..3 {
            assert_eq!(bucket.take(10_000), Ok(()));
        }
        assert_eq!(bucket.take(10_000), Err(10_500));
        assert_eq!(bucket.take(10_499), Err(10_500));
        assert_eq!(bucket.take(10_500), Ok(()));
        assert_eq!(bucket.take(10_500), Err(11_000));
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate_allow_and_never_refused_at_the_time_it_names(
            per_second in 1_u32..50,
            burst in 1_u32..20,
            steps in prop::collection::vec(0_u64..700, 1..200),
        ) {
            let mut bucket = bucket(per_second, burst);
            let (mut now, mut taken) = (0, 0_u64);
            for step in steps {
                now += step;
                match bucket.take(now) {
                    Ok(()) => taken += 1,
                    Err(at) => {
                        prop_assert!(at > now);
                        prop_assert_eq!(bucket.clone().take(at), Ok(()));
                    }
                }
                let allowed = u64::from(burst) + now * u64::from(per_second) / 1_000;
                prop_assert!(taken <= allowed, "{} of {} by {} ms", taken, allowed, now);
            }
        }
    }
}
