//! The shard's clock in event time: how far every active source has come.
//!
//! The watermark is the minimum over active sources of (largest event time − delay), and never
//! falls. `final_before` trails it by the allowed lateness. Both are told the time and told when
//! the queue was seen empty; they read no clock.

/// The stream's time settings, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// How long a window is held open for tuples out of order.
    pub delay_ms: i64,
    /// How long after closing a window takes late tuples as revisions.
    pub allowed_lateness_ms: i64,
    /// How long a source may be silent before the others stop waiting for it.
    pub idle_timeout_ms: u64,
    /// How far behind the most advanced source another is waited for.
    pub max_skew_ms: i64,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            delay_ms: 500,
            allowed_lateness_ms: 5_000,
            idle_timeout_ms: 2_000,
            max_skew_ms: 15 * 60_000,
        }
    }
}

/// A source's number in its shard's [`Watermark`].
pub type SourceNumber = usize;

#[derive(Clone, Copy, Debug)]
struct Clock {
    max_ts: Option<i64>,
    /// Since a takeover and until it speaks, a known source stands at the stored watermark.
    stands_at: Option<i64>,
    /// Known from before a takeover, and silent since.
    restored: bool,
    active: bool,
    spoke_ms: u64,
}

impl Clock {
    /// What it contributes to the minimum, less the delay.
    fn position(&self, delay_ms: i64) -> Option<i64> {
        if self.restored {
            self.stands_at
        } else {
            self.max_ts.map(|ts| ts - delay_ms)
        }
    }

    /// How far it has come at least. Since a takeover it may have come further than it stands: the
    /// commit that told of it may be older than what it said last.
    fn reach(&self, delay_ms: i64) -> Option<i64> {
        let stands_at = self.stands_at.filter(|_| self.restored);
        self.max_ts
            .max(stands_at.map(|at| at.saturating_add(delay_ms)))
    }
}

/// The watermark of one shard and the clocks of its sources.
#[derive(Debug)]
pub struct Watermark {
    times: Times,
    value: Option<i64>,
    final_before: Option<i64>,
    clocks: Vec<Option<Clock>>,
    /// Numbers in `clocks` that are free.
    free: Vec<SourceNumber>,
    /// After a takeover both values hold until what was returned to the queue has come again.
    held: bool,
    /// Idle clocks count from here at the earliest.
    open_since_ms: u64,
    last_spoke_ms: u64,
    top: Option<i64>,
    /// Who held the minimum back when it was last computed; recomputing is needed when it moves.
    holder: Option<SourceNumber>,
    stale: bool,
}

impl Watermark {
    /// A shard's watermark as the last commit left it, held until [`Watermark::release`] or
    /// [`Watermark::queue_empty`].
    pub fn restore(
        times: Times,
        value: Option<i64>,
        final_before: Option<i64>,
        now_ms: u64,
    ) -> Self {
        Self {
            times,
            value,
            final_before,
            clocks: Vec::new(),
            free: Vec::new(),
            held: true,
            open_since_ms: now_ms,
            last_spoke_ms: now_ms,
            top: None,
            holder: None,
            stale: true,
        }
    }

    /// The watermark, ms UTC; `None` before any tuple.
    pub fn value(&self) -> Option<i64> {
        self.value
    }

    /// Windows that end at or before this are final, ms UTC.
    pub fn final_before(&self) -> Option<i64> {
        self.final_before
    }

    /// Adds a source that never spoke here.
    pub fn add(&mut self) -> SourceNumber {
        self.push(Clock {
            max_ts: None,
            stands_at: None,
            restored: false,
            active: false,
            spoke_ms: 0,
        })
    }

    /// Adds a source known from the ledger. If it was active, it stands at the stored watermark
    /// until it speaks or its idle clock, started now, runs out.
    pub fn add_known(&mut self, max_ts: Option<i64>, active: bool, now_ms: u64) -> SourceNumber {
        self.push(Clock {
            max_ts,
            stands_at: self.value,
            restored: active,
            active,
            spoke_ms: now_ms,
        })
    }

    fn push(&mut self, clock: Clock) -> SourceNumber {
        self.stale = true;
        if let Some(free) = self.free.pop() {
            self.clocks[free] = Some(clock);
            return free;
        }
        self.clocks.push(Some(clock));
        self.clocks.len() - 1
    }

    /// Forgets a source; its number may be given out again.
    pub fn remove(&mut self, source: SourceNumber) {
        if self.clocks[source].take().is_some() {
            self.free.push(source);
        }
        self.stale = true;
    }

    /// Stops waiting for a source until it speaks again, as if it were idle.
    pub fn retire(&mut self, source: SourceNumber) {
        if let Some(clock) = &mut self.clocks[source] {
            clock.active = false;
            clock.restored = false;
            self.stale = true;
        }
    }

