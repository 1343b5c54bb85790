//! Folds snapshots of the store into what a viewer sees. Pure, and bounded: it holds the windows of
//! the last [`KEPT_MS`] and nothing else that grows.
//!
//! A snapshot older than the one shown is refused, so that a total never falls because another
//! replica was asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use windlass_dispatcher::store::{GmvRow, Snapshot, TotalRow};

use crate::money;
use crate::schema::{Frame, Sales, StepRow, Totals, Window};

/// How much of the past the live page holds, ms.
const HISTORY_MS: i64 = 300_000;
/// How much of the past is kept, ms: the page's, moved out to whole minutes.
pub const KEPT_MS: i64 = HISTORY_MS + MINUTE_MS;
/// Windows whose sales by province are added up for "the last minute".
const MINUTE_MS: i64 = 60_000;

/// A window's rows.
#[derive(Debug, Default)]
struct Second {
    rows: Vec<Row>,
    state: String,
    json: OnceLock<Part>,
}

/// Rows of an answer of the API. Written when somebody first asks for them, and once: the last
/// minutes by second are ten thousand rows, of which a commit changes a few hundred.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// How many rows.
    pub rows: usize,
    /// The rows in JSON, with commas between them.
    pub json: Bytes,
}

impl Part {
    fn write(rows: impl Iterator<Item = StepRow>) -> Self {
        let rows: Vec<String> = rows
            .map(|row| serde_json::to_string(&row).unwrap_or_default())
            .collect();
        Self {
            rows: rows.len(),
            json: rows.join(",").into(),
        }
    }
}

/// A province's sales in one window.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    sales: Sales,
    revision: u64,
}

impl Second {
    fn sales(&self) -> impl Iterator<Item = &Sales> {
        self.rows.iter().map(|row| &row.sales)
    }

    fn steps(&self, start: i64) -> impl Iterator<Item = StepRow> {
        let start = text(start);
        self.rows.iter().map(move |row| StepRow {
            start: start.clone(),
            sales: row.sales.clone(),
            revision: row.revision,
            state: self.state.clone(),
        })
    }

    fn window(&self, start: i64) -> Window {
        let sum = add("", self.sales());
        Window {
            start,
            orders: sum.orders,
            gmv: sum.gmv,
            revision: self.rows.iter().map(|row| row.revision).sum(),
            state: self.state.clone(),
        }
    }
}

