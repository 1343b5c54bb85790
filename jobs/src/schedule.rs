//! When scheduled work is due: pure. A schedule's state is the last due time that was dealt with, so
//! whoever reads it decides the same, and nothing is started twice.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, FixedOffset, TimeDelta, TimeZone, Utc};
use cron::Schedule;

/// A cron expression of five fields, and by which clock it is meant.
#[derive(Clone, Debug, PartialEq)]
pub struct Cadence {
    schedule: Schedule,
    offset: FixedOffset,
}

impl Cadence {
    /// Reads minute, hour, day of month, month and day of week (`30 2 * * Mon-Fri`), and a distance
    /// from UTC such as `+08:00`.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn parse(cron: &str, utc_offset: &str) -> Result<Self, String> {
        let fields = "expected minute, hour, day of month, month and day of week";
        let example = "such as \"30 2 * * *\" for half past two every day";
        if cron.split_whitespace().count() != 5 {
            return Err(format!("{fields}, {example}, got {cron:?}"));
        }
        // The library counts days from Sunday = 1, others from Sunday = 0.
        let days = cron.split_whitespace().next_back().unwrap_or_default();
        let numbered = |day: &str| day.starts_with(|first: char| first.is_ascii_digit());
        if days.split(',').any(numbered) {
            return Err(format!(
                "expected days of the week by name, such as Mon-Fri, got {cron:?}"
            ));
        }
        // The library's expressions begin with seconds.
        let schedule = Schedule::from_str(&format!("0 {cron}")).map_err(|error| {
            let why = error.to_string();
            let why = why.lines().next().unwrap_or_default();
            format!("{fields}, {example}, got {cron:?}: {why}")
        })?;
        let offset = utc_offset.parse().map_err(|_| {
            format!("expected a distance from UTC such as +08:00 or +00:00, got {utc_offset:?}")
        })?;
        Ok(Self { schedule, offset })
    }

    /// The first due time after `ms` (UTC), if there is ever one.
    pub fn next_after(&self, ms: i64) -> Option<i64> {
        let after = self.at(ms)?;
        let next = self.schedule.after(&after).next()?;
        Some(next.timestamp_millis())
    }

    /// The last due time at or before `ms` (UTC), if there was ever one.
    pub fn last_until(&self, ms: i64) -> Option<i64> {
        // Due times are whole seconds, and the library's are before the one given.
        let beyond = self.at(ms)?.checked_add_signed(TimeDelta::seconds(1))?;
        let beyond = beyond.timestamp_millis().div_euclid(1_000) * 1_000;
        let last = self.schedule.after(&self.at(beyond)?).next_back()?;
        Some(last.timestamp_millis())
    }

    fn at(&self, ms: i64) -> Option<DateTime<FixedOffset>> {
        let utc = DateTime::<Utc>::from_timestamp_millis(ms)?;
        Some(self.offset.from_utc_datetime(&utc.naive_utc()))
    }
}

/// What is to be done about a schedule now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing is due.
    Wait,
    /// Start what was due then, ms UTC.
    Start(i64),
    /// What was due then was missed by too much: note it, and go on.
    Missed(i64),
}

/// Decides for a schedule whose due times up to and including `dealt_with` (ms UTC) are dealt with. Of
/// several that are due the last one counts, the earlier ones are skipped; it is started if it is no
/// older than `start_within`.
pub fn decide(cadence: &Cadence, dealt_with: i64, start_within: Duration, now: i64) -> Decision {
    let Some(due) = cadence.last_until(now).filter(|due| *due > dealt_with) else {
        return Decision::Wait;
    };
    let late = Duration::from_millis(now.saturating_sub(due).max(0).cast_unsigned());
    if late <= start_within {
        Decision::Start(due)
    } else {
        Decision::Missed(due)
    }
}

