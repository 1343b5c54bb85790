//! What a session does beside taking deliveries: store calls, quarantine publishes and the wait
//! for replicas, each in a task of its own and each in order, so that intake never waits for them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tracing::warn;

use super::Deps;
use crate::broker::QuarantineMessage;
use crate::plan::{CommitPlan, OutcomeKind, Reached, SourceRecord};
use crate::store::{CommitError, Gate, Replicas, StoreError, Writer};

/// How long one wait for a replica lasts before it is said that none answers.
const REPLICA_WAIT: Duration = Duration::from_secs(5);

/// A call for the store's task.
pub(super) enum Request {
    Commit(Box<CommitPlan>),
    LoadSources(Vec<Arc<str>>),
    FindOutcomes(Vec<(Arc<str>, u64)>),
    OthersReached,
    /// The shard is drained: others need not wait for the lease.
    ReleaseLease,
}

/// What the tasks tell the session.
pub(super) enum Event {
    SourcesLoaded(Vec<Arc<str>>, Vec<SourceRecord>),
    OutcomesFound(Vec<((Arc<str>, u64), OutcomeKind)>),
    Committed(Gate),
    Durable(u64),
    QuarantineConfirmed(u64),
    OthersReached(Reached),
    /// The fence or the lease says that another owner has the shard.
    Superseded,
    /// No replica has applied a commit for a while; the wait goes on.
    ReplicasLag(String),
    Fault(anyhow::Error),
}

/// Carries out store calls in order, and extends the lease on its own timer: the session may wait for
/// a broker that is slow to answer. Ends with the channel, or with the first fault.
pub(super) async fn store(
    mut writer: Writer,
    epoch: u64,
    deps: Deps,
    mut requests: UnboundedReceiver<Request>,
    events: UnboundedSender<Event>,
) {
    let lost = |error: StoreError| fault(&deps, error.into());
    let mut renewal = super::ticks(deps.lease / 4);
    loop {
        let request = tokio::select! {
            request = requests.recv() => request,
            _ = renewal.tick() => {
                let event = match writer.renew_lease(epoch).await {
                    Ok(true) => continue,
                    Ok(false) => Event::Superseded,
                    Err(error) => lost(error),
                };
                // The session is over if nobody listens, as it is with this event.
                let _ = events.send(event);
                return;
            }
        };
        let Some(request) = request else { return };
        let event = match request {
            Request::Commit(plan) => commit(&mut writer, &plan, &deps).await,
            Request::LoadSources(names) => match writer.load_sources(&names).await {
                Ok(records) => Event::SourcesLoaded(names, records),
                Err(error) => lost(error),
            },
            Request::FindOutcomes(tuples) => match writer.find_outcomes(&tuples).await {
                Ok(found) => Event::OutcomesFound(found),
                Err(error) => lost(error),
            },
            Request::OthersReached => match writer.others_reached().await {
                Ok(reached) => Event::OthersReached(reached),
                Err(error) => lost(error),
            },
            Request::ReleaseLease => {
                if let Err(error) = writer.release_lease(epoch).await {
                    warn!("the lease was not given up, so others wait for its end: {error}");
                }
                return;
            }
        };
        let ends = matches!(event, Event::Superseded | Event::Fault(_));
        // The session is over if nobody listens.
        if events.send(event).is_err() || ends {
            return;
        }
    }
}

/// A store call failed: the line says which store that was.
fn fault(deps: &Deps, error: anyhow::Error) -> Event {
    Event::Fault(error.context(format!("lost {}", deps.store.name())))
}

async fn commit(writer: &mut Writer, plan: &CommitPlan, deps: &Deps) -> Event {
    let started = deps.clock.now().mono_ms;
    match writer.commit(plan).await {
        Ok(committed) => {
            let now_ms = deps.clock.now().mono_ms;
            let took = Duration::from_millis(now_ms - started);
            deps.metrics.committed(plan, took, now_ms);
            Event::Committed(committed.gate)
        }
        Err(CommitError::Superseded) => Event::Superseded,
        Err(error @ (CommitError::SourceClaimed | CommitError::ReplayGone)) => {
            Event::Fault(anyhow::Error::new(error).context("the slice is cut again"))
        }
        Err(CommitError::Lost(error)) => fault(deps, error),
    }
}

/// Publishes to quarantine in order.
pub(super) async fn quarantine(
    deps: Deps,
    mut slices: UnboundedReceiver<(u64, Vec<QuarantineMessage>)>,
    events: UnboundedSender<Event>,
) {
    while let Some((slice, messages)) = slices.recv().await {
        fail::fail_point!("quarantine.before", |_| crate::failpoint::die());
        let published = deps.broker.quarantine(messages).await;
        fail::fail_point!("quarantine.after", |_| crate::failpoint::die());
        let event = match published {
            Ok(()) => Event::QuarantineConfirmed(slice),
            Err(error) => Event::Fault(error.into()),
        };
        if events.send(event).is_err() {
            return;
        }
    }
}

/// Waits for replicas, commit by commit, for as long as it takes.
pub(super) async fn durability(
    replicas: Arc<Replicas>,
    mut commits: UnboundedReceiver<(u64, Gate)>,
    events: UnboundedSender<Event>,
) {
    while let Some((mut number, mut gate)) = commits.recv().await {
        // A later gate covers the earlier ones.
        while let Ok(later) = commits.try_recv() {
            (number, gate) = later;
        }
        while let Err(error) = replicas.wait_applied(&gate, REPLICA_WAIT).await {
            warn!(commit_no = number, "acks wait for a replica: {error}");
            if events.send(Event::ReplicasLag(error.to_string())).is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        if events.send(Event::Durable(number)).is_err() {
            return;
        }
    }
}
