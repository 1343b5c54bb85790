//! How far a run has come: a bar on a terminal, now and then a plain line elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::output::grouped;

/// How often a plain line is written.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows progress on standard error.
pub(super) struct Meter {
    what: &'static str,
    bar: Option<ProgressBar>,
    started: Instant,
    spoken: Instant,
}

impl Meter {
    /// Starts counting orders that are `what` ("published", "written").
    pub(super) fn start(what: &'static str, expected: Option<u64>) -> anyhow::Result<Self> {
        let bar = if !std::io::stderr().is_terminal() {
            None
        } else if let Some(expected) = expected {
            let style = "{bar:32} {percent:>3}%  {human_pos} of {human_len} orders  {per_sec}  \
                         {eta} left  {msg}";
            Some(ProgressBar::new(expected).with_style(ProgressStyle::with_template(style)?))
        } else {
            let style = "{spinner} {human_pos} orders  {per_sec}  {elapsed}  {msg}";
            Some(ProgressBar::new_spinner().with_style(ProgressStyle::with_template(style)?))
        };
        let now = Instant::now();
        Ok(Self {
            what,
            bar,
            started: now,
            spoken: now,
        })
    }

    /// Shows that `orders` are done; `note` is worth showing beside it.
    pub(super) fn show(&mut self, orders: u64, note: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_position(orders);
            let note = note();
            if bar.message() != note {
                bar.set_message(note);
            }
        } else if self.spoken.elapsed() >= LINE_EVERY {
            self.spoken = Instant::now();
            let seconds = self.started.elapsed().as_secs_f64();
            let rate = (orders as f64 / seconds) as u64;
            let (orders, rate, note) = (grouped(orders), grouped(rate), note());
            let line = format!("{orders} orders {}, {rate} a second {note}", self.what);
            // Nobody is left to tell when standard error is gone.
            let _ = writeln!(std::io::stderr(), "{}", line.trim_end());
        }
    }

    /// Removes the bar and tells how long it took.
    pub(super) fn finish(self) -> Duration {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        self.started.elapsed()
    }
}
