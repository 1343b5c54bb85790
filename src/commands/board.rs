//! `windlass board`: the big screen over the replicas.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use windlass_board::{Board as Page, Config as PageConfig, refuse_open};
use windlass_dispatcher::tls::Tls;

use crate::cli::{AuthorityArg, ReplicasArg};
use crate::config::Config;
use crate::shutdown::Signals;
use crate::values::Span;

const EXAMPLES: &str = "\
Examples:
  windlass board --replica mysql://reader:PASSWORD@replica/windlass --dispatcher http://127.0.0.1:7070
      the page on http://127.0.0.1:8080
  WINDLASS_BOARD_TOKEN=… windlass board --replica … --listen 0.0.0.0:8080
      for others too: they open http://HOST:8080/?token=…
  windlass board --replica sqlite:results.sqlite

A user that may SELECT is all it needs. It never asks a primary.";

/// Databases count by the millisecond, and take none of them for no limit.
const SHORTEST_READ: Duration = Duration::from_millis(1);

/// Arguments of `windlass board`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Board {
    #[command(flatten)]
    replicas: ReplicasArg,
    /// A dispatcher whose pool, queue and latency are shown
    #[arg(long, value_name = "URL", env = "WINDLASS_DISPATCHER")]
    dispatcher: Option<String>,
    /// That dispatcher's token; its --status-token is enough
    #[arg(
        long,
        value_name = "TOKEN",
        env = "WINDLASS_TOKEN",
        hide_env_values = true
    )]
    dispatcher_token: Option<String>,
    #[command(flatten)]
    authority: AuthorityArg,
    /// Where to serve the page
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// What viewers must show: as ?token=… once, or as bearer token
    #[arg(
        long,
        value_name = "TOKEN",
        env = "WINDLASS_BOARD_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
    /// Serve HTTPS with this certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Serve other machines without token and TLS
    #[arg(long)]
    open_to_all: bool,
    /// Skip a replica that is this far behind the newest one
    #[arg(long, value_name = "TIME", default_value = "3s")]
    max_lag: Span,
    /// How long the database may take for a read of the past: longer ones are ended and refused
    #[arg(long, value_name = "TIME", default_value = "8s")]
    read_limit: Span,
}

impl Board {
    /// Serves until a signal.
    ///
    /// # Errors
    /// If there is no replica, or the address is taken or open to others without protection.
    pub async fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        let replicas = self.replicas.urls(config);
        if replicas.is_empty() {
            bail!(
                "expected a replica to read from, got none; pass --replica \
                 mysql://USER:PASSWORD@HOST:3306/DATABASE or sqlite:PATH, set WINDLASS_REPLICAS, or \
                 write `replicas = [\"…\"]` into the --config file"
            );
        }
        if self.read_limit.0 < SHORTEST_READ {
            bail!(
                "expected a --read-limit of at least {}, got {}",
                Span(SHORTEST_READ),
                self.read_limit
            );
        }
        let tls = self.tls_cert.clone().zip(self.tls_key.clone());
        let tls = tls.map(|(certificate, key)| Tls { certificate, key });
        refuse_open(
            self.listen,
            self.token.is_some(),
            tls.is_some(),
            self.open_to_all,
        )?;
        let mut signals = Signals::catch()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = std::net::TcpListener::bind(self.listen).with_context(|| {
            format!(
                "cannot listen on {}: choose another address with --listen, or stop what uses it",
                self.listen
            )
        })?;
        let dispatcher = self
            .dispatcher
            .clone()
            .or_else(|| config.dispatcher.clone());
        let mut page = Page::start(PageConfig {
            replicas: replicas.to_vec(),
            stream: config.stream.clone(),
            max_lag: self.max_lag.0,
            read_limit: self.read_limit.0,
            dispatcher,
            dispatcher_token: self
                .dispatcher_token
                .clone()
                .or_else(|| config.token.clone()),
            dispatcher_ca: self.authority.file().map(Into::into),
            listener,
            token: self.token.clone(),
            tls,
        })
        .await?;
        tracing::info!(
            page.url = format!("{scheme}://{}/", page.address()),
            "the board is open"
        );
        tokio::select! {
            failed = page.failed() => failed?,
            () = signals.next() => page.stop().await,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Ports tried for the demo's page, from this one on.
const FIRST_PORT: u16 = 8080;

/// The demo's board on the next free port of this machine, over an SQLite file.
///
/// # Errors
/// If twenty ports are taken.
pub(super) async fn beside(
    store: &str,
    config: &Config,
    dispatcher: SocketAddr,
) -> anyhow::Result<Page> {
    let mut ports = FIRST_PORT..FIRST_PORT + 20;
    let listener = ports
        .find_map(|port| std::net::TcpListener::bind(("127.0.0.1", port)).ok())
        .context(
            "expected a free port from 8080 to 8099 for the board: free one, or pass --no-board",
        )?;
    Page::start(PageConfig {
        replicas: vec![store.to_owned()],
        stream: config.stream.clone(),
        max_lag: Duration::from_secs(3),
        read_limit: Duration::from_secs(8),
        dispatcher: Some(format!("http://{dispatcher}")),
        dispatcher_token: None,
        dispatcher_ca: None,
        listener,
        token: None,
        tls: None,
    })
    .await
}
