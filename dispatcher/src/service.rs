//! A dispatcher in a process: its shards' owners and the invocation API, started and drained as one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info, warn};
use windlass_functions::stream::Stream;

use crate::api::{self, Api};
use crate::broker::Broker;
use crate::clock::Clock;
use crate::invocations::{Gone, Limits};
use crate::invoker::{Invoker, Jobs};
use crate::metrics::Metrics;
use crate::owner::{self, Deps};
use crate::pool::Pool;
use crate::shard::Settings;
use crate::status::{Board, Status};
use crate::store::{Replicas, Store};

/// What a dispatcher is started with. Connections are made and checked by the caller, so that a
/// wrong URL is an error at the start and not a retry for ever.
pub struct Config {
    /// The stream.
    pub stream: Stream,
    /// Its shards: S, fixed when the stream was created. All that are free are owned.
    pub shards: u32,
    /// How shards cut and how much they hold.
    pub settings: Settings,
    /// Connected.
    pub broker: Broker,
    /// Migrated.
    pub store: Store,
    /// Set for `durability: replica`.
    pub replicas: Option<Replicas>,
    /// Bound, for the invocation API.
    pub listener: TcpListener,
    /// If set, the invocation API is served over HTTPS.
    pub tls: Option<Arc<ServerConfig>>,
    /// The local workers, if there are to be any; their keeper watches it.
    pub pool: Option<Arc<Pool>>,
    /// If set, workers must present it.
    pub token: Option<String>,
    /// With it, status and metrics may be read and nothing else.
    pub status_token: Option<String>,
    /// For how long an idle shard stays ours without a sign of life.
    pub lease: Duration,
    /// When an invocation counts as failed and what follows.
    pub limits: Limits,
    /// If set, invocations may run in Jobs; else all are for the pool.
    pub jobs: Option<Jobs>,
}

/// A running dispatcher.
#[derive(Debug)]
pub struct Service {
    api: Arc<Api>,
    address: SocketAddr,
    stop_owners: watch::Sender<bool>,
    owners: JoinSet<()>,
    stop_api: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Service {
    /// Starts owning shards and serving the API.
    ///
    /// # Errors
    /// If the listener has no address.
    pub fn start(config: Config) -> anyhow::Result<Self> {
        let clock = Clock::start();
        let address = config
            .listener
            .local_addr()
            .context("the invocation API's listener is not bound")?;
        let metrics = Arc::new(Metrics::default());
        let invoker = Arc::new(Invoker::new(
            config.limits,
            config.jobs,
            clock,
            Arc::clone(&metrics),
        ));
        let api = Arc::new(Api {
            invoker: Arc::clone(&invoker),
            board: Arc::new(Board::default()),
            metrics: Arc::clone(&metrics),
            clock,
            token: config.token,
            status_token: config.status_token,
            pool: config.pool,
            function: config.stream.query.clone(),
        });
        let (stop_api, mut api_stops) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let served = api::serve(config.listener, config.tls, Arc::clone(&api), async move {
            let _ = api_stops.wait_for(|stop| *stop).await;
        });
        tasks.spawn(async move {
            if let Err(failure) = served.await {
                error!("{failure:#}");
            }
        });
        let placing = Arc::clone(&invoker);
        tasks.spawn(async move { placing.place_jobs().await });
        tasks.spawn(async move { invoker.expire_attempts().await });

        let deps = Deps {
            stream: config.stream,
            settings: config.settings,
            broker: config.broker,
            store: config.store,
            replicas: config.replicas.map(Arc::new),
            owner: owner_name().into(),
            lease: config.lease,
            invoker: Arc::clone(&api.invoker),
            board: Arc::clone(&api.board),
            metrics,
            clock,
        };
        let (stop_owners, owners_stop) = watch::channel(false);
        let mut owners = JoinSet::new();
        for shard in 0..config.shards {
            api.board.update(shard, |_| {});
            owners.spawn(owner::own(shard, deps.clone(), owners_stop.clone()));
        }
        info!(%address, shards = config.shards, "dispatcher started");
        Ok(Self {
            api,
            address,
            stop_owners,
            owners,
            stop_api,
            tasks,
        })
    }

    /// Where the invocation API listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The dispatcher at this moment.
    pub fn status(&self) -> Status {
        self.api.status()
    }

    /// The API's state: the dispatcher at any later moment.
    pub fn api(&self) -> Arc<Api> {
        Arc::clone(&self.api)
    }

    /// Where batches are handed out: who keeps local workers asks it whom to let go, who launches
    /// Jobs tells it what becomes of them.
    pub fn invoker(&self) -> Arc<Invoker> {
        Arc::clone(&self.api.invoker)
    }

    /// To be called with the name of a local worker that died: its batch is reissued at once.
    pub fn on_worker_exit(&self) -> impl Fn(&str) + Send + Sync + use<> {
        let invoker = Arc::clone(&self.api.invoker);
        move |name: &str| invoker.lost(&Gone::Worker(name.into()))
    }

    /// Takes no more deliveries, finishes the slices in flight, commits and acknowledges them;
    /// what else was delivered returns to the queue. Then workers are told to exit. `false` if
    /// that took longer than `grace`: what was in flight then comes again to the next owner.
    pub async fn drain(&mut self, grace: Duration) -> bool {
        self.stop_owners.send_replace(true);
        let finished = async { while self.owners.join_next().await.is_some() {} };
        let in_time = tokio::time::timeout(grace, finished).await.is_ok();
        if !in_time {
            warn!(
                grace_seconds = grace.as_secs(),
                "slices in flight did not finish in time; they come again to the next owner"
            );
            self.owners.abort_all();
        }
        self.api.invoker.drain();
        in_time
    }

    /// Stops the API, after the workers have gone.
    pub async fn stop(mut self) {
        self.stop_api.send_replace(true);
        // Connections that idle clients keep open end with the process.
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Host and process, for people who look into the table `shards`.
fn owner_name() -> String {
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    format!("{host}:{}", std::process::id())
}
