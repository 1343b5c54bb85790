//! What a dispatcher is started with, and its start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use backon::{ConstantBuilder, Retryable};
use windlass_dispatcher::broker::{Broker, Topology};
use windlass_dispatcher::shard;
use windlass_dispatcher::store::{Replicas, Store};
use windlass_dispatcher::tls::Tls;
use windlass_functions::stream::Stream;
use windlass_functions::watermark::Times;

use super::Durability;
use crate::placing::PlacingSettings;
use crate::serve::{self, Server, Serving};
use crate::values::Workers;

/// Everything `windlass dispatch` needs, with nothing left open.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// The broker's URL.
    pub broker: String,
    /// The store's URL.
    pub store: String,
    /// URLs of replicas.
    pub replicas: Vec<String>,
    /// How many shards the stream has.
    pub shards: u32,
    /// Bearer token that workers must send.
    pub token: Option<String>,
    /// Bearer token for status and metrics alone.
    pub status_token: Option<String>,
    /// Where to serve the invocation API.
    pub listen: SocketAddr,
    /// How many local workers to start.
    pub workers: Workers,
    /// The scaler's tuning.
    pub scaler: Option<PathBuf>,
    /// Most tuples of one invocation.
    pub chunk_rows: u32,
    /// How far tuples of a source may be out of order.
    pub delay: Duration,
    /// How long a closed window still takes late tuples.
    pub allowed_lateness: Duration,
    /// How long a source must be silent before nobody waits for it.
    pub idle_timeout: Duration,
    /// Age of a slice's first delivery at which it is cut.
    pub max_slice: Duration,
    /// How far a source may lag behind the others before nobody waits for it.
    pub max_skew: Duration,
    /// How long an idle source's ledger stays in memory.
    pub source_ttl: Duration,
    /// When a delivery may be acknowledged.
    pub durability: Durability,
    /// Most unacknowledged messages a shard, at least 1.
    pub prefetch: u16,
    /// Most memory for messages in work, bytes, all shards together.
    pub budget_bytes: u64,
    /// How long to wait for broker and store at the start.
    pub patience: Duration,
    /// If set, where and when invocations run beside the pool.
    pub placing: Option<PlacingSettings>,
    /// How long a drain may take.
    pub grace: Duration,
    /// Certificate and key of the invocation API.
    pub tls: Option<Tls>,
}

/// Starts, within the patience that `settings` have with a broker and a store that are starting, too.
pub(super) async fn start(settings: Settings, stream: &Stream) -> anyhow::Result<Server> {
    let tries = settings.patience.as_secs() as usize;
    let every_second = ConstantBuilder::default()
        .with_delay(Duration::from_secs(1))
        .with_max_times(tries);
    let starting = || try_to_start(settings.clone(), stream);
    starting
        .retry(every_second)
        .notify(|error, _| tracing::warn!(error = format!("{error:#}"), "not yet; trying again"))
        .await
}

/// Tries every connection, then starts: what is wrong now is an error, not a retry for ever.
async fn try_to_start(settings: Settings, stream: &Stream) -> anyhow::Result<Server> {
    let replicas = match settings.durability {
        Durability::Primary => None,
        Durability::Replica => Some(Replicas::connect(&settings.replicas).await?),
    };
    let tls = match &settings.tls {
        Some(tls) => Some(tls.http1().await?),
        None => None,
    };
    let listener = serve::listen(settings.listen, settings.token.as_deref()).await?;
    let store = Store::connect(&settings.store).await?;
    store.migrate(stream, settings.shards).await?;
    let topology = Topology {
        stream: stream.name.clone(),
        shards: settings.shards,
    };
    let broker = Broker::connect(&settings.broker, &topology).await?;
    broker.declare().await?;
    if settings.scaler.is_some() && settings.workers != Workers::Auto {
        bail!(
            "--scaler tunes --workers auto; expected that, got another --workers: add --workers auto or leave --scaler out"
        );
    }
    let jobs = match settings.placing.clone() {
        Some(placing) => Some(
            placing
                .connect(&store, stream, settings.token.is_some())
                .await?,
        ),
        None => None,
    };
    Server::start(Serving {
        stream: stream.clone(),
        shards: settings.shards,
        broker,
        store,
        replicas,
        listener,
        tls,
        workers: settings.workers,
        tuning: settings.scaler.clone(),
        program: None,
        pace: None,
        jobs,
        grace: settings.grace,
        settings: settings.shard(),
        token: settings.token,
        status_token: settings.status_token,
    })
    .await
}

impl Settings {
    /// What each shard is run with.
    fn shard(&self) -> shard::Settings {
        let ms = |time: Duration| time.as_millis() as u64;
        shard::Settings {
            times: Times {
                delay_ms: ms(self.delay) as i64,
                allowed_lateness_ms: ms(self.allowed_lateness) as i64,
                idle_timeout_ms: ms(self.idle_timeout),
                max_skew_ms: ms(self.max_skew) as i64,
            },
            max_slice_ms: ms(self.max_slice),
            prefetch: self.prefetch,
            budget_bytes: (self.budget_bytes / u64::from(self.shards)) as usize,
            source_ttl_ms: ms(self.source_ttl),
            chunk_rows: self.chunk_rows as usize,
            ..shard::Settings::default()
        }
    }
}
