//! What producers publish: good tuples, bad ones, duplicates, misrouted ones, noise.

use std::sync::Arc;

use bytes::Bytes;
use windlass_functions::decode::{JSON, NDJSON};
use windlass_functions::stream::Stream;

use super::dice::Dice;
use super::settings::{Regime, Run};

/// Wall clock at virtual time 0, ms UTC.
pub const BASE_MS: i64 = 1_700_000_000_000;

/// The function always fails on this value.
pub const POISON: i64 = 66_666_666;

/// The function fails on this value until it is healed.
pub const POISON_UNTIL_HEALED: i64 = 66_666_667;

/// What a good tuple says beside its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub ts: i64,
    pub key: Arc<str>,
    pub amount: i64,
}

/// One row of a message, as the producer meant it.
#[derive(Clone, Debug)]
pub struct Row {
    /// `None` where source or seq is illegible.
    pub identity: Option<(Arc<str>, u64)>,
    /// `None` where the row cannot be counted.
    pub content: Option<Content>,
    /// The row as published.
    pub text: String,
}

/// A message and when it is published.
#[derive(Clone, Debug)]
pub struct Publish {
    pub at_ms: u64,
    pub shard: u32,
    pub replay: bool,
    pub content_type: Option<&'static str>,
    pub message_id: Option<String>,
    pub body: Bytes,
    /// Empty if the message as a whole is undecodable.
    pub rows: Vec<Row>,
}

impl Publish {
    /// A message that holds `rows`, in a format that can.
    pub fn of(at_ms: u64, shard: u32, rows: Vec<Row>, dice: &mut Dice) -> Self {
        let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
        let is_json = texts.iter().all(|text| text.starts_with('{'));
        let (content_type, body) = match texts.as_slice() {
            [one] if is_json && dice.chance(0.8) => (JSON, (*one).to_owned()),
            _ if is_json && dice.chance(0.5) => (JSON, format!("[{}]", texts.join(", "))),
            _ => (NDJSON, texts.join("\n") + "\n"),
        };
        Self {
            at_ms,
            shard,
            replay: false,
            content_type: Some(content_type),
            message_id: dice
                .chance(0.5)
                .then(|| format!("m{}", dice.range(0, u64::MAX))),
            body: body.into(),
            rows,
        }
    }
}

/// A good row.
pub fn good(source: &Arc<str>, seq: u64, content: Content) -> Row {
    let Content { ts, key, amount } = &content;
    let amount = Stream::default().decimal((*amount).into());
    Row {
        text: format!(
            r#"{{"source":"{source}","seq":{seq},"ts":{ts},"province":"{key}","amount":"{amount}"}}"#
        ),
        identity: Some((Arc::clone(source), seq)),
        content: Some(content),
    }
}

fn bad(source: &Arc<str>, seq: u64, at_ms: u64, dice: &mut Dice) -> Row {
    let now = BASE_MS + at_ms as i64;
    let (ts, key, amount) = match dice.range(0, 2) {
        0 => (now + 3_600_000, "far-future", "1.00"),
        1 => (now, "too-precise", "1.001"),
        _ => (now, "", "1.00"),
    };
    Row {
        text: format!(
            r#"{{"source":"{source}","seq":{seq},"ts":{ts},"province":"{key}","amount":"{amount}"}}"#
        ),
        identity: Some((Arc::clone(source), seq)),
        content: None,
    }
}

