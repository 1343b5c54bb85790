//! Publishing a feed: paced by the clock, confirmed by the broker, recorded in a manifest.

mod courier;
mod pacer;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::broker::{BrokerError, Target};
use crate::manifest::{Manifest, Origin, Recorder, Run};
use crate::message::{Message, Messages};
use courier::Courier;
pub use pacer::{InvalidSpeed, Pacer, Speed};

/// Messages made ahead go to the publisher in parcels of up to so many messages or bytes; four
/// parcels wait at most.
const PARCEL_MESSAGES: usize = 128;
const PARCEL_BYTES: usize = 256 << 10;
const PARCELS: usize = 4;

/// How long a stopped run waits for the confirms of what it has sent.
const GRACE: std::time::Duration = std::time::Duration::from_secs(20);

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
    /// Why it ended early, if an error did it.
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
    speed: Speed,
    origin: Origin,
    report: impl FnMut(&Progress),
    stop: impl Future<Output = ()>,
) -> Result<Published, BrokerError> {
    let mut courier = Courier::open(target.clone(), Recorder::new(window_ms)).await?;
    let (parcels, maker) = make_ahead(messages);
    let ended = run(&mut courier, parcels, speed, report, stop).await;
    // The maker ends when its messages do, or as soon as nobody takes its parcels.
    let messages = match maker.await {
        Ok(messages) => messages,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    };
    let (interrupted, failure) = match ended {
        Ok(End::Through) => (false, None),
        Ok(End::Stopped) => (true, None),
        Err(error) => (true, Some(error)),
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
                if sender.blocking_send(Ok(std::mem::take(&mut parcel))).is_err() {
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
    speed: Speed,
    mut report: impl FnMut(&Progress),
    stop: impl Future<Output = ()>,
) -> anyhow::Result<End> {
    let pacer = Pacer::start(speed);
    let sending = async {
        while let Some(parcel) = parcels.recv().await {
            for message in parcel? {
                pacer.wait(message.due_ns).await;
                courier.progress.behind_ms = pacer.behind_ms(message.due_ns);
                courier.send(message).await?;
                report(&courier.progress);
            }
        }
        anyhow::Ok(())
    };
    let ended = tokio::select! {
        biased;
        () = stop => Ok(End::Stopped),
        sent = sending => sent.map(|()| End::Through),
    };
    drop(parcels);
    match ended {
        Ok(End::Through) => courier.drain().await?,
        // A stopped run waits a moment for what is on its way; the rest is reported as unconfirmed.
        Ok(End::Stopped) => match tokio::time::timeout(GRACE, courier.drain()).await {
            Ok(drained) => drained?,
            Err(_) => tracing::warn!("stopped with unconfirmed messages; see the manifest"),
        },
        Err(_) => {
            // The first error is the one to report.
            let _ = tokio::time::timeout(GRACE, courier.drain()).await;
        }
    }
    report(&courier.progress);
    ended
}
