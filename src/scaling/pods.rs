//! The pool as pods of a Deployment.
//!
//! Which pods leave when it shrinks is the cluster's choice, and it prefers those that are not ready. So the
//! dispatcher is asked first to keep only so many workers at work, once a second. It parks others as they
//! are idle, and these cease to be ready. The Deployment is made smaller when the API server knows that, or
//! after ten seconds all the same: any pod finishes what it has in hand before it ends.
//!
//! While that goes on, whatever forbids scale-in holds it, and may call it back: until the Deployment is smaller,
//! all its pods count as there to be kept. What makes the Deployment another one meanwhile, or keeps the dispatcher from being asked, ends that:
//! the pool then has the size that it has.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;
use windlass_dispatcher::roster::parking::{KEPT_MS, Lot};
use windlass_jobs::kubernetes::scale::{Deployment, Scale};
use windlass_scaler::agent::sample;

use super::measure::Remote;
use super::pool::{GoOn, Seen};

/// When the Deployment shrinks all the same: a kubelet probes every second, and on a busy node is some seconds
/// behind.
const PARKED_WITHIN: Duration = Duration::from_secs(10);
/// However often a still smaller size is asked for.
const LONGEST: Duration = Duration::from_secs(30);
/// So long the dispatcher keeps to what it was asked.
const KEPT: Duration = Duration::from_millis(KEPT_MS);
/// More workers than there are: nobody is parked.
const ALL: u32 = u32::MAX;

/// A smaller size that the Deployment is about to get.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shrink {
    size: u32,
    /// Pods that there were to be when that was decided.
    from: u32,
    began: Instant,
    by: Instant,
    /// When the dispatcher was last asked.
    asked: Instant,
}

impl Shrink {
    /// `before` is what was under way until now.
    fn new(size: u32, from: u32, before: Option<Self>, now: Instant) -> Self {
        let began = before.map_or(now, |before| before.began);
        let by = match before.filter(|before| before.size <= size) {
            // No more workers are to be parked than before.
            Some(before) => before.by,
            None => (now + PARKED_WITHIN).min(began + LONGEST),
        };
        Self {
            size,
            from,
            began,
            by,
            asked: now,
        }
    }

    fn holds(&self, scale: Scale, now: Instant) -> bool {
        self.from == scale.wanted && now < self.asked + KEPT
    }

    /// Whether the pods that the Deployment prefers to remove are those of parked workers.
    fn is_due(&self, lot: Lot, scale: Scale, now: Instant) -> bool {
        let nobody_can_be_parked = lot == Lot::default();
        // Who was returned to work may still be known as not ready.
        let known = lot.active <= scale.ready && scale.ready <= self.size;
        nobody_can_be_parked || known || now >= self.by
    }
}

#[derive(Debug, Default)]
struct State {
    scale: Scale,
    shrink: Option<Shrink>,
    /// Since when the dispatcher may be parking workers.
    parking: Option<Instant>,
}

/// See the module's documentation.
pub struct Pods {
    deployment: Deployment,
    dispatcher: Remote,
    state: Mutex<State>,
}

impl Pods {
    /// The pods of a Deployment, which work for this dispatcher.
    pub fn new(deployment: Deployment, dispatcher: Remote) -> Self {
        Self {
            deployment,
            dispatcher,
            state: Mutex::default(),
        }
    }

    /// The Deployment's name.
    pub fn name(&self) -> &str {
        self.deployment.name()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let locked = self.state.lock();
        locked.unwrap_or_else(|broken| broken.into_inner())
    }

    /// What is under way, if it still is.
    fn under_way(&self, scale: Scale) -> Option<Shrink> {
        let mut state = self.state();
        state.scale = scale;
        state.shrink = state.shrink.filter(|shrink| shrink.holds(scale, now()));
        state.shrink
    }

    /// The pool now, `ready` of whose workers take batches: of the size that it is about to have.
    ///
    /// # Errors
    /// If the API server does not answer or refuses.
    pub async fn seen(&self, ready: u32) -> anyhow::Result<Seen> {
        let scale = self.deployment.scale().await?;
        let under_way = self.under_way(scale);
        let wanted = under_way.map_or(scale.wanted, |shrink| shrink.size);
        let ready = ready.min(wanted);
        Ok(Seen {
            pool: sample::Pool {
                starting: wanted - ready,
                ready,
                recallable: scale.wanted.saturating_sub(wanted),
            },
            paid: scale.present.max(scale.wanted),
        })
    }

