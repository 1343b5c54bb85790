//! The scaler's shell: once a second it measures, asks the pure controller, and resizes the pool.
//!
//! | module | is |
//! |---|---|
//! | [`measure`] | what a dispatcher says, as counters |
//! | [`pool`] | what is resized |
//! | [`pods`] | that, as pods of a Deployment |
//! | [`source`] | where the tuning comes from |
//! | [`active`] | the loop of the process in charge |
//! | [`rows`] | what is kept of each second |
//! | [`writer`] | the database, behind the loop's back |
//!
//! It decides nothing: every choice is [`windlass_scaler`]'s, from what is recorded here, so that a
//! recorded run can be decided again.

pub mod active;
pub mod measure;
pub mod pods;
pub mod pool;
pub mod rows;
pub mod source;
pub mod writer;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use windlass_dispatcher::metrics::ScalerMetrics;
use windlass_dispatcher::store::Store;
use windlass_functions::stream::Stream;
use windlass_jobs::kubernetes::lease::Lease;

use active::Active;
use measure::Dispatcher;
use pool::Pool;
use source::Source;

/// What a scaler works with, everything connected.
pub struct Parts {
    /// Who is measured.
    pub dispatcher: Dispatcher,
    /// What is resized.
    pub pool: Pool,
    /// Where the tuning comes from.
    pub source: Source,
    /// Where decisions and tables are kept.
    pub store: Store,
    /// Of which stream.
    pub stream: Stream,
    /// What is counted.
    pub metrics: ScalerMetrics,
    /// If set, the scaler acts only while it holds this.
    pub lease: Option<Lease>,
}

/// The scaler at a glance, for views in the same process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// Whether it is the active one.
    pub active: bool,
    /// The mode in force.
    pub mode: &'static str,
    /// Workers, starting and ready.
    pub size: u32,
    /// Workers that take batches.
    pub ready: u32,
    /// The last decision that changed the size or that an agent took, in a line.
    pub reason: String,
    /// Edits of the tuning that have been applied.
    pub generation: u64,
    /// Why the newest edit is not in force, if it is not.
    pub refused: Option<String>,
    /// Why the pool could not be resized, if it could not.
    pub trouble: Option<String>,
}

/// A running scaler.
pub struct Scaling {
    view: watch::Receiver<View>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl std::fmt::Debug for Scaling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scaling")
            .field("view", &self.view())
            .finish_non_exhaustive()
    }
}

impl Scaling {
    /// Starts it. What it learned in an earlier run is read from the store first.
    ///
    /// # Errors
    /// If the store does not answer, or the tuning is invalid and none was in force before.
    pub async fn start(parts: Parts) -> anyhow::Result<Self> {
        let (show, view) = watch::channel(View::default());
        let (stop, stopped) = watch::channel(false);
        // Without a Lease it begins now, and what is wrong is an error at the start.
        let first = match parts.lease {
            Some(_) => {
                parts.store.journal(&parts.stream).prepare().await?;
                None
            }
            None => Some(Active::begin(&parts, show.clone()).await?),
        };
        let task = tokio::spawn(run(parts, first, show, stopped));
        Ok(Self { view, stop, task })
    }

    /// The scaler at this moment.
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// Keeps what it has learned and ends, within a few seconds. The pool stays as it is.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(died) = self.task.await {
            tracing::error!("the scaler has died: {died}");
        }
    }
}

async fn run(
    parts: Parts,
    mut first: Option<Active>,
    show: watch::Sender<View>,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        if let Some(lease) = &parts.lease {
            show.send_modify(|view| view.active = false);
            parts.metrics.active.set(0);
            tokio::select! {
                () = lease.acquire() => {}
                _ = stopped.wait_for(|stop| *stop) => return,
            }
        }
        let begun = match first.take() {
            Some(begun) => Ok(begun),
            None => Active::begin(&parts, show.clone()).await,
        };
        let mut active = match begun {
            Ok(active) => active,
            Err(error) => {
                tracing::warn!("the scaler cannot begin, and tries again: {error:#}");
                tokio::select! {
                    () = tokio::time::sleep(std::time::Duration::from_secs(3)) => continue,
                    _ = stopped.wait_for(|stop| *stop) => return,
                }
            }
        };
        parts.metrics.active.set(1);
        let lost = async {
            match &parts.lease {
                Some(lease) => lease.keep().await,
                None => std::future::pending().await,
            }
        };
        let ends = tokio::select! {
            () = active.run(&parts) => true,
            () = lost => false,
            _ = stopped.wait_for(|stop| *stop) => true,
        };
        active.finish().await;
        if ends {
            if let Some(lease) = &parts.lease {
                // Others wait for its end otherwise.
                let _ = lease.release().await;
            }
            return;
        }
    }
}
