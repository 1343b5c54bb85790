//! A running board: its poller and its listener, with an owner each.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use tokio::task::JoinHandle;
use windlass_dispatcher::store::BoardReader;
use windlass_dispatcher::tls::Tls;
use windlass_functions::stream::Stream;

use crate::dispatcher::Dispatcher;
use crate::live::Shared;
use crate::poll;
use crate::{api, guard};

/// How long open event streams may last once the board stops.
const GOODBYE: Duration = Duration::from_millis(500);

/// What to show, and where.
#[derive(Debug)]
pub struct Config {
    /// Replicas to read from; an SQLite file counts as one.
    pub replicas: Vec<String>,
    /// The stream.
    pub stream: Stream,
    /// A replica that is further behind the newest one is skipped.
    pub max_lag: Duration,
    /// How long the database may take for a read of the past.
    pub read_limit: Duration,
    /// A dispatcher whose status is shown.
    pub dispatcher: Option<String>,
    /// That dispatcher's token.
    pub dispatcher_token: Option<String>,
    /// PEM file of the authority that alone vouches for that dispatcher, if it speaks HTTPS.
    pub dispatcher_ca: Option<PathBuf>,
    /// Where to listen, bound already.
    pub listener: TcpListener,
    /// What viewers must show.
    pub token: Option<String>,
    /// Serve HTTPS.
    pub tls: Option<Tls>,
}

/// A running board.
#[derive(Debug)]
pub struct Board {
    address: SocketAddr,
    handle: Handle<SocketAddr>,
    poller: JoinHandle<()>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Board {
    /// Starts to poll and to serve.
    ///
    /// # Errors
    /// If a URL is not one of a store, the token cannot be a header's or the certificate cannot be read.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let fit = |token: &String| {
            !token.is_empty()
                && token
                    .bytes()
                    .all(|b| b.is_ascii_graphic() && b != b';' && b != b'&')
        };
        if !config.token.iter().all(fit) {
            anyhow::bail!("expected a token of visible ASCII characters without ; and &");
        }
        let reader = BoardReader::new(
            &config.replicas,
            &config.stream,
            config.max_lag,
            config.read_limit,
        )?;
        let shared = Arc::new(Shared::new(reader));
        let dispatcher = config.dispatcher.as_deref();
        let dispatcher = dispatcher
            .map(|url| {
                Dispatcher::new(
                    url,
                    config.dispatcher_token,
                    config.dispatcher_ca.as_deref(),
                )
            })
            .transpose()?;
        let router = api::router(Arc::clone(&shared))
            .layer(axum::middleware::from_fn_with_state(
                config.token.map(Arc::<str>::from),
                guard::authorize,
            ))
            // Probes carry no token.
            .route("/healthz", axum::routing::get(|| async { "ok\n" }))
            .layer(axum::middleware::from_fn(guard::headers));
        config
            .listener
            .set_nonblocking(true)
            .context("cannot set the listener up")?;
        let address = config
            .listener
            .local_addr()
            .context("the listener is not bound")?;
        let handle = Handle::new();
        let service = router.into_make_service();
        // Answers and events come in pieces: the last one must not wait for the receipt of those before it,
        // which receivers put off for 40 ms.
        let server = match &config.tls {
            Some(tls) => {
                let server = axum_server::from_tcp_rustls(config.listener, tls.load().await?)?
                    .map(|tls| tls.acceptor(NoDelayAcceptor));
                tokio::spawn(server.handle(handle.clone()).serve(service))
            }
            None => {
                let server = axum_server::from_tcp(config.listener)?.acceptor(NoDelayAcceptor);
                tokio::spawn(server.handle(handle.clone()).serve(service))
            }
        };
        Ok(Self {
            address,
            handle,
            poller: tokio::spawn(poll::run(shared, dispatcher)),
            server,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends when the listener fails or the poller dies; cancel safe.
    ///
    /// # Errors
    /// Always: neither ends by itself.
    pub async fn failed(&mut self) -> anyhow::Result<()> {
        tokio::select! {
            served = &mut self.server => served.context("the board's server has died")?.context("the board stopped serving"),
            polled = &mut self.poller => polled.context("the board's poller has died"),
        }
    }

    /// Stops polling and serving; viewers connect again by themselves when there is a board again.
    pub async fn stop(self) {
        self.poller.abort();
        self.handle.graceful_shutdown(Some(GOODBYE));
        let _ = self.server.await;
    }
}
