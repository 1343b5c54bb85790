//! A fresh database of each kind, plans to commit, and a proxy that loses answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::mysql::MySqlConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use windlass_dispatcher::plan::{CommitPlan, Loaded, RowDelta, SourceDelta};
use windlass_dispatcher::store::{Store, Writer};
use windlass_functions::partial::Partial;
use windlass_functions::stream::Stream;

/// A moment on a Singles' Day, ms UTC: 2025-11-11 00:00:00.
pub const T0: i64 = 1_762_819_200_000;
pub const LEASE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    MariaDb,
    MySql,
}

/// A fresh database.
pub struct Backend {
    pub kind: Kind,
    pub url: String,
    /// The same database on the replica.
    pub replica: Option<String>,
    server: String,
    name: String,
    _dir: tempfile::TempDir,
}

/// Makes tests of functions that take a [`Backend`]: one for every kind of database, or for the
/// servers only.
macro_rules! databases {
    (every: [$($every:ident),* $(,)?], servers: [$($server:ident),* $(,)?]) => {
        $crate::backend::databases!(sqlite, Sqlite, $($every),*);
        $crate::backend::databases!(mariadb, MariaDb, $($every,)* $($server,)*);
        $crate::backend::databases!(mysql, MySql, $($every,)* $($server,)*);
    };
    ($module:ident, $kind:ident, $($name:ident),* $(,)?) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    use $crate::backend::{Backend, Kind};
                    if let Some(backend) = Backend::new(Kind::$kind).await {
                        super::$name(&backend).await;
                        backend.remove().await;
                    }
                }
            )*
        }
    };
}

pub(crate) use databases;

impl Backend {
    /// `None` when no such server is configured, which is an error where the tests must be whole.
    pub async fn new(kind: Kind) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::tempdir().unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("windlass_{}_{number}", std::process::id());
        let variable = match kind {
            Kind::Sqlite => {
                return Some(Self {
                    kind,
                    url: format!("sqlite:{}/store.db", dir.path().display()),
                    replica: None,
                    server: String::new(),
                    name,
                    _dir: dir,
                });
            }
            Kind::MariaDb => "WINDLASS_TEST_MARIADB",
            Kind::MySql => "WINDLASS_TEST_MYSQL",
        };
        let server = setting(variable)?;
        let named = |url: &str| {
            let mut url = url::Url::parse(url).unwrap();
            url.set_path(&name);
            url.to_string()
        };
        let backend = Self {
            kind,
            url: named(&server),
            replica: setting(&format!("{variable}_REPLICA")).map(|url| named(&url)),
            server,
            name,
            _dir: dir,
        };
        let create = format!("CREATE DATABASE {}", backend.name);
        run(&backend.server, &create).await.unwrap();
        if let Some(replica) = &backend.replica {
            while run(replica, "SELECT 1").await.is_err() {
                tokio::task::yield_now().await;
            }
        }
        Some(backend)
    }

    /// Removes the database.
    pub async fn remove(&self) {
        if self.kind != Kind::Sqlite {
            let drop = format!("DROP DATABASE {}", self.name);
            run(&self.server, &drop).await.unwrap();
        }
    }

    /// The database's URL with something in it changed.
    pub fn url_with(&self, change: impl Fn(&mut url::Url)) -> String {
        let mut url = url::Url::parse(&self.url).unwrap();
        change(&mut url);
        url.to_string()
    }

    /// The store, migrated for `shards` shards of the shipped stream.
    pub async fn store(&self, shards: u32) -> Store {
        let store = Store::connect(&self.url).await.unwrap();
        store.migrate(&Stream::default(), shards).await.unwrap();
        store
    }

    /// An owner of a shard.
    pub async fn owner(&self, store: &Store, shard: u32) -> (Writer, Loaded) {
        let mut writer = store.writer(&Stream::default(), shard, "test", LEASE);
        let loaded = writer.raise_epoch().await.unwrap();
        (writer, loaded)
    }

    /// Rows of a query on a connection of its own, columns joined by `|`.
    pub async fn sql(&self, sql: &str) -> Vec<String> {
        run(&self.url, sql).await.unwrap()
    }

    /// A raw connection to the server.
    pub async fn session(&self) -> MySqlConnection {
        MySqlConnection::connect(&self.url).await.unwrap()
    }
}

