//! A [`CommitPlan`] as statements.

use std::time::Duration;

use anyhow::anyhow;
use windlass_functions::partial::Partial;
use windlass_functions::stream::Stream;

use super::sql::{
    Dialect, LIMB, decimal, hex, hundredths_a_unit, inserts, stream_key, time, time_or_null,
};
use crate::plan::{CommitPlan, Logged, Outcome, SourceDelta};

/// Characters that fit the columns of free text.
const REASON_CHARS: usize = 1000;
const TEXT_CHARS: usize = 255;

/// Writes a plan's parts as statements.
pub(super) struct Statements {
    dialect: Dialect,
    limit: usize,
    /// The condition that selects the stream's rows.
    of: String,
    /// The stream's and query's names, as values.
    stream: String,
    shard: u32,
    lease: Duration,
    /// Hundredths in a minor unit.
    unit: i128,
}

impl Statements {
    pub fn new(
        dialect: Dialect,
        limit: usize,
        stream: &Stream,
        shard: u32,
        lease: Duration,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            dialect,
            limit,
            of: stream_key(dialect, stream),
            stream: format!(
                "{}, {}",
                dialect.text(&stream.name),
                dialect.text(&stream.query)
            ),
            shard,
            lease,
            unit: hundredths_a_unit(stream.scale)
                .ok_or_else(|| anyhow!("expected scale 0, 1 or 2, got {}", stream.scale))?,
        })
    }

    /// The UPDATE that matches one row only if the shard is still this owner's. It extends the lease,
    /// which the owner cannot do otherwise while its commit is on its way.
    pub fn fence(&self, plan: &CommitPlan) -> anyhow::Result<String> {
        let mut set = format!(
            "commit_no = commit_no + 1, seen_at = {}, lease_until = {}",
            self.dialect.now(),
            self.dialect.now_plus(self.lease.as_millis())
        );
        for (column, value) in [
            ("watermark", plan.watermark),
            ("final_before", plan.final_before),
        ] {
            if let Some(ms) = value {
                set.push_str(&format!(", {column} = {}", self.instant(ms)?));
            }
        }
        if let Some(last) = plan.rows.iter().map(|row| row.window).max() {
            let last = self.instant(last)?;
            set.push_str(&format!(
                ", last_window = CASE WHEN last_window > {last} THEN last_window ELSE {last} END"
            ));
        }
        let tallies = plan.tallies;
        for (column, more) in [
            ("duplicates", tallies.duplicates),
            ("redeliveries", tallies.redeliveries),
            ("undecodable", tallies.undecodable),
            ("misrouted", tallies.misrouted),
        ] {
            if more > 0 {
                set.push_str(&format!(", {column} = {column} + {more}"));
            }
        }
        Ok(format!(
            "UPDATE shards SET {set} WHERE {} AND shard = {} AND epoch = {} AND commit_no = {}",
            self.of, self.shard, plan.epoch, plan.commit_no
        ))
    }

    pub fn results(&self, plan: &CommitPlan) -> anyhow::Result<Vec<String>> {
        // In the order of the primary key, so that two shards cannot deadlock on their neighbours.
        let mut rows: Vec<_> = plan.rows.iter().collect();
        rows.sort_unstable_by(|a, b| (a.window, &a.key).cmp(&(b.window, &b.key)));
        let rows = rows
            .into_iter()
            .map(|row| {
                Ok(format!(
                    "({}, {}, {}, {}, {}, {})",
                    self.stream,
                    self.instant(row.window)?,
                    self.dialect.text(&row.key),
                    self.shard,
                    self.partial(&row.partial)?,
                    row.revision
                ))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let tail = format!(
            "{}{}, {}",
            self.dialect
                .on_conflict("stream, query, window_start, item_key, shard"),
            self.merge("results"),
            self.dialect.add("results", "revision")
        );
        let head = format!(
            "INSERT INTO results (stream, query, window_start, item_key, shard, {}, revision)",
            self.measures()
        );
        Ok(inserts(&head, rows, &tail, self.limit))
    }

    pub fn totals(&self, plan: &CommitPlan) -> anyhow::Result<Vec<String>> {
        let mut totals: Vec<_> = plan.totals.iter().collect();
        totals.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let rows = totals
            .into_iter()
            .map(|(key, partial)| {
                let (key, partial) = (self.dialect.text(key), self.partial(partial)?);
                Ok(format!(
                    "({}, {key}, {}, {partial})",
                    self.stream, self.shard
                ))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let tail = format!(
            "{}{}",
            self.dialect.on_conflict("stream, query, item_key, shard"),
            self.merge("totals")
        );
        let head = format!(
            "INSERT INTO totals (stream, query, item_key, shard, {})",
            self.measures()
        );
        Ok(inserts(&head, rows, &tail, self.limit))
    }

    pub fn sources<'a>(
        &self,
        sources: impl Iterator<Item = &'a SourceDelta>,
        claim: bool,
    ) -> Vec<String> {
        let mut sources: Vec<_> = sources.collect();
        sources.sort_unstable_by(|a, b| a.source.cmp(&b.source));
        let dialect = self.dialect;
        let rows = sources.into_iter().map(|delta| {
            format!(
                "({}, {}, {}, {}, {}, {}, {}, {}, {})",
                self.stream,
                dialect.text(&delta.source),
                self.shard,
                i32::from(delta.active),
                time_or_null(delta.max_ts),
                dialect.seq(delta.low),
                delta.counted,
                delta.late,
                delta.quarantined
            )
        });
        let tail = if claim {
            String::new()
        } else {
            let mut set: Vec<String> = ["active", "max_ts", "low"]
                .map(|column| format!("{column} = {}", dialect.proposed(column)))
                .into();
            set.extend(
                ["counted", "late", "quarantined"].map(|column| dialect.add("ledger", column)),
            );
            let conflict = dialect.on_conflict("stream, query, source");
            format!("{conflict}{}", set.join(", "))
        };
        let head = "INSERT INTO ledger \
                    (stream, query, source, shard, active, max_ts, low, counted, late, quarantined)";
        inserts(head, rows, &tail, self.limit)
    }

    pub fn blocks(&self, plan: &CommitPlan) -> Vec<String> {
        let dialect = self.dialect;
        let mut gone = Vec::new();
        let mut kept = Vec::new();
        for delta in &plan.sources {
            let source = dialect.text(&delta.source);
            for (number, content) in &delta.blocks {
                match content {
                    None => gone.push(format!(
                        "DELETE FROM ledger_blocks WHERE {} AND source = {source} AND block_no = {number}",
                        self.of
                    )),
                    Some(bytes) => {
                        kept.push(format!("({}, {source}, {number}, {})", self.stream, hex(bytes)));
                    }
                }
            }
        }
        let tail = format!(
            "{}seqs = {}",
            dialect.on_conflict("stream, query, source, block_no"),
            dialect.proposed("seqs")
        );
        let head = "INSERT INTO ledger_blocks (stream, query, source, block_no, seqs)";
        gone.extend(inserts(head, kept, &tail, self.limit));
        gone
    }

    pub fn outcomes(&self, plan: &CommitPlan) -> anyhow::Result<Vec<String>> {
        let rows = plan
            .outcomes
            .iter()
            .map(|outcome| self.outcome(outcome))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let head = "INSERT INTO outcomes (stream, query, source, seq, kind, reason, quarantine_id, \
                    ts, window_start, item_key, amount, at)";
        Ok(inserts(head, rows, "", self.limit))
    }

    fn outcome(&self, outcome: &Outcome) -> anyhow::Result<String> {
        let dialect = self.dialect;
        let cut = |text: &str, chars| dialect.text(&text.chars().take(chars).collect::<String>());
        let tuple = match &outcome.tuple {
            // A time that no column can hold is shown in the quarantined message only.
            Some(tuple) => format!(
                "{}, {}, {}, {}",
                time_or_null(Some(tuple.ts)),
                time_or_null(Some(tuple.window)),
                cut(&tuple.key, TEXT_CHARS),
                self.amount(tuple.amount)?
            ),
            None => "NULL, NULL, NULL, NULL".into(),
        };
        Ok(format!(
            "({}, {}, {}, '{}', {}, {}, {tuple}, {})",
            self.stream,
            dialect.text(&outcome.source),
            dialect.seq(outcome.seq),
            outcome.kind.as_str(),
            cut(&outcome.reason, REASON_CHARS),
            cut(&outcome.quarantine_id, TEXT_CHARS),
            dialect.now()
        ))
    }

    /// Where the invocations ran, as one `INSERT`: nothing reads these rows in a commit.
    pub fn log(&self, plan: &CommitPlan) -> Vec<String> {
        let rows = plan.log.iter().map(|logged| self.logged(plan, logged));
        let head = "INSERT INTO commit_log (stream, query, shard, epoch, commit_no, committed_at, slice, \
                    window_start, chunk, part, attempt, place, reason, tuples, waited_ms, created_ms, \
                    scheduled_ms, started_ms, pulled_ms, answered_ms)";
        inserts(head, rows, "", self.limit)
    }

    fn logged(&self, plan: &CommitPlan, logged: &Logged) -> String {
        let ran = &logged.ran;
        let phases = ran.phases.named().map(|(_, ms)| match ms {
            Some(ms) => ms.to_string(),
            None => "NULL".into(),
        });
        format!(
            "({}, {}, {}, {}, {}, {}, {}, {}, {}, {}, '{}', '{}', {}, {}, {})",
            self.stream,
            self.shard,
            plan.epoch,
            plan.commit_no + 1,
            self.dialect.now(),
            logged.slice,
            time_or_null(Some(logged.window)),
            logged.chunk,
            ran.part,
            ran.attempt,
            ran.place.as_str(),
            ran.reason.as_str(),
            ran.tuples,
            ran.waited_ms,
            phases.join(", ")
        )
    }

    pub fn replays(&self, plan: &CommitPlan) -> Vec<String> {
        plan.replayed
            .chunks(1000)
            .map(|tuples| {
                let pairs: Vec<String> = tuples
                    .iter()
                    .map(|(source, seq)| {
                        let (source, seq) = (self.dialect.text(source), self.dialect.seq(*seq));
                        format!("(source = {source} AND seq = {seq})")
                    })
                    .collect();
                format!(
                    "DELETE FROM outcomes WHERE {} AND ({})",
                    self.of,
                    pairs.join(" OR ")
                )
            })
            .collect()
    }

    /// Takes rows of windows that retention has passed out again: a replay into such a window counts
    /// in the totals only. Nothing else can touch them, since they are final.
    pub fn past_retention(&self, plan: &CommitPlan) -> anyhow::Result<Option<String>> {
        if plan.replayed.is_empty() || plan.rows.is_empty() {
            return Ok(None);
        }
        let windows = plan.rows.iter().map(|row| self.instant(row.window));
        let mut windows = windows.collect::<anyhow::Result<Vec<_>>>()?;
        windows.dedup();
        Ok(Some(format!(
            "DELETE FROM results WHERE {of} AND shard = {} AND window_start IN ({}) AND window_start < \
             (SELECT retained_from FROM retention WHERE {of})",
            self.shard,
            windows.join(","),
            of = self.of,
        )))
    }

    /// An instant that must be stored.
    fn instant(&self, ms: i64) -> anyhow::Result<String> {
        time(ms).ok_or_else(|| {
            anyhow!("expected an instant of the years 1000 to 9999, got {ms} ms: refuse such tuples earlier")
        })
    }

    fn measures(&self) -> &'static str {
        match self.dialect {
            Dialect::Sqlite => "orders, gmv_hi, gmv_lo, min_amount, max_amount",
            _ => "orders, gmv, min_amount, max_amount",
        }
    }

    /// The values of [`Self::measures`].
    fn partial(&self, partial: &Partial) -> anyhow::Result<String> {
        let sum = partial
            .sum
            .checked_mul(self.unit)
            .ok_or_else(|| anyhow!("a sum of {} does not fit DECIMAL(38,2)", partial.sum))?;
        let sum = match self.dialect {
            Dialect::Sqlite => {
                let hi = i64::try_from(sum / LIMB)
                    .map_err(|_| anyhow!("a sum of {sum} hundredths does not fit SQLite"))?;
                format!("{hi}, {}", sum % LIMB)
            }
            _ => decimal(sum),
        };
        let (min, max) = (self.amount(partial.min)?, self.amount(partial.max)?);
        Ok(format!("{}, {sum}, {min}, {max}", partial.count))
    }

    fn amount(&self, amount: i64) -> anyhow::Result<String> {
        let hundredths = i128::from(amount) * self.unit;
        Ok(match self.dialect {
            Dialect::Sqlite => i64::try_from(hundredths)
                .map_err(|_| anyhow!("an amount of {hundredths} hundredths does not fit SQLite"))?
                .to_string(),
            _ => decimal(hundredths),
        })
    }

    /// The update part that merges proposed measures into a row's.
    fn merge(&self, table: &str) -> String {
        let dialect = self.dialect;
        let sum = match dialect {
            // The low limb carries into the high one, so that neither ever overflows.
            Dialect::Sqlite => format!(
                "gmv_hi = {table}.gmv_hi + excluded.gmv_hi + ({table}.gmv_lo + excluded.gmv_lo) / {LIMB}, \
                 gmv_lo = ({table}.gmv_lo + excluded.gmv_lo) % {LIMB}"
            ),
            _ => dialect.add(table, "gmv"),
        };
        format!(
            "{}, {sum}, {}, {}",
            dialect.add(table, "orders"),
            dialect.extreme(table, "min_amount", false),
            dialect.extreme(table, "max_amount", true)
        )
    }
}
