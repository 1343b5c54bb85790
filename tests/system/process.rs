//! A dispatcher as a process: started, asked, signalled, killed by its id when the test is over.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{eventually, until};

/// A `windlass dispatch` process; killed when dropped.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
    pub log: PathBuf,
}

impl Process {
    /// Starts it, its log in `dir`.
    pub fn start(mut command: Command, dir: &Path, address: SocketAddr) -> Self {
        let log = dir.join(format!("dispatch-{}.log", address.port()));
        let file = std::fs::File::create(&log).expect("the log file");
        command.stdout(Stdio::null()).stderr(file);
        let child = command.spawn().expect("windlass dispatch starts");
        Self {
            child,
            address,
            log,
        }
    }

    /// Waits until it serves its API.
    pub fn answers(&self) {
        until(Duration::from_secs(60), "the dispatcher answers", || {
            std::net::TcpStream::connect(self.address).is_ok()
        });
    }

    /// What `/v1/status` says.
    pub async fn status(&self) -> serde_json::Value {
        let url = format!("http://{}/v1/status", self.address);
        let answer = reqwest::get(url).await.expect("the dispatcher answers");
        let body = answer.bytes().await.expect("a status");
        serde_json::from_slice(&body).expect("the status is JSON")
    }

    /// What `/readyz` says: whether it is ready, and the text.
    pub async fn ready(&self) -> (bool, String) {
        let url = format!("http://{}/readyz", self.address);
        let answer = reqwest::get(url).await.expect("the dispatcher answers");
        let status = answer.status();
        assert!(status == 200 || status == 503, "{status}");
        (status == 200, answer.text().await.expect("a text"))
    }

    /// What `/metrics` says.
    pub async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.address);
        let answer = reqwest::get(url).await.expect("the dispatcher answers");
        answer.text().await.expect("a text")
    }

    /// Waits until it has logged this.
    pub async fn logs(&self, what: &str, within: Duration) {
        let said = format!("logs {what:?}");
        eventually(within, &said, async || self.logged().contains(what)).await;
    }

    /// Waits until its role for shard 0 is this.
    pub async fn becomes(&self, role: &str, within: Duration) {
        let started = Instant::now();
        loop {
            let status = self.status().await;
            if status["shards"]["0"]["role"] == role {
                return;
            }
            assert!(
                started.elapsed() < within,
                "not {role} within {within:?}: {status}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process id");
        kill_process(pid, signal).expect("the process is there");
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(mut self) {
        self.child.kill().expect("the process is there");
        self.child.wait().expect("it ends");
    }

    /// Waits for its end.
    pub fn ended(&mut self, within: Duration) -> ExitStatus {
        let mut status = None;
        until(within, "the process ends", || {
            status = self.child.try_wait().expect("it can be asked");
            status.is_some()
        });
        status.expect("it has ended")
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it can be asked").is_some()
    }

    /// Process ids of its local workers.
    pub fn workers(&self) -> Vec<i32> {
        let parent = self.child.id();
        let list = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        let mut ids: Vec<i32> = parse_ids(&list.unwrap_or_default());
        // Children belong to the thread that started them.
        if let Ok(threads) = std::fs::read_dir(format!("/proc/{parent}/task")) {
            for thread in threads.flatten() {
                let list = std::fs::read_to_string(thread.path().join("children"));
                ids.extend(parse_ids(&list.unwrap_or_default()));
            }
        }
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Memory in use, bytes: now, and at its highest.
    pub fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the process is there");
        let field = |name: &str| -> u64 {
            let line = status.lines().find(|line| line.starts_with(name));
            let kib = line.and_then(|line| line.split_whitespace().nth(1));
            kib.and_then(|kib| kib.parse().ok()).unwrap_or(0) * 1024
        };
        (field("VmRSS:"), field("VmHWM:"))
    }

    /// What it has logged.
    pub fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

fn parse_ids(list: &str) -> Vec<i32> {
    list.split_whitespace()
        .filter_map(|id| id.parse().ok())
        .collect()
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.logged();
            let tail: Vec<&str> = log.lines().rev().take(25).collect();
            for line in tail.iter().rev() {
                eprintln!("{}: {line}", self.address);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
