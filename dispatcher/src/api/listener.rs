//! A listener that numbers its connections and tells when one is gone, so that a worker that died
//! in mid-batch is noticed at once and not at its deadline.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::invocations::Gone;
use crate::invoker::Invoker;

/// A connection's number, from 1.
#[derive(Clone, Copy, Debug)]
pub struct Connection(pub u64);

pub(super) struct Numbered {
    pub listener: TcpListener,
    pub invoker: Arc<Invoker>,
    pub last: u64,
}

impl Listener for Numbered {
    type Io = NumberedStream;
    type Addr = Connection;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, _) = Listener::accept(&mut self.listener).await;
        // Small answers must not wait for more to send.
        let _ = stream.set_nodelay(true);
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

pub(super) struct NumberedStream {
    stream: TcpStream,
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
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for NumberedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
