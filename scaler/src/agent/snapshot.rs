//! What has been learned, as text that can be kept, moved, compared and brought back.
//!
//! A header of `key value` lines, an empty line, then a line a pair of state and action:
//!
//! ```text
//! windlass-scaler-table 1
//! layout 8d3c…           hash of bins and actions
//! kappa 60               price of a late window when it was written, pod-seconds
//! volatility 0.05        the running mean of |Δ ln rate|
//! decisions 201600       choices made so far
//!
//! state,action,q-cost,q-late,visits
//! 0,0,-0.4,0,0
//! ```
//!
//! Numbers are written so that they read back to the same bits. A snapshot of another layout, or of
//! another version, is never restored: its numbers would belong to other states.

use std::fmt::Write;

use super::layout::Layout;
use super::table::{Cell, Table};

/// The version that is written, and the only one that is read.
pub const VERSION: u32 = 1;
const MAGIC: &str = "windlass-scaler-table";
const COLUMNS: &str = "state,action,q-cost,q-late,visits";

/// A table and what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The table.
    pub table: Table,
    /// κ when it was written: pod-seconds a late window.
    pub kappa: f64,
    /// The running mean of |Δ ln rate|.
    pub volatility: f64,
    /// Choices made so far.
    pub decisions: u64,
}

/// Why a text is not restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is something else.
    #[error(
        "expected a table that windlass has written (first line \"{MAGIC} {VERSION}\"), got {0:?}"
    )]
    NotATable(String),
    /// Another version wrote it.
    #[error(
        "expected version {VERSION} of the table's format, got {0}; export it again with the \
         windlass that reads it, or start from the shipped table"
    )]
    Version(String),
    /// It belongs to other bins or actions.
    #[error(
        "expected a table of layout {expected:016x}, got one of {found}: its states mean something \
         else; start from the shipped table, or train one with `windlass scaler train`"
    )]
    Layout {
        /// The layout's hash.
        expected: u64,
        /// The text's hash.
        found: String,
    },
    /// A line is broken.
    #[error(
        "line {line}: expected {expected}, got {found:?}; the table is damaged, use another copy"
    )]
    Damaged {
        /// Its number, from 1.
        line: usize,
        /// What should be there.
        expected: &'static str,
        /// What is.
        found: String,
    },
}

impl Snapshot {
    /// Writes it.
    pub fn to_text(&self) -> String {
        let layout = self.table.layout();
        let mut text = format!(
            "{MAGIC} {VERSION}\nlayout {:016x}\nkappa {}\nvolatility {}\ndecisions {}\n\n{COLUMNS}\n",
            layout.fingerprint(),
            self.kappa,
            self.volatility,
            self.decisions
        );
        let actions = layout.actions.len();
        for (at, cell) in self.table.cells().iter().enumerate() {
            let (state, action) = (at / actions, at % actions);
            let Cell { cost, late, visits } = cell;
            // Writing to a string does not fail.
            let _ = writeln!(text, "{state},{action},{cost},{late},{visits}");
        }
        text
    }

    /// Reads one back that belongs to `layout`.
    ///
    /// # Errors
    /// If it is no table, of another version or layout, damaged or cut short.
    pub fn from_text(text: &str, layout: Layout) -> Result<Self, Refused> {
        let mut lines = Lines {
            rest: text.lines().enumerate(),
            last: 0,
        };
        let (_, first) = lines.next(MAGIC)?;
        match first.split_once(' ') {
            Some((MAGIC, version)) if version == VERSION.to_string() => {}
            Some((MAGIC, version)) => return Err(Refused::Version(version.into())),
            _ => return Err(Refused::NotATable(first.chars().take(60).collect())),
        }
        let found = lines.header("layout")?;
        let expected = layout.fingerprint();
        if u64::from_str_radix(found, 16) != Ok(expected) {
            let found = found.into();
            return Err(Refused::Layout { expected, found });
        }
        let kappa = lines.number("kappa")?;
        let volatility = lines.number("volatility")?;
        let decisions = lines.number("decisions")? as u64;
        lines.exactly("")?;
        lines.exactly(COLUMNS)?;
        let cells = (0..layout.pairs()).map(|at| lines.cell(at, layout.actions.len()));
        let cells = cells.collect::<Result<Vec<Cell>, Refused>>()?;
        if let Some((at, extra)) = lines.rest.next() {
            return Err(damaged(at + 1, "the end", extra));
        }
        let table = Table::of(layout, cells).ok_or_else(|| damaged(0, "a cell a pair", ""))?;
        Ok(Self {
            table,
            kappa,
            volatility,
            decisions,
        })
    }
}