    /// The source's largest event time so far.
    pub fn max_ts(&self, source: SourceNumber) -> Option<i64> {
        self.clock(source).max_ts
    }

    /// Whether the source counts for the minimum.
    pub fn is_active(&self, source: SourceNumber) -> bool {
        self.clock(source).active
    }

    /// When the source last spoke, on the monotonic clock.
    pub fn spoke_ms(&self, source: SourceNumber) -> u64 {
        self.clock(source).spoke_ms
    }

    fn clock(&self, source: SourceNumber) -> &Clock {
        self.clocks[source]
            .as_ref()
            .expect("a source's number is used only while the source is known")
    }

    /// Takes in that `source` has spoken, with `max_ts` the largest event time of what it said.
    pub fn spoke(&mut self, source: SourceNumber, max_ts: i64, now_ms: u64) {
        let clock = self.clocks[source]
            .as_mut()
            .expect("a source's number is used only while the source is known");
        let rose = clock.max_ts.is_none_or(|before| max_ts > before);
        if !clock.active || clock.restored || (rose && self.holder == Some(source)) {
            self.stale = true;
        }
        clock.active = true;
        clock.restored = false;
        clock.spoke_ms = now_ms;
        clock.max_ts = clock.max_ts.max(Some(max_ts));
        self.last_spoke_ms = now_ms;
        if self.top < clock.max_ts {
            self.top = clock.max_ts;
            let behind = self
                .holder
                .and_then(|holder| self.clocks[holder])
                .and_then(|clock| clock.reach(self.times.delay_ms));
            if behind.is_some_and(|ts| max_ts.saturating_sub(ts) > self.times.max_skew_ms) {
                self.stale = true;
            }
        }
    }

    /// A delivery came that was never delivered before: everything returned has come again.
    pub fn release(&mut self) {
        if self.held {
            self.held = false;
            self.stale = true;
        }
    }

    /// Brings both values up to date with what was said.
    pub fn advance(&mut self) {
        if self.held || !self.stale {
            return;
        }
        self.stale = false;
        self.top = self.active().filter_map(|(_, clock)| clock.max_ts).max();
        let too_far_behind = self
            .top
            .map(|top| top.saturating_sub(self.times.max_skew_ms));
        let slowest = self
            .active()
            .filter(|(_, clock)| clock.reach(self.times.delay_ms) >= too_far_behind)
            .map(|(number, clock)| (clock.position(self.times.delay_ms), number))
            .min();
        self.holder = slowest.map(|(_, number)| number);
        if let Some((Some(position), _)) = slowest {
            self.value = self.value.max(Some(position));
            self.final_before = self
                .final_before
                .max(Some(position - self.times.allowed_lateness_ms));
        }
    }

    fn active(&self) -> impl Iterator<Item = (SourceNumber, &Clock)> {
        self.clocks
            .iter()
            .enumerate()
            .filter_map(|(number, clock)| clock.as_ref().map(|clock| (number, clock)))
            .filter(|(_, clock)| clock.active)
    }

    /// The queue was seen empty, and nothing was held back on our side: whoever has not spoken for
    /// the idle timeout is idle. Returns the sources that became so.
    ///
    /// When all are idle, the windows up to `last_end` (the end of the last one with data) close;
    /// after the allowed lateness of further silence they are final.
    pub fn queue_empty(&mut self, now_ms: u64, last_end: Option<i64>) -> Vec<SourceNumber> {
        self.release();
        let (open_since, timeout) = (self.open_since_ms, self.times.idle_timeout_ms);
        let idle: Vec<SourceNumber> = self
            .active()
            .filter(|(_, clock)| now_ms.saturating_sub(clock.spoke_ms.max(open_since)) >= timeout)
            .map(|(number, _)| number)
            .collect();
        for &number in &idle {
            self.retire(number);
        }
        self.advance();
        if self.all_idle(now_ms) {
            self.value = self.value.max(last_end);
            let silence = now_ms.saturating_sub(self.last_spoke_ms.max(open_since));
            if silence >= timeout.saturating_add_signed(self.times.allowed_lateness_ms) {
                self.final_before = self.final_before.max(last_end);
            }
        }
        idle
    }

    /// Whether no source is active, and has not been for the idle timeout.
    pub fn all_idle(&self, now_ms: u64) -> bool {
        !self.held
            && self.active().next().is_none()
            && now_ms.saturating_sub(self.last_spoke_ms.max(self.open_since_ms))
                >= self.times.idle_timeout_ms
    }

