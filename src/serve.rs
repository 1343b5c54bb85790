//! A dispatcher with its local workers, as `windlass dispatch` and `windlass demo` run it: every
//! connection is tried first, so that what is wrong is one clear line and not a retry for ever.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio::time::Instant;
use windlass_dispatcher::broker::Broker;
use windlass_dispatcher::invocations::Limits;
use windlass_dispatcher::service::{Config, Service};
use windlass_dispatcher::shard::Settings;
use windlass_dispatcher::status::Status;
use windlass_dispatcher::store::{Replicas, Store};
use windlass_functions::stream::Stream;
use windlass_jobs::local::{LocalPool, Program};

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
    /// Where the invocation API listens.
    pub listener: TcpListener,
    /// How many local workers to start.
    pub workers: usize,
    /// How shards cut and how much they hold.
    pub settings: Settings,
    /// How long a drain may take.
    pub grace: Duration,
}

/// A running dispatcher and its local workers.
#[derive(Debug)]
pub struct Server {
    service: Service,
    pool: Option<LocalPool>,
    grace: Duration,
}

impl Server {
    /// Starts the dispatcher and its workers.
    ///
    /// # Errors
    /// If the listener is not bound or a worker cannot be started.
    pub fn start(serving: Serving) -> anyhow::Result<Self> {
        let token = serving.token.clone();
        let service = Service::start(Config {
            settings: serving.settings,
            stream: serving.stream,
            shards: serving.shards,
            broker: serving.broker,
            store: serving.store,
            replicas: serving.replicas,
            listener: serving.listener,
            token: serving.token,
            lease: LEASE,
            limits: Limits::default(),
        })?;
        let workers = serving.workers;
        let pool = if workers == 0 {
            None
        } else {
            let program = worker_program(service.address(), token.as_deref())?;
            let on_exit = Arc::new(service.on_worker_exit());
            Some(LocalPool::start(program, workers, on_exit)?)
        };
        Ok(Self {
            service,
            pool,
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

    /// How many local workers it keeps.
    pub fn workers(&self) -> usize {
        self.pool.as_ref().map_or(0, LocalPool::size)
    }

    /// Takes no more deliveries, finishes, commits and acknowledges what is in flight, and ends
    /// the workers, all within one grace period; `false` if the slices took longer than that. What
    /// then is left of it is for the workers, which are idle by now unless they are stuck.
    pub async fn drain(mut self) -> bool {
        let deadline = now() + self.grace;
        let in_time = self.service.drain(self.grace).await;
        if let Some(pool) = self.pool {
            pool.drain(deadline.duration_since(now())).await;
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

/// This program again, as a worker of the dispatcher at `address`.
fn worker_program(address: SocketAddr, token: Option<&str>) -> anyhow::Result<Program> {
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
    Ok(Program {
        path: std::env::current_exe().context("cannot find this program's own file")?,
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
