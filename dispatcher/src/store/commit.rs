//! Carrying a [`CommitPlan`] out: one transaction, fence first.
//!
//! The fence is an UPDATE of the shard's row that matches only under this owner's epoch and the
//! commit number it expects; it also holds the row, so that no other owner gets past it before the
//! transaction ends. A transaction that loses against another one (deadlock, lock timeout) is run
//! again from its beginning. Any other doubt, above all a COMMIT without an answer, gives the
//! connection up: whether it took effect shows when the shard is taken over anew, and it can take
//! no effect after that.

use std::time::Duration;

use anyhow::anyhow;
use backon::BackoffBuilder as _;

use super::conn::{Conn, DbError};
use super::replicas::Gate;
use super::sql::{Dialect, LIMB, decimal, hex, hundredths_a_unit, inserts, time, time_or_null};
use super::writer::Writer;
use crate::plan::{CommitPlan, Outcome, SourceDelta};
use windlass_functions::partial::Partial;

/// Times that a transaction is run when it keeps losing against others.
const ATTEMPTS: usize = 6;
/// Characters that fit the columns of free text.
const REASON_CHARS: usize = 1000;
const TEXT_CHARS: usize = 255;

/// A commit that is durable on the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// What a replica must have applied to hold this commit.
    pub gate: Gate,
}

/// Why a plan was not carried out, or perhaps not.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Another owner has the shard now; nothing was written.
    #[error("another owner has raised the shard's epoch, or this commit was made before")]
    Superseded,
    /// Another shard claimed one of the new sources first; nothing was written. Load them again.
    #[error("another shard has claimed one of the plan's new sources")]
    SourceClaimed,
    /// A replayed tuple no longer stands in `outcomes`; nothing was written.
    #[error("a replayed tuple no longer stands in `outcomes`")]
    ReplayGone,
    /// It is not known whether the plan was carried out: take the shard over anew.
    #[error(transparent)]
    Lost(anyhow::Error),
}

enum Attempt {
    Again(DbError),
    Final(CommitError),
}

impl Writer {
    /// Carries out a plan.
    ///
    /// # Errors
    /// See [`CommitError`]. After [`CommitError::Lost`] the writer is of no use until
    /// [`Writer::raise_epoch`].
    pub async fn commit(&mut self, plan: &CommitPlan) -> Result<Committed, CommitError> {
        let prepared = match Prepared::new(self, plan) {
            Ok(prepared) => prepared,
            Err(error) => return Err(self.lost(error)),
        };
        let mut pauses = backon::ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(5))
            .with_max_delay(Duration::from_millis(200))
            .with_max_times(ATTEMPTS - 1)
            .with_jitter()
            .build();
        loop {
            let Some(conn) = self.conn.as_mut() else {
                return Err(self.lost(anyhow::Error::new(DbError::Closed)));
            };
            match prepared.run(conn).await {
                Ok(committed) => return Ok(committed),
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Again(error)) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => {
                        let error = anyhow::Error::new(error)
                            .context(format!("the commit lost against others {ATTEMPTS} times"));
                        return Err(self.lost(error));
                    }
                },
            }
        }
    }

    fn lost(&mut self, error: anyhow::Error) -> CommitError {
        if let Some(conn) = &mut self.conn {
            conn.abandon();
        }
        CommitError::Lost(error)
    }
}

/// A plan as statements.
struct Prepared {
    fence: String,
    /// Inserts of sources that this shard claims; a duplicate key means that another was first.
    claims: Vec<String>,
    /// Deletes of replayed outcomes, and how many rows they must match together.
    replays: Vec<String>,
    replayed: u64,
    /// Everything else, in packets of several statements.
    body: Vec<String>,
    commit: &'static str,
}

impl Prepared {
    fn new(writer: &Writer, plan: &CommitPlan) -> anyhow::Result<Self> {
        let Some(conn) = &writer.conn else {
            return Err(DbError::Closed.into());
        };
        if plan.shard != writer.shard {
            return Err(anyhow!(
                "expected a plan for shard {}, got one for shard {}",
                writer.shard,
                plan.shard
            ));
        }
        let dialect = conn.dialect();
        let stream = &writer.stream;
        let text = Statements {
            dialect,
            limit: conn.packet(),
            of: writer.stream_key(),
            stream: format!(
                "{}, {}",
                dialect.text(&stream.name),
                dialect.text(&stream.query)
            ),
            shard: writer.shard,
            unit: hundredths_a_unit(stream.scale)
                .ok_or_else(|| anyhow!("expected scale 0, 1 or 2, got {}", stream.scale))?,
        };
        let mut body = text.results(plan)?;
        body.extend(text.totals(plan)?);
        body.extend(text.sources(plan.sources.iter().filter(|source| !source.new), false));
        body.extend(text.blocks(plan));
        body.extend(text.outcomes(plan)?);
        Ok(Self {
            fence: text.fence(plan, &writer.shard_key())?,
            claims: text.sources(plan.sources.iter().filter(|source| source.new), true),
            replays: text.replays(plan),
            replayed: plan.replayed.len() as u64,
            body: packets(body, conn.packet()),
            commit: match dialect {
                Dialect::MySql => "COMMIT; SELECT @@GLOBAL.gtid_executed",
                Dialect::MariaDb => "COMMIT; SELECT @@last_gtid",
                Dialect::Sqlite => "COMMIT",
            },
        })
    }