fn damaged(line: usize, expected: &'static str, found: &str) -> Refused {
    let found = found.chars().take(60).collect();
    Refused::Damaged {
        line,
        expected,
        found,
    }
}

struct Lines<'a> {
    rest: std::iter::Enumerate<std::str::Lines<'a>>,
    last: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self, expected: &'static str) -> Result<(usize, &'a str), Refused> {
        let (at, line) = self
            .rest
            .next()
            .ok_or_else(|| damaged(self.last + 1, expected, ""))?;
        self.last = at + 1;
        Ok((at + 1, line))
    }

    fn exactly(&mut self, text: &'static str) -> Result<(), Refused> {
        match self.next(text)? {
            (_, line) if line == text => Ok(()),
            (at, line) => Err(damaged(at, text, line)),
        }
    }

    fn header(&mut self, key: &'static str) -> Result<&'a str, Refused> {
        let (at, line) = self.next(key)?;
        let value = line
            .strip_prefix(key)
            .and_then(|rest| rest.strip_prefix(' '));
        value.ok_or_else(|| damaged(at, key, line))
    }

    fn number(&mut self, key: &'static str) -> Result<f64, Refused> {
        let text = self.header(key)?;
        let number = text
            .parse()
            .ok()
            .filter(|n: &f64| n.is_finite() && *n >= 0.0);
        number.ok_or_else(|| damaged(self.last, key, text))
    }

    fn cell(&mut self, at: usize, actions: usize) -> Result<Cell, Refused> {
        const EXPECTED: &str = "the next pair's state, action, two finite values and a count";
        let (line, text) = self.next(EXPECTED)?;
        let fields: Vec<&str> = text.split(',').collect();
        let cell = match fields.as_slice() {
            [state, action, cost, late, visits]
                if state.parse() == Ok(at / actions) && action.parse() == Ok(at % actions) =>
            {
                let finite = |text: &str| text.parse().ok().filter(|n: &f64| n.is_finite());
                finite(cost).zip(finite(late)).zip(visits.parse().ok())
            }
            _ => None,
        };
        let ((cost, late), visits) = cell.ok_or_else(|| damaged(line, EXPECTED, text))?;
        Ok(Cell { cost, late, visits })
    }
}

/// How two tables of one layout differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// States whose best action is another.
    pub policy: Vec<Change>,
    /// Pairs with different values or counts.
    pub cells: usize,
    /// Largest difference of a value at the price asked for.
    pub largest: f64,
}

/// A state in which two tables choose differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The state.
    pub state: usize,
    /// The action that the first table likes best.
    pub before: usize,
    /// The one that the second does.
    pub after: usize,
}

/// Compares two tables at a price; `None` if their layouts differ.
pub fn difference(before: &Table, after: &Table, kappa: f64) -> Option<Difference> {
    if before.layout() != after.layout() {
        return None;
    }
    let changes = (0..before.layout().states()).filter_map(|state| {
        let (old, new) = (before.greedy(state, kappa), after.greedy(state, kappa));
        (old != new).then_some(Change {
            state,
            before: old,
            after: new,
        })
    });
    let pairs = || before.cells().iter().zip(after.cells());
    let gaps = pairs().map(|(old, new)| (old.value(kappa) - new.value(kappa)).abs());
    Some(Difference {
        policy: changes.collect(),
        cells: pairs().filter(|(old, new)| old != new).count(),
        largest: gaps.fold(0.0, f64::max),
    })
}
