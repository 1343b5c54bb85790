//! A wire between a pod and the API server that can lose answers: what was asked is done, and nobody hears
//! of it.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::harness::Site;
use crate::kubectl::kubectl;

/// See the module's documentation.
pub struct Wire {
    losing: watch::Sender<bool>,
    _accepting: JoinSet<()>,
}

impl Wire {
    /// Has the dispatcher of `site` reach its API server by this wire.
    pub async fn before_the_dispatcher_of(site: &Site) -> Self {
        let url = kubectl(&[
            "config",
            "view",
            "--minify",
            "--output",
            "jsonpath={.clusters[0].cluster.server}",
        ]);
        let server = url.trim_start_matches("https://").to_owned();
        let listener = TcpListener::bind("0.0.0.0:0").await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let (losing, lose) = watch::channel(false);
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, server.clone(), lose));
        // A name that is in the API server's certificate, and that this namespace may give to anybody.
        let name = "kubernetes";
        let metadata = json!({"name": name});
        site.apply(&json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"ports": [{"port": 443, "targetPort": port}]},
        }));
        site.apply(&json!({
            "apiVersion": "v1", "kind": "Endpoints", "metadata": metadata,
            "subsets": [{"addresses": [{"ip": here(&server)}], "ports": [{"port": port}]}],
        }));
        let env = json!([
            {"name": "KUBERNETES_SERVICE_HOST", "value": name},
            {"name": "KUBERNETES_SERVICE_PORT", "value": "443"},
        ]);
        let pod = json!({"containers": [{"name": "dispatcher", "env": env}]});
        let patch = json!({"spec": {"template": {"spec": pod}}}).to_string();
        site.kubectl(&[
            "patch",
            "deployment",
            "windlass-dispatcher",
            "--patch",
            &patch,
        ]);
        site.rolled_out("windlass-dispatcher");
        Self {
            losing,
            _accepting: accepting,
        }
    }

    /// From now on answers are lost.
    pub fn lose_answers(&self) {
        self.losing.send_replace(true);
    }

    /// From now on they arrive; connections of which something was lost are cut.
    pub fn heal(&self) {
        self.losing.send_replace(false);
    }
}

/// This machine as the cluster sees it.
fn here(server: &str) -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.connect(server).expect("a route to the cluster");
    let address: SocketAddr = socket.local_addr().expect("an address");
    address.ip()
}

async fn accept(listener: TcpListener, server: String, losing: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    while let Ok((pod, _)) = listener.accept().await {
        if let Ok(server) = TcpStream::connect(&server).await {
            connections.spawn(forward(pod, server, losing.clone()));
        }
    }
}

async fn forward(pod: TcpStream, server: TcpStream, losing: watch::Receiver<bool>) {
    let (mut from_pod, to_pod) = pod.into_split();
    let (from_server, mut to_server) = server.into_split();
    tokio::select! {
        _ = tokio::io::copy(&mut from_pod, &mut to_server) => {}
        () = answers(from_server, to_pod, losing) => {}
    }
}

async fn answers(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut losing: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 << 10];
    let mut lost = false;
    loop {
        tokio::select! {
            changed = losing.changed() => if changed.is_err() || lost { return },
            read = from.read(&mut buffer) => {
                let Ok(read @ 1..) = read else { return };
                lost |= *losing.borrow();
                if !lost && to.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}
