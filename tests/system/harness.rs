//! One test's site: a stream and a database of its own on the shared servers, and the processes
//! that the test starts, each killed by its id when the test is over.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use windlass_datagen::manifest::Manifest;
use windlass_dispatcher::broker::{Broker, Topology};
use windlass_dispatcher::store::{Audit, Store};
use windlass_functions::stream::Stream;

pub use crate::process::Process;

/// Tests that stop a shared server hold it alone; all others share it.
static SERVERS: RwLock<()> = RwLock::const_new(());

/// Which database holds the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    MariaDb,
    MySql,
}

impl Database {
    /// Its name for `tests/services`.
    pub fn service(self) -> &'static str {
        match self {
            Self::MariaDb => "mariadb",
            Self::MySql => "mysql",
        }
    }

    fn variable(self) -> &'static str {
        match self {
            Self::MariaDb => "WINDLASS_TEST_MARIADB",
            Self::MySql => "WINDLASS_TEST_MYSQL",
        }
    }
}

enum Hold {
    Shared(#[allow(dead_code, reason = "held, not read")] RwLockReadGuard<'static, ()>),
    Alone(#[allow(dead_code, reason = "held, not read")] RwLockWriteGuard<'static, ()>),
}

/// See the module's documentation.
pub struct Site {
    /// The `windlass` command.
    pub program: PathBuf,
    pub dir: tempfile::TempDir,
    pub stream: Stream,
    pub shards: u32,
    pub broker: String,
    pub store: String,
    pub replica: String,
    pub database: Database,
    _hold: Hold,
}

impl Site {
    /// A site whose servers no test touches; `None` (said on standard error) without servers.
    pub async fn new(name: &str) -> Option<Self> {
        Self::make(name, Database::MariaDb, Hold::Shared(SERVERS.read().await))
    }

    /// The same on a database of choice.
    pub async fn on(name: &str, database: Database) -> Option<Self> {
        Self::make(name, database, Hold::Shared(SERVERS.read().await))
    }

    /// A site that has the servers to itself and may stop them.
    pub async fn alone(name: &str, database: Database) -> Option<Self> {
        Self::make(name, database, Hold::Alone(SERVERS.write().await))
    }

    fn make(name: &str, database: Database, hold: Hold) -> Option<Self> {
        windlass_functions::trust::use_ring();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let broker = setting("WINDLASS_TEST_AMQP")?;
        let server = setting(database.variable())?;
        let replica = setting(&format!("{}_REPLICA", database.variable()))?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let unique = format!("{}-{}-{number}", name.replace('_', "-"), std::process::id());
        let schema = format!("windlass_{}", unique.replace('-', "_"));
        service(&[
            "sql",
            database.service(),
            "-e",
            &format!("CREATE DATABASE {schema}"),
        ]);
        let of = |url: &str| {
            let mut url = url::Url::parse(url).expect("tests/services prints URLs");
            url.set_path(&schema);
            url.to_string()
        };
        let site = Self {
            program: env!("CARGO_BIN_EXE_windlass").into(),
            dir: tempfile::tempdir().expect("a temporary directory"),
            stream: Stream {
                name: unique,
                ..Stream::default()
            },
            shards: 1,
            broker,
            store: of(&server),
            replica: of(&replica),
            database,
            _hold: hold,
        };
        let config = format!("[stream]\nname = \"{}\"\n", site.stream.name);
        std::fs::write(site.config(), config).expect("the test's configuration");
        Some(site)
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("windlass.toml")
    }

    /// The `windlass` command with this site's stream, broker and store.
    pub fn windlass(&self, subcommand: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(subcommand)
            .env("WINDLASS_CONFIG", self.config())
            .env("WINDLASS_BROKER", &self.broker)
            .env("WINDLASS_STORE", &self.store)
            .env("WINDLASS_SHARDS", self.shards.to_string())
            .env_remove("FAILPOINTS")
            .stdin(Stdio::null());
        command
    }

    /// Runs a subcommand to its end.
    pub fn run(&self, subcommand: &[&str]) -> Output {
        let output = self.windlass(subcommand).output();
        output.expect("the windlass command starts")
    }

    /// Starts `windlass dispatch` with these further flags and waits until it answers.
    pub fn dispatch(&self, flags: &[&str]) -> Process {
        let process = self.dispatch_with(flags, None);
        process.answers();
        process
    }

    /// The same, with failpoints set, and without waiting: it may die at once.
    pub fn dispatch_with(&self, flags: &[&str], failpoints: Option<&str>) -> Process {
        let address = free_address();
        let listen = address.to_string();
        let mut arguments = vec!["dispatch", "--listen", &listen];
        if !flags.contains(&"--workers") {
            arguments.extend(["--workers", "1"]);
        }
        arguments.extend(flags);
        let mut command = self.windlass(&arguments);
        if let Some(failpoints) = failpoints {
            if !cfg!(feature = "failpoints") {
                panic!("this test needs `cargo test --features failpoints`");
            }
            command.env("FAILPOINTS", failpoints);
        }
        Process::start(command, self.dir.path(), address)
    }

    /// The in-crate view of this site's broker.
    pub async fn broker(&self) -> Broker {
        let topology = Topology {
            stream: self.stream.name.clone(),
            shards: self.shards,
        };
        let broker = Broker::connect(&self.broker, &topology).await;
        let broker = broker.expect("the broker answers");
        broker.declare().await.expect("the topology fits");
        broker
    }

    /// What the store says became of every tuple; `None` while it cannot be asked.
    pub async fn audit(&self) -> Option<Audit> {
        let store = Store::connect(&self.store).await.ok()?;
        store.audit(&self.stream).await.ok()
    }

    /// How many distinct tuples are settled; `None` while the store cannot be asked.
    pub async fn settled_now(&self) -> Option<u64> {
        Some(settled(&self.audit().await?))
    }

    /// Waits until more is settled than when the store first answers.
    pub async fn progresses(&self, within: Duration) {
        let mut before = None;
        eventually(within, "the store answers", async || {
            before = self.settled_now().await;
            before.is_some()
        })
        .await;
        self.progresses_beyond(before.unwrap_or(0), within).await;
    }

    /// Waits until more than `before` is settled.
    pub async fn progresses_beyond(&self, before: u64, within: Duration) {
        eventually(within, "more is settled", async || {
            self.settled_now().await.is_some_and(|now| now > before)
        })
        .await;
    }

    /// Waits until `tuples` are settled, and returns how long that took.
    pub async fn settled(&self, tuples: u64, within: Duration) -> Duration {
        let started = Instant::now();
        loop {
            let audit = self.audit().await;
            let settled = audit.as_ref().map_or(0, settled);
            if settled >= tuples {
                assert_eq!(settled, tuples, "more settled than published: {audit:?}");
                return started.elapsed();
            }
            assert!(
                started.elapsed() < within,
                "{settled} of {tuples} tuples settled within {within:?}: {audit:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until all of `manifest` is settled, then has `windlass audit` compare every window.
    pub async fn equals(&self, manifest: &Manifest, within: Duration) -> Duration {
        let took = self.settled(manifest.totals.orders, within).await;
        let path = self.dir.path().join("manifest.json");
        manifest.write(&path).expect("the manifest is written");
        let path = path.display().to_string();
        let audit = self.run(&["audit", "--manifest", &path]);
        assert!(
            audit.status.success(),
            "the rows differ from the oracle:\n{}{}",
            String::from_utf8_lossy(&audit.stdout),
            String::from_utf8_lossy(&audit.stderr)
        );
        took
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let schema = url::Url::parse(&self.store).expect("made by us");
        let schema = schema.path().trim_start_matches('/').to_owned();
        if std::thread::panicking() {
            eprintln!(
                "the failed test's rows stay in {schema}, its queues in {}",
                self.stream.name
            );
            return;
        }
        let drop = format!("DROP DATABASE {schema}");
        service(&["sql", self.database.service(), "-e", &drop]);
        for shard in 0..self.shards {
            let queue = format!("{}.{shard}", self.stream.name);
            service(&["rabbitmqctl", "delete_queue", &queue]);
        }
        let quarantine = format!("{}.quarantine", self.stream.name);
        service(&["rabbitmqctl", "delete_queue", &quarantine]);
    }
}

/// Distinct tuples that are settled.
pub fn settled(audit: &Audit) -> u64 {
    let of = audit.sources.iter();
    let all: i64 = of.map(|s| s.counted + s.late + s.quarantined).sum();
    all as u64
}

/// Runs `tests/services` with these arguments, and returns what it said.
pub fn service(arguments: &[&str]) -> String {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services");
    let output = Command::new(program).args(arguments).output();
    let output = output.expect("tests/services starts");
    assert!(
        output.status.success(),
        "tests/services {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Asks again and again until it is so.
pub fn until(within: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < within, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The same for what is asked asynchronously.
pub async fn eventually(within: Duration, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < within, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Prints how long it took from a fault until more was settled, the process's start included; and
/// notes it for `tests/run`, since cargo keeps to itself what passing tests print.
pub fn recovered(name: &str, took: Duration) {
    let line = format!("recovery: {name} took {:.1}s", took.as_secs_f64());
    println!("{line}");
    if let Some(notes) = std::env::var_os("WINDLASS_TEST_RECOVERIES") {
        let notes = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(notes);
        // In one write, since tests run side by side.
        let written = notes.and_then(|mut notes| notes.write_all((line + "\n").as_bytes()));
        written.expect("the notes are written");
    }
}

/// The wall clock, ms since the epoch.
pub fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock after 1970").as_millis() as i64
}

fn setting(variable: &str) -> Option<String> {
    let value = std::env::var(variable).ok();
    if value.is_none() {
        assert_ne!(
            std::env::var("WINDLASS_TEST_REQUIRED").as_deref(),
            Ok("1"),
            "{variable} is not set: run `tests/services up` and `eval \"$(tests/services env)\"`"
        );
        eprintln!("skipped: {variable} is not set");
    }
    value
}

/// An address for a process that is about to start. The kernel gives ports of this range to nobody who asks for
/// any, and this process gives each once, so that it is still free then.
pub fn free_address() -> SocketAddr {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Others of this machine begin elsewhere.
    let first = 10_000 + (std::process::id() % 90) as u16 * 100;
    loop {
        let port = first + GIVEN.fetch_add(1, Ordering::Relaxed);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
