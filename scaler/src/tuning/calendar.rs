//! Minimum sizes at known times, such as before midnight on a Singles' Day.

use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use cron::Schedule;

use super::read::seconds;

/// A minimum for a while after every match of a cron expression.
#[derive(Clone, Debug, PartialEq)]
struct Floor {
    schedule: Schedule,
    length: TimeDelta,
    pods: u32,
}

/// All minimums by time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calendar(Vec<Floor>);

/// Longest that one match may hold, seconds.
const LONGEST: f64 = 31.0 * 86_400.0;

impl Calendar {
    /// Reads `cron expression / how long / pods`, more than one separated by `;`.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn parse(text: &str, max_size: u32) -> Result<Self, String> {
        let entries = text
            .split(';')
            .map(str::trim)
            .filter(|entry| !entry.is_empty());
        entries
            .map(|entry| floor(entry, max_size))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The largest minimum in force at a time given in milliseconds since 1970; 0 without any.
    pub fn floor(&self, unix_ms: i64) -> u32 {
        let Some(now) = DateTime::<Utc>::from_timestamp_millis(unix_ms) else {
            return 0;
        };
        let active = self.0.iter().filter(|floor| {
            let earliest = now - floor.length;
            let next = floor.schedule.after(&earliest).next();
            next.is_some_and(|start| start <= now)
        });
        active.map(|floor| floor.pods).max().unwrap_or(0)
    }
}

/// Whether the last field numbers days: the library counts from Sunday = 1, others from Sunday = 0.
fn numbers_weekdays(cron: &str) -> bool {
    let days = cron.split_whitespace().next_back().unwrap_or_default();
    days.split(',')
        .any(|day| day.starts_with(|first: char| first.is_ascii_digit()))
}

fn floor(entry: &str, max_size: u32) -> Result<Floor, String> {
    // A cron expression may hold slashes itself: what we need stands at the end.
    let mut parts = entry.rsplitn(3, " / ").map(str::trim);
    let (pods, length, cron) = (parts.next(), parts.next(), parts.next());
    let (Some(pods), Some(length), Some(cron)) = (pods, length, cron) else {
        return Err(
            "\"cron expression / how long / pods\", such as 50 23 10 11 * / 30m / 40".into(),
        );
    };
    let pods = pods
        .parse()
        .ok()
        .filter(|pods| (1..=max_size).contains(pods))
        .ok_or_else(|| format!("1 to max-size ({max_size}) pods at the end of {entry:?}"))?;
    let length = seconds(length)
        .filter(|length| (1.0..=LONGEST).contains(length))
        .ok_or_else(|| format!("a time from 1s to 744h in the middle of {entry:?}"))?;
    if cron.split_whitespace().count() != 5 {
        let fields = "minute, hour, day of month, month and day of week";
        return Err(format!("{fields} at the beginning of {entry:?}"));
    }
    if numbers_weekdays(cron) {
        return Err(format!(
            "days of the week by name, such as Mon-Fri, at the beginning of {entry:?}"
        ));
    }
    // The library's expressions begin with seconds.
    let schedule = Schedule::from_str(&format!("0 {cron}"))
        .map_err(|error| format!("a cron expression at the beginning of {entry:?} ({error})"))?;
    Ok(Floor {
        schedule,
        length: TimeDelta::milliseconds((length * 1e3) as i64),
        pods,
    })
}
