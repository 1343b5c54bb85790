//! A dispatcher with its local workers, as `windlass dispatch` and `windlass demo` run it: every
//! connection is tried first, so that what is wrong is one clear line and not a retry for ever.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use windlass_dispatcher::api::Api;
use windlass_dispatcher::broker::Broker;
use windlass_dispatcher::invocations::Limits;
use windlass_dispatcher::invoker::Jobs;
use windlass_dispatcher::pool::Pool;
use windlass_dispatcher::service::{Config, Service};
use windlass_dispatcher::shard::Settings;
use windlass_dispatcher::status::Status;
use windlass_dispatcher::store::{Replicas, Store};
use windlass_functions::stream::Stream;
use windlass_jobs::local::{LocalPool, Program};

use crate::keeper::Keeper;
use crate::placing::{self, Placing};
use crate::scaling::measure::Dispatcher;
use crate::scaling::source::Source;
use crate::scaling::{Parts, Scaling, View};
use crate::values::{Pace, Workers as Wanted};

/// For how long an idle shard stays with its owner without a sign of life.
const LEASE: Duration = Duration::from_secs(10);

/// What to serve, with everything connected.
pub struct Serving {
    /// The stream.
    pub stream: Stream,
    /// Its shards.
    pub shards: u32,
    /// Connected.
    pub broker: Broker,
    /// Migrated.
    pub store: Store,
    /// Set for `durability: replica`.
    pub replicas: Option<Replicas>,
    /// Token between workers and dispatcher.
    pub token: Option<String>,
    /// What who looks on may send to read status and metrics.
    pub status_token: Option<String>,
    /// Where the invocation API listens.
    pub listener: TcpListener,
    /// Set for HTTPS.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// How many local workers to start.
    pub workers: Wanted,
    /// The scaler's tuning, for as many workers as it decides.
    pub tuning: Option<PathBuf>,
    /// The program that local workers run; without one it is this program.
    pub program: Option<PathBuf>,
    /// How long the local workers are to take at least, to rehearse a slow function.
    pub pace: Option<Pace>,
    /// How shards cut and how much they hold.
    pub settings: Settings,
    /// If set, invocations may run in one-shot workers.
    pub jobs: Option<Placing>,
    /// How long a drain may take.
    pub grace: Duration,
}

/// A running dispatcher and its local workers.
#[derive(Debug)]
pub struct Server {
    service: Service,
    workers: Option<Workers>,
    scaling: Option<Scaling>,
    /// Carries out what the dispatcher orders; ends with this.
    _placing: JoinSet<()>,
    grace: Duration,
}

/// The keeper of the local workers.
#[derive(Debug)]
struct Workers {
    pool: Arc<Pool>,
    stop: watch::Sender<bool>,
    kept: JoinHandle<LocalPool>,
}

impl Server {
    /// Starts the dispatcher and its workers.
    ///
    /// # Errors
    /// If the listener is not bound or a worker cannot be started.
    pub async fn start(serving: Serving) -> anyhow::Result<Self> {
        let token = serving.token.clone();
        let count = match serving.workers {
            Wanted::Count(count) => count,
            // The scaler says in a moment how many there are to be.
            Wanted::Auto => 1,
        };
        let size = u32::try_from(count).unwrap_or(u32::MAX);
        let (store, stream) = (serving.store.clone(), serving.stream.clone());
        let pool = (size > 0).then(|| Arc::new(Pool::new(size)));
        let (orders, ordered) = unbounded_channel();
        let jobs = serving.jobs.as_ref().map(|placing| Jobs {
            settings: placing.settings,
            orders,
        });
        let service = Service::start(Config {
            settings: serving.settings,
            stream: serving.stream,
            shards: serving.shards,
            broker: serving.broker,
            store: serving.store,
            replicas: serving.replicas,
            listener: serving.listener,
            tls: serving.tls,
            token: serving.token,
            status_token: serving.status_token,
            pool: pool.clone(),
            lease: LEASE,
            limits: Limits::default(),
            jobs,
        })?;
        let program = |pace| {
            worker_program(
                service.address(),
                token.as_deref(),
                serving.program.clone(),
                pace,
            )
        };
        let mut placing = JoinSet::new();
        if let Some(Placing { by, .. }) = serving.jobs {
            let launcher = by.launcher(|| program(serving.pace))?;
            placing.spawn(placing::launch(launcher, service.invoker(), ordered));
        }
        let workers = match pool {
            None => None,
            Some(pool) => {
                let on_exit = Arc::new(service.on_worker_exit());
                let local = LocalPool::start(program(serving.pace)?, count, on_exit)?;
                let keeper = Keeper::new(local, service.invoker(), Arc::clone(&pool));
                let (stop, stopped) = watch::channel(false);
                let kept = tokio::spawn(keeper.keep(stopped));
                Some(Workers { pool, stop, kept })
            }
        };
        let scaling = match (&workers, serving.workers) {
            (Some(workers), Wanted::Auto) => {
                let api = service.api();
                let scaling = Scaling::start(Parts {
                    metrics: api.metrics.scaler.clone(),
                    dispatcher: Dispatcher::Here(api),
                    pool: crate::scaling::pool::Pool::Here(Arc::clone(&workers.pool)),
                    source: serving.tuning.map_or(Source::Defaults, Source::File),
                    store,
                    stream,
                    lease: None,
                });
                Some(scaling.await.context("the scaler cannot start")?)
            }
            _ => None,
        };
        Ok(Self {
            service,
            workers,
            scaling,
            _placing: placing,
            grace: serving.grace,
        })
    }

