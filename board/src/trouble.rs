//! What is wrong, and since when. Pure: it is told the time, and all that was seen.
//!
//! A trouble comes as a whole English sentence, and in parts for who says it in another language: a
//! cause, its subject, its figures, and what others said in words that nobody here translates.

use std::collections::VecDeque;

use windlass_dispatcher::store::{ReplicaState, Replication, Skipped};

use crate::ask::Told;
use crate::dispatcher::{Unanswered, Why};
use crate::schema::Trouble;

/// Silence of the shards' owners that counts as trouble, ms: twice the longest lease.
const SILENT_MS: u64 = 20_000;
/// Statuses, one a second, over which a growth is looked for.
const MINUTE: usize = 60;

/// Why the store cannot be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nobody answers.
    NoReplica,
    /// It holds less than is shown.
    Restored,
    /// A replica that answers cannot be read; in words.
    Unread(String),
}

/// What a status is made from, as far as it may be wrong.
pub(crate) struct Seen<'a> {
    pub replicas: &'a [ReplicaState],
    /// Why the store cannot be shown, if so.
    pub failure: Option<Failure>,
    /// For how long no shard's owner has given a sign of life, ms.
    pub silent_ms: Option<u64>,
    /// By how much the quarantine grew in the last minute.
    pub quarantined: u64,
    pub told: &'a Told,
}

/// A trouble that has just been seen. Of a kind and a subject there is one at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    kind: &'static str,
    cause: &'static str,
    subject: String,
    figures: Vec<u64>,
    detail: String,
    text: String,
}

impl Found {
    fn new(kind: &'static str, cause: &'static str, text: impl Into<String>) -> Self {
        Self {
            kind,
            cause,
            text: text.into(),
            ..Self::default()
        }
    }

    /// What it is about.
    fn of(self, subject: impl ToString) -> Self {
        Self {
            subject: subject.to_string(),
            ..self
        }
    }

    fn with(self, figures: &[u64]) -> Self {
        Self {
            figures: figures.to_vec(),
            ..self
        }
    }

    /// What others said, which the text ends with.
    fn saying(self, detail: &str) -> Self {
        Self {
            text: format!("{}: {detail}", self.text),
            detail: detail.to_owned(),
            ..self
        }
    }
}

impl Seen<'_> {
    /// All that is wrong now.
    pub fn troubles(&self) -> Vec<Found> {
        let mut found: Vec<Found> = self.replicas.iter().flat_map(replica).collect();
        found.extend(self.failure.as_ref().map(store));
        match &self.told.answer {
            Some(Err(unanswered)) => found.push(dispatcher(unanswered)),
            Some(Ok(answer)) => {
                found.extend(answer.troubles().map(|(shard, why)| {
                    let text = format!("shard {shard}");
                    Found::new("shard", "shard", text).of(shard).saying(why)
                }));
                found.extend(answer.halted.iter().map(|why| {
                    Found::new("halted", "halted", "no batch is handed out").saying(why)
                }));
                let paused = answer.placement.iter().flat_map(|p| &p.creating_paused);
                found.extend(
                    paused.map(|why| Found::new("jobs", "jobs", "no Job is created").saying(why)),
                );
            }
            None => {}
        }
        found.extend(self.told.failure.iter().map(|why| {
            let text = "scaler: its rows cannot be read";
            Found::new("scaler", "scaler-unread", text).saying(why)
        }));
        let running = self.told.scaler.iter().filter(|scaler| scaler.running);
        let refused = running.flat_map(|scaler| &scaler.refused);
        found.extend(refused.map(|why| {
            let text = "scaler: an edit of its tuning is refused";
            Found::new("scaler", "scaler-refused", text)
                .of("tuning")
                .saying(why)
        }));
        if let Some(silent) = self.silent_ms.filter(|&ms| ms > SILENT_MS) {
            let seconds = silent / 1_000;
            let text = format!("stream: no sign of life for {seconds} s");
            found.push(Found::new("stale", "stale", text).with(&[seconds]));
        }
        if self.quarantined > 0 {
            let text = format!(
                "quarantine: grew by {} in the last minute",
                self.quarantined
            );
            found.push(Found::new("quarantine", "quarantine", text).with(&[self.quarantined]));
        }
        found
    }
}

