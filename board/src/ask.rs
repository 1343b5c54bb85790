//! Asks dispatcher and scaler once a second, beside the poller: one that hangs must not hold up
//! what the screen shows.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch::Sender;
use tokio::time::{MissedTickBehavior, interval};
use windlass_dispatcher::store::BoardReader;

use crate::dispatcher::{Answer, Dispatcher, Unanswered};
use crate::poll::{now, unix_ms};
use crate::schema::{Policy, Scaler};
use crate::watch::ScalerWatch;

/// How often they are asked.
const EVERY: Duration = Duration::from_secs(1);

/// What they said last.
#[derive(Default)]
pub(crate) struct Told {
    /// When the dispatcher answered, ms UTC.
    pub at: i64,
    /// The dispatcher's status or why there is none; `None` before the first, and without one.
    pub answer: Option<Result<Answer, Unanswered>>,
    pub scaler: Option<Scaler>,
    /// Why a scaler's rows cannot be read, if so.
    pub failure: Option<String>,
    /// The newest Q-table; the same one until there is a newer one.
    pub policy: Option<Arc<Policy>>,
}

/// Asks for as long as it is polled.
pub(crate) async fn run(
    reader: &BoardReader,
    dispatcher: Option<Dispatcher>,
    tell: Sender<Arc<Told>>,
) {
    let mut watch = ScalerWatch::default();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let ask = async {
            match &dispatcher {
                Some(dispatcher) => Some(dispatcher.ask().await),
                None => None,
            }
        };
        let (answer, policy, ()) =
            tokio::join!(ask, watch.look(reader, now()), reader.ask_replication());
        let before = tell.borrow().policy.clone();
        tell.send_replace(Arc::new(Told {
            at: unix_ms(),
            answer,
            scaler: watch.scaler.clone(),
            failure: watch.failure.clone(),
            policy: policy.map(Arc::new).or(before),
        }));
    }
}
