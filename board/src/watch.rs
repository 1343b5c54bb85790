//! Looks after a scaler in the store: its state once a second while there is one, and its Q-table
//! when there is a newer one.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use windlass_dispatcher::store::BoardReader;

use crate::scaling;
use crate::schema::{Policy, Scaler};

/// How often is looked for a scaler where there is none, and for a newer table.
const SELDOM: Duration = Duration::from_secs(10);
/// How long the store may take to tell of the scaler.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What is known of the scaler so far.
#[derive(Debug, Default)]
pub(crate) struct ScalerWatch {
    /// When to look again, if not at once.
    look_at: Option<Instant>,
    table_at: Option<Instant>,
    /// Agent and version of the table that was told last.
    known: Option<(&'static str, u64)>,
    pub scaler: Option<Scaler>,
    /// Why its rows cannot be read, if so.
    pub failure: Option<String>,
}

impl ScalerWatch {
    /// Looks; a Q-table that has not been told yet.
    pub async fn look(&mut self, reader: &BoardReader, now: Instant) -> Option<Policy> {
        if self.look_at.is_some_and(|at| now < at) {
            return None;
        }
        let seen = match timeout(TIMEOUT, reader.scaler()).await {
            Ok(seen) => seen.map_err(|error| error.to_string()),
            Err(_) => Err("no answer in 2 s".into()),
        };
        self.failure = None;
        self.scaler = match seen {
            Ok(seen) => seen.map(scaling::scaler),
            Err(why) => {
                self.failure = Some(why);
                None
            }
        };
        self.look_at = self.scaler.is_none().then(|| now + SELDOM);
        self.table(reader, now).await
    }

    async fn table(&mut self, reader: &BoardReader, now: Instant) -> Option<Policy> {
        let (agent, layout) = scaling::agent(&self.scaler.as_ref()?.mode)?;
        let known = self.known.filter(|(of, _)| *of == agent);
        if known.is_some() && self.table_at.is_some_and(|at| now < at) {
            return None;
        }
        self.table_at = Some(now + SELDOM);
        // What went wrong here goes wrong for the state too, which says so.
        let table = reader.q_table(agent, known.map_or(0, |(_, version)| version));
        let table = timeout(TIMEOUT, table).await.ok()?.ok()??;
        self.known = Some((agent, table.version));
        Some(scaling::policy(agent, layout, &table))
    }
}
