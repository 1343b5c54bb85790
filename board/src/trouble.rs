//! What is wrong, and since when. Pure: it is told the time, and all that was seen.

use std::collections::VecDeque;

use crate::ask::Told;
use crate::schema::{Replica, Trouble};

/// Silence of the shards' owners that counts as trouble, ms: twice the longest lease.
const SILENT_MS: u64 = 20_000;
/// Statuses, one a second, over which a growth is looked for.
const MINUTE: usize = 60;

/// What a status is made from, as far as it may be wrong.
pub(crate) struct Seen<'a> {
    pub replicas: &'a [Replica],
    /// Why the store cannot be shown, if so.
    pub failure: Option<&'a str>,
    /// For how long no shard's owner has given a sign of life, ms.
    pub silent_ms: Option<u64>,
    /// By how much the quarantine grew in the last minute.
    pub quarantined: u64,
    pub told: &'a Told,
}

impl Seen<'_> {
    /// What is wrong, as (kind, text) with the subject before the text's first colon.
    pub fn troubles(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        for replica in self.replicas {
            if let Some(why) = &replica.skipped {
                found.push(("replica", format!("replica {}: {why}", replica.server)));
            }
        }
        found.extend(self.failure.map(|why| ("store", why.to_owned())));
        match &self.told.answer {
            Some(Err(why)) => found.push(("dispatcher", why.clone())),
            Some(Ok(answer)) => {
                found.extend(answer.troubles().map(|why| ("shard", why)));
                let halted = answer.halted.iter();
                found
                    .extend(halted.map(|why| ("halted", format!("no batch is handed out: {why}"))));
                let paused = answer.placement.iter().flat_map(|p| &p.creating_paused);
                found.extend(paused.map(|why| ("jobs", format!("no Job is created: {why}"))));
            }
            None => {}
        }
        found.extend(self.told.failure.iter().map(|why| ("scaler", why.clone())));
        let running = self.told.scaler.iter().filter(|scaler| scaler.running);
        let refused = running.flat_map(|scaler| &scaler.refused);
        let refused = refused.map(|why| format!("scaler: an edit of its tuning is refused: {why}"));
        found.extend(refused.map(|why| ("scaler", why)));
        if let Some(silent) = self.silent_ms.filter(|&ms| ms > SILENT_MS) {
            let seconds = silent / 1_000;
            found.push(("stale", format!("stream: no sign of life for {seconds} s")));
        }
        if self.quarantined > 0 {
            let text = format!(
                "quarantine: grew by {} in the last minute",
                self.quarantined
            );
            found.push(("quarantine", text));
        }
        found
    }
}

/// A count as it was at each status of the last minute.
#[derive(Debug, Default)]
pub(crate) struct Growth(VecDeque<u64>);

impl Growth {
    /// Takes the count of now; by how much it has grown within the minute.
    pub fn grown_to(&mut self, count: u64) -> u64 {
        if self.0.len() == MINUTE {
            self.0.pop_front();
        }
        self.0.push_back(count);
        count.saturating_sub(self.0.front().copied().unwrap_or(0))
    }
}

/// Remembers since when each trouble has lasted.
#[derive(Debug, Default)]
pub struct Troubles(Vec<Trouble>);

impl Troubles {
    /// Takes what is wrong now, as (kind, text); a trouble that was there before keeps its
    /// start, also when its text has changed. Troubles of a kind are
    /// told apart by what their text says before the first colon.
    pub fn update(&mut self, now: i64, found: Vec<(&'static str, String)>) {
        let mut before = std::mem::take(&mut self.0);
        let mut kept: Vec<Trouble> = found
            .into_iter()
            .map(|(kind, text)| {
                // The subject is what comes before the colon.
                let subject = |text: &str| text.split(": ").next().map(str::to_owned);
                let old = before
                    .iter()
                    .position(|old| old.kind == kind && subject(&old.text) == subject(&text));
                let since = old.map_or(now, |index| before.swap_remove(index).since);
                Trouble {
                    kind: kind.to_owned(),
                    text,
                    since,
                }
            })
            .collect();
        kept.sort_by_key(|trouble| trouble.since);
        self.0 = kept;
    }

    /// What is wrong, oldest first.
    pub fn now(&self) -> &[Trouble] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_growth_is_one_of_the_last_minute() {
        let mut quarantined = Growth::default();
        assert_eq!(
            quarantined.grown_to(7),
            0,
            "what was there before is no growth"
        );
        assert_eq!(quarantined.grown_to(9), 2);
        for _ in 0..58 {
            assert_eq!(quarantined.grown_to(9), 2);
        }
        assert_eq!(quarantined.grown_to(9), 0);
    }

    #[test]
    fn every_trouble_is_said_with_its_subject_first() {
        let replicas = [Replica {
            server: "mysql://a".into(),
            skipped: Some("lags 3 commits".into()),
            commits: 7,
            age_ms: None,
        }];
        let told = Told {
            answer: Some(Err("dispatcher http://d: nothing listens there".into())),
            ..Told::default()
        };
        let seen = |silent_ms, quarantined| Seen {
            replicas: &replicas,
            failure: Some("store: no replica answers"),
            silent_ms: Some(silent_ms),
            quarantined,
            told: &told,
        };
        let said: Vec<_> = seen(20_001, 4).troubles();
        assert_eq!(
            said.iter()
                .map(|(_, text)| text.as_str())
                .collect::<Vec<_>>(),
            [
                "replica mysql://a: lags 3 commits",
                "store: no replica answers",
                "dispatcher http://d: nothing listens there",
                "stream: no sign of life for 20 s",
                "quarantine: grew by 4 in the last minute",
            ]
        );
        assert_eq!(seen(20_000, 0).troubles().len(), 3);
    }

    #[test]
    fn a_trouble_keeps_its_start_while_it_lasts_and_loses_it_when_it_ends() {
        let mut troubles = Troubles::default();
        let lag = |n: u32| ("replica", format!("replica a: lags {n} commits"));
        troubles.update(10, vec![lag(1)]);
        troubles.update(
            20,
            vec![lag(5), ("dispatcher", "dispatcher d: gone".into())],
        );
        assert_eq!(troubles.now()[0].since, 10);
        assert_eq!(troubles.now()[0].text, "replica a: lags 5 commits");
        assert_eq!(troubles.now()[1].since, 20);
        troubles.update(30, vec![]);
        assert!(troubles.now().is_empty());
        troubles.update(40, vec![lag(1)]);
        assert_eq!(troubles.now()[0].since, 40);
    }
}
