//! How far behind its primary a replica says it is. It needs a privilege of its own (`REPLICATION
//! CLIENT`, in MariaDB `SLAVE MONITOR`), without which nothing is known but the age of what it holds.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::lane::Lane;
use super::{BoardReader, Dialect};
use crate::store::StoreError;
use crate::store::conn::DbError;

/// For how long a server that has nothing to say of it is not asked again.
const SELDOM: Duration = Duration::from_secs(60);
/// How long one may take to say it.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What a server says of its own replication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Replication {
    /// Nothing: it is a primary or an SQLite file, or the user may not ask.
    #[default]
    Unknown,
    /// It runs, so many whole seconds behind.
    Behind(u64),
    /// It does not run; the server's last word on why, which may be empty.
    Stopped(String),
}

impl BoardReader {
    /// Asks every server of its replication, for [`super::ReplicaState`].
    pub async fn ask_replication(&self) {
        let asked = self.lanes.iter().filter(|lane| lane.tells());
        join_all(asked.map(|lane| self.ask_lane(lane))).await;
    }

    async fn ask_lane(&self, lane: &Lane) {
        match timeout(TIMEOUT, self.replication_of(lane)).await {
            Ok(Ok(Some(replication))) => lane.replicates(replication),
            Ok(Ok(None)) => lane.tells_nothing(SELDOM),
            // The probe says what is wrong with it.
            Ok(Err(_)) | Err(_) => lane.replicates(Replication::Unknown),
        }
    }

    async fn replication_of(&self, lane: &Lane) -> Result<Option<Replication>, StoreError> {
        let mut conn = lane.open().await?;
        let columns = match conn.dialect() {
            Dialect::Sqlite => {
                lane.keep(conn).await;
                return Ok(None);
            }
            Dialect::MariaDb => ["Seconds_Behind_Master", "Last_IO_Error", "Last_SQL_Error"],
            Dialect::MySql => ["Seconds_Behind_Source", "Last_IO_Error", "Last_SQL_Error"],
        };
        self.count_statement();
        let rows = conn
            .named_within(TIMEOUT, "SHOW REPLICA STATUS", &columns)
            .await;
        let rows = match rows {
            Ok(rows) => rows,
            // Before MySQL 8.0.22 and MariaDB 10.5.1 the statement was another one.
            Err(error) if error.is_forbidden() || error.number() == Some(1064) => {
                lane.keep(conn).await;
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        lane.keep(conn).await;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let text = |column| Ok::<_, DbError>(row.opt_text(column)?.unwrap_or_default());
        Ok(Some(match row.opt_i64(0)? {
            Some(seconds) => Replication::Behind(seconds.max(0).cast_unsigned()),
            None => {
                let errors = [text(1)?, text(2)?];
                let errors = errors.into_iter().filter(|error| !error.is_empty());
                Replication::Stopped(errors.collect::<Vec<_>>().join("; "))
            }
        }))
    }
}
