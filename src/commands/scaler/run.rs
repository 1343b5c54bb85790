//! `windlass scaler` itself: sizes a pool until told to stop.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use axum::Router;
use axum::http::header;
use axum::routing::get;
use clap::{Args, ValueEnum};
use tokio::net::TcpListener;
use windlass_dispatcher::metrics::ScalerMetrics;
use windlass_dispatcher::store::Store;
use windlass_functions::worker::worker_id;
use windlass_jobs::kubernetes::Cluster;
use windlass_jobs::kubernetes::config_map::ConfigMap;
use windlass_jobs::kubernetes::lease::Lease;
use windlass_jobs::kubernetes::names::SCALER;
use windlass_jobs::kubernetes::scale::Deployment;

use crate::cli::{AuthorityArg, StoreArg, TokenArg, missing};
use crate::config::Config;
use crate::scaling::measure::{Dispatcher, Remote};
use crate::scaling::pods::Pods;
use crate::scaling::pool::Pool;
use crate::scaling::source::Source;
use crate::scaling::{Parts, Scaling};
use crate::shutdown::Signals;

/// What is sized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// The local workers of the dispatcher.
    Local,
    /// Pods of a Deployment.
    Kubernetes,
}

/// Where the tuning is.
#[derive(Debug, Args)]
pub struct TuningArg {
    /// The tuning's file, watched; so is a --config FILE that does not end in .toml
    #[arg(long, value_name = "FILE", conflicts_with = "config_map")]
    tuning: Option<PathBuf>,
    /// The tuning's ConfigMap, watched
    #[arg(long, value_name = "NAME", env = "WINDLASS_SCALER_CONFIG_MAP")]
    config_map: Option<String>,
    /// The namespace [default: the pod's, or the kubeconfig's]
    #[arg(long, value_name = "NAME", env = "WINDLASS_NAMESPACE")]
    pub namespace: Option<String>,
}

impl TuningArg {
    /// The source that is meant; `file` is the global --config.
    ///
    /// # Errors
    /// If a cluster is meant and none can be found.
    pub async fn source(&self, file: Option<&Path>) -> anyhow::Result<Source> {
        if let Some(name) = &self.config_map {
            let cluster = Cluster::of(self.namespace.clone(), None).await?;
            let map = ConfigMap::new(&cluster, name, SCALER);
            return Ok(Source::ConfigMap(Box::new(map)));
        }
        let file = self
            .tuning
            .as_deref()
            .or(file.filter(|file| is_tuning(file)));
        Ok(file.map_or(Source::Defaults, |file| Source::File(file.into())))
    }
}

/// Whether a `--config` file of `windlass scaler` is the tuning, and not windlass's settings.
pub fn is_tuning(file: &Path) -> bool {
    file.extension().is_none_or(|extension| extension != "toml")
}

/// Arguments of `windlass scaler` without a subcommand.
#[derive(Debug, Args)]
pub struct Run {
    /// Address of the dispatcher, such as http://127.0.0.1:7070 or https://HOST:7070
    #[arg(long, value_name = "URL", env = "WINDLASS_DISPATCHER")]
    dispatcher: Option<String>,
    /// Which pool to size
    #[arg(long, value_enum, default_value = "local")]
    pool: Kind,
    /// The Deployment to size, with --pool kubernetes
    #[arg(long, value_name = "NAME", env = "WINDLASS_SCALER_DEPLOYMENT")]
    deployment: Option<String>,
    /// Serve /metrics and /healthz here
    #[arg(long, value_name = "ADDRESS", env = "WINDLASS_SCALER_LISTEN")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    tuning: TuningArg,
    #[command(flatten)]
    token: TokenArg,
    #[command(flatten)]
    authority: AuthorityArg,
    #[command(flatten)]
    store: StoreArg,
}

impl Run {
    /// Sizes the pool until a signal says to stop.
    ///
    /// # Errors
    /// If something it needs is not there.
    pub async fn run(self, config: &Config, file: Option<&Path>) -> anyhow::Result<ExitCode> {
        let mut signals = Signals::catch()?;
        let url = self.dispatcher.as_ref().or(config.dispatcher.as_ref());
        let url = url.context(missing(
            "the dispatcher",
            "dispatcher",
            "http://127.0.0.1:7070",
        ))?;
        let remote = Remote::new(url, self.token.get(config), self.authority.file())?;
        let (pool, lease) = self.pool(&remote).await?;
        let store = Store::connect(self.store.url(config)?).await?;
        let metrics = ScalerMetrics::default();
        let listener = match self.listen {
            None => None,
            Some(address) => Some(TcpListener::bind(address).await.with_context(|| {
                format!("cannot listen on {address}: choose another address with --listen")
            })?),
        };
        let scaling = Scaling::start(Parts {
            dispatcher: Dispatcher::At(remote),
            pool,
            source: self.tuning.source(file).await?,
            store,
            stream: config.stream.clone(),
            metrics: metrics.clone(),
            lease,
        });
        let scaling = tokio::select! {
            started = scaling => started?,
            () = signals.next() => return Ok(ExitCode::SUCCESS),
        };
        tokio::select! {
            () = signals.next() => {}
            served = serve(listener, metrics) => served?,
        }
        tracing::info!("keeping what was learned; a second signal aborts");
        tokio::select! {
            () = scaling.stop() => Ok(ExitCode::SUCCESS),
            () = signals.next() => bail!("aborted by a second signal; the last minute's learning is lost"),
        }
    }

    async fn pool(&self, remote: &Remote) -> anyhow::Result<(Pool, Option<Lease>)> {
        match (self.pool, &self.deployment) {
            (Kind::Local, None) => Ok((Pool::At(remote.clone()), None)),
            (Kind::Local, Some(_)) => {
                bail!("--deployment names what --pool kubernetes sizes: add that, or leave it out")
            }
            (Kind::Kubernetes, None) => bail!(
                "expected the Deployment that --pool kubernetes is to size, got none: add \
                 --deployment windlass-workers"
            ),
            (Kind::Kubernetes, Some(name)) => {
                let cluster = Cluster::of(self.tuning.namespace.clone(), None).await?;
                let lease = Lease::new(&cluster, SCALER, &worker_id());
                let pods = Pods::new(Deployment::new(&cluster, name), remote.clone());
                Ok((Pool::Pods(Box::new(pods)), Some(lease)))
            }
        }
    }
}

/// Serves the two pages a scaler has; for ever without a listener.
async fn serve(listener: Option<TcpListener>, metrics: ScalerMetrics) -> anyhow::Result<()> {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let text = async move || ([(header::CONTENT_TYPE, kind)], metrics.text());
    let pages = Router::new()
        .route("/metrics", get(text))
        .route("/healthz", get("ok\n"));
    axum::serve(listener, pages)
        .await
        .context("cannot serve /metrics")
}
