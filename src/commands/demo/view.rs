//! The demo's live view: a few lines drawn over themselves on a terminal, one line now and then
//! elsewhere.

use std::io::{Stdout, Write, stdout};
use std::time::Duration;

use crossterm::cursor::MoveToPreviousLine;
use crossterm::style::Stylize;
use crossterm::terminal::{Clear, ClearType};
use crossterm::{QueueableCommand, terminal};
use tokio::time::Instant;
use windlass_dispatcher::status::Status;
use windlass_dispatcher::store::{GmvQuery, GmvRow, Reader};

use crate::output::grouped;
use crate::scaling;
use crate::serve::Server;

/// Windows shown.
const WINDOWS: usize = 6;
/// Provinces shown a window.
const PROVINCES: usize = 3;
/// Where there is no terminal, a line this often.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

pub(super) struct View {
    out: Stdout,
    terminal: bool,
    started: Instant,
    duration: Duration,
    drawn: u16,
    plain_at: Instant,
    last: (Instant, u64),
    rate: f64,
}

impl View {
    pub fn new(duration: Duration, terminal: bool) -> Self {
        let now = now();
        Self {
            out: stdout(),
            terminal,
            started: now,
            duration,
            drawn: 0,
            plain_at: now + PLAIN_EVERY,
            last: (now, 0),
            rate: 0.0,
        }
    }

    /// Draws one frame.
    pub async fn draw(
        &mut self,
        server: &Server,
        reader: &Reader,
        published: u64,
    ) -> anyhow::Result<()> {
        let status = server.status();
        self.measure(&status);
        if !self.terminal {
            if now() >= self.plain_at {
                self.plain_at += PLAIN_EVERY;
                let line = self.summary(&status, server.scaling(), published);
                writeln!(self.out, "{}", line.join("; "))?;
            }
            return Ok(());
        }
        let query = GmvQuery {
            last: Some(Duration::from_secs(2 + WINDOWS as u64)),
            ..GmvQuery::default()
        };
        // A frame without windows is better than no frame.
        let rows = reader.gmv(&query).await.map(|answer| answer.rows);
        let mut lines = vec![String::new()];
        lines.extend(
            self.summary(&status, server.scaling(), published)
                .into_iter()
                .map(|l| format!("  {l}")),
        );
        lines.push(String::new());
        lines.extend(windows(&rows.unwrap_or_default()));
        self.redraw(&lines)
    }

    fn redraw(&mut self, lines: &[String]) -> anyhow::Result<()> {
        let width = width(terminal::size().ok());
        if self.drawn > 0 {
            self.out.queue(MoveToPreviousLine(self.drawn))?;
        }
        self.out.queue(Clear(ClearType::FromCursorDown))?;
        for line in lines {
            // A line that wraps would put the cursor out by one.
            let cut: String = line.chars().take(width.saturating_sub(1)).collect();
            writeln!(self.out, "{cut}")?;
        }
        self.drawn = lines.len() as u16;
        self.out.flush()?;
        Ok(())
    }

    /// Leaves the last frame on the screen.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        if self.terminal {
            let done = "  all orders settled, all windows closed".green();
            writeln!(self.out, "\n{done}\n")?;
        }
        Ok(())
    }

    fn measure(&mut self, status: &Status) {
        let (then, before) = self.last;
        let elapsed = then.elapsed().as_secs_f64();
        if elapsed < 0.2 {
            return;
        }
        let settled = status.tuples_settled;
        let fresh = (settled - before) as f64 / elapsed;
        // Slices commit about once a second: smooth over that.
        self.rate += (fresh - self.rate) * 0.2;
        self.last = (now(), settled);
    }

    fn summary(
        &self,
        status: &Status,
        scaling: Option<scaling::View>,
        published: u64,
    ) -> Vec<String> {
        let elapsed = self.started.elapsed().min(self.duration).as_secs();
        let load = &status.invocations;
        let latency = &status.window_latency;
        let queue: u64 = status
            .shards
            .values()
            .map(|shard| u64::from(shard.queue_ready) + shard.queue_unacked)
            .sum();
        let mut lines = vec![
            format!(
                "{elapsed} s of {} s   {} orders/s   Ctrl-C drains",
                self.duration.as_secs(),
                grouped(self.rate.round() as u64),
            ),
            format!(
                "published {}   settled {}   in the queue {}",
                grouped(published),
                grouped(status.tuples_settled),
                grouped(queue),
            ),
            format!(
                "window latency p50 {:.0} ms, p99 {:.0} ms   workers {} busy, {} idle   invocations {}",
                latency.p50_ms,
                latency.p99_ms,
                load.busy,
                load.idle,
                grouped(load.answered),
            ),
        ];
        if let Some(scaler) = scaling {
            lines.push(format!(
                "pool {} ({} ready)   {}",
                scaler.size, scaler.ready, scaler.reason
            ));
        }
        lines
    }
}

