//! Reading what a scaler has kept.

use super::super::StoreError;
use super::super::conn::{DbError, READ_TIMEOUT};
use super::super::row::Row;
use super::super::sql::time;
use super::{COLUMNS, DecisionRow, Journal, ScalerState, TableRow};

const TABLE: &str = "agent, version, at, kind, layout, tuning, decisions";

impl Journal {
    /// The newest decision at or before `at_ms`; the newest of all without one. `chosen` asks for
    /// one that an agent chose.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn decision(
        &mut self,
        at_ms: Option<i64>,
        chosen: bool,
    ) -> Result<Option<DecisionRow>, StoreError> {
        let dialect = self.open().await?.dialect();
        let mut condition = self.key(dialect);
        if let Some(at) = at_ms.and_then(time) {
            condition += &format!(" AND at <= {at}");
        }
        if chosen {
            condition += " AND cause = 'agent'";
        }
        let sql = format!(
            "SELECT {COLUMNS} FROM scaler_decisions WHERE {condition} \
             ORDER BY at DESC, run DESC, no DESC LIMIT 1"
        );
        let rows = self.open().await?.rows(&sql).await?;
        Ok(rows.first().map(decision).transpose()?)
    }

    /// Decisions of a run, in their order, after number `after`, at most `limit`.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn decisions(
        &mut self,
        run: i64,
        after: u64,
        limit: u32,
    ) -> Result<Vec<DecisionRow>, StoreError> {
        let dialect = self.open().await?.dialect();
        let sql = format!(
            "SELECT {COLUMNS} FROM scaler_decisions WHERE {} AND run = {} AND no > {after} \
             ORDER BY no LIMIT {limit}",
            self.key(dialect),
            time(run).unwrap_or_else(|| "NULL".into())
        );
        let rows = self.open().await?.rows_within(READ_TIMEOUT, &sql).await?;
        let rows: Result<_, DbError> = rows.iter().map(decision).collect();
        Ok(rows?)
    }

    /// The runs that are kept, newest first: when each began, and how many decisions it has.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn runs(&mut self, limit: u32) -> Result<Vec<(i64, u64)>, StoreError> {
        let dialect = self.open().await?.dialect();
        let sql = format!(
            "SELECT run, COUNT(*) FROM scaler_decisions WHERE {} \
             GROUP BY run ORDER BY run DESC LIMIT {limit}",
            self.key(dialect)
        );
        let rows = self.open().await?.rows_within(READ_TIMEOUT, &sql).await?;
        let runs: Result<_, DbError> = rows
            .iter()
            .map(|row| Ok((row.time(0)?, row.u64(1)?)))
            .collect();
        Ok(runs?)
    }

    /// An agent's table of a version; the newest without one.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn table(
        &mut self,
        agent: &str,
        version: Option<u64>,
    ) -> Result<Option<TableRow>, StoreError> {
        let dialect = self.open().await?.dialect();
        let version = version.map_or_else(String::new, |v| format!(" AND version = {v}"));
        let sql = format!(
            "SELECT {TABLE}, body FROM scaler_tables WHERE {} AND agent = {}{version} \
             ORDER BY version DESC LIMIT 1",
            self.key(dialect),
            dialect.text(agent)
        );
        let rows = self.open().await?.rows(&sql).await?;
        Ok(rows.first().map(with_body).transpose()?)
    }

    /// The table that an agent began a run with.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn table_of_run(
        &mut self,
        agent: &str,
        run: i64,
    ) -> Result<Option<TableRow>, StoreError> {
        let dialect = self.open().await?.dialect();
        let sql = format!(
            "SELECT {TABLE}, body FROM scaler_tables WHERE {} AND agent = {} AND kind = 'start' \
             AND at = {} ORDER BY version DESC LIMIT 1",
            self.key(dialect),
            dialect.text(agent),
            time(run).unwrap_or_else(|| "NULL".into())
        );
        let rows = self.open().await?.rows(&sql).await?;
        Ok(rows.first().map(with_body).transpose()?)
    }

    /// The newest table that somebody has brought in (an import, a rollback) after version `after`.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn brought_in(
        &mut self,
        agent: &str,
        after: u64,
    ) -> Result<Option<TableRow>, StoreError> {
        let dialect = self.open().await?.dialect();
        let sql = format!(
            "SELECT {TABLE}, body FROM scaler_tables WHERE {} AND agent = {} AND version > {after} \
             AND kind IN ('import', 'rollback') ORDER BY version DESC LIMIT 1",
            self.key(dialect),
            dialect.text(agent)
        );
        let rows = self.open().await?.rows(&sql).await?;
        let row = rows.first().map(with_body);
        Ok(row.transpose()?)
    }

    /// An agent's tables without their bodies, newest first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn tables(&mut self, agent: &str, limit: u32) -> Result<Vec<TableRow>, StoreError> {
        let dialect = self.open().await?.dialect();
        let sql = format!(
            "SELECT {TABLE} FROM scaler_tables WHERE {} AND agent = {} \
             ORDER BY version DESC LIMIT {limit}",
            self.key(dialect),
            dialect.text(agent)
        );
        let rows = self.open().await?.rows(&sql).await?;
        let rows: Result<_, DbError> = rows.iter().map(table).collect();
        Ok(rows?)
    }

    /// The state that the scaler in charge has kept last, and its age in ms by the database's clock.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn state(&mut self) -> Result<Option<(ScalerState, i64)>, StoreError> {
        let dialect = self.open().await?.dialect();
        let sql = format!(
            "SELECT at, run, owner, pool, mode, generation, tuning, refused, refused_tuning, \
             refused_total, size, reason, {} FROM scaler_state WHERE {}",
            dialect.now(),
            self.key(dialect)
        );
        let rows = self.open().await?.rows(&sql).await?;
        let read = |row: &Row| {
            let state = ScalerState {
                at_ms: row.time(0)?,
                run: row.time(1)?,
                owner: row.text(2)?,
                pool: row.text(3)?,
                mode: row.text(4)?,
                generation: row.u64(5)?,
                tuning: row.text(6)?,
                refused: row.opt_text(7)?,
                refused_tuning: row.opt_text(8)?,
                refused_total: row.u64(9)?,
                size: row.u32(10)?,
                reason: row.text(11)?,
            };
            let age_ms = row.time(12)? - state.at_ms;
            Ok::<_, DbError>((state, age_ms))
        };
        Ok(rows.first().map(read).transpose()?)
    }
}

