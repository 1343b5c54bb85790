//! Remembers the invocations that ran in Jobs: a dispatcher tells only of its last few of any kind,
//! among which a Job's cold start is soon lost. Pure, and bounded.

use std::collections::VecDeque;

use crate::schema::Run;

/// Runs kept; more than a dispatcher tells of at once, so that none comes twice.
const KEPT: usize = 40;

/// The last runs in Jobs.
#[derive(Debug, Default)]
pub(crate) struct Jobs(VecDeque<Run>);

impl Jobs {
    /// Takes the last invocations, newest first.
    pub fn take(&mut self, recent: &[Run]) {
        for run in recent.iter().rev().filter(|run| run.place == "job") {
            if self.0.contains(run) {
                continue;
            }
            if self.0.len() == KEPT {
                self.0.pop_back();
            }
            self.0.push_front(run.clone());
        }
    }

    /// Newest first.
    pub fn runs(&self) -> Vec<Run> {
        self.0.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(place: &str, window_start: i64) -> Run {
        Run {
            place: place.into(),
            window_start,
            ..Run::default()
        }
    }

    #[test]
    fn a_job_is_remembered_once_and_outlasts_the_dispatchers_list() {
        let mut jobs = Jobs::default();
        jobs.take(&[run("pool", 3), run("job", 2), run("job", 1)]);
        jobs.take(&[run("job", 4), run("pool", 3), run("job", 2)]);
        jobs.take(&[run("pool", 9)]);
        let starts: Vec<i64> = jobs.runs().iter().map(|run| run.window_start).collect();
        assert_eq!(starts, [4, 2, 1]);
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut jobs = Jobs::default();
        for start in 0..100 {
            jobs.take(&[run("job", start)]);
        }
        assert_eq!(jobs.runs().len(), KEPT);
        assert_eq!(jobs.runs()[0].window_start, 99);
    }
}