    /// Asks for another size. A smaller one is in force when enough pods have nothing to do.
    ///
    /// # Errors
    /// If the API server or the dispatcher does not answer or refuses.
    pub async fn resize(&self, size: u32) -> anyhow::Result<()> {
        let scale = self.deployment.scale().await?;
        let before = self.under_way(scale);
        if size < scale.wanted {
            let shrink = Shrink::new(size, scale.wanted, before, now());
            return self.shrink(shrink, scale, true).await.map(|_| ());
        }
        self.release().await;
        if size > scale.wanted {
            self.deployment.resize(size).await?;
        }
        Ok(())
    }

    /// Goes on with what was asked for in an earlier second. To be called in a second in which the pool was
    /// seen. Whether it was resized.
    ///
    /// # Errors
    /// If the API server or the dispatcher does not answer or refuses.
    pub async fn go_on(&self, how: GoOn) -> anyhow::Result<bool> {
        let scale = self.state().scale;
        let Some(shrink) = self.under_way(scale) else {
            return Ok(false);
        };
        if how == GoOn::GiveUp {
            self.release().await;
            return Ok(false);
        }
        let asked = now();
        let shrink = Shrink { asked, ..shrink };
        self.shrink(shrink, scale, how == GoOn::Shrink).await
    }

    /// Whether the Deployment is smaller now; that it `may` not be keeps workers parked.
    async fn shrink(&self, shrink: Shrink, scale: Scale, may: bool) -> anyhow::Result<bool> {
        self.state().parking = Some(now());
        let lot = self.dispatcher.keep(shrink.size).await?;
        if !(may && shrink.is_due(lot, scale, now())) {
            self.state().shrink = Some(shrink);
            return Ok(false);
        }
        // Decided anew if this fails.
        self.state().shrink = None;
        self.deployment.resize(shrink.size).await?;
        Ok(true)
    }

    /// Nobody is to be parked any more.
    async fn release(&self) {
        let parking = {
            let mut state = self.state();
            state.shrink = None;
            state.parking.take()
        };
        if parking.is_some_and(|since| now() < since + KEPT)
            && let Err(error) = self.dispatcher.keep(ALL).await
        {
            tracing::debug!("parked workers return to work by themselves: {error:#}");
        }
    }
}

#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn scale(wanted: u32, ready: u32) -> Scale {
        Scale {
            wanted,
            present: wanted,
            ready,
        }
    }

    fn lot(active: u32, parked: u32) -> Lot {
        Lot { active, parked }
    }

    #[test]
    fn a_pool_shrinks_when_its_surplus_is_known_to_be_parked_or_has_been_busy_for_too_long() {
        let start = now();
        let shrink = Shrink::new(2, 4, None, start);
        for (lot, ready, seconds, due) in [
            (lot(4, 0), 4, 0, false),
            (lot(2, 2), 3, 9, false),
            (lot(2, 2), 2, 1, true),
            // One that was parked is at work again, and not known to be ready.
            (lot(2, 1), 1, 1, false),
            // Pods that only start.
            (lot(1, 0), 1, 0, true),
            (lot(4, 0), 4, 10, true),
            (lot(0, 0), 4, 0, true),
        ] {
            let now = start + seconds * SECOND;
            let is = shrink.is_due(lot, scale(4, ready), now);
            assert_eq!(is, due, "{lot:?} {ready} {seconds}");
        }
    }

    #[test]
    fn what_is_under_way_ends_with_another_size_or_with_silence() {
        let start = now();
        let shrink = Shrink::new(2, 4, None, start);
        assert!(shrink.holds(scale(4, 4), start + 4 * SECOND));
        assert!(!shrink.holds(scale(5, 4), start), "somebody resized it");
        assert!(!shrink.holds(scale(2, 2), start));
        assert!(!shrink.holds(scale(4, 4), start + KEPT));
    }

    #[test]
    fn more_to_park_has_time_anew_but_not_for_ever() {
        let start = now();
        let mut shrink = Shrink::new(90, 100, None, start);
        let grown = Shrink::new(95, 100, Some(shrink), start + SECOND);
        assert_eq!(grown.by, shrink.by);
        for second in 1..60 {
            shrink = Shrink::new(90 - second, 100, Some(shrink), start + second * SECOND);
        }
        assert_eq!(shrink.by, start + LONGEST);
    }
}