fn decision(row: &Row) -> Result<DecisionRow, DbError> {
    Ok(DecisionRow {
        at_ms: row.time(2)?,
        run: row.time(3)?,
        no: row.u64(4)?,
        generation: row.u64(5)?,
        mode: row.text(6)?,
        before: row.u32(7)?,
        desired: row.u32(8)?,
        cause: row.text(9)?,
        reason: row.text(10)?,
        state: row.opt_i64(11)?.map(i64::cast_unsigned),
        bins: row.opt_text(12)?,
        q_values: row.opt_text(13)?,
        action: row.opt_text(14)?,
        explored: row.opt_i64(15)?.map(|explored| explored != 0),
        guards: row.text(16)?,
        reward_cost: row.opt_f64(17)?,
        reward_late: row.opt_f64(18)?,
        detail: row.text(19)?,
        seconds: row.text(20)?,
    })
}

fn with_body(row: &Row) -> Result<TableRow, DbError> {
    let body = row.text(7)?;
    Ok(TableRow {
        body,
        ..table(row)?
    })
}

fn table(row: &Row) -> Result<TableRow, DbError> {
    Ok(TableRow {
        agent: row.text(0)?,
        version: row.u64(1)?,
        at_ms: row.time(2)?,
        kind: row.text(3)?,
        layout: row.text(4)?,
        tuning: row.text(5)?,
        decisions: row.u64(6)?,
        body: String::new(),
    })
}
