//! Owning a shard: stand by, take over, run it, and after any fault do the same again.
//!
//! A first delivery proves that the broker has let go of the previous consumer, so the epoch is
//! raised at once. Without deliveries the database's lease is awaited. The epoch in the database is
//! what makes it safe; the lease and the queue's single active consumer only decide how soon.
//!
//! Whoever took over by the lease may have a predecessor that is frozen or cut off while the broker
//! still counts it as the active consumer, with deliveries that it holds. The queue then looks empty
//! without being so, and nobody is idle on that ground until a delivery comes or the broker must have
//! dropped it ([`Consumer::silence_limit`]).

mod session;
mod tasks;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::{info, warn};
use windlass_functions::stream::Stream;

use crate::broker::{Broker, Consumer, Delivery};
use crate::clock::Clock;
use crate::invoker::Invoker;
use crate::metrics::{Metrics, ShardLabel};
use crate::plan::Loaded;
use crate::shard::Settings;
use crate::status::{Board, Role};
use crate::store::{Replicas, Store, Writer};
use session::{End, Session};

/// A session that ran this long was well: the next fault is met without a pause.
const WELL_AFTER: Duration = Duration::from_secs(10);

const CANNOT: &str = "cannot take the shard over";

/// What every shard's owner needs.
#[derive(Clone)]
pub struct Deps {
    /// The stream.
    pub stream: Stream,
    /// How its shards cut and how much they hold.
    pub settings: Settings,
    /// Where deliveries come from.
    pub broker: Broker,
    /// Where results go.
    pub store: Store,
    /// With `durability: replica`, who must have applied a commit before it is acknowledged.
    pub replicas: Option<Arc<Replicas>>,
    /// This process, as others see it in the table `shards`.
    pub owner: Arc<str>,
    /// For how long an idle shard stays ours without a sign of life.
    pub lease: Duration,
    /// Where workers are.
    pub invoker: Arc<Invoker>,
    /// What `/v1/status` shows.
    pub board: Arc<Board>,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// The clocks.
    pub clock: Clock,
}

/// A shard that is ours now: what it is opened with.
struct Taken {
    consumer: Consumer,
    writer: Writer,
    loaded: Loaded,
    first: Option<Delivery>,
}

/// Owns shard `number` whenever it is free, until `stop` turns true; then drains it.
pub async fn own(number: u32, deps: Deps, mut stop: watch::Receiver<bool>) {
    let pauses = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(3))
        .with_jitter()
        .without_max_times();
    let mut pause = pauses.build();
    loop {
        let started_ms = deps.clock.now().mono_ms;
        let end = own_once(number, &deps, stop.clone()).await;
        deps.invoker.detach(number);
        let owned = ShardLabel { shard: number };
        deps.metrics.owned.get_or_create(&owned).set(0);
        deps.board.update(number, |shard| {
            // These were the figures of a session that is over.
            shard.figures = None;
            shard.arrivals.reopened();
            shard.queue_ready = 0;
            shard.queue_unacked = 0;
        });
        match end {
            Ok(End::Drained) => {
                deps.board.update(number, |shard| {
                    shard.role = Role::Stopped;
                    shard.trouble = None;
                });
                return;
            }
            Ok(End::Superseded) => {
                info!(
                    shard = number,
                    "another dispatcher owns the shard: standing by"
                );
                continue;
            }
            Err(fault) => {
                let trouble = told(&fault);
                warn!(
                    shard = number,
                    "shard closed, to be opened again: {trouble}"
                );
                deps.metrics.reopened.inc();
                deps.board.update(number, |shard| {
                    shard.role = Role::Starting;
                    shard.trouble = Some(trouble);
                });
            }
        }
        if deps.clock.now().mono_ms - started_ms > WELL_AFTER.as_millis() as u64 {
            pause = pauses.build();
        }
        let pause = pause.next().unwrap_or(Duration::from_secs(3));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        if *stop.borrow() {
            // Nothing of ours is in flight: what was not committed comes again to the next owner.
            deps.board
                .update(number, |shard| shard.role = Role::Stopped);
            return;
        }
    }
}

/// A fault and its causes in one line, without those that the line ends with already.
fn told(fault: &anyhow::Error) -> String {
    fault.chain().fold(String::new(), |mut line, cause| {
        let cause = cause.to_string();
        if !line.ends_with(&cause) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&cause);
        }
        line
    })
}

async fn own_once(
    number: u32,
    deps: &Deps,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<End> {
    let taken = tokio::select! {
        taken = take_over(number, deps) => taken?,
        _ = stop.wait_for(|stop| *stop) => return Ok(End::Drained),
    };
    let epoch = taken.loaded.epoch;
    fail::fail_point!("epoch.after-raise", |_| crate::failpoint::die());
    info!(
        shard = number,
        epoch,
        commit_no = taken.loaded.commit_no,
        "shard taken over"
    );
    deps.board.update(number, |shard| {
        shard.role = Role::Owner;
        shard.trouble = None;
    });
    let owned = ShardLabel { shard: number };
    deps.metrics.owned.get_or_create(&owned).set(1);
    Session::open(number, deps, taken, stop)?.run().await
}

/// Stands by until the shard is ours, then raises its epoch and reads what the last commit left.
async fn take_over(number: u32, deps: &Deps) -> anyhow::Result<Taken> {
    let mut writer = deps
        .store
        .writer(&deps.stream, number, &deps.owner, deps.lease);
    deps.broker.declare().await?;
    let mut consumer = deps.broker.consume(number, deps.settings.prefetch).await?;
    let mut look = ticks(deps.lease / 4);
    let (first, loaded) = loop {
        tokio::select! {
            delivery = consumer.next() => {
                let delivery = delivery?;
                break (Some(delivery), writer.raise_epoch().await.context(CANNOT)?);
            }
            _ = look.tick() => {
                if writer.lease_free().await?
                    && let Some(loaded) = writer.raise_epoch_if_free().await.context(CANNOT)?
                {
                    break (None, loaded);
                }
                deps.board.update(number, |shard| {
                    shard.role = Role::Standby;
                    shard.trouble = None;
                });
            }
        }
    };
    Ok(Taken {
        consumer,
        writer,
        loaded,
        first,
    })
}

/// Ticks that are not made up for when they were missed.
fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_once_even_if_its_cause_repeats_it() {
        let fault = anyhow::anyhow!("the end of the line")
            .context("reading: the end of the line")
            .context("lost the store");
        assert_eq!(told(&fault), "lost the store: reading: the end of the line");
    }
}