    /// Where the invocation API listens.
    pub fn address(&self) -> SocketAddr {
        self.service.address()
    }

    /// The dispatcher at this moment.
    pub fn status(&self) -> Status {
        self.service.status()
    }

    /// How many local workers it is to keep.
    pub fn workers(&self) -> usize {
        self.workers
            .as_ref()
            .map_or(0, |workers| workers.pool.state().desired as usize)
    }

    /// The scaler of the local workers, if there is one.
    pub fn scaling(&self) -> Option<View> {
        self.scaling.as_ref().map(Scaling::view)
    }

    /// The dispatcher, for those in the same process.
    pub fn api(&self) -> Arc<Api> {
        self.service.api()
    }

    /// Takes no more deliveries, finishes, commits and acknowledges what is in flight, and ends
    /// the workers, all within one grace period; `false` if the slices took longer than that. What
    /// then is left of it is for the workers, which are idle by now unless they are stuck.
    pub async fn drain(mut self) -> bool {
        let deadline = now() + self.grace;
        if let Some(scaling) = self.scaling {
            scaling.stop().await;
        }
        let in_time = self.service.drain(self.grace).await;
        if let Some(workers) = self.workers {
            workers.stop.send_replace(true);
            // A keeper that panicked has dropped its workers, which kills them.
            if let Ok(local) = workers.kept.await {
                local.drain(deadline.duration_since(now())).await;
            }
        }
        self.service.stop().await;
        in_time
    }
}

/// Binds the invocation API's address.
///
/// # Errors
/// If it is in use, or open to other machines without a token.
pub async fn listen(address: SocketAddr, token: Option<&str>) -> anyhow::Result<TcpListener> {
    if !address.ip().is_loopback() && token.is_none() {
        bail!(
            "expected a token, since {address} is open to other machines: set WINDLASS_TOKEN for \
             the dispatcher and its workers, or listen on 127.0.0.1"
        );
    }
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "cannot listen on {address}: choose another address with --listen, or stop what uses it"
        )
    })
}

/// `program`, or this program again, as a worker of the dispatcher at `address`.
fn worker_program(
    address: SocketAddr,
    token: Option<&str>,
    program: Option<PathBuf>,
    pace: Option<Pace>,
) -> anyhow::Result<Program> {
    let mut local = address;
    if address.ip().is_unspecified() {
        // Reached from this machine all the same.
        local.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    // Workers start and end with the pool, which says so: theirs to say is what goes wrong.
    let log = std::env::var_os("WINDLASS_LOG").unwrap_or_else(|| "warn".into());
    let mut env = vec![("WINDLASS_LOG".into(), log)];
    if let Some(token) = token {
        env.push(("WINDLASS_TOKEN".into(), token.into()));
    }
    if let Some(pace) = pace {
        env.push(("WINDLASS_PACE".into(), pace.to_string().into()));
    }
    Ok(Program {
        path: match program {
            Some(program) => program,
            None => std::env::current_exe().context("cannot find this program's own file")?,
        },
        args: vec![
            "function".into(),
            "--dispatcher".into(),
            format!("http://{local}").into(),
            "--exit-with-stdin".into(),
        ],
        env,
        name_variable: "WINDLASS_WORKER_NAME".into(),
    })
}

#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}