/// A server's URL. That none is configured is an error where the tests must be whole, else it is said.
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

/// Runs SQL on a connection of its own.
pub async fn run(url: &str, sql: &str) -> Result<Vec<String>, sqlx::Error> {
    let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    let text = |value: Option<Vec<u8>>| {
        value.map_or("NULL".into(), |v| String::from_utf8_lossy(&v).into_owned())
    };
    macro_rules! lines {
        ($connection:expr) => {{
            let mut connection = $connection;
            let rows = sql.fetch_all(&mut connection).await?;
            rows.iter()
                .map(|row| {
                    let columns: Result<Vec<String>, _> = (0..row.len())
                        .map(|i| row.try_get_unchecked(i).map(text))
                        .collect();
                    columns.map(|columns| columns.join("|"))
                })
                .collect()
        }};
    }
    if url.starts_with("sqlite:") {
        lines!(SqliteConnection::connect(url).await?)
    } else {
        lines!(MySqlConnection::connect(url).await?)
    }
}

/// The next plan of an owner, with nothing in it.
pub fn plan(shard: u32, loaded: &Loaded) -> CommitPlan {
    CommitPlan {
        shard,
        epoch: loaded.epoch,
        commit_no: loaded.commit_no,
        ..CommitPlan::default()
    }
}

/// A row and its total, of some amounts in minor units.
pub fn with_row(
    mut plan: CommitPlan,
    window: i64,
    key: &str,
    amounts: &[i64],
    revision: u32,
) -> CommitPlan {
    let mut partial = Partial::EMPTY;
    amounts.iter().for_each(|&amount| partial.add(amount));
    let key: Arc<str> = key.into();
    plan.totals.push((Arc::clone(&key), partial));
    plan.rows.push(RowDelta {
        window,
        key,
        partial,
        revision,
    });
    plan
}

/// A source's ledger with nothing counted.
pub fn source(name: &str, new: bool, low: u64) -> SourceDelta {
    SourceDelta {
        source: name.into(),
        new,
        active: true,
        max_ts: Some(T0),
        low,
        counted: 0,
        late: 0,
        quarantined: 0,
        blocks: Vec::new(),
    }
}

/// A block as the ledger stores it: low 16 bits of seqs.
pub fn block(seqs: impl IntoIterator<Item = u32>) -> Vec<u8> {
    let mut bytes = Vec::new();
    roaring::RoaringBitmap::from_iter(seqs)
        .serialize_into(&mut bytes)
        .unwrap();
    bytes
}

/// Listens in front of a server. A connection that sends a plan's `COMMIT` is cut: after the server
/// has answered when `deliver`, else before the server has heard of it.
pub async fn losing_proxy(backend: &Backend, deliver: bool) -> String {
    let server = url::Url::parse(&backend.url).unwrap();
    let server = (
        server.host_str().unwrap().to_owned(),
        server.port().unwrap(),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let upstream = tokio::net::TcpStream::connect((server.0.as_str(), server.1))
                .await
                .unwrap();
            tokio::spawn(relay(client, upstream, deliver));
        }
    });
    backend.url_with(|url| {
        url.set_port(Some(port)).unwrap();
        // In plain text, so that the proxy can read along.
        url.set_query(Some("ssl-mode=DISABLED"));
    })
}

async fn relay(
    client: tokio::net::TcpStream,
    server: tokio::net::TcpStream,
    deliver: bool,
) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut asked, mut answered) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        tokio::select! {
            read = from_client.read(&mut asked) => {
                let asked = &asked[..read?];
                if asked.is_empty() {
                    return Ok(());
                }
                let commits = asked.windows(7).any(|word| word == b"COMMIT;");
                if commits && !deliver {
                    return Ok(());
                }
                to_server.write_all(asked).await?;
                if commits {
                    let _ = from_server.read(&mut answered).await?;
                    return Ok(());
                }
            }
            read = from_server.read(&mut answered) => {
                let answered = &answered[..read?];
                if answered.is_empty() {
                    return Ok(());
                }
                to_client.write_all(answered).await?;
            }
        }
    }
}