/// The first pause before work that failed is begun again.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How long to wait before work that has failed so many times in a row is begun again, as long as
/// [`decide`] still has it started: 5 s, twice as long each time, at most 5 minutes.
pub fn retry_pause(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    LONGEST_PAUSE.min(FIRST_PAUSE * (1 << doublings))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn ms(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text)
            .unwrap()
            .timestamp_millis()
    }

    #[test]
    fn due_times_follow_the_clock_that_is_named() {
        let midnight = |offset| Cadence::parse("0 0 11 11 *", offset).unwrap();
        let now = ms("2026-01-01T00:00:00Z");
        let utc = midnight("+00:00").next_after(now).unwrap();
        assert_eq!(utc, ms("2026-11-11T00:00:00Z"));
        let china = midnight("+08:00").next_after(now).unwrap();
        assert_eq!(china, ms("2026-11-10T16:00:00Z"));
    }

    #[test]
    fn days_of_the_week_are_those_of_the_calendar() {
        let on_weekdays = Cadence::parse("30 2 * * Mon-Fri", "+00:00").unwrap();
        // A Saturday, and the Monday after it.
        let next = on_weekdays.next_after(ms("2026-11-14T00:00:00Z"));
        assert_eq!(next, Some(ms("2026-11-16T02:30:00Z")));
        let every_other = Cadence::parse("0 0 * * */2", "+00:00").unwrap();
        assert!(every_other.next_after(0).is_some());
    }

    #[test]
    fn the_last_due_time_is_the_present_one_when_it_is_due_now() {
        let hourly = Cadence::parse("0 * * * *", "+00:00").unwrap();
        let three = ms("2026-11-11T03:00:00Z");
        for at in [three, three + 1, three + 999, three + HOUR - 1] {
            assert_eq!(hourly.last_until(at), Some(three), "{at}");
        }
        assert_eq!(hourly.last_until(three - 1), Some(three - HOUR));
        assert_eq!(hourly.next_after(three), Some(three + HOUR));
        assert_eq!(hourly.next_after(three - 1), Some(three));
    }

    #[test]
    fn each_due_time_is_dealt_with_once_and_only_the_last_of_several_is_started() {
        let hourly = Cadence::parse("0 * * * *", "+00:00").unwrap();
        let within = Duration::from_secs(600);
        let three = ms("2026-11-11T03:00:00Z");
        let decide = |dealt_with, now| decide(&hourly, dealt_with, within, now);
        assert_eq!(decide(three - HOUR, three - 1), Decision::Wait);
        assert_eq!(decide(three - HOUR, three), Decision::Start(three));
        assert_eq!(decide(three, three + 5), Decision::Wait);
        // Down for a day and back within ten minutes of the last one.
        let late = three + 600_000;
        assert_eq!(decide(three - 24 * HOUR, late), Decision::Start(three));
        assert_eq!(decide(three - 24 * HOUR, late + 1), Decision::Missed(three));
        // A clock that was set back repeats nothing.
        assert_eq!(decide(three + HOUR, three), Decision::Wait);
    }

    #[test]
    fn what_fails_is_begun_again_after_pauses_that_grow() {
        let pauses = [1, 2, 3, 6, 7, 8, u32::MAX].map(|failures| retry_pause(failures).as_secs());
        assert_eq!(pauses, [5, 10, 20, 160, 300, 300, 300]);
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_an_example() {
        for cron in ["", "* * * *", "0 0 2 * * *", "61 * * * *", "a b c d e"] {
            let error = Cadence::parse(cron, "+00:00").unwrap_err();
            assert!(error.contains("30 2 * * *"), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
        for cron in ["0 9 * * 1", "0 9 * * Sat,0", "0 9 * * 1-5"] {
            let error = Cadence::parse(cron, "+00:00").unwrap_err();
            assert!(error.contains("by name, such as Mon-Fri"), "{error}");
        }
        let error = Cadence::parse("0 * * * *", "Asia/Shanghai").unwrap_err();
        assert!(error.contains("+08:00"), "{error}");
    }
}
