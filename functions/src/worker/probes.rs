//! The port where a kubelet's probes come. While this worker is parked it is closed, by which the pod
//! ceases to be ready.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::header::{PARKING_ACTIVE, PARKING_PARKED};

/// After a connection could not be taken in, for want of a file descriptor, or the port not be opened.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Probes {
    address: SocketAddr,
    parked: bool,
    /// Keeps the port open.
    open: Option<JoinSet<()>>,
}

impl Probes {
    /// Opens the port and waits for the second probe; more will come.
    ///
    /// The first shows that the kubelet knows that this program runs. But it may have taken the pod, deleted
    /// before it knew, for one that does not run: such a pod is not probed again, and killed a moment later.
    pub(super) async fn second(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        listener.accept().await?;
        listener.accept().await?;
        let mut open = JoinSet::new();
        open.spawn(accept(listener));
        Ok(Self {
            address,
            parked: false,
            open: Some(open),
        })
    }

    /// What probes find, in the words of the invocation API.
    pub(super) fn shown(&self) -> &'static str {
        match self.parked {
            true => PARKING_PARKED,
            false => PARKING_ACTIVE,
        }
    }

    /// Lets probes find whether this worker is parked.
    pub(super) async fn show(&mut self, parked: bool) {
        self.parked = parked;
        if parked {
            if let Some(mut open) = self.open.take() {
                open.shutdown().await;
            }
        } else if self.open.is_none() {
            let mut open = JoinSet::new();
            match TcpListener::bind(self.address).await {
                Ok(listener) => open.spawn(accept(listener)),
                Err(_) => open.spawn(reopen(self.address)),
            };
            self.open = Some(open);
        }
    }
}

async fn accept(listener: TcpListener) {
    loop {
        if listener.accept().await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Somebody else has taken the port.
async fn reopen(address: SocketAddr) {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return accept(listener).await,
            Err(error) => {
                tracing::warn!(%address, %error, "probes find the port closed; trying again")
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
