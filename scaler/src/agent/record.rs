//! What a scaler was told, second by second, as text: enough to run the same seconds again.
//!
//! A line a second, numbers written so that they read back to the same bits. A file says first which version
//! of this it is, and which tuning was in force when the run began:
//!
//! ```text
//! # windlass scaler run, version 2
//! # tuning: max-size: 20
//! now,starting,ready,recallable,calendar,explore,direction,arrived,busy,ready-seconds,queued-tuples,…
//! 12.004,0,3,0,0,0.71,0.2,6000,2.4,3,0,0,…
//! 13.004,0,3,0,0,0.31,0.9,restarted
//! ```

use std::fmt::Write;

use super::controller::Second;
use super::meter::Missing;
use super::sample::{Pool, Sample};
use super::sarsa::Luck;

/// The columns' names, for a file's first line.
pub const HEADER: &str = "now,starting,ready,recallable,calendar,explore,direction,arrived,busy,\
                          ready-seconds,queued-tuples,queued-seconds,started-tuples,started-seconds,\
                          started-batches,cost,late";

/// Of the lines; 1 had no column `recallable`.
const VERSION: u32 = 2;
/// Columns of a line of version 1 with a measurement, and without one.
const BEFORE: [usize; 2] = [16, 7];
/// Begins the line of a file that names the version.
const TITLE: &str = "# windlass scaler run, version ";
/// Begins the lines of a file that hold the tuning.
const TUNING: &str = "# tuning: ";

const MISSING: [(Missing, &str); 7] = [
    (Missing::First, "first"),
    (Missing::NoAnswer, "no-answer"),
    (Missing::ApiServer, "api-server"),
    (Missing::NoPool, "no-pool"),
    (Missing::NotANumber, "not-a-number"),
    (Missing::Restarted, "restarted"),
    (Missing::ClockJumped, "clock-jumped"),
];

/// A line that is no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotARecord {
    /// It is nothing that any version writes.
    #[error("line {line}: expected the {} columns {HEADER}, got {found:?}", HEADER.split(',').count())]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What there is.
        found: String,
    },
    /// It is of another version.
    #[error(
        "line {line}: expected version {VERSION} of a recorded run, got version {found}: replay it with the \
         windlass that recorded it, or record a new run with this one"
    )]
    Version {
        /// Its number, from 1.
        line: usize,
        /// The version.
        found: String,
    },
}

/// A recorded run as a file holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// The tuning that the run began with, as text; `None` if the file does not say.
    pub tuning: Option<String>,
    /// Its seconds.
    pub seconds: Vec<Second>,
}

impl Recording {
    /// As a file's text.
    pub fn to_text(&self) -> String {
        let mut text = format!("{TITLE}{VERSION}\n");
        for line in self.tuning.iter().flat_map(|tuning| tuning.lines()) {
            text += &format!("{TUNING}{line}\n");
        }
        text += HEADER;
        for second in &self.seconds {
            text.push('\n');
            text += &to_line(second);
        }
        text.push('\n');
        text
    }

    /// Reads a file's text; title and tuning may be missing.
    ///
    /// # Errors
    /// The first line that is no record, or that is of another version.
    pub fn from_text(text: &str) -> Result<Self, NotARecord> {
        let versions = text.lines().enumerate();
        let other = versions
            .filter_map(|(at, line)| Some((at, line.trim().strip_prefix(TITLE)?)))
            .find(|(_, version)| version.parse() != Ok(VERSION));
        if let Some((at, found)) = other {
            return Err(NotARecord::Version {
                line: at + 1,
                found: found.chars().take(20).collect(),
            });
        }
        let tuning = text.lines().filter_map(|line| line.strip_prefix(TUNING));
        let tuning: String = tuning.map(|line| format!("{line}\n")).collect();
        Ok(Self {
            tuning: Some(tuning).filter(|tuning| !tuning.is_empty()),
            seconds: from_text(text)?,
        })
    }
}

/// Writes a second.
pub fn to_line(second: &Second) -> String {
    let Second {
        now,
        pool,
        calendar,
        luck,
        ..
    } = second;
    let mut line = format!(
        "{now},{},{},{},{calendar},{},{}",
        pool.starting, pool.ready, pool.recallable, luck.explore, luck.direction
    );
    match &second.seen {
        Ok(s) => {
            for number in [
                s.arrived,
                s.busy,
                s.ready,
                s.queued_tuples,
                s.queued_seconds,
                s.started_tuples,
                s.started_seconds,
                s.started_batches,
                s.cost,
                s.late,
            ] {
                // Writing to a string does not fail.
                let _ = write!(line, ",{number}");
            }
        }
        Err(missing) => {
            let name = MISSING.iter().find(|(known, _)| known == missing);
            let _ = write!(line, ",{}", name.map_or("no-answer", |(_, name)| name));
        }
    }
    line
}