fn replica(state: &ReplicaState) -> impl Iterator<Item = Found> {
    let server = &state.server;
    let named = format!("replica {server}");
    let skipped = state.skipped.as_ref().map(|why| match why {
        Skipped::Lags { commits, ms } => {
            Found::new("replica", "replica-lags", format!("{named}: {why}")).with(&[*commits, *ms])
        }
        Skipped::Failed(said) => {
            Found::new("replica", "replica-failed", named.as_str()).saying(said)
        }
    });
    let stopped = match &state.replication {
        Replication::Stopped(said) => {
            let text = format!("{named}: its replication does not run");
            let found = Found::new("replication", "replication", text);
            Some(match said.as_str() {
                "" => found,
                said => found.saying(said),
            })
        }
        Replication::Unknown | Replication::Behind(_) => None,
    };
    let found = skipped.into_iter().chain(stopped);
    found.map(move |found| found.of(server))
}

fn store(failure: &Failure) -> Found {
    match failure {
        Failure::NoReplica => Found::new("store", "no-replica", "store: no replica answers"),
        Failure::Restored => Found::new(
            "store",
            "store-restored",
            "store: it holds fewer commits than are shown here: was it restored? Restart the board \
             to show it",
        ),
        Failure::Unread(said) => Found::new("store", "store-unread", "store").saying(said),
    }
}