/// Columns of a terminal of this size (columns, rows). One that does not say, or says 0, as some do
/// over serial lines and in containers, is taken for a usual one.
fn width(size: Option<(u16, u16)>) -> usize {
    match size {
        Some((columns, _)) if columns > 0 => columns.into(),
        _ => 80,
    }
}

/// A table of the last windows: orders, sum and the leading provinces.
fn windows(rows: &[GmvRow]) -> Vec<String> {
    let mut lines = vec![format!(
        "  {:<10} {:<7} {:>9} {:>16}   {}",
        "WINDOW UTC", "STATE", "ORDERS", "GMV", "LEADING PROVINCES"
    )];
    let mut by_window: Vec<&[GmvRow]> = rows
        .chunk_by(|a, b| a.window_start == b.window_start)
        .collect();
    let skip = by_window.len().saturating_sub(WINDOWS);
    for window in by_window.split_off(skip) {
        let orders: u64 = window.iter().map(|row| row.orders).sum();
        let mut ranked: Vec<(i128, &str)> = window
            .iter()
            .map(|row| (hundredths(&row.gmv), row.province.as_str()))
            .collect();
        ranked.sort_by(|a, b| b.cmp(a));
        let total: i128 = ranked.iter().map(|(gmv, _)| gmv).sum();
        let leading: Vec<String> = ranked
            .iter()
            .take(PROVINCES)
            .map(|(gmv, province)| format!("{province} {}", money(*gmv)))
            .collect();
        let first = &window[0];
        lines.push(format!(
            "  {:<10} {:<7} {:>9} {:>16}   {}",
            first.window_start.get(11..19).unwrap_or_default(),
            first.state,
            grouped(orders),
            money(total),
            leading.join(" · ")
        ));
    }
    lines.resize(WINDOWS + 1, String::new());
    lines
}

/// Decimal text with two places as hundredths; the views give no other.
fn hundredths(text: &str) -> i128 {
    text.replace('.', "").parse().unwrap_or_default()
}

fn money(hundredths: i128) -> String {
    let whole = (hundredths / 100).unsigned_abs() as u64;
    let sign = if hundredths < 0 { "-" } else { "" };
    format!(
        "{sign}{}.{:02}",
        grouped(whole),
        hundredths.unsigned_abs() % 100
    )
}

#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_of_no_size_is_taken_for_a_usual_one() {
        assert_eq!(width(Some((0, 0))), 80);
        assert_eq!(width(None), 80);
        assert_eq!(width(Some((120, 40))), 120);
    }

    #[test]
    fn the_last_windows_are_shown_with_their_leading_provinces() {
        let row = |second: u32, province: &str, gmv: &str| GmvRow {
            window_start: format!("2026-11-11 00:00:{second:02}.000"),
            province: province.into(),
            orders: 1_000,
            gmv: gmv.into(),
            mean: String::new(),
            min_amount: String::new(),
            max_amount: String::new(),
            revision: 0,
            state: "closed".into(),
        };
        let mut rows: Vec<GmvRow> = (0..WINDOWS as u32)
            .map(|second| row(second, "Hunan", "1.00"))
            .collect();
        for (province, gmv) in [
            ("Anhui", "7.10"),
            ("Hubei", "1234.50"),
            ("Gansu", "0.05"),
            ("Hebei", "9.00"),
        ] {
            rows.push(row(30, province, gmv));
        }
        let lines = windows(&rows);
        assert_eq!(lines.len(), WINDOWS + 1);
        assert!(
            lines[1].contains("00:00:01"),
            "the oldest of seven is not shown"
        );
        let words: Vec<&str> = lines[WINDOWS].split_whitespace().collect();
        let expected = "00:00:30 closed 4,000 1,250.65 Hubei 1,234.50 · Hebei 9.00 · Anhui 7.10";
        assert_eq!(words.join(" "), expected);
    }

    #[test]
    fn money_keeps_its_sign_and_its_cents() {
        assert_eq!(money(-123_456), "-1,234.56");
    }
}
