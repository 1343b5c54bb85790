//! What the page shows of a scaler: whether it is alive, its last decision and choice, its newest
//! Q-table. Only reads: a store in which no scaler has run yet has none of these tables, and a
//! replica's user need not be able to make them.
//!
//! What goes wrong here does not have a replica skipped: results come first.

use super::super::StoreError;
use super::super::conn::{Conn, DbError};
use super::super::row::Row;
use super::super::sql::{Dialect, stream_key, time};
use super::{BoardReader, Lane, no_replica};

/// The choice of an agent is looked for among so many decisions before the last one: others come in
/// between, but not that many unless the mode knows no choices.
const LOOKED_AT: u64 = 500;

/// A scaler as a replica last heard of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalerSeen {
    /// When it last said that it lives, ms UTC of the primary's clock.
    pub at_ms: i64,
    /// How long ago that was by the replica's clock, ms.
    pub age_ms: i64,
    /// When it was started, ms UTC.
    pub run: i64,
    /// Host and process.
    pub owner: String,
    /// Where the pool is.
    pub pool: String,
    /// The mode in force.
    pub mode: String,
    /// How many edits of the tuning have been applied.
    pub generation: u64,
    /// Why the newest edit is not in force, if it is not.
    pub refused: Option<String>,
    /// Workers, starting and ready.
    pub size: u64,
    /// Why it has that size.
    pub reason: String,
    /// Workers that there are to be, by its last decision.
    pub desired: Option<u64>,
    /// The last decision that an agent chose.
    pub choice: Option<ChoiceSeen>,
}

/// A choice of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChoiceSeen {
    /// When, ms UTC.
    pub at_ms: i64,
    /// Workers that there were.
    pub before: u64,
    /// Workers that there were to be.
    pub desired: u64,
    /// The agent's state, by number.
    pub state: Option<u64>,
    /// `action=Q` of every action, separated by commas.
    pub q_values: Option<String>,
    /// The action that was chosen.
    pub action: Option<String>,
    /// Whether that was to explore.
    pub explored: bool,
    /// Guards that changed the size, separated by commas.
    pub guards: String,
}

/// A Q-table as it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSeen {
    /// Counts the tables of an agent.
    pub version: u64,
    /// When it was kept, ms UTC.
    pub at_ms: i64,
    /// Its text.
    pub body: String,
}

impl BoardReader {
    /// The stream's scaler, or `None` where none has ever run.
    ///
    /// # Errors
    /// The last replica's, if none answers.
    pub async fn scaler(&self) -> Result<Option<ScalerSeen>, StoreError> {
        let mut last = no_replica();
        for lane in self.in_turn() {
            match self.scaler_of(lane).await {
                Ok(seen) => return Ok(seen),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// An agent's newest Q-table, if it is newer than version `known`.
    ///
    /// # Errors
    /// The last replica's, if none answers.
    pub async fn q_table(&self, agent: &str, known: u64) -> Result<Option<TableSeen>, StoreError> {
        let mut last = no_replica();
        for lane in self.in_turn() {
            match self.q_table_of(lane, agent, known).await {
                Ok(table) => return Ok(table),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn scaler_of(&self, lane: &Lane) -> Result<Option<ScalerSeen>, StoreError> {
        let mut conn = lane.open().await?;
        let seen = if self.has_scaler(&mut conn).await? {
            self.seen(&mut conn).await?
        } else {
            None
        };
        lane.keep(conn).await;
        Ok(seen)
    }

    async fn q_table_of(
        &self,
        lane: &Lane,
        agent: &str,
        known: u64,
    ) -> Result<Option<TableSeen>, StoreError> {
        let mut conn = lane.open().await?;
        let dialect = conn.dialect();
        let sql = format!(
            "SELECT version, at, body FROM scaler_tables WHERE {} AND agent = {} \
             AND version > {known} ORDER BY version DESC LIMIT 1",
            stream_key(dialect, &self.stream),
            dialect.text(agent)
        );
        let rows = self.rows(&mut conn, &sql).await?;
        lane.keep(conn).await;
        let read = |row: &Row| {
            Ok::<_, DbError>(TableSeen {
                version: row.u64(0)?,
                at_ms: row.time(1)?,
                body: row.text(2)?,
            })
        };
        Ok(rows.first().map(read).transpose()?)
    }

    /// Whether the tables of a scaler are there.
    async fn has_scaler(&self, conn: &mut Conn) -> Result<bool, StoreError> {
        let sql = match conn.dialect() {
            Dialect::Sqlite => "SELECT 1 FROM sqlite_master WHERE name = 'scaler_state'",
            _ => {
                "SELECT 1 FROM information_schema.tables \
                 WHERE table_schema = DATABASE() AND table_name = 'scaler_state'"
            }
        };
        Ok(!self.rows(conn, sql).await?.is_empty())
    }

    async fn seen(&self, conn: &mut Conn) -> Result<Option<ScalerSeen>, StoreError> {
        let dialect = conn.dialect();
        let key = stream_key(dialect, &self.stream);
        let sql = format!(
            "SELECT at, run, owner, pool, mode, generation, refused, size, reason, {} \
             FROM scaler_state WHERE {key}",
            dialect.now()
        );
        let rows = self.rows(conn, &sql).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let at_ms = row.time(0)?;
        let mut seen = ScalerSeen {
            at_ms,
            age_ms: row.time(9)? - at_ms,
            run: row.time(1)?,
            owner: row.text(2)?,
            pool: row.text(3)?,
            mode: row.text(4)?,
            generation: row.u64(5)?,
            refused: row.opt_text(6)?,
            size: row.u64(7)?,
            reason: row.text(8)?,
            desired: None,
            choice: None,
        };
        let run = time(seen.run).unwrap_or_else(|| "NULL".into());
        let of_run = format!("FROM scaler_decisions WHERE {key} AND run = {run}");
        let sql = format!("SELECT no, size_desired {of_run} ORDER BY no DESC LIMIT 1");
        if let Some(row) = self.rows(conn, &sql).await?.first() {
            seen.desired = Some(row.u64(1)?);
            let from = row.u64(0)?.saturating_sub(LOOKED_AT);
            let sql = format!(
                "SELECT at, size_before, size_desired, state, q_values, action, explored, guards \
                 {of_run} AND no >= {from} AND cause = 'agent' ORDER BY no DESC LIMIT 1"
            );
            let rows = self.rows(conn, &sql).await?;
            seen.choice = rows.first().map(choice).transpose()?;
        }
        Ok(Some(seen))
    }
}

fn choice(row: &Row) -> Result<ChoiceSeen, DbError> {
    Ok(ChoiceSeen {
        at_ms: row.time(0)?,
        before: row.u64(1)?,
        desired: row.u64(2)?,
        state: row.opt_i64(3)?.map(i64::cast_unsigned),
        q_values: row.opt_text(4)?,
        action: row.opt_text(5)?,
        explored: row.opt_i64(6)? == Some(1),
        guards: row.text(7)?,
    })
}
