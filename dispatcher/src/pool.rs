//! The warm pool of local workers as the dispatcher's API sees it: a size that is asked for, and what
//! there is. Who starts and stops the processes is the pool's keeper, who watches the size.

use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Most local workers that can be asked for.
pub const LARGEST: u32 = 1_000;

/// A pool at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolState {
    /// Workers that there are to be.
    pub desired: u32,
    /// Workers that have been started and take no batches yet.
    pub starting: u32,
    /// Workers that take batches.
    pub ready: u32,
    /// Workers that have been told to leave and are still there.
    pub leaving: u32,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Pool {
    desired: watch::Sender<u32>,
    state: Mutex<PoolState>,
    trouble: Mutex<Option<String>>,
}

impl Pool {
    /// A pool that is to have so many workers.
    pub fn new(desired: u32) -> Self {
        Self {
            desired: watch::Sender::new(desired),
            state: Mutex::new(PoolState {
                desired,
                starting: desired,
                ..PoolState::default()
            }),
            trouble: Mutex::new(None),
        }
    }

    /// Asks for another size.
    pub fn resize(&self, size: u32) {
        self.desired.send_replace(size.min(LARGEST));
    }

    /// The size that is asked for, to be watched by the keeper.
    pub fn desired(&self) -> watch::Receiver<u32> {
        self.desired.subscribe()
    }

    /// What the keeper last saw.
    pub fn state(&self) -> PoolState {
        let state = self
            .state
            .lock()
            .unwrap_or_else(|broken| broken.into_inner());
        PoolState {
            desired: *self.desired.borrow(),
            ..*state
        }
    }

    /// The keeper's view.
    pub fn seen(&self, state: PoolState) {
        *self
            .state
            .lock()
            .unwrap_or_else(|broken| broken.into_inner()) = state;
    }

    /// Why a worker that is missing could not be started, if so.
    pub fn trouble(&self) -> Option<String> {
        self.trouble
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
            .clone()
    }

    /// What kept a worker from being started when that was last tried, or that nothing did.
    pub fn troubled(&self, by: Option<String>) {
        *self
            .trouble
            .lock()
            .unwrap_or_else(|broken| broken.into_inner()) = by;
    }
}
