//! Waiting until a replica has applied a commit.

use std::time::Duration;

use tokio::sync::Mutex;

use super::conn::Conn;
use super::sql::Dialect;
use super::{Store, StoreError};

/// How long to wait for replicas at least, when the limit is shared among many.
const SHORTEST: Duration = Duration::from_millis(200);

/// A position in the primary's history (GTIDs): a replica that is there holds the commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gate(String);

impl Gate {
    pub(super) fn new(position: String) -> Self {
        // MySQL breaks long sets into lines.
        Self(position.split_whitespace().collect())
    }
}

/// The replicas that a commit may be applied by; any one of them is enough.
pub struct Replicas {
    lanes: Vec<Mutex<Lane>>,
    /// Which one answered last: it is asked first.
    first: std::sync::atomic::AtomicUsize,
}

struct Lane {
    store: Store,
    conn: Option<Conn>,
}

impl Replicas {
    /// Connects to each replica.
    ///
    /// # Errors
    /// If one cannot be reached, or is an SQLite file, which has no replicas.
    pub async fn connect(urls: &[String]) -> Result<Self, StoreError> {
        let mut lanes = Vec::with_capacity(urls.len());
        for url in urls {
            let store = Store::parse(url)?;
            let conn = store.open().await?;
            if conn.dialect() == Dialect::Sqlite {
                return Err(StoreError::Url(format!(
                    "expected a replica's mysql:// URL, got {}: an SQLite file has no replicas",
                    store.name()
                )));
            }
            lanes.push(Mutex::new(Lane {
                store,
                conn: Some(conn),
            }));
        }
        Ok(Self {
            lanes,
            first: 0.into(),
        })
    }

    /// Waits until some replica has applied everything up to `gate`. The limit is shared evenly
    /// among the replicas, which are asked one after the other.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] if none has within `timeout`: ask again, the gate stays valid.
    /// [`StoreError::Schema`] if the primary writes no GTIDs, so that nobody can tell.
    pub async fn wait_applied(&self, gate: &Gate, timeout: Duration) -> Result<(), StoreError> {
        use std::sync::atomic::Ordering::Relaxed;
        if gate.0.is_empty() {
            return Err(StoreError::Schema(
                "the primary writes no GTIDs: turn on log_bin and gtid_mode, or use `durability: primary`"
                    .into(),
            ));
        }
        let count = self.lanes.len();
        let share = (timeout / count.max(1) as u32).max(SHORTEST);
        let first = self.first.load(Relaxed);
        let mut failures = Vec::with_capacity(count);
        for number in (first..first + count).map(|number| number % count) {
            let mut lane = self.lanes[number].lock().await;
            match lane.wait(gate, share).await {
                Ok(true) => {
                    self.first.store(number, Relaxed);
                    return Ok(());
                }
                Ok(false) => failures.push(format!("{} lags", lane.store.name())),
                Err(error) => failures.push(error.to_string()),
            }
        }
        Err(StoreError::Unreachable(format!(
            "no replica applied the commit within {timeout:?}: {}",
            failures.join("; ")
        )))
    }
}

impl Lane {
    async fn wait(&mut self, gate: &Gate, limit: Duration) -> Result<bool, StoreError> {
        let mut conn = match self.conn.take() {
            Some(conn) if conn.is_open() => conn,
            _ => self.store.open().await?,
        };
        let seconds = limit.as_secs_f64();
        let position = conn.dialect().text(&gate.0);
        let sql = match conn.dialect() {
            Dialect::MySql => {
                format!("SELECT WAIT_FOR_EXECUTED_GTID_SET({position}, {seconds:.3})")
            }
            _ => format!("SELECT MASTER_GTID_WAIT({position}, {seconds:.3})"),
        };
        // The server keeps the limit; ours is for a server that keeps silent.
        let rows = conn
            .rows_within(limit + Duration::from_secs(2), &sql)
            .await?;
        self.conn = Some(conn);
        Ok(rows.first().and_then(|row| row.bytes(0)) == Some(b"0"))
    }
}