    /// Raises both values to what other shards have reached; whether either rose.
    pub fn follow(&mut self, value: Option<i64>, final_before: Option<i64>) -> bool {
        let rises = value > self.value || final_before > self.final_before;
        self.value = self.value.max(value);
        self.final_before = self.final_before.max(final_before);
        rises
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times {
        delay_ms: 500,
        allowed_lateness_ms: 5_000,
        idle_timeout_ms: 2_000,
        max_skew_ms: 60_000,
    };

    fn fresh() -> Watermark {
        let mut watermark = Watermark::restore(TIMES, None, None, 0);
        watermark.release();
        watermark
    }

    fn say(watermark: &mut Watermark, source: SourceNumber, ts: i64, now: u64) {
        watermark.spoke(source, ts, now);
        watermark.advance();
    }

    #[test]
    fn it_is_the_slowest_source_less_the_delay() {
        let mut watermark = fresh();
        let (a, b) = (watermark.add(), watermark.add());
        say(&mut watermark, a, 10_000, 0);
        assert_eq!(watermark.value(), Some(9_500));
        say(&mut watermark, b, 10_200, 0);
        say(&mut watermark, a, 12_000, 0);
        assert_eq!(watermark.value(), Some(9_700));
        assert_eq!(watermark.final_before(), Some(4_700));
        say(&mut watermark, b, 11_000, 0);
        assert_eq!(watermark.value(), Some(10_500));
    }

    #[test]
    fn it_never_falls() {
        let mut watermark = fresh();
        let (a, b) = (watermark.add(), watermark.add());
        say(&mut watermark, a, 10_000, 0);
        say(&mut watermark, b, 1_000, 0);
        assert_eq!(watermark.value(), Some(9_500));
    }

    #[test]
    fn a_silent_source_leaves_the_minimum_only_after_the_queue_was_seen_empty() {
        let mut watermark = fresh();
        let (a, b) = (watermark.add(), watermark.add());
        say(&mut watermark, b, 5_000, 0);
        say(&mut watermark, a, 60_000, 9_000);
        assert_eq!(
            watermark.value(),
            Some(4_500),
            "a backlog may still hold b's tuples"
        );
        assert_eq!(watermark.queue_empty(9_000, Some(60_000)), vec![b]);
        assert_eq!(watermark.value(), Some(59_500));
    }

    #[test]
    fn a_source_too_far_behind_is_not_waited_for() {
        let mut watermark = fresh();
        let (a, b) = (watermark.add(), watermark.add());
        say(&mut watermark, b, 1_000, 0);
        say(&mut watermark, a, 61_000, 0);
        assert_eq!(watermark.value(), Some(500));
        say(&mut watermark, a, 61_001, 0);
        assert_eq!(watermark.value(), Some(60_501));
    }

    #[test]
    fn when_all_are_silent_the_last_window_closes_and_later_is_final() {
        let mut watermark = fresh();
        let a = watermark.add();
        say(&mut watermark, a, 10_100, 0);
        watermark.queue_empty(1_999, Some(11_000));
        assert_eq!(watermark.value(), Some(9_600));
        watermark.queue_empty(2_000, Some(11_000));
        assert_eq!(watermark.value(), Some(11_000));
        assert_eq!(watermark.final_before(), Some(4_600));
        watermark.queue_empty(7_000, Some(11_000));
        assert_eq!(watermark.final_before(), Some(11_000));
    }

    #[test]
    fn after_a_takeover_it_holds_until_returned_tuples_have_come_again() {
        let mut watermark = Watermark::restore(TIMES, Some(9_500), Some(4_500), 0);
        let a = watermark.add_known(Some(10_000), true, 0);
        let b = watermark.add_known(Some(20_000), true, 0);
        say(&mut watermark, a, 30_000, 10);
        assert_eq!(watermark.value(), Some(9_500), "held");
        watermark.release();
        watermark.advance();
        assert_eq!(
            watermark.value(),
            Some(9_500),
            "b is known and stands at the stored value"
        );
        say(&mut watermark, b, 20_500, 20);
        assert_eq!(watermark.value(), Some(20_000));
    }

    #[test]
    fn a_known_source_that_stays_silent_after_a_takeover_runs_out_of_time() {
        let mut watermark = Watermark::restore(TIMES, Some(9_500), Some(4_500), 0);
        let a = watermark.add_known(Some(10_000), true, 0);
        watermark.add_known(Some(10_000), true, 0);
        watermark.release();
        say(&mut watermark, a, 30_000, 1_900);
        assert_eq!(watermark.value(), Some(9_500));
        watermark.queue_empty(2_000, Some(31_000));
        assert_eq!(watermark.value(), Some(29_500));
    }

    #[test]
    fn a_known_source_that_died_before_a_takeover_is_waited_for_no_further_than_the_skew() {
        let mut watermark = Watermark::restore(TIMES, Some(9_500), Some(4_500), 0);
        let a = watermark.add_known(Some(10_000), true, 0);
        watermark.add_known(Some(9_000), true, 0);
        watermark.release();
        // A backlog: the queue is never seen empty, so nobody becomes idle.
        say(&mut watermark, a, 70_000, 10);
        assert_eq!(watermark.value(), Some(9_500));
        say(&mut watermark, a, 70_001, 20);
        assert_eq!(watermark.value(), Some(69_501));
    }
}
