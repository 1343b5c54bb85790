//! What `windlass audit --run NAME` compares: the manifest of a named run, and of the other runs that
//! published into the same windows, once all of them have ended and are settled.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context, bail};
use windlass_datagen::manifest::Manifest;
use windlass_datagen::workload::Options;
use windlass_dispatcher::store::{RunRow, RunState, Store};
use windlass_functions::stream::Stream;
use windlass_jobs::name::RunName;

use crate::output::instant;

/// How often the store is asked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A run without a sign of life for so long is dead. A pod that is started anew needs less.
const DEAD_AFTER_MS: u64 = 180_000;

/// What to hold the store against.
pub(super) struct Oracle {
    /// Of all runs concerned.
    pub manifest: Manifest,
    /// Starts of the windows of the run that was named, ms UTC.
    pub starts: RangeInclusive<i64>,
}

/// Waits for the run's end and for everything to be settled; gives up on the latter when nothing more
/// was settled for `patience`.
///
/// # Errors
/// If there is no such run, or it or one that shares windows with it died without a manifest.
pub(super) async fn oracle(
    store: &Store,
    stream: &Stream,
    name: &RunName,
    patience: Duration,
) -> anyhow::Result<Oracle> {
    let run = ended(store, &stream.name, name.as_str()).await?;
    let mut manifest = manifest_of(store, &run).await?;
    let starts = match manifest.span() {
        Some((first, last)) => first..=last,
        // It published nothing: there is nothing that could differ.
        None => RangeInclusive::new(0, -1),
    };
    for other in store.runs(&run.stream).await? {
        if other.run == run.run || !shares(&other, &starts)? {
            continue;
        }
        tracing::info!(
            run = other.run,
            "it published into the same windows, and is checked along"
        );
        let other = ended(store, &other.stream, &other.run).await?;
        let more = manifest_of(store, &other).await?;
        manifest = manifest.merge(more)?;
    }
    settled(store, stream, &manifest, patience).await?;
    Ok(Oracle { manifest, starts })
}

/// Waits until the run shows that it has ended.
async fn ended(store: &Store, stream: &str, name: &str) -> anyhow::Result<RunRow> {
    let mut said = false;
    loop {
        let run = store.run(stream, name).await?.with_context(|| {
            format!(
                "expected the name of a run, {} has none of stream {stream:?} called {name:?}: `windlass datagen list \
                 --store …` lists them",
                store.name()
            )
        })?;
        if run.state != RunState::Running {
            return Ok(run);
        }
        if run.silent_ms > DEAD_AFTER_MS {
            bail!(
                "run {name:?} ended without a manifest: it died after {} at the earliest and cannot be \
                 checked; the same command begun again publishes what is missing",
                instant(run.started_at)
            );
        }
        if !said {
            tracing::info!(run = name, "waiting for the run's end");
            said = true;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn manifest_of(store: &Store, run: &RunRow) -> anyhow::Result<Manifest> {
    let packed = store.run_manifest(run).await?;
    Manifest::unpack(&packed, &format!("run {}", run.run))
}

/// Whether a run published, or may yet publish, into windows that start in `starts`.
fn shares(run: &RunRow, starts: &RangeInclusive<i64>) -> anyhow::Result<bool> {
    if starts.is_empty() {
        return Ok(false);
    }
    if run.state != RunState::Running {
        let windows = run.first_window.zip(run.last_window);
        return Ok(
            windows.is_some_and(|(first, last)| first <= *starts.end() && *starts.start() <= last)
        );
    }
    // One that died long ago may have published anything before.
    let options: Options = serde_json::from_str(&run.options)
        .with_context(|| format!("the options of run {:?} are damaged", run.run))?;
    let behind = i64::from(options.disorder_ms) + i64::from(options.late_by_ms);
    let end = options
        .start_ms
        .saturating_add_unsigned(options.duration_ms);
    Ok(options.start_ms - behind <= *starts.end() && *starts.start() <= end)
}

/// Waits until all that was published is counted, late or in quarantine. What is missing then is for
/// the comparison to tell.
async fn settled(
    store: &Store,
    stream: &Stream,
    manifest: &Manifest,
    patience: Duration,
) -> anyhow::Result<()> {
    let published: u64 = manifest
        .sources
        .values()
        .map(|source| source.published)
        .sum();
    let mut best = 0;
    let mut given_up = tokio::time::Instant::now() + patience;
    loop {
        let sources = manifest.sources.keys().map(String::as_str);
        let settled = store.settled(stream, sources).await?;
        if settled >= published {
            return Ok(());
        }
        if settled > best {
            best = settled;
            given_up = tokio::time::Instant::now() + patience;
        }
        if tokio::time::Instant::now() >= given_up {
            tracing::warn!(
                settled,
                published,
                "nothing more is settled; comparing all the same"
            );
            return Ok(());
        }
        tracing::info!(settled, published, "waiting for everything to be settled");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use windlass_dispatcher::store::{Claimed, RunEnd};

    use super::*;

    #[tokio::test]
    async fn runs_that_share_windows_are_found_by_their_manifests_or_by_their_plan() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}/runs.db", dir.path().display());
        let store = Store::connect(&url).await.unwrap();
        store.migrate(&Stream::default(), 1).await.unwrap();
        let options = Options {
            start_ms: 100_000,
            duration_ms: 10_000,
            disorder_ms: 300,
            late_by_ms: 0,
            ..Options::default()
        };
        let text = serde_json::to_string(&options).unwrap();
        let claimed = store.claim_run("orders", "a", "", &text).await.unwrap();
        let Claimed::Yours(running) = claimed else {
            panic!("{claimed:?}");
        };
        assert!(shares(&running, &(110_000..=120_000)).unwrap());
        assert!(shares(&running, &(90_000..=99_700)).unwrap());
        assert!(!shares(&running, &(90_000..=99_699)).unwrap());
        assert!(!shares(&running, &(110_001..=120_000)).unwrap());
        assert!(!shares(&running, &RangeInclusive::new(0, -1)).unwrap());
        let end = RunEnd {
            interrupted: false,
            orders: 1,
            windows: Some((100_000, 104_000)),
        };
        store.end_run("orders", "a", b"", &end).await.unwrap();
        let ended = store.run("orders", "a").await.unwrap().unwrap();
        assert!(shares(&ended, &(104_000..=120_000)).unwrap());
        assert!(!shares(&ended, &(105_000..=120_000)).unwrap());
    }
}
