//! What a scaler keeps: its decisions, its Q-tables, and the tuning that is in force.
//!
//! Three tables of their own, made when a scaler first needs them, so that a database of an earlier
//! release needs no migration. Nothing here has to do with exactly once: a row that is lost costs an
//! explanation, never an order.

mod read;
pub(super) mod tables;

use windlass_functions::stream::Stream;

use super::conn::Conn;
use super::sql::{Dialect, stream_key, time};
use super::{Store, StoreError, schema};

/// Checkpoints of an agent that are kept; those of other kinds are kept until somebody deletes them.
const CHECKPOINTS: u64 = 100;

/// A decision, as it is kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecisionRow {
    /// When it was taken, ms UTC.
    pub at_ms: i64,
    /// The run that it belongs to: when that began, ms UTC.
    pub run: i64,
    /// Its number within the run, from 1.
    pub no: u64,
    /// The tuning in force, by number.
    pub generation: u64,
    /// The mode of the tuning.
    pub mode: String,
    /// Workers that there were, starting and ready.
    pub before: u32,
    /// Workers that there were to be.
    pub desired: u32,
    /// `agent`, `formula`, `guard`, `gap`, or `none` where nothing was decided.
    pub cause: String,
    /// Why, in a line.
    pub reason: String,
    /// The agent's state.
    pub state: Option<u64>,
    /// Its bins, separated by commas.
    pub bins: Option<String>,
    /// `action=Q` of every action, separated by commas.
    pub q_values: Option<String>,
    /// The action that was chosen.
    pub action: Option<String>,
    /// Whether that was to explore.
    pub explored: Option<bool>,
    /// Guards that changed the size, separated by commas.
    pub guards: String,
    /// The reward that followed the choice, for pod-seconds; once it is known.
    pub reward_cost: Option<f64>,
    /// The same for late windows, at a price of 1.
    pub reward_late: Option<f64>,
    /// All of it as JSON.
    pub detail: String,
    /// What was measured in the seconds up to it, since the row before: a line each.
    pub seconds: String,
}

/// The reward of an earlier decision, known by now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Followed {
    /// That decision's number within the same run.
    pub no: u64,
    /// For pod-seconds.
    pub cost: f64,
    /// For late windows, at a price of 1.
    pub late: f64,
}

/// A Q-table, as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct TableRow {
    /// Whose: `elastic` or `paper`.
    pub agent: String,
    /// Counts the tables of an agent, from 1; 0 before it is saved.
    pub version: u64,
    /// When it was saved, ms UTC.
    pub at_ms: i64,
    /// `start` of a run, `checkpoint`, `import` or `rollback`.
    pub kind: String,
    /// Hash of bins and actions.
    pub layout: String,
    /// The tuning under which it was learned.
    pub tuning: String,
    /// Choices that it has been learned from.
    pub decisions: u64,
    /// The table; empty in lists.
    #[serde(skip)]
    pub body: String,
}

/// A scaler's state as of its last second.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ScalerState {
    /// When it was last alive, ms UTC by the database's clock.
    pub at_ms: i64,
    /// When it was started, ms UTC.
    pub run: i64,
    /// Host and process.
    pub owner: String,
    /// Where the pool is.
    pub pool: String,
    /// The mode in force.
    pub mode: String,
    /// How many edits of the tuning have been applied in this run.
    pub generation: u64,
    /// The tuning in force: `key: value` lines as they were written.
    pub tuning: String,
    /// Why the newest edit is not in force, if it is not.
    pub refused: Option<String>,
    /// That edit.
    pub refused_tuning: Option<String>,
    /// How many edits have been refused in this run.
    pub refused_total: u64,
    /// Workers, starting and ready.
    pub size: u32,
    /// Why it has that size.
    pub reason: String,
}

/// Keeps and reads a scaler's rows over one connection, which is opened anew after a fault.
#[derive(Debug)]
pub struct Journal {
    store: Store,
    stream: Stream,
    conn: Option<Kept>,
}

