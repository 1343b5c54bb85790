//! Folds snapshots of the store into what a viewer sees. Pure, and bounded: it holds the windows of
//! the last [`HISTORY_MS`] and nothing else that grows.
//!
//! A snapshot older than the one shown is refused, so that a total never falls because another
//! replica was asked.

use std::collections::BTreeMap;

use windlass_dispatcher::store::{GmvRow, Snapshot, TotalRow};

use crate::money;
use crate::schema::{Frame, Sales, Totals, Window};

/// How much of the past the live page holds, ms.
pub const HISTORY_MS: i64 = 300_000;
/// Windows whose sales by province are added up for "the last minute".
const MINUTE_MS: i64 = 60_000;

/// A window's rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Second {
    rows: Vec<Sales>,
    revision: u64,
    state: String,
}

impl Second {
    fn window(&self, start: i64) -> Window {
        let sum = add("", self.rows.iter());
        Window {
            start,
            orders: sum.orders,
            gmv: sum.gmv,
            revision: self.revision,
            state: self.state.clone(),
        }
    }
}

/// The state of the live page.
#[derive(Debug, Default)]
pub struct Screen {
    seconds: BTreeMap<i64, Second>,
    frame: Frame,
    server: String,
}

impl Screen {
    /// Takes a snapshot; what a viewer of the previous frames must be told, or `None` if it is
    /// older than what is shown or nothing changed.
    pub fn take(&mut self, snapshot: Snapshot) -> Option<Frame> {
        if snapshot.progress.commits < self.frame.commits {
            return None;
        }
        let fresh = read(&snapshot.windows);
        let mut changed = Vec::new();
        // What the snapshot covers and does not hold is gone, as after a table was emptied.
        let covered = self.seconds.split_off(&snapshot.from);
        for (start, second) in fresh {
            if covered.get(&start) != Some(&second) {
                changed.push(second.window(start));
            }
            self.seconds.insert(start, second);
        }
        let forget_before = snapshot.newest.map_or(0, |newest| newest - HISTORY_MS);
        self.seconds = self.seconds.split_off(&forget_before);
        let run: Vec<Sales> = snapshot.totals.iter().map(total).collect();
        let last_closed = self
            .seconds
            .iter()
            .rev()
            .find(|(_, second)| second.state != "open");
        let (second_start, second) = match last_closed {
            Some((&start, second)) => (Some(start), second.rows.clone()),
            None => (None, Vec::new()),
        };
        let frame = Frame {
            commits: snapshot.progress.commits,
            total: add("", run.iter()),
            run,
            minute: self.minute(second_start),
            second,
            second_start,
            windows: changed,
            forget_before,
        };
        let same = frame.windows.is_empty()
            && frame.run == self.frame.run
            && frame.second_start == self.frame.second_start;
        self.server = snapshot.server;
        self.frame = Frame {
            windows: Vec::new(),
            ..frame.clone()
        };
        (!same).then_some(frame)
    }

    /// All of it, for a viewer that knows nothing yet.
    pub fn whole(&self) -> Frame {
        let windows = self
            .seconds
            .iter()
            .map(|(&start, second)| second.window(start));
        Frame {
            windows: windows.collect(),
            ..self.frame.clone()
        }
    }

    /// Totals of the whole run.
    pub fn totals(&self) -> Totals {
        Totals {
            total: self.frame.total.clone(),
            provinces: self.frame.run.clone(),
            commits: self.frame.commits,
            server: self.server.clone(),
        }
    }

    /// Windows of the history that are open.
    pub fn open(&self) -> u64 {
        self.seconds
            .values()
            .filter(|second| second.state == "open")
            .count() as u64
    }

    fn minute(&self, last: Option<i64>) -> Vec<Sales> {
        let Some(last) = last else {
            return Vec::new();
        };
        let mut by_province: BTreeMap<&str, Vec<&Sales>> = BTreeMap::new();
        for (_, second) in self.seconds.range(last - MINUTE_MS + 1..=last) {
            for row in &second.rows {
                by_province.entry(&row.province).or_default().push(row);
            }
        }
        let sums = by_province
            .into_iter()
            .map(|(province, rows)| add(province, rows.into_iter()));
        sums.collect()
    }
}

fn read(rows: &[GmvRow]) -> BTreeMap<i64, Second> {
    let mut seconds: BTreeMap<i64, Second> = BTreeMap::new();
    for row in rows {
        let Some(start) = instant(&row.window_start) else {
            continue;
        };
        let second = seconds.entry(start).or_default();
        second.revision += row.revision;
        second.state.clone_from(&row.state);
        second.rows.push(Sales {
            province: row.province.clone(),
            orders: row.orders,
            gmv: row.gmv.clone(),
            mean: row.mean.clone(),
            min_amount: row.min_amount.clone(),
            max_amount: row.max_amount.clone(),
        });
    }
    seconds
}

