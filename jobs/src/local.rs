//! A pool of warm worker processes on this machine.
//!
//! Each worker is a child process that pulls from the invocation API. It holds the read end of a
//! pipe whose write end is ours: when this process dies, however it dies, the worker's standard
//! input ends and it exits. The pool may grow and shrink while it runs; it shrinks by letting go of
//! workers that the dispatcher has chosen and told to exit. A worker that dies is reported at once, so that its batch is reissued,
//! and started again after a pause that grows while workers keep dying young.

use std::collections::BTreeMap;
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
/// How long a worker that was let go may take to call for work before it is asked by signal. A busy
/// one then finishes all the same.
const PATIENCE: Duration = Duration::from_secs(3);

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

/// What a slot is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Keep a worker running.
    Stay,
    /// The dispatcher gives the worker nothing more and answers its next call with "exit": see that
    /// it does, and start no other.
    Leave,
    /// Ask it to exit now.
    Stop,
}

/// A running pool. Dropping it kills the workers; [`LocalPool::drain`] lets them finish.
#[derive(Debug)]
pub struct LocalPool {
    program: Program,
    on_exit: Exit,
    started: u64,
    /// By name; one that is told to leave stays until its process is gone.
    orders: BTreeMap<Arc<str>, watch::Sender<Order>>,
    slots: JoinSet<Arc<str>>,
    trouble: watch::Sender<Option<String>>,
}

#[derive(Clone)]
struct Exit(OnExit);

impl std::fmt::Debug for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exit")
    }
}

impl LocalPool {
    /// Starts `size` workers.
    ///
    /// # Errors
    /// If the executable cannot be started at all.
    pub fn start(program: Program, size: usize, on_exit: OnExit) -> anyhow::Result<Self> {
        let mut pool = Self {
            program,
            on_exit: Exit(on_exit),
            started: 0,
            orders: BTreeMap::new(),
            slots: JoinSet::new(),
            trouble: watch::Sender::new(None),
        };
        pool.grow(size)?;
        Ok(pool)
    }

    /// Starts `count` workers more.
    ///
    /// # Errors
    /// If one cannot be started; those before it run.
    pub fn grow(&mut self, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            // Names are not used again: a name stands for one worker at the dispatcher.
            let name: Arc<str> = format!("local-{}-{}", std::process::id(), self.started).into();
            let child = spawn(&self.program, &name)?;
            self.started += 1;
            let (order, orders) = watch::channel(Order::Stay);
            let slot = Slot {
                name: Arc::clone(&name),
                program: self.program.clone(),
                on_exit: Arc::clone(&self.on_exit.0),
                orders,
                trouble: self.trouble.clone(),
            };
            self.orders.insert(name, order);
            self.slots.spawn(slot.keep_running(child));
        }
        Ok(())
    }

    /// Lets these workers go, which the dispatcher has told to exit: each ends by itself at its next
    /// call for work, after the batch that it may be running. One that does not call is sent SIGTERM
    /// after a while, which lets it finish, too. None is killed.
    pub fn release(&mut self, names: &[Arc<str>]) {
        for name in names {
            if let Some(order) = self.orders.get(name) {
                order.send_if_modified(|order| {
                    let stays = *order == Order::Stay;
                    if stays {
                        *order = Order::Leave;
                    }
                    stays
                });
            }
        }
    }

    /// The workers that are kept, those aside that were let go.
    pub fn names(&mut self) -> Vec<Arc<str>> {
        self.reap();
        let staying = self
            .orders
            .iter()
            .filter(|(_, order)| *order.borrow() == Order::Stay);
        staying.map(|(name, _)| Arc::clone(name)).collect()
    }

    /// Why a worker that ended could not be started again when that was last tried, if so.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// How many of those that were let go are still there.
    pub fn leaving(&mut self) -> usize {
        self.reap();
        let left = |order: &&watch::Sender<Order>| *order.borrow() != Order::Stay;
        self.orders.values().filter(left).count()
    }

    fn reap(&mut self) {
        while let Some(ended) = self.slots.try_join_next() {
            if let Ok(name) = ended {
                self.orders.remove(&name);
            }
        }
    }

    /// Tells the workers to finish what they run and exit, and waits for them; after `grace`, or
    /// when the future is dropped, they are killed.
    pub async fn drain(mut self, grace: Duration) {
        for order in self.orders.values() {
            order.send_replace(Order::Stop);
        }
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
    name: Arc<str>,
    program: Program,
    on_exit: OnExit,
    orders: watch::Receiver<Order>,
    trouble: watch::Sender<Option<String>>,
}

