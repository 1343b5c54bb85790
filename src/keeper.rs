//! Keeps the local workers at the size that is asked for: starts more, or lets go of those that the
//! dispatcher chooses, who then have been given nothing more before their process hears of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;
use windlass_dispatcher::invoker::Invoker;
use windlass_dispatcher::pool::{Pool, PoolState};
use windlass_jobs::local::LocalPool;

/// How often the pool is looked at beside changes of its size.
const LOOK: Duration = Duration::from_millis(200);

/// See the module's documentation.
pub struct Keeper {
    workers: LocalPool,
    invoker: Arc<Invoker>,
    pool: Arc<Pool>,
}

impl Keeper {
    /// A keeper of running workers.
    pub fn new(workers: LocalPool, invoker: Arc<Invoker>, pool: Arc<Pool>) -> Self {
        Self {
            workers,
            invoker,
            pool,
        }
    }

    /// Keeps them until `stop` turns true or its sender is gone; then returns the workers.
    pub async fn keep(mut self, mut stop: watch::Receiver<bool>) -> LocalPool {
        let mut desired = self.pool.desired();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let size = *desired.borrow_and_update();
            self.bring_to(size);
            tokio::select! {
                _ = desired.changed() => {}
                _ = look.tick() => {}
                _ = stop.wait_for(|stop| *stop) => return self.workers,
            }
        }
    }

    fn bring_to(&mut self, desired: u32) {
        let names = self.workers.names();
        let (have, want) = (names.len(), desired as usize);
        let grown = if have < want {
            self.workers.grow(want - have)
        } else {
            Ok(())
        };
        let trouble = match grown {
            Ok(()) => self.workers.trouble(),
            Err(error) => Some(format!("{error:#}")),
        };
        if trouble.is_some() && self.pool.trouble().is_none() {
            warn!(
                desired,
                have,
                "a local worker could not be started: {}",
                trouble.as_deref().unwrap_or_default()
            );
        }
        self.pool.troubled(trouble);
        if have > want {
            let told = self.invoker.dismiss(&names, have - want);
            self.workers.release(&told);
        }
        let names = self.workers.names();
        let ready = self.invoker.ready_of(&names);
        self.pool.seen(PoolState {
            desired,
            starting: (names.len() as u32).saturating_sub(ready),
            ready,
            leaving: self.workers.leaving() as u32,
        });
    }
}