/// Reads a window's start as the store writes it, ms UTC.
pub fn instant(text: &str) -> Option<i64> {
    let at = jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M:%S%.f", text).ok()?;
    let at = at.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(at.timestamp().as_millisecond())
}

fn total(row: &TotalRow) -> Sales {
    Sales {
        province: row.province.clone(),
        orders: row.orders,
        gmv: row.gmv.clone(),
        mean: row.mean.clone(),
        min_amount: row.min_amount.clone(),
        max_amount: row.max_amount.clone(),
    }
}

/// Adds exactly; the store's texts always parse.
fn add<'a>(province: &str, rows: impl Iterator<Item = &'a Sales>) -> Sales {
    let (mut orders, mut gmv) = (0, 0);
    let mut extremes: Option<(i128, i128)> = None;
    let read = |text: &str| money::hundredths(text).unwrap_or_default();
    for row in rows {
        orders += row.orders;
        gmv += read(&row.gmv);
        let (least, most) = (read(&row.min_amount), read(&row.max_amount));
        extremes = Some(extremes.map_or((least, most), |(a, b)| (a.min(least), b.max(most))));
    }
    let (least, most) = extremes.unwrap_or_default();
    Sales {
        province: province.to_owned(),
        orders,
        gmv: money::text(gmv),
        mean: money::mean(gmv, orders),
        min_amount: money::text(least),
        max_amount: money::text(most),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_dispatcher::store::Progress;

    fn row(second: u32, province: &str, gmv: &str, revision: u64, state: &str) -> GmvRow {
        GmvRow {
            window_start: format!("2026-11-11 00:00:{second:02}.000"),
            province: province.into(),
            orders: 2,
            gmv: gmv.into(),
            mean: "0.0000".into(),
            min_amount: "1.00".into(),
            max_amount: "9.00".into(),
            revision,
            state: state.into(),
        }
    }

    fn snapshot(commits: u64, windows: Vec<GmvRow>, total: &str) -> Snapshot {
        let newest = windows.last().and_then(|row| instant(&row.window_start));
        Snapshot {
            progress: Progress {
                commits,
                ..Progress::default()
            },
            newest,
            windows,
            totals: vec![TotalRow {
                province: "Anhui".into(),
                orders: 2,
                gmv: total.into(),
                mean: "0.0000".into(),
                min_amount: "1.00".into(),
                max_amount: "9.00".into(),
            }],
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_viewer_is_told_only_of_windows_that_changed() {
        let mut screen = Screen::default();
        let rows = vec![
            row(1, "Anhui", "10.00", 0, "closed"),
            row(2, "Anhui", "5.00", 0, "open"),
        ];
        assert_eq!(
            screen
                .take(snapshot(1, rows, "15.00"))
                .unwrap()
                .windows
                .len(),
            2
        );
        let rows = vec![
            row(1, "Anhui", "11.00", 1, "closed"),
            row(2, "Anhui", "5.00", 0, "open"),
        ];
        let frame = screen.take(snapshot(2, rows, "16.00")).unwrap();
        assert_eq!(frame.windows.len(), 1);
        assert_eq!(
            (frame.windows[0].gmv.as_str(), frame.windows[0].revision),
            ("11.00", 1)
        );
        assert_eq!(frame.total.gmv, "16.00");
        assert_eq!(screen.whole().windows.len(), 2);
    }

    #[test]
    fn an_older_replica_cannot_take_the_total_back() {
        let mut screen = Screen::default();
        let rows = vec![row(1, "Anhui", "10.00", 0, "closed")];
        screen.take(snapshot(5, rows.clone(), "10.00"));
        assert_eq!(screen.take(snapshot(4, rows, "9.00")), None);
        assert_eq!(screen.totals().total.gmv, "10.00");
    }

    #[test]
    fn the_minute_and_the_second_end_with_the_last_closed_window() {
        let mut screen = Screen::default();
        let rows = vec![
            row(1, "Anhui", "10.00", 0, "final"),
            row(2, "Anhui", "5.50", 0, "closed"),
            row(2, "Hebei", "1.25", 0, "closed"),
            row(3, "Anhui", "99.00", 0, "open"),
        ];
        let frame = screen.take(snapshot(1, rows, "115.75")).unwrap();
        assert_eq!(frame.second.len(), 2);
        assert_eq!(frame.minute[0].gmv, "15.50");
        assert_eq!(screen.open(), 1);
    }

    #[test]
    fn history_is_bounded() {
        let mut screen = Screen::default();
        screen.take(snapshot(
            1,
            vec![row(1, "Anhui", "1.00", 0, "final")],
            "1.00",
        ));
        let mut late = row(1, "Anhui", "1.00", 0, "open");
        late.window_start = "2026-11-11 01:00:00.000".into();
        let mut next = snapshot(2, vec![late], "2.00");
        next.from = next.newest.unwrap();
        screen.take(next);
        assert_eq!(screen.whole().windows.len(), 1);
    }
}
