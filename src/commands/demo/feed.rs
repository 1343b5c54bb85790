//! The demo's producer: Singles' Day-like orders into the in-process broker, with a manifest.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use windlass_datagen::feed::Feed;
use windlass_datagen::manifest::{Manifest, Origin, Recorder, Run};
use windlass_datagen::message::{Format, Message, Messages, Packing};
use windlass_datagen::pattern::Pattern;
use windlass_datagen::publish::{Pacer, Speed};
use windlass_datagen::workload::{self, Workload};
use windlass_dispatcher::broker::Broker;
use windlass_functions::stream::Stream;

/// What to produce.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub rate: f64,
    pub duration: Duration,
    pub seed: u64,
}

/// A producer at work.
pub(super) struct Producer {
    task: JoinHandle<anyhow::Result<Manifest>>,
    published: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
}

impl Producer {
    pub fn start(options: Options, broker: Broker, stream: &Stream) -> anyhow::Result<Self> {
        let workload = workload::Options {
            seed: options.seed,
            start_ms: unix_ms(),
            rate: options.rate,
            duration_ms: options.duration.as_millis() as u64,
            pattern: Pattern::Spike,
            late: 0.001,
            ..workload::Options::default()
        };
        let packing = Packing {
            format: Format::Json,
            batch: 1,
            duplicates: 0.01,
            seed: options.seed,
        };
        let origin = Origin::Workload(workload.clone());
        let feed = Feed::Workload(Box::new(Workload::new(workload)?));
        let messages = Messages::new(feed, packing);
        let published = Arc::new(AtomicU64::new(0));
        let stopped = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(produce(
            messages,
            origin,
            broker,
            stream.window_ms,
            Arc::clone(&published),
            Arc::clone(&stopped),
        ));
        Ok(Self {
            task,
            published,
            stopped,
        })
    }

    /// Orders published so far, duplicates included.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Asks for an early end.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Waits for the end: what was published. Cancel safe.
    pub async fn ended(&mut self) -> anyhow::Result<Manifest> {
        (&mut self.task).await.context("the producer has died")?
    }
}

async fn produce(
    mut messages: Messages,
    origin: Origin,
    broker: Broker,
    window_ms: i64,
    published: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
) -> anyhow::Result<Manifest> {
    let (sender, mut ready) = mpsc::channel::<Message>(1_024);
    let stop_making = Arc::clone(&stopped);
    let maker = tokio::task::spawn_blocking(move || {
        for message in messages.by_ref() {
            let gone = stop_making.load(Ordering::Relaxed);
            if gone || sender.blocking_send(message?).is_err() {
                break;
            }
        }
        anyhow::Ok(messages)
    });
    let mut recorder = Recorder::new(window_ms);
    let pacer = Pacer::start(Speed::Times(1.0));
    while let Some(message) = ready.recv().await {
        if stopped.load(Ordering::Relaxed) {
            continue;
        }
        pacer.wait(message.due_ns).await;
        broker
            .publish(&message.source, Some(message.content_type), message.body)
            .await?;
        recorder.record(&message.orders);
        published.fetch_add(message.orders.len() as u64, Ordering::Relaxed);
    }
    let messages = maker.await.context("the order generator has died")??;
    let run = Run {
        origin,
        interrupted: stopped.load(Ordering::Relaxed),
    };
    Ok(recorder.finish(messages.feed().dictionaries(), run))
}

#[allow(clippy::disallowed_methods)]
fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as i64
}