impl Slot {
    /// Keeps one worker running until it is to go; then says which it was.
    async fn keep_running(mut self, first: Child) -> Arc<str> {
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
                    self.trouble.send_replace(None);
                    let exited = self.wait(running).await;
                    (self.on_exit)(&self.name);
                    if *self.orders.borrow() != Order::Stay {
                        return self.name;
                    }
                    warn!(worker = &*self.name, %exited, "a worker died and is started again");
                }
                Err(error) => {
                    warn!(worker = &*self.name, "cannot start a worker: {error:#}");
                    let trouble = format!("{error:#}");
                    self.trouble.send_replace(Some(trouble));
                }
            }
            pause = if started.elapsed() > WELL_AFTER {
                SHORTEST_PAUSE
            } else {
                (pause * 2).min(LONGEST_PAUSE)
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = self.orders.wait_for(|order| *order != Order::Stay) => return self.name,
            }
        }
    }

    /// Waits for the child's end, asking it to end when it is time.
    async fn wait(&mut self, mut child: Child) -> String {
        let pid = child.id().and_then(|id| Pid::from_raw(id as i32));
        // Waiting would close the pipe whose end tells the worker that this process is gone.
        let _alive = child.stdin.take();
        let told = async {
            let stops = |order: &Order| *order == Order::Stop;
            // An order whose sender is gone goes with its pool, which kills the child.
            let left = self.orders.wait_for(|order| *order != Order::Stay).await;
            let at_once = left.is_ok_and(|order| stops(&order));
            if !at_once {
                let _ = tokio::time::timeout(PATIENCE, self.orders.wait_for(stops)).await;
            }
        };
        tokio::select! {
            status = child.wait() => return describe(status),
            () = told => {}
        }
        if let Some(pid) = pid {
            // It may have exited this instant; then there is nothing to ask.
            let _ = kill_process(pid, Signal::TERM);
        }
        describe(child.wait().await)
    }
}

pub(crate) fn describe(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => format!("unknown end: {error}"),
    }
}

pub(crate) fn spawn(program: &Program, name: &str) -> anyhow::Result<Child> {
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

    #[tokio::test]
    async fn a_pool_grows_and_lets_go_of_whom_it_is_told_to() {
        let (sender, mut exits) = mpsc::unbounded_channel();
        let on_exit: OnExit = Arc::new(move |name| {
            let _ = sender.send(name.to_owned());
        });
        // It ends when a file of its name appears, as a worker does that is answered "exit".
        let directory = tempfile_directory("resize");
        let script = format!(
            "while [ ! -e {}/$NAME ]; do sleep 0.01; done",
            directory.display()
        );
        let mut pool = LocalPool::start(shell(&script), 1, on_exit).unwrap();
        pool.grow(2).unwrap();
        let names = pool.names();
        assert_eq!(names.len(), 3);
        pool.release(&names[1..2]);
        assert_eq!(pool.names(), [names[0].clone(), names[2].clone()]);
        assert_eq!(pool.leaving(), 1, "it is given the time that it needs");
        std::fs::write(directory.join(&*names[1]), "").unwrap();
        assert_eq!(exits.recv().await.as_deref(), Some(&*names[1]));
        while pool.leaving() > 0 {
            tokio::task::yield_now().await;
        }
        pool.grow(1).unwrap();
        let now = pool.names();
        assert_eq!(now.len(), 3);
        assert!(!now.contains(&names[1]), "a name is not used twice");
        assert!(exits.try_recv().is_err(), "nobody else was touched");
        drop(pool);
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn a_worker_that_is_let_go_and_does_not_exit_is_asked_by_signal_and_not_killed() {
        let directory = tempfile_directory("patience");
        let (ready, done) = (directory.join("ready"), directory.join("done"));
        let script = format!(
            "trap 'touch {}; exit 0' TERM; touch {}; while :; do sleep 0.01; done",
            done.display(),
            ready.display()
        );
        let mut pool = LocalPool::start(shell(&script), 1, Arc::new(|_| {})).unwrap();
        while !ready.exists() {
            tokio::task::yield_now().await;
        }
        let names = pool.names();
        pool.release(&names);
        while pool.leaving() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            std::thread::yield_now();
        }
        assert!(done.exists());
        std::fs::remove_dir_all(directory).unwrap();
    }

    fn tempfile_directory(what: &str) -> PathBuf {
        let name = format!("windlass-pool-{what}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        directory
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