struct Kept(Conn);

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept")
    }
}

impl Store {
    /// The scaler's rows of a stream. Connects when it is first used, and makes the scaler's tables
    /// where they are missing.
    pub fn journal(&self, stream: &Stream) -> Journal {
        Journal {
            store: self.clone(),
            stream: stream.clone(),
            conn: None,
        }
    }
}

impl Journal {
    /// Makes the scaler's tables where they are missing.
    ///
    /// # Errors
    /// If the database does not answer, or the user may not make tables.
    pub async fn prepare(&mut self) -> Result<(), StoreError> {
        self.open().await.map(|_| ())
    }

    async fn open(&mut self) -> Result<&mut Conn, StoreError> {
        if self.conn.as_ref().is_none_or(|kept| !kept.0.is_open()) {
            let mut conn = self.store.open_migrated().await?;
            schema::make_scaler_tables(&mut conn, &self.store.database).await?;
            self.conn = Some(Kept(conn));
        }
        match &mut self.conn {
            Some(kept) => Ok(&mut kept.0),
            None => Err(StoreError::Unreachable("the database is not open".into())),
        }
    }

    fn key(&self, dialect: Dialect) -> String {
        stream_key(dialect, &self.stream)
    }

    fn names(&self, dialect: Dialect) -> String {
        format!(
            "{}, {}",
            dialect.text(&self.stream.name),
            dialect.text(&self.stream.query)
        )
    }

    /// Keeps a decision, and the reward of an earlier one.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn decided(
        &mut self,
        row: &DecisionRow,
        followed: Option<Followed>,
    ) -> Result<(), StoreError> {
        let dialect = self.open().await?.dialect();
        let (key, names) = (self.key(dialect), self.names(dialect));
        let mut sql = format!(
            "INSERT INTO scaler_decisions ({COLUMNS}) VALUES ({names}, {}){}",
            values(dialect, row),
            // Told again after an answer that was lost: the row is there.
            match dialect {
                Dialect::Sqlite => " ON CONFLICT DO NOTHING",
                _ => " ON DUPLICATE KEY UPDATE no = scaler_decisions.no",
            }
        );
        if let Some(Followed { no, cost, late }) = followed {
            let run = time(row.run).unwrap_or_else(|| "NULL".into());
            sql += &format!(
                "; UPDATE scaler_decisions SET reward_cost = {}, reward_late = {} \
                 WHERE {key} AND run = {run} AND no = {no}",
                real(Some(cost)),
                real(Some(late))
            );
        }
        self.open().await?.execute(&sql).await?;
        Ok(())
    }

    /// Keeps a table under the next version, which is returned, and forgets old checkpoints.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn save_table(&mut self, row: &TableRow) -> Result<u64, StoreError> {
        let dialect = self.open().await?.dialect();
        let (key, names) = (self.key(dialect), self.names(dialect));
        let agent = dialect.text(&row.agent);
        let newest = format!(
            "SELECT COALESCE(MAX(version), 0) FROM scaler_tables WHERE {key} AND agent = {agent}"
        );
        let conn = self.open().await?;
        let rows = conn.rows(&newest).await?;
        let version = 1 + rows.first().map_or(Ok(0), |row| row.u64(0))?;
        let sql = format!(
            "INSERT INTO scaler_tables (stream, query, agent, version, at, kind, layout, tuning, \
             decisions, body) VALUES ({names}, {agent}, {version}, {}, {}, {}, {}, {}, {}); \
             DELETE FROM scaler_tables WHERE {key} AND agent = {agent} AND kind = 'checkpoint' \
             AND version + {CHECKPOINTS} <= {version}",
            time(row.at_ms).unwrap_or_else(|| "NULL".into()),
            dialect.text(&row.kind),
            dialect.text(&row.layout),
            dialect.text(&row.tuning),
            row.decisions,
            dialect.text(&row.body),
        );
        conn.execute(&sql).await?;
        Ok(version)
    }

    /// Keeps the state; the last one that says so is the scaler in charge.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn alive(&mut self, state: &ScalerState) -> Result<(), StoreError> {
        let dialect = self.open().await?.dialect();
        let names = self.names(dialect);
        let optional = |text: &Option<String>| {
            text.as_ref()
                .map_or_else(|| "NULL".into(), |text| dialect.text(text))
        };
        let columns = [
            ("at", dialect.now().to_owned()),
            ("run", time(state.run).unwrap_or_else(|| "NULL".into())),
            ("owner", dialect.text(&state.owner)),
            ("pool", dialect.text(&state.pool)),
            ("mode", dialect.text(&state.mode)),
            ("generation", state.generation.to_string()),
            ("tuning", dialect.text(&state.tuning)),
            ("refused", optional(&state.refused)),
            ("refused_tuning", optional(&state.refused_tuning)),
            ("refused_total", state.refused_total.to_string()),
            ("size", state.size.to_string()),
            ("reason", dialect.text(&state.reason)),
        ];
        let join = |part: &dyn Fn(&(&str, String)) -> String| {
            let parts: Vec<String> = columns.iter().map(part).collect();
            parts.join(", ")
        };
        let sql = format!(
            "INSERT INTO scaler_state (stream, query, {}) VALUES ({names}, {}){}{}",
            join(&|(name, _)| (*name).to_owned()),
            join(&|(_, value)| value.clone()),
            dialect.on_conflict("stream, query"),
            join(&|(name, _)| format!("{name} = {}", dialect.proposed(name))),
        );
        self.open().await?.execute(&sql).await?;
        Ok(())
    }

    /// Deletes decisions taken before `before_ms`, at most `limit`; says how many.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn forget(&mut self, before_ms: i64, limit: u32) -> Result<u64, StoreError> {
        let dialect = self.open().await?.dialect();
        let key = self.key(dialect);
        let before = time(before_ms).unwrap_or_else(|| "NULL".into());
        let condition = format!("{key} AND at < {before}");
        let sql = match dialect {
            Dialect::Sqlite => format!(
                "DELETE FROM scaler_decisions WHERE (stream, query, at, run, no) IN (SELECT stream, \
                 query, at, run, no FROM scaler_decisions WHERE {condition} ORDER BY at LIMIT {limit})"
            ),
            _ => format!(
                "DELETE FROM scaler_decisions WHERE {condition} ORDER BY stream, query, at LIMIT {limit}"
            ),
        };
        Ok(self.open().await?.execute(&sql).await?)
    }
}

