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
use super::sql::Dialect;
use super::statements::Statements;
use super::writer::Writer;
use crate::plan::CommitPlan;

/// Times that a transaction is run when it keeps losing against others.
const ATTEMPTS: usize = 6;

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
    #[error("{0:#}")]
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
        let packet = conn.packet();
        let text = Statements::new(dialect, packet, &writer.stream, writer.shard, writer.lease)?;
        let mut body = text.results(plan)?;
        body.extend(text.totals(plan)?);
        body.extend(text.sources(plan.sources.iter().filter(|source| !source.new), false));
        body.extend(text.blocks(plan));
        body.extend(text.outcomes(plan)?);
        body.extend(text.past_retention(plan)?);
        body.extend(text.log(plan));
        Ok(Self {
            fence: text.fence(plan)?,
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
