//! A listener that numbers its connections and tells when one is gone, so that a worker that died
//! in mid-batch is noticed at once and not at its deadline. With TLS it shakes hands beside accepting,
//! so that a client that dawdles holds up nobody.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::invocations::Gone;
use crate::invoker::Invoker;

/// How long a client may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Clients that may do so at a time.
const HANDSHAKES: usize = 256;

/// A connection's number, from 1.
#[derive(Clone, Copy, Debug)]
pub struct Connection(pub u64);

pub(super) struct Numbered {
    listener: TcpListener,
    invoker: Arc<Invoker>,
    last: u64,
    tls: Option<TlsAcceptor>,
    /// Ends with nothing where the client gave up or was too slow.
    shaking: JoinSet<Option<TlsStream<TcpStream>>>,
}

impl Numbered {
    pub fn new(
        listener: TcpListener,
        invoker: Arc<Invoker>,
        tls: Option<Arc<ServerConfig>>,
    ) -> Self {
        Self {
            listener,
            invoker,
            last: 0,
            tls: tls.map(TlsAcceptor::from),
            shaking: JoinSet::new(),
        }
    }

    async fn next(&mut self) -> Stream {
        let Some(tls) = &self.tls else {
            return Stream::Plain(tcp(&mut self.listener).await);
        };
        loop {
            tokio::select! {
                stream = tcp(&mut self.listener), if self.shaking.len() < HANDSHAKES => {
                    let handshake = tokio::time::timeout(HANDSHAKE, tls.accept(stream));
                    self.shaking.spawn(async move {
                        match handshake.await {
                            Ok(Ok(stream)) => Some(stream),
                            Ok(Err(error)) => {
                                tracing::debug!(%error, "a client's handshake failed");
                                None
                            }
                            Err(_) => None,
                        }
                    });
                }
                Some(shaken) = self.shaking.join_next() => {
                    if let Ok(Some(stream)) = shaken {
                        return Stream::Tls(Box::new(stream));
                    }
                }
            }
        }
    }
}

async fn tcp(listener: &mut TcpListener) -> TcpStream {
    let (stream, _) = Listener::accept(listener).await;
    // Small answers must not wait for more to send.
    let _ = stream.set_nodelay(true);
    stream
}

impl Listener for Numbered {
    type Io = NumberedStream;
    type Addr = Connection;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let stream = self.next().await;
        self.last += 1;
        let io = NumberedStream {
            stream,
            number: self.last,
            invoker: Arc::clone(&self.invoker),
        };
        (io, Connection(self.last))
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(Connection(0))
    }
}

impl Connected<IncomingStream<'_, Numbered>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Numbered>) -> Self {
        *stream.remote_addr()
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Calls the same method of whichever stream it is.
macro_rules! of_either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Plain($inner) => $call,
            Stream::Tls($inner) => $call,
        }
    };
}

pub(super) struct NumberedStream {
    stream: Stream,
    number: u64,
    invoker: Arc<Invoker>,
}

impl Drop for NumberedStream {
    fn drop(&mut self) {
        self.invoker.lost(&Gone::Connection(self.number));
    }
}

impl AsyncRead for NumberedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        of_either!(&mut self.stream, stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for NumberedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        of_either!(&mut self.stream, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_either!(&mut self.stream, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_either!(&mut self.stream, stream => Pin::new(stream).poll_shutdown(context))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        of_either!(&mut self.stream, stream => Pin::new(stream).poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        of_either!(&self.stream, stream => stream.is_write_vectored())
    }
}