const COLUMNS: &str = "stream, query, at, run, no, generation, mode, size_before, size_desired, \
                       cause, reason, state, bins, q_values, action, explored, guards, \
                       reward_cost, reward_late, detail, seconds";

fn values(dialect: Dialect, row: &DecisionRow) -> String {
    let moment = |ms| time(ms).unwrap_or_else(|| "NULL".into());
    let text = |text: &Option<String>| {
        text.as_ref()
            .map_or_else(|| "NULL".to_owned(), |text| dialect.text(text))
    };
    let number = |number: Option<u64>| number.map_or_else(|| "NULL".into(), |n| n.to_string());
    [
        moment(row.at_ms),
        moment(row.run),
        row.no.to_string(),
        row.generation.to_string(),
        dialect.text(&row.mode),
        row.before.to_string(),
        row.desired.to_string(),
        dialect.text(&row.cause),
        dialect.text(&row.reason),
        number(row.state),
        text(&row.bins),
        text(&row.q_values),
        text(&row.action),
        number(row.explored.map(u64::from)),
        dialect.text(&row.guards),
        real(row.reward_cost),
        real(row.reward_late),
        dialect.text(&row.detail),
        dialect.text(&row.seconds),
    ]
    .join(", ")
}

/// A `DOUBLE` literal.
fn real(number: Option<f64>) -> String {
    match number {
        Some(number) if number.is_finite() => format!("{number:e}"),
        _ => "NULL".into(),
    }
}
