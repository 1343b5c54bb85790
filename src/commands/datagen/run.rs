//! A named run: its options are fixed by its first attempt, its manifest is kept in the store. So a
//! process that is started again publishes the same tuples under the same numbers, and what was
//! counted before counts once.

use std::time::Duration;

use anyhow::{Context, bail};
use windlass_datagen::manifest::Manifest;
use windlass_datagen::publish::{Pace, Speed};
use windlass_datagen::workload::Options;
use windlass_dispatcher::store::{Claimed, RunEnd, RunRow, Store, StoreError};
use windlass_jobs::name::RunName;

/// How often a run shows that it is alive.
const BEAT: Duration = Duration::from_secs(5);
/// How long the store may be away at a run's end before its manifest is given up.
const KEEP_FOR: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_secs(2);

/// A run that this process carries out.
pub(super) struct Run {
    store: Store,
    row: RunRow,
    /// What all attempts publish.
    pub options: Options,
}

impl Run {
    /// Enters the run or takes it up again; `None` if it is through already.
    ///
    /// # Errors
    /// If another run has the name, or the store fails.
    pub async fn claim(
        store: Store,
        name: &RunName,
        stream: &str,
        request: &str,
        options: &Options,
    ) -> anyhow::Result<Option<Self>> {
        let name = name.as_str();
        let text = serde_json::to_string(options)?;
        let row = match store.claim_run(stream, name, request, &text).await? {
            Claimed::Yours(row) => row,
            Claimed::Ended(row) => {
                tracing::info!(run = name, run.orders = row.orders, "published already");
                return Ok(None);
            }
            Claimed::Taken(row) => bail!(
                "expected an unused name, but a run {name:?} with other options began at {}: publish \
                 under another --name or --run",
                crate::output::instant(row.started_at)
            ),
        };
        let options = serde_json::from_str(&row.options).with_context(|| {
            format!("the options of run {name:?} are damaged: publish under another name")
        })?;
        if row.attempt > 1 {
            tracing::info!(
                run = name,
                run.attempt = row.attempt,
                "taken up again: everything is sent once more, and counts once"
            );
        }
        Ok(Some(Self {
            store,
            row,
            options,
        }))
    }

    /// A first attempt keeps the time; a later one is where the first would be.
    pub fn pace(&self, speed: Speed) -> Pace {
        let passed = match self.row.attempt {
            ..=1 => 0,
            _ => self.row.age_ms,
        };
        Pace {
            speed,
            passed: Duration::from_millis(passed),
        }
    }

    /// Shows that the run is alive, until the future is dropped.
    pub async fn beat(&self) {
        loop {
            tokio::time::sleep(BEAT).await;
            if let Err(error) = self.store.touch_run(&self.row.stream, &self.row.run).await {
                tracing::warn!(%error, "cannot tell the store that the run is alive");
            }
        }
    }

    /// Keeps the manifest; waits for a store that is away.
    ///
    /// # Errors
    /// If the store stays away.
    pub async fn keep(&self, manifest: &Manifest) -> anyhow::Result<()> {
        let packed = manifest.pack()?;
        let end = RunEnd {
            interrupted: manifest.runs.iter().any(|run| run.interrupted),
            orders: manifest.totals.orders,
            windows: manifest.span(),
        };
        let (stream, run) = (&self.row.stream, &self.row.run);
        let keep = async || self.store.end_run(stream, run, &packed, &end).await;
        let worth = |error: &StoreError| error.is_transient();
        patient(KEEP_FOR, "keep the manifest", worth, keep)
            .await
            .context("the run is published, but its manifest could not be kept")
    }
}

/// Tries until `attempt` succeeds, its error is not `worth` another try, or `limit` has passed.
///
/// # Errors
/// The last one.
pub(super) async fn patient<T, E: std::fmt::Display>(
    limit: Duration,
    what: &str,
    worth: impl Fn(&E) -> bool,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, E> {
    let given_up = tokio::time::sleep(limit);
    tokio::pin!(given_up);
    loop {
        let error = match attempt().await {
            Err(error) if worth(&error) && !limit.is_zero() && !given_up.is_elapsed() => error,
            ended => return ended,
        };
        tracing::info!(%error, "cannot {what} yet; trying again");
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = &mut given_up => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_can_be_tried_again_is_tried_until_the_time_is_up() {
        let mut tries = 0;
        let short = Duration::from_millis(1);
        let ended = patient(
            short,
            "try",
            |_: &&str| true,
            async || {
                tries += 1;
                Err::<(), _>("not yet")
            },
        );
        assert_eq!(ended.await, Err("not yet"));
        assert_eq!(tries, 1);
        let hopeless = patient(
            KEEP_FOR,
            "try",
            |_: &&str| false,
            async || Err::<(), _>("never"),
        );
        assert_eq!(hopeless.await, Err("never"));
        let well = patient(Duration::ZERO, "try", |_: &&str| true, async || Ok(5));
        assert_eq!(well.await, Ok(5));
    }
}