/// Reads a second.
pub fn from_line(line: &str) -> Option<Second> {
    let fields: Vec<&str> = line.trim().split(',').collect();
    let number = |at: usize| fields.get(at)?.parse::<f64>().ok();
    let count = |at: usize| fields.get(at)?.parse::<u32>().ok();
    let seen = match fields.len() {
        8 => {
            let missing = MISSING.iter().find(|(_, name)| *name == fields[7]);
            Err(missing?.0)
        }
        17 => Ok(Sample {
            arrived: number(7)?,
            busy: number(8)?,
            ready: number(9)?,
            queued_tuples: number(10)?,
            queued_seconds: number(11)?,
            started_tuples: number(12)?,
            started_seconds: number(13)?,
            started_batches: number(14)?,
            cost: number(15)?,
            late: number(16)?,
        }),
        _ => return None,
    };
    Some(Second {
        now: number(0)?,
        seen,
        pool: Pool {
            starting: count(1)?,
            ready: count(2)?,
            recallable: count(3)?,
        },
        calendar: count(4)?,
        luck: Luck {
            explore: number(5)?,
            direction: number(6)?,
        },
    })
}

/// Reads lines, a header among them or not; empty ones and those that begin with `#` say nothing.
///
/// # Errors
/// The first line that is no record.
pub fn from_text(text: &str) -> Result<Vec<Second>, NotARecord> {
    let lines = text.lines().enumerate();
    let meant = lines.filter(|(_, line)| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#') && line != HEADER
    });
    let read = meant.map(|(at, line)| {
        let columns = line.split(',').count();
        from_line(line).ok_or_else(|| {
            // The names of columns that there were fewer of, or numbers under these.
            if BEFORE.contains(&columns) {
                NotARecord::Version {
                    line: at + 1,
                    found: "1".into(),
                }
            } else {
                NotARecord::Line {
                    line: at + 1,
                    found: line.chars().take(80).collect(),
                }
            }
        })
    });
    read.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(seen: Result<Sample, Missing>) -> Second {
        Second {
            now: 0.1 + 0.2,
            seen,
            pool: Pool {
                starting: 2,
                ready: 3,
                recallable: 5,
            },
            calendar: 4,
            luck: Luck {
                explore: 1.0 / 3.0,
                direction: 2.0_f64.sqrt() - 1.0,
            },
        }
    }

    #[test]
    fn seconds_are_read_back_to_the_bit() {
        let sample = Sample {
            arrived: 6_000.1,
            late: 1e-17,
            queued_seconds: 1.0 / 7.0,
            ..Sample::default()
        };
        let mut seconds = vec![second(Ok(sample))];
        seconds.extend(MISSING.map(|(missing, _)| second(Err(missing))));
        let lines: Vec<String> = seconds.iter().map(to_line).collect();
        let text = format!("{HEADER}\n# a remark\n\n{}\n", lines.join("\n"));
        assert_eq!(from_text(&text).unwrap(), seconds);
    }

    #[test]
    fn a_file_holds_its_tuning_whatever_that_says() {
        let seconds = vec![
            second(Err(Missing::ApiServer)),
            second(Ok(Sample::default())),
        ];
        for tuning in [
            None,
            Some("max-size: 9\n# a remark\n\nmode: hpa\n".to_owned()),
        ] {
            let recording = Recording {
                tuning,
                seconds: seconds.clone(),
            };
            let read = Recording::from_text(&recording.to_text());
            assert_eq!(read, Ok(recording));
        }
    }

    #[test]
    fn another_version_is_named_with_what_to_do() {
        let text = Recording {
            tuning: None,
            seconds: vec![second(Err(Missing::First))],
        }
        .to_text();
        let newer = text.replace("version 2", "version 3");
        let error = Recording::from_text(&newer).unwrap_err().to_string();
        assert!(error.contains("line 1: expected version 2"), "{error}");
        assert!(error.contains("got version 3: replay it with"), "{error}");
        // As it was without `recallable`: its header, a measurement, and none.
        for line in [
            HEADER.replace("recallable,", ""),
            "12,0,3,0,0.7,0.2,6000,2.4,3,0,0,6000,2.4,60,3,0".into(),
            "13,0,3,0,0.3,0.9,restarted".into(),
        ] {
            let error = from_text(&line).unwrap_err().to_string();
            assert!(error.contains("got version 1: replay it with"), "{error}");
        }
    }

    #[test]
    fn a_line_that_is_no_record_is_named() {
        let good = to_line(&second(Err(Missing::First)));
        for bad in [
            "1,2,3",
            "a,0,3,0,0,0.7,0.2,first",
            "1,0,3,0,0,0.7,0.2,sometimes",
        ] {
            let error = from_text(&format!("{good}\n{bad}")).unwrap_err();
            assert!(error.to_string().starts_with("line 2: "), "{error}");
        }
    }
}