fn dispatcher(Unanswered { url, why }: &Unanswered) -> Found {
    let found = |cause, why: &str| {
        Found::new("dispatcher", cause, format!("dispatcher {url}: {why}")).of(url)
    };
    match why {
        Why::Untrusted(said) => {
            let text = format!("dispatcher {url}");
            let found = Found::new("dispatcher", "dispatcher-untrusted", text);
            found.of(url).saying(said)
        }
        Why::Silence => found("dispatcher-silent", "no answer in 2 s"),
        Why::Nobody => found("dispatcher-gone", "nothing listens there"),
        Why::Status(status @ (401 | 403)) => found(
            "dispatcher-forbidden",
            &format!("answered {status}: is the token right?"),
        )
        .with(&[(*status).into()]),
        Why::Status(status) => {
            found("dispatcher-status", &format!("answered {status}")).with(&[(*status).into()])
        }
        Why::Foreign => found("dispatcher-foreign", "the answer is no status of windlass"),
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
pub(crate) struct Troubles(Vec<Trouble>);

impl Troubles {
    /// Takes what is wrong now. A trouble of the same kind and subject as one that was there before
    /// keeps its start, also when its cause or its text has changed.
    pub fn update(&mut self, now: i64, found: Vec<Found>) {
        let mut before = std::mem::take(&mut self.0);
        let mut kept: Vec<Trouble> = found
            .into_iter()
            .map(|found| {
                let same = |old: &Trouble| old.kind == found.kind && old.subject == found.subject;
                let old = before.iter().position(same);
                let since = old.map_or(now, |index| before.swap_remove(index).since);
                Trouble {
                    kind: found.kind.to_owned(),
                    cause: found.cause.to_owned(),
                    subject: found.subject,
                    figures: found.figures,
                    detail: found.detail,
                    text: found.text,
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
    use crate::dispatcher::Answer;
    use crate::schema::Scaler;

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

    fn state(skipped: Option<Skipped>, replication: Replication) -> ReplicaState {
        ReplicaState {
            server: "mysql://a".into(),
            skipped,
            commits: 7,
            age_ms: None,
            replication,
        }
    }

    /// Everything that can be wrong, a sight each.
    fn everything() -> Vec<Found> {
        let replicas = [
            state(
                Some(Skipped::Lags {
                    commits: 3,
                    ms: 4_000,
                }),
                Replication::Stopped("no such key".into()),
            ),
            state(
                Some(Skipped::Failed("cannot reach it".into())),
                Replication::Stopped(String::new()),
            ),
        ];
        let failures = [
            Failure::NoReplica,
            Failure::Restored,
            Failure::Unread("a torn page".into()),
        ];
        let whys = [
            Why::Untrusted("it has expired".into()),
            Why::Silence,
            Why::Nobody,
            Why::Status(401),
            Why::Status(500),
            Why::Foreign,
        ];
        let answer = r#"{"shards": {"2": {"trouble": "the broker is gone"}}, "halted": "a bad function",
            "placement": {"creating_paused": "forbidden"}}"#;
        let answer: Answer = serde_json::from_str(answer).unwrap();
        let scaler = Scaler {
            running: true,
            refused: Some("max-size".into()),
            ..Scaler::default()
        };
        let well = Told {
            answer: Some(Ok(answer)),
            scaler: Some(scaler),
            failure: Some("denied".into()),
            ..Told::default()
        };
        let seen = |failure, told: &Told| {
            let seen = Seen {
                replicas: &[],
                failure,
                silent_ms: None,
                quarantined: 0,
                told,
            };
            seen.troubles()
        };
        let nothing = Told::default();
        let mut all = Seen {
            replicas: &replicas,
            failure: None,
            silent_ms: Some(20_001),
            quarantined: 4,
            told: &well,
        }
        .troubles();
        for failure in &failures {
            all.extend(seen(Some(failure.clone()), &nothing));
        }
        for why in whys {
            let url = "http://d".into();
            let told = Told {
                answer: Some(Err(Unanswered { url, why })),
                ..Told::default()
            };
            all.extend(seen(None, &told));
        }
        all
    }

    #[test]
    fn every_trouble_is_said_in_english() {
        let all = everything();
        let said: Vec<_> = all.iter().map(|found| found.text.as_str()).collect();
        assert_eq!(
            said,
            [
                "replica mysql://a: lags 3 commits and 4000 ms behind the newest replica: is its replication running?",
                "replica mysql://a: its replication does not run: no such key",
                "replica mysql://a: cannot reach it",
                "replica mysql://a: its replication does not run",
                "shard 2: the broker is gone",
                "no batch is handed out: a bad function",
                "no Job is created: forbidden",
                "scaler: its rows cannot be read: denied",
                "scaler: an edit of its tuning is refused: max-size",
                "stream: no sign of life for 20 s",
                "quarantine: grew by 4 in the last minute",
                "store: no replica answers",
                "store: it holds fewer commits than are shown here: was it restored? Restart the board to show it",
                "store: a torn page",
                "dispatcher http://d: it has expired",
                "dispatcher http://d: no answer in 2 s",
                "dispatcher http://d: nothing listens there",
                "dispatcher http://d: answered 401: is the token right?",
                "dispatcher http://d: answered 500",
                "dispatcher http://d: the answer is no status of windlass",
            ]
        );
    }

    #[test]
    fn the_page_has_a_chinese_sentence_for_every_cause_with_all_of_its_parts() {
        let words = include_str!("../web/src/troubles.ts");
        let (subjects, causes) = words.split_once("const CAUSES").unwrap();
        let of = |words: &str, name: &str| {
            let (_, rest) = words.split_once(&format!("\"{name}\": \"")).expect(name);
            rest.split_once('"').unwrap().0.to_owned()
        };
        for found in everything() {
            let sentence = of(causes, found.cause);
            for at in 0..found.figures.len() {
                let figure = format!("{{{at}}}");
                assert!(sentence.contains(&figure), "{figure} of {sentence}");
            }
            if !found.subject.is_empty() && found.subject != "tuning" {
                assert!(of(subjects, found.kind).contains("{subject}"));
            }
        }
    }

    #[test]
    fn a_silence_counts_only_when_it_is_long() {
        let told = Told::default();
        let seen = Seen {
            replicas: &[],
            failure: None,
            silent_ms: Some(20_000),
            quarantined: 0,
            told: &told,
        };
        assert_eq!(seen.troubles(), []);
    }

    #[test]
    fn a_trouble_keeps_its_start_while_it_lasts_and_loses_it_when_it_ends() {
        let mut troubles = Troubles::default();
        let lag = |commits: u64| {
            let text = format!("replica a: lags {commits} commits");
            Found::new("replica", "replica-lags", text).of("a")
        };
        troubles.update(10, vec![lag(1)]);
        let gone = Found::new("dispatcher", "dispatcher-gone", "dispatcher d: gone").of("d");
        troubles.update(20, vec![lag(5), gone]);
        assert_eq!(troubles.now()[0].since, 10);
        assert_eq!(troubles.now()[0].text, "replica a: lags 5 commits");
        assert_eq!(troubles.now()[1].since, 20);
        troubles.update(30, vec![]);
        assert!(troubles.now().is_empty());
        troubles.update(40, vec![lag(1)]);
        assert_eq!(troubles.now()[0].since, 40);
    }
}
