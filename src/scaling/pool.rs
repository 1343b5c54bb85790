//! The pool that is resized, wherever it is.

use std::sync::Arc;

use anyhow::Context;
use windlass_dispatcher::pool::{Pool as LocalPool, PoolState};
use windlass_scaler::agent::meter::Missing;
use windlass_scaler::agent::sample;

use super::measure::{Look, Remote};
use super::pods::Pods;

/// Which pool.
pub enum Pool {
    /// Local workers of the dispatcher in this process.
    Here(Arc<LocalPool>),
    /// Local workers of a dispatcher elsewhere.
    At(Remote),
    /// Pods of a Deployment.
    Pods(Box<Pods>),
}

/// A pool at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// As the scaler sees it.
    pub pool: sample::Pool,
    /// Pods that are paid for: those that leave, too.
    pub paid: u32,
}

/// What becomes of a smaller size that was asked for in an earlier second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoOn {
    /// It is to be reached.
    Shrink,
    /// Not in this second: something forbids scale-in.
    Hold,
    /// It is given up: the pool is not ours to size.
    GiveUp,
}

impl From<PoolState> for Seen {
    fn from(state: PoolState) -> Self {
        // What was asked for counts from then on, also before the keeper has acted on it.
        let ready = state.ready.min(state.desired);
        Self {
            pool: sample::Pool {
                starting: state.desired - ready,
                ready,
                // Who was told to leave leaves.
                recallable: 0,
            },
            paid: state.starting + state.ready + state.leaving,
        }
    }
}

impl Pool {
    /// What messages and rows call it.
    pub fn name(&self) -> String {
        match self {
            Self::Here(_) | Self::At(_) => "local".into(),
            Self::Pods(pods) => format!("deployment/{}", pods.name()),
        }
    }

    /// The pool now; `look` is what the dispatcher said in this second.
    ///
    /// # Errors
    /// If it cannot be seen.
    pub async fn seen(&self, look: &Look) -> anyhow::Result<Seen> {
        match self {
            Self::Here(pool) => Ok(pool.state().into()),
            Self::At(_) => look.pool.map(Seen::from).context(
                "the dispatcher keeps no local workers: start it with --workers N, or scale a \
                 Deployment with --pool kubernetes --deployment NAME",
            ),
            Self::Pods(pods) => pods.seen(look.workload.workers_ready).await,
        }
    }

    /// What is missing where it cannot be seen.
    pub fn unseen(&self) -> Missing {
        match self {
            Self::Here(_) | Self::At(_) => Missing::NoPool,
            Self::Pods(_) => Missing::ApiServer,
        }
    }

    /// Asks for another size.
    ///
    /// # Errors
    /// If that is refused, or nobody answers.
    pub async fn resize(&self, size: u32) -> anyhow::Result<()> {
        match self {
            Self::Here(pool) => {
                pool.resize(size);
                Ok(())
            }
            Self::At(remote) => remote.resize(size).await,
            Self::Pods(pods) => pods.resize(size).await,
        }
    }

    /// Goes on with a size that was asked for in an earlier second. To be called in a second in which
    /// the pool was seen. Whether it was resized.
    ///
    /// # Errors
    /// If that is refused, or nobody answers.
    pub async fn go_on(&self, how: GoOn) -> anyhow::Result<bool> {
        match self {
            Self::Here(_) | Self::At(_) => Ok(false),
            Self::Pods(pods) => pods.go_on(how).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(desired: u32, starting: u32, ready: u32, leaving: u32) -> Seen {
        Seen::from(PoolState {
            desired,
            starting,
            ready,
            leaving,
        })
    }

    #[test]
    fn a_pool_has_the_size_that_was_asked_for() {
        for (desired, starting, ready, leaving) in [
            (5, 2, 3, 0),
            (8, 0, 3, 0),
            (2, 0, 5, 0),
            (2, 3, 2, 1),
            (1, 0, 0, 4),
            (3, 3, 0, 0),
        ] {
            let seen = seen(desired, starting, ready, leaving);
            assert_eq!(seen.pool.size(), desired, "{seen:?}");
            assert_eq!(seen.paid, starting + ready + leaving);
        }
        assert_eq!(seen(5, 2, 3, 0).pool.ready, 3);
    }
}
