//! A pool of warm worker processes on this machine.
//!
//! Each worker is a child process that pulls from the invocation API. It holds the read end of a
//! pipe whose write end is ours: when this process dies, however it dies, the worker's standard
//! input ends and it exits. A worker that dies is reported at once, so that its batch is reissued,
//! and started again after a pause that grows while workers keep dying young.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

/// A worker that lived this long was well: the next start needs no pause.
const WELL_AFTER: Duration = Duration::from_secs(10);
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How to start one worker.
#[derive(Clone, Debug)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Environment variables beyond the few that are passed on; here goes the token, which must
    /// not stand in a process title.
    pub env: Vec<(OsString, OsString)>,
    /// The variable that tells the worker its name.
    pub name_variable: OsString,
}

/// Called with a worker's name when its process is gone.
pub type OnExit = Arc<dyn Fn(&str) + Send + Sync>;

/// A running pool. Dropping it kills the workers; [`LocalPool::drain`] lets them finish.
#[derive(Debug)]
pub struct LocalPool {
    size: usize,
    stop: watch::Sender<bool>,
    slots: JoinSet<()>,
}

impl LocalPool {
    /// Starts `size` workers.
    ///
    /// # Errors
    /// If the executable cannot be started at all.
    pub fn start(program: Program, size: usize, on_exit: OnExit) -> anyhow::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let mut slots = JoinSet::new();
        for number in 0..size {
            let name = format!("local-{}-{number}", std::process::id());
            let child = spawn(&program, &name)?;
            let slot = Slot {
                name,
                program: program.clone(),
                on_exit: Arc::clone(&on_exit),
                stopped: stopped.clone(),
            };
            slots.spawn(slot.keep_running(child));
        }
        Ok(Self { size, stop, slots })
    }

    /// How many workers it keeps.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Tells the workers to finish what they run and exit, and waits for them; after `grace`, or
    /// when the future is dropped, they are killed.
    pub async fn drain(mut self, grace: Duration) {
        self.stop.send_replace(true);
        let finished = async { while self.slots.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, finished).await.is_err() {
            warn!(
                grace_seconds = grace.as_secs(),
                "workers did not finish in time: killed"
            );
        }
    }
}

struct Slot {
    name: String,
    program: Program,
    on_exit: OnExit,
    stopped: watch::Receiver<bool>,
}

impl Slot {
    /// Keeps one worker running until the pool stops.
    async fn keep_running(mut self, first: Child) {
        let mut child = Some(first);
        let mut pause = SHORTEST_PAUSE;
        loop {
            let started = now();
            let running = match child.take() {
                Some(running) => Ok(running),
                None => spawn(&self.program, &self.name),
            };
            match running {
                Ok(running) => {
                    let exited = self.wait(running).await;
                    (self.on_exit)(&self.name);
                    if *self.stopped.borrow() {
                        return;
                    }
                    warn!(worker = self.name, %exited, "a worker died and is started again");
                }
                Err(error) => warn!(worker = self.name, "cannot start a worker: {error:#}"),
            }
            pause = if started.elapsed() > WELL_AFTER {
                SHORTEST_PAUSE
            } else {
                (pause * 2).min(LONGEST_PAUSE)
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = self.stopped.wait_for(|stopped| *stopped) => return,
            }
        }
    }

    /// Waits for the child's end, asking it to end when the pool stops.
    async fn wait(&mut self, mut child: Child) -> String {
        let pid = child.id().and_then(|id| Pid::from_raw(id as i32));
        // Waiting would close the pipe whose end tells the worker that this process is gone.
        let _alive = child.stdin.take();
        tokio::select! {
            status = child.wait() => return describe(status),
            _ = self.stopped.wait_for(|stopped| *stopped) => {}
        }
        if let Some(pid) = pid {
            // It may have exited this instant; then there is nothing to ask.
            let _ = kill_process(pid, Signal::TERM);
        }
        describe(child.wait().await)
    }
}

fn describe(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => format!("unknown end: {error}"),
    }
}

fn spawn(program: &Program, name: &str) -> anyhow::Result<Child> {
    let mut command = Command::new(&program.path);
    command
        .args(&program.args)
        .env_clear()
        .envs(std::env::vars_os().filter(|(key, _)| {
            // Neither the broker's nor the database's credentials reach a worker.
            let passed = ["PATH", "HOME", "TMPDIR", "LANG", "RUST_BACKTRACE"];
            key.to_str().is_some_and(|key| passed.contains(&key))
        }))
        .env(&program.name_variable, name)
        .envs(program.env.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::piped())
        // A Ctrl-C in the terminal is for the dispatcher, which drains; the workers outlast that.
        .process_group(0)
        .kill_on_drop(true);
    let child = command
        .spawn()
        .with_context(|| format!("cannot start the worker {}", program.path.display()))?;
    info!(worker = name, pid = child.id(), "worker started");
    Ok(child)
}

#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    fn shell(script: &str) -> Program {
        Program {
            path: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: Vec::new(),
            name_variable: "NAME".into(),
        }
    }

    #[tokio::test]
    async fn a_dead_worker_is_reported_and_started_again() {
        let (sender, mut deaths) = mpsc::unbounded_channel();
        let on_exit: OnExit = Arc::new(move |name| {
            let _ = sender.send(name.to_owned());
        });
        let pool = LocalPool::start(shell("exit 3"), 1, on_exit).unwrap();
        let first = deaths.recv().await.unwrap();
        assert_eq!(deaths.recv().await.unwrap(), first, "the same slot, again");
        pool.drain(Duration::from_secs(5)).await;
    }

    #[tokio::test]
    async fn a_workers_input_stays_open_for_as_long_as_the_pool_lives() {
        let (sender, mut deaths) = mpsc::unbounded_channel();
        let on_exit: OnExit = Arc::new(move |name| {
            let _ = sender.send(name.to_owned());
        });
        let pool = LocalPool::start(shell("read line"), 1, on_exit).unwrap();
        let death = tokio::time::timeout(Duration::from_secs(1), deaths.recv()).await;
        assert!(death.is_err(), "its input ended");
        pool.drain(Duration::from_secs(5)).await;
    }

    #[tokio::test]
    async fn drain_lets_a_worker_finish() {
        let directory = std::env::temp_dir().join(format!("windlass-pool-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (ready, done) = (directory.join("ready"), directory.join("done"));
        let script = format!(
            "trap 'touch {}; exit 0' TERM; touch {}; while :; do sleep 0.01; done",
            done.display(),
            ready.display()
        );
        let pool = LocalPool::start(shell(&script), 1, Arc::new(|_| {})).unwrap();
        while !ready.exists() {
            tokio::task::yield_now().await;
        }
        pool.drain(Duration::from_secs(10)).await;
        assert!(done.exists());
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_program_that_does_not_exist_is_an_error_at_once() {
        let mut program = shell("");
        program.path = "/does/not/exist".into();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let error = runtime
            .block_on(async { LocalPool::start(program, 1, Arc::new(|_| {})) })
            .unwrap_err();
        assert!(error.to_string().contains("/does/not/exist"));
    }
}
