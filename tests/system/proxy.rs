//! A wire to a server that can lose an answer: what was asked is done, and nobody hears of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::harness::eventually;

/// Forwards connections to one server; cuts those whose question is armed.
pub struct Proxy {
    address: SocketAddr,
    trap: Arc<Trap>,
    _accepting: JoinSet<()>,
}

/// What the wire waits for.
struct Trap {
    /// A question with these bytes is the one whose answer is lost.
    question: &'static [u8],
    armed: AtomicU32,
    sprung: AtomicU32,
}

impl Proxy {
    /// A proxy before the server of `url`, for questions that hold these bytes.
    pub async fn before(url: &str, question: &'static [u8]) -> Self {
        let url = url::Url::parse(url).expect("tests/services prints URLs");
        let host = url.host_str().expect("a host");
        let port = url.port().expect("a port");
        let server: SocketAddr = format!("{host}:{port}").parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let trap = Arc::new(Trap {
            question,
            armed: AtomicU32::new(0),
            sprung: AtomicU32::new(0),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, server, Arc::clone(&trap)));
        Self {
            address,
            trap,
            _accepting: accepting,
        }
    }

    /// `url` through this proxy, in clear text so that it can be read on the way.
    pub fn url(&self, url: &str) -> String {
        let mut url = url::Url::parse(url).expect("tests/services prints URLs");
        url.set_port(Some(self.address.port())).expect("a port");
        url.set_query(Some("ssl-mode=disabled"));
        url.to_string()
    }

    /// Has the next such question answered by the server and the answer lost, with its connection;
    /// waits until that has happened.
    pub async fn loses_an_answer(&self, within: Duration) {
        let before = self.trap.sprung.load(Ordering::SeqCst);
        self.trap.armed.store(1, Ordering::SeqCst);
        eventually(within, "an answer is lost", async || {
            self.trap.sprung.load(Ordering::SeqCst) > before
        })
        .await;
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, trap: Arc<Trap>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        // A server that is away is seen as a connection that closes at once.
        if let Ok(server) = TcpStream::connect(server).await {
            connections.spawn(forward(client, server, Arc::clone(&trap)));
        }
    }
}

/// Forwards both ways until either side ends or the trap is sprung; dropping the halves closes.
async fn forward(client: TcpStream, server: TcpStream, trap: Arc<Trap>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let asked = Notify::new();
    tokio::select! {
        () = questions(from_client, to_server, &trap, &asked) => {}
        () = answers(from_server, to_client, &trap, &asked) => {}
    }
}

async fn questions(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, trap: &Trap, asked: &Notify) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let chunk = &buffer[..read];
        let is_it = chunk
            .windows(trap.question.len())
            .any(|window| window == trap.question);
        if is_it && trap.armed.swap(0, Ordering::SeqCst) == 1 {
            // Before the server can answer.
            asked.notify_one();
        }
        if to.write_all(chunk).await.is_err() {
            return;
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, trap: &Trap, asked: &Notify) {
    let mut buffer = vec![0; 64 << 10];
    let mut is_asked = false;
    loop {
        tokio::select! {
            biased;
            () = asked.notified(), if !is_asked => is_asked = true,
            read = from.read(&mut buffer) => {
                let Ok(read @ 1..) = read else { return };
                if is_asked {
                    // The server has done it. Nobody is told.
                    trap.sprung.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                if to.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}