    async fn run(&self, conn: &mut Conn) -> Result<Committed, Attempt> {
        match self.statements(conn).await {
            Ok(()) => {}
            Err(Step::Refused(error)) => {
                conn.rollback().await;
                return Err(Attempt::Final(error));
            }
            Err(Step::Failed(error)) if error.is_contention() => {
                conn.rollback().await;
                return Err(Attempt::Again(error));
            }
            Err(Step::Failed(error)) => {
                conn.abandon();
                return Err(Attempt::Final(CommitError::Lost(error.into())));
            }
        }
        fail::fail_point!("commit.before-commit", |_| crate::failpoint::die());
        match conn.rows(self.commit).await {
            Ok(rows) => {
                fail::fail_point!("commit.after-commit", |_| crate::failpoint::die());
                let position = rows.first().and_then(|row| row.opt_text(0).ok()).flatten();
                Ok(Committed {
                    gate: Gate::new(position.unwrap_or_default()),
                })
            }
            Err(error) => {
                conn.abandon();
                let error = anyhow::Error::new(error).context("COMMIT got no answer");
                Err(Attempt::Final(CommitError::Lost(error)))
            }
        }
    }

    async fn statements(&self, conn: &mut Conn) -> Result<(), Step> {
        fail::fail_point!("commit.before", |_| crate::failpoint::die());
        if conn.begin_with(&self.fence).await? != 1 {
            return Err(Step::Refused(CommitError::Superseded));
        }
        fail::fail_point!("commit.after-fence", |_| crate::failpoint::die());
        for claim in &self.claims {
            match conn.execute(claim).await {
                Err(error) if error.is_duplicate() => {
                    return Err(Step::Refused(CommitError::SourceClaimed));
                }
                claimed => claimed?,
            };
        }
        let mut replayed = 0;
        for replay in &self.replays {
            replayed += conn.execute(replay).await?;
        }
        if replayed != self.replayed {
            return Err(Step::Refused(CommitError::ReplayGone));
        }
        for packet in &self.body {
            conn.execute(packet).await?;
        }
        Ok(())
    }
}

enum Step {
    Refused(CommitError),
    Failed(DbError),
}

impl From<DbError> for Step {
    fn from(error: DbError) -> Self {
        Self::Failed(error)
    }
}

/// Statements that go to the server in one round trip, no more bytes than `limit` but for single
/// statements that are longer by themselves.
fn packets(statements: Vec<String>, limit: usize) -> Vec<String> {
    let mut packets: Vec<String> = Vec::new();
    for statement in statements {
        match packets.last_mut() {
            Some(packet) if packet.len() + statement.len() < limit => {
                packet.push_str("; ");
                packet.push_str(&statement);
            }
            _ => packets.push(statement),
        }
    }
    packets
}

/// Writes a plan's parts as statements.
struct Statements {
    dialect: Dialect,
    limit: usize,
    /// The condition that selects the stream's rows.
    of: String,
    /// The stream's and query's names, as values.
    stream: String,
    shard: u32,
    /// Hundredths in a minor unit.
    unit: i128,
}

impl Statements {
    fn fence(&self, plan: &CommitPlan, shard_key: &str) -> anyhow::Result<String> {
        let mut set = format!(
            "commit_no = commit_no + 1, seen_at = {}",
            self.dialect.now()
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
            "UPDATE shards SET {set} WHERE {shard_key} AND epoch = {} AND commit_no = {}",
            plan.epoch, plan.commit_no
        ))
    }

    fn results(&self, plan: &CommitPlan) -> anyhow::Result<Vec<String>> {
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

    fn totals(&self, plan: &CommitPlan) -> anyhow::Result<Vec<String>> {
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

    fn sources<'a>(
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

    fn blocks(&self, plan: &CommitPlan) -> Vec<String> {
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

    fn outcomes(&self, plan: &CommitPlan) -> anyhow::Result<Vec<String>> {
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

    fn replays(&self, plan: &CommitPlan) -> Vec<String> {
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
            Dialect::Sqlite => format!("{}, {}", sum / LIMB, sum % LIMB),
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