fn nameless(dice: &mut Dice) -> Row {
    let number = dice.range(0, u64::MAX);
    let text = match dice.range(0, 2) {
        0 => format!("not json {number}"),
        1 => format!(r#"{{"source":"s0","seq":-1,"note":{number}}}"#),
        _ => format!(r#"{{"seq":3,"note":{number}}}"#),
    };
    Row {
        identity: None,
        content: None,
        text,
    }
}

struct Source {
    name: Arc<str>,
    home: u32,
    start_ms: u64,
    gap_ms: u64,
    jitter_ms: u64,
    behind_ms: u64,
    late: f64,
    bad: f64,
    rows: u64,
    idles: bool,
}

/// Everything that is published by producers, in order of time.
pub fn schedule(run: &Run) -> Vec<Publish> {
    let mut dice = Dice::new(run.seed, 2);
    let mut published = Vec::new();
    for number in 0..dice.range(1, 5) {
        let source = source(run, number, &mut dice);
        published.extend(messages(run, &source, &mut dice));
    }
    published.sort_by_key(|publish: &Publish| publish.at_ms);
    published = joined(run, published, &mut dice);
    let extras = extras(run, &published, &mut dice);
    published.extend(extras);
    published.sort_by_key(|publish| publish.at_ms);
    published
}

fn source(run: &Run, number: u64, dice: &mut Dice) -> Source {
    let times = &run.settings.times;
    let clean = run.regime == Regime::Clean;
    let wild = run.regime == Regime::Wild;
    let appears_late = dice.chance(0.3);
    let most_gap = if wild {
        1_500
    } else {
        times.idle_timeout_ms / 4
    };
    Source {
        name: format!("s{number}").into(),
        home: dice.range(0, u64::from(run.shards) - 1) as u32,
        start_ms: if appears_late {
            dice.range(0, run.publish_ms / 2)
        } else {
            dice.range(0, 50)
        },
        gap_ms: dice.range(most_gap / 8, most_gap).max(10),
        jitter_ms: dice.range(0, times.delay_ms as u64),
        behind_ms: match dice.range(0, 9) {
            _ if clean => 0,
            0..=6 => 0,
            7 | 8 => dice.range(0, 4_000),
            _ => dice.range(4_000, 30_000),
        },
        late: if clean { 0.0 } else { dice.rate(&[0.02, 0.2]) },
        // A bad row does not speak: too many of them in a row would make a source idle.
        bad: match run.regime {
            Regime::Bounded => 0.0,
            _ => dice.rate(&[0.02, 0.1]),
        },
        rows: dice.pick(&[1, 1, 3, 10]),
        idles: wild && dice.chance(0.5),
    }
}

/// One source's messages. No tuple is older than the delay below what its source said before,
/// unless late on purpose.
fn messages(run: &Run, source: &Source, dice: &mut Dice) -> Vec<Publish> {
    let times = &run.settings.times;
    let mut batches = Vec::new();
    let mut at_ms = source.start_ms;
    let idle_from = dice.range(source.start_ms, run.publish_ms);
    let idle_for = times.idle_timeout_ms + dice.range(0, 4_000);
    let mut total = 0;
    while at_ms < run.publish_ms && total < 120 {
        let len = dice.range(1, source.rows);
        total += len;
        batches.push((at_ms, len));
        at_ms += dice.range(1, source.gap_ms);
        if source.idles && at_ms > idle_from && at_ms - idle_from < idle_for {
            at_ms += idle_for;
        }
    }
    // A source that stops early is idle; outside the wild regime it goes on with single tuples.
    while run.regime != Regime::Wild && at_ms < run.publish_ms {
        batches.push((at_ms, 1));
        total += 1;
        at_ms += dice.range(times.idle_timeout_ms / 6, times.idle_timeout_ms / 4);
    }
    let first = dice.range(0, 1);
    let mut seqs: Vec<u64> = (first..first + total).collect();
    if dice.chance(0.3) {
        for at in 1..seqs.len() {
            if dice.chance(0.1) {
                seqs.swap(at, at - dice.range(1, at.min(8) as u64) as usize);
            }
        }
    }
    let mut seqs = seqs.into_iter();
    let mut messages = Vec::new();
    for (at_ms, len) in batches {
        let mut rows = Vec::new();
        for seq in seqs.by_ref().take(len as usize) {
            rows.push(row(run, source, seq, at_ms, dice));
        }
        if dice.chance(source.bad / 2.0) {
            rows.push(nameless(dice));
        }
        messages.push(Publish::of(at_ms, source.home, rows, dice));
    }
    messages
}

fn row(run: &Run, source: &Source, seq: u64, at_ms: u64, dice: &mut Dice) -> Row {
    if dice.chance(source.bad) {
        return bad(&source.name, seq, at_ms, dice);
    }
    let times = &run.settings.times;
    let mut back_ms = source.behind_ms + dice.range(0, source.jitter_ms);
    if dice.chance(source.late) {
        back_ms += dice.range(
            0,
            (times.delay_ms + 2 * times.allowed_lateness_ms) as u64 + 3_000,
        );
    }
    let amount = match dice.range(0, 149) {
        0 => POISON,
        1 => POISON_UNTIL_HEALED,
        _ => dice.range(0, 1_000_000) as i64 - 10_000,
    };
    good(
        &source.name,
        seq,
        Content {
            ts: BASE_MS + at_ms as i64 - back_ms as i64,
            key: format!("k{}", dice.range(0, 3)).into(),
            amount,
        },
    )
}

/// Some neighbours on one queue become one message of several sources, unless that would make one
/// of them look idle.
fn joined(run: &Run, published: Vec<Publish>, dice: &mut Dice) -> Vec<Publish> {
    let joins = dice.rate(&[0.1, 0.5]);
    let most_ms = run.settings.times.idle_timeout_ms / 5;
    let mut out: Vec<Publish> = Vec::new();
    let mut from_ms = 0;
    for next in published {
        match out.last_mut() {
            Some(last)
                if last.shard == next.shard
                    && next.at_ms - from_ms < most_ms
                    && dice.chance(joins) =>
            {
                let mut rows = std::mem::take(&mut last.rows);
                rows.extend(next.rows);
                *last = Publish::of(next.at_ms, next.shard, rows, dice);
            }
            _ => {
                from_ms = next.at_ms;
                out.push(next);
            }
        }
    }
    out
}

/// Duplicates, conflicting duplicates, tuples on the wrong shard, and messages of noise.
fn extras(run: &Run, published: &[Publish], dice: &mut Dice) -> Vec<Publish> {
    let duplicates = dice.rate(&[0.02, 0.1]);
    let conflicts = dice.rate(&[0.01, 0.05]);
    // A stray that comes first moves its source's home to where it is seldom heard of.
    let misroutes = match run.regime {
        Regime::Wild if run.shards > 1 => dice.rate(&[0.01, 0.05]),
        _ => 0.0,
    };
    let noise = dice.rate(&[0.01, 0.05]);
    let mut extras = Vec::new();
    for publish in published {
        let again_ms = publish.at_ms + dice.range(0, 2_000);
        if dice.chance(duplicates) {
            extras.push(Publish {
                at_ms: again_ms,
                ..publish.clone()
            });
        }
        if dice.chance(duplicates) {
            let row = publish.rows[dice.range(0, publish.rows.len() as u64 - 1) as usize].clone();
            extras.push(Publish::of(again_ms, publish.shard, vec![row], dice));
        }
        if dice.chance(conflicts) {
            let rows = publish.rows.iter().map(|row| other(row, dice)).collect();
            extras.push(Publish::of(again_ms, publish.shard, rows, dice));
        }
        if dice.chance(misroutes) {
            let mut stray = publish.clone();
            stray.shard = (stray.shard + 1) % run.shards;
            stray.at_ms = stray.at_ms.saturating_sub(dice.range(0, 25));
            extras.push(stray);
        }
        if dice.chance(noise) {
            extras.push(undecodable(publish.at_ms, publish.shard, dice));
        }
    }
    extras
}

/// The same identity with other content, which a key of its own gives away in the results. It
/// stays within the window, so that it is late exactly if the first is.
fn other(row: &Row, dice: &mut Dice) -> Row {
    match (&row.identity, &row.content) {
        (Some((source, seq)), Some(content)) => good(
            source,
            *seq,
            Content {
                ts: content.ts - content.ts.rem_euclid(1_000) / 2,
                key: format!("other-{source}-{seq}-{}", dice.range(0, u64::MAX)).into(),
                amount: dice.range(0, 1_000) as i64,
            },
        ),
        _ => row.clone(),
    }
}

fn undecodable(at_ms: u64, shard: u32, dice: &mut Dice) -> Publish {
    let number = dice.range(0, u64::MAX);
    let (content_type, body) = match dice.range(0, 3) {
        0 => (Some(JSON), format!("{{\"source\": {number}")),
        1 => (Some("text/plain"), format!("{number}")),
        2 => (None, format!("{{\"seq\": {number}}}")),
        _ => (Some(JSON), String::new()),
    };
    Publish {
        at_ms,
        shard,
        replay: false,
        content_type,
        message_id: None,
        body: body.into(),
        rows: Vec::new(),
    }
}