/// The state of the live page. A clone of it shares the windows.
#[derive(Clone, Debug, Default)]
pub struct Screen {
    seconds: BTreeMap<i64, Arc<Second>>,
    /// Steps of the minutes that windows lie in, a new one whenever one of them has changed.
    minutes: BTreeMap<i64, Arc<OnceLock<Part>>>,
    /// From where `seconds` holds everything, ms UTC.
    kept_from: i64,
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
        let mut covered = self.seconds.split_off(&snapshot.from);
        let mut minutes = BTreeSet::new();
        for (start, second) in fresh {
            let before = covered.remove(&start);
            let same = |old: &Arc<Second>| old.rows == second.rows && old.state == second.state;
            let second = before.filter(same).unwrap_or_else(|| {
                changed.push(second.window(start));
                minutes.insert(minute(start));
                Arc::new(second)
            });
            self.seconds.insert(start, second);
        }
        minutes.extend(covered.into_keys().map(minute));
        for minute in minutes {
            self.minutes.insert(minute, Arc::default());
        }
        let newest = snapshot.newest.unwrap_or_default();
        self.kept_from = newest - KEPT_MS;
        self.seconds = self.seconds.split_off(&self.kept_from);
        self.minutes = self.minutes.split_off(&self.kept_from);
        let forget_before = newest - HISTORY_MS;
        changed.retain(|window| window.start >= forget_before);
        let run: Vec<Sales> = snapshot.totals.iter().map(total).collect();
        let last_closed = self
            .seconds
            .iter()
            .rev()
            .find(|(_, second)| second.state != "open");
        let (second_start, second) = match last_closed {
            Some((&start, second)) => (Some(start), second.sales().cloned().collect()),
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

    /// Whether the totals have grown by what the windows of `snapshot` have. If not, windows have
    /// changed that it does not cover.
    pub fn explains(&self, snapshot: &Snapshot) -> bool {
        let totals: u64 = snapshot.totals.iter().map(|row| row.orders).sum();
        let windows: u64 = snapshot.windows.iter().map(|row| row.orders).sum();
        let covered = self
            .seconds
            .range(snapshot.from..)
            .map(|(_, second)| second);
        let before: u64 = covered
            .flat_map(|second| second.sales())
            .map(|sales| sales.orders)
            .sum();
        i128::from(totals) - i128::from(self.frame.total.orders)
            == i128::from(windows) - i128::from(before)
    }

    /// All of it, for a viewer that knows nothing yet.
    pub fn whole(&self) -> Frame {
        let windows = self
            .seconds
            .range(self.frame.forget_before..)
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

    /// Steps of `width` ms of `[from, to)`, as the store would give them, or `None` if not all of
    /// them are kept here. Both bounds are multiples of `width`, and `width` one of a second's.
    pub fn steps(
        &self,
        from: i64,
        to: i64,
        width: i64,
        province: Option<&str>,
    ) -> Option<Vec<StepRow>> {
        if !self.holds(from, to) {
            return None;
        }
        let mut steps: BTreeMap<(i64, &str), Vec<(&Row, &str)>> = BTreeMap::new();
        for (&start, second) in self.seconds.range(from..to) {
            let rows = second
                .rows
                .iter()
                .filter(|row| province.is_none_or(|province| row.sales.province == province));
            for row in rows {
                let step = start.div_euclid(width) * width;
                let of = steps.entry((step, &row.sales.province)).or_default();
                of.push((row, &second.state));
            }
        }
        let mut at = (i64::MIN, String::new());
        let rows = steps.into_iter().map(|((start, province), of)| {
            if at.0 != start {
                at = (start, text(start));
            }
            let state = ["open", "closed"]
                .into_iter()
                .find(|state| of.iter().any(|(_, is)| is == state));
            StepRow {
                start: at.1.clone(),
                sales: match of[..] {
                    [(one, _)] => one.sales.clone(),
                    _ => add(province, of.iter().map(|(row, _)| &row.sales)),
                },
                revision: of.iter().map(|(row, _)| row.revision).sum(),
                state: state.unwrap_or("final").to_owned(),
            }
        });
        Some(rows.collect())
    }

    /// The same of all provinces, by the windows themselves (`width` 1) or by minute, as parts of an
    /// answer in their order; `None` also for steps of another width.
    pub fn parts(&self, from: i64, to: i64, width: i64) -> Option<Vec<Part>> {
        if !self.holds(from, to) {
            return None;
        }
        let parts: Vec<Part> = match width {
            1 => {
                let seconds = self.seconds.range(from..to);
                let parts = seconds.map(|(&start, second)| {
                    let write = || Part::write(second.steps(start));
                    second.json.get_or_init(write).clone()
                });
                parts.collect()
            }
            MINUTE_MS => {
                let minutes = self.minutes.range(from..to);
                let parts = minutes.map(|(&start, json)| {
                    let steps = || self.steps(start, start + MINUTE_MS, MINUTE_MS, None);
                    let write = || Part::write(steps().unwrap_or_default().into_iter());
                    json.get_or_init(write).clone()
                });
                parts.collect()
            }
            _ => return None,
        };
        Some(parts.into_iter().filter(|part| part.rows > 0).collect())
    }

    fn holds(&self, from: i64, to: i64) -> bool {
        !self.server.is_empty() && from >= self.kept_from && from <= to
    }

    /// The server that the last snapshot came from.
    pub fn server(&self) -> &str {
        &self.server
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
            for sales in second.sales() {
                by_province.entry(&sales.province).or_default().push(sales);
            }
        }
        let sums = by_province
            .into_iter()
            .map(|(province, rows)| add(province, rows.into_iter()));
        sums.collect()
    }
}

/// The minute that a window lies in.
fn minute(start: i64) -> i64 {
    start.div_euclid(MINUTE_MS) * MINUTE_MS
}

fn read(rows: &[GmvRow]) -> BTreeMap<i64, Second> {
    let mut seconds: BTreeMap<i64, Second> = BTreeMap::new();
    let mut last: Option<(&str, i64)> = None;
    for row in rows {
        // A window's rows follow each other.
        let known = last.filter(|(text, _)| *text == row.window_start);
        let Some(start) = known.map_or_else(|| instant(&row.window_start), |(_, at)| Some(at))
        else {
            continue;
        };
        last = Some((&row.window_start, start));
        let second = seconds.entry(start).or_default();
        second.state.clone_from(&row.state);
        second.rows.push(Row {
            sales: Sales {
                province: row.province.clone(),
                orders: row.orders,
                gmv: row.gmv.clone(),
                mean: row.mean.clone(),
                min_amount: row.min_amount.clone(),
                max_amount: row.max_amount.clone(),
            },
            revision: row.revision,
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

/// A window's start as the store writes it.
fn text(ms: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    at.strftime("%Y-%m-%d %H:%M:%S.%3f").to_string()
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
mod tests;
