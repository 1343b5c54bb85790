//! Publishing a feed: paced by the clock, confirmed by the broker, recorded in a manifest.

mod courier;
mod pacer;

use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::broker::{BrokerError, Target};
use crate::manifest::{Manifest, Origin, Recorder, Run};
use crate::message::{Message, Messages};
use crate::workload::Order;
use courier::Courier;
pub use pacer::{InvalidSpeed, Pace, Pacer, Speed};

/// Messages made ahead go to the publisher in parcels of up to so many messages or bytes; four
/// parcels wait at most.
const PARCEL_MESSAGES: usize = 128;
const PARCEL_BYTES: usize = 256 << 10;
const PARCELS: usize = 4;

/// How long a stopped run waits for the confirms of what it has sent.
const GRACE: Duration = Duration::from_secs(20);

/// How far a run has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Tuples confirmed, duplicates included.
    pub tuples: u64,
    /// Messages confirmed.
    pub messages: u64,
    /// Bytes of bodies confirmed.
    pub bytes: u64,
    /// Messages sent again because they were not confirmed.
    pub resent: u64,
    /// How often the connection was lost and made anew.
    pub reconnected: u64,
    /// By how much sending lags behind the schedule, ms.
    pub behind_ms: u64,
}

/// How a run ended.
#[derive(Debug)]
pub struct Published {
    /// What the broker confirmed.
    pub manifest: Manifest,
    /// How far it came.
    pub progress: Progress,
    /// Why it ended early, if an error did it. After a message was returned as unroutable the
    /// manifest may hold some that no queue has: the client tells returns apart only by batches.
    pub failure: Option<anyhow::Error>,
}

/// Publishes `messages` to `target` until they end or `stop` resolves; every tuple that the broker
/// confirmed is in the manifest, whatever happens.
///
/// A lost connection is made again, with growing pauses, for as long as the run lasts, and what was
/// not confirmed is sent once more under the same seq before anything new. `origin` goes into the
/// manifest; `report` hears of progress after every message.
///
/// # Errors
/// If the broker cannot be reached or refuses the topology at the start. Later failures end up in
/// [`Published::failure`], beside the manifest of what was published before.
pub async fn publish(
    target: &Target,
    messages: Messages,
    window_ms: i64,
    pace: impl Into<Pace>,
    origin: Origin,
    report: impl FnMut(&Progress),
    stop: impl Future<Output = ()>,
) -> Result<Published, BrokerError> {
    let mut courier = Courier::open(target.clone(), Recorder::new(window_ms)).await?;
    let (parcels, maker) = make_ahead(messages);
    let ended = run(&mut courier, parcels, pace.into(), report, stop).await;
    // The maker ends when its messages do, or as soon as nobody takes its parcels.
    let messages = match maker.await {
        Ok(messages) => messages,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    };
    let (interrupted, failure) = match ended {
        Ok(End::Through) => (false, None),
        Ok(End::Stopped) => (true, None),
        Ok(End::Unreadable(error)) => (true, Some(error)),
        Err(refused) => (true, Some(refused.into())),
    };
    let (recorder, progress) = courier.finish().await;
    let manifest = recorder.finish(
        messages.feed().dictionaries(),
        Run {
            origin,
            interrupted,
        },
    );
    Ok(Published {
        manifest,
        progress,
        failure,
    })
}

enum End {
    Through,
    Stopped,
    /// The feed cannot be read on.
    Unreadable(anyhow::Error),
}

type Parcel = anyhow::Result<Vec<Message>>;

/// Makes messages on a thread of its own, a little ahead of their sending.
fn make_ahead(mut messages: Messages) -> (mpsc::Receiver<Parcel>, JoinHandle<Messages>) {
    let (sender, receiver) = mpsc::channel(PARCELS);
    let maker = tokio::task::spawn_blocking(move || {
        let mut parcel = Vec::new();
        let mut bytes = 0;
        while let Some(message) = messages.next() {
            let message = match message {
                Ok(message) => message,
                Err(error) => {
                    // Nobody listening means that the run is over and needs no error.
                    let _ = sender.blocking_send(Ok(parcel));
                    let _ = sender.blocking_send(Err(error));
                    return messages;
                }
            };
            bytes += message.body.len();
            parcel.push(message);
            if parcel.len() >= PARCEL_MESSAGES || bytes >= PARCEL_BYTES {
                bytes = 0;
                if sender
                    .blocking_send(Ok(std::mem::take(&mut parcel)))
                    .is_err()
                {
                    return messages;
                }
            }
        }
        let _ = sender.blocking_send(Ok(parcel));
        messages
    });
    (receiver, maker)
}

async fn run(
    courier: &mut Courier,
    mut parcels: mpsc::Receiver<Parcel>,
    pace: Pace,
    mut report: impl FnMut(&Progress),
    stop: impl Future<Output = ()>,
) -> Result<End, BrokerError> {
    let pacer = Pacer::start(pace);
    let stop = stop.shared();
    // Stopping between messages leaves none half sent. One that waits for a lost broker is given
    // up after a while.
    let given_up = async {
        stop.clone().await;
        tokio::time::sleep(GRACE).await;
    };
    let sending = async {
        loop {
            let parcel = tokio::select! {
                biased;
                () = stop.clone() => return Ok(End::Stopped),
                parcel = parcels.recv() => parcel,
            };
            let Some(parcel) = parcel else {
                return Ok(End::Through);
            };
            let parcel = match parcel {
                Ok(parcel) => parcel,
                Err(error) => return Ok(End::Unreadable(error)),
            };
            for mut message in parcel {
                if pace.is_past(message.due_ns) {
                    // What was meant for a time when nobody sent: others may be far ahead of it.
                    let late = message.orders.iter().map(|order| Order {
                        late: true,
                        ..*order
                    });
                    message.orders = late.collect();
                }
                tokio::select! {
                    biased;
                    () = stop.clone() => return Ok(End::Stopped),
                    () = pacer.wait(message.due_ns) => {}
                }
                courier.progress.behind_ms = pacer.behind_ms(message.due_ns);
                courier.send(message).await?;
                report(&courier.progress);
            }
        }
    };
    let ended = tokio::select! {
        biased;
        ended = sending => ended,
        () = given_up => Ok(End::Stopped),
    };
    drop(parcels);
    // After a refusal every message that is not confirmed stays so. Otherwise what is on its way
    // is waited for, by a stopped run only for a moment.
    if ended.is_ok() {
        let given_up = async {
            stop.await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            biased;
            drained = courier.drain() => drained?,
            () = given_up => tracing::warn!("stopped with unconfirmed messages; see the manifest"),
        }
    }
    report(&courier.progress);
    ended
}
