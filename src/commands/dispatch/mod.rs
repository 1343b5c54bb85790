//! `windlass dispatch`: its settings, from flags, environment and file; and the run itself.

mod starting;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, ValueEnum};
use serde::Deserialize;
use windlass_dispatcher::tls::Tls;

use crate::cli::{BrokerArg, ReplicasArg, ShardsArg, StoreArg, TokenArg};
use crate::config::Config;
use crate::placing::{JobsIn, PlacementArg, PlacingSettings};
use crate::shutdown::Signals;
use crate::values::{Size, Span, Workers};

pub use starting::Settings;
use starting::start;

const EXAMPLES: &str = "\
Examples:
  windlass dispatch --broker amqp://localhost --store mysql://windlass:PASSWORD@db/windlass
      own the stream's shard, run one local worker a core
  windlass dispatch … --workers 0 --listen 0.0.0.0:7070
      workers come from elsewhere: windlass function --dispatcher http://HOST:7070 (set WINDLASS_TOKEN)
  windlass dispatch … --workers auto --scaler tuning
      as many local workers as the scaler decides (windlass scaler show, explain, set)
  windlass dispatch … --workers 2 --jobs kubernetes
      warm workers first; a batch that none of them takes within half a second becomes a Job
  windlass dispatch … --workers 0 --jobs kubernetes --placement job --max-jobs 20
      every batch in a Job of its own, at most 20 at a time
  windlass dispatch … --durability replica --replica mysql://windlass:PASSWORD@replica/windlass
      acknowledge only what a replica has applied
  windlass dispatch … --workers 0 --listen 0.0.0.0:7070 --tls-cert tls.crt --tls-key tls.key
      the invocation API over HTTPS; restart it when the certificate was renewed

SIGTERM drains: no more deliveries are taken, what is in flight is committed and acknowledged.
curl http://127.0.0.1:7070/readyz says what is wrong, /v1/status everything, /metrics for Prometheus.";

/// When a delivery may be acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// After the primary has committed.
    #[default]
    Primary,
    /// After a replica has applied the commit, too.
    Replica,
}

/// Flags of `windlass dispatch`, and the section `[dispatch]` of the `--config` file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct DispatchArgs {
    /// Serve invocations, status and metrics here [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDRESS", env = "WINDLASS_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// Start so many local workers; 0 if they come from elsewhere, auto for as many as the scaler
    /// decides [default: one a core]
    #[arg(long, value_name = "N", env = "WINDLASS_WORKERS")]
    pub workers: Option<Workers>,
    /// With --workers auto: the scaler's tuning, watched; `windlass scaler example` prints one
    #[arg(long, value_name = "FILE", env = "WINDLASS_SCALER")]
    pub scaler: Option<PathBuf>,
    /// Most tuples of one invocation [default: 65536]
    #[arg(long, value_name = "N", env = "WINDLASS_CHUNK_ROWS", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub chunk_rows: Option<u32>,
    /// How far a source's tuples may be out of order and still be on time [default: 500ms]
    #[arg(long, value_name = "TIME", env = "WINDLASS_DELAY")]
    pub delay: Option<Span>,
    /// How long a closed window still takes late tuples, by event time [default: 5s]
    #[arg(long, value_name = "TIME", env = "WINDLASS_ALLOWED_LATENESS")]
    pub allowed_lateness: Option<Span>,
    /// How long a source must be silent before nobody waits for it [default: 2s]
    #[arg(long, value_name = "TIME", env = "WINDLASS_IDLE_TIMEOUT")]
    pub idle_timeout: Option<Span>,
    /// Commit at least this often [default: 1s]
    #[arg(long, value_name = "TIME", env = "WINDLASS_MAX_SLICE")]
    pub max_slice: Option<Span>,
    /// How far a source may lag behind the others before nobody waits for it [default: 15m]
    #[arg(long, value_name = "TIME", env = "WINDLASS_MAX_SKEW")]
    pub max_skew: Option<Span>,
    /// How long an idle source's ledger stays in memory [default: 1h]
    #[arg(long, value_name = "TIME", env = "WINDLASS_SOURCE_TTL")]
    pub source_ttl: Option<Span>,
    /// When a delivery may be acknowledged [default: primary]
    #[arg(long, value_enum, env = "WINDLASS_DURABILITY")]
    pub durability: Option<Durability>,
    /// Most unacknowledged messages a shard [default: 2000]
    #[arg(long, value_name = "N", env = "WINDLASS_PREFETCH", value_parser = clap::value_parser!(u16).range(1..))]
    pub prefetch: Option<u16>,
    /// Most memory for messages in work, all shards together [default: 48MiB]
    #[arg(long, value_name = "SIZE", env = "WINDLASS_BUDGET")]
    pub budget: Option<Size>,
    /// How long to wait for broker and store at the start, if they start as well [default: 0s]
    #[arg(long, value_name = "TIME", env = "WINDLASS_PATIENCE")]
    pub patience: Option<Span>,
    /// Where a batch may get a worker of its own, beside the warm pool [default: none]
    #[arg(long, value_enum, env = "WINDLASS_JOBS")]
    pub jobs: Option<JobsIn>,
    /// Which batches get one [default: auto with --jobs, else pool]
    #[arg(long, value_enum, env = "WINDLASS_PLACEMENT")]
    pub placement: Option<PlacementArg>,
    /// How long a batch waits for a warm worker before a Job is made for it; a cold start takes about
    /// a second [default: 500ms]
    #[arg(long, value_name = "TIME", env = "WINDLASS_OVERFLOW_WAIT")]
    pub overflow_wait: Option<Span>,
    /// Jobs created a second, in the long run [default: 5]
    #[arg(long, value_name = "N", env = "WINDLASS_JOB_RATE")]
    pub job_rate: Option<NonZeroU32>,
    /// Jobs created at once after a quiet time [default: 20]
    #[arg(long, value_name = "N", env = "WINDLASS_JOB_BURST")]
    pub job_burst: Option<NonZeroU32>,
    /// Most Jobs at a time, those of an earlier dispatcher included [default: 50]
    #[arg(long, value_name = "N", env = "WINDLASS_MAX_JOBS")]
    pub max_jobs: Option<NonZeroUsize>,
    /// The ConfigMap with the pod template of Jobs [default: windlass-job-template]
    #[arg(long, value_name = "NAME", env = "WINDLASS_JOB_TEMPLATE")]
    pub job_template: Option<String>,
    /// How long a Job may take until it has its batch; then the batch may get another, and a Job that is
    /// known not to start is removed [default: 60s]
    #[arg(long, value_name = "TIME", env = "WINDLASS_JOB_START_TIMEOUT")]
    pub job_start_timeout: Option<Span>,
    /// Where Jobs reach this dispatcher; with several dispatchers each needs an address of its own
    /// [default: http://windlass-dispatcher:7070]
    #[arg(long, value_name = "URL", env = "WINDLASS_ADVERTISE")]
    pub advertise: Option<String>,
    /// How long a drain may take after SIGTERM [default: 25s]
    #[arg(long, value_name = "TIME", env = "WINDLASS_GRACE")]
    pub grace: Option<Span>,
    /// Serve invocations, status and metrics over HTTPS with this certificate (PEM)
    #[arg(
        long,
        value_name = "FILE",
        env = "WINDLASS_TLS_CERT",
        requires = "tls_key"
    )]
    pub tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(
        long,
        value_name = "FILE",
        env = "WINDLASS_TLS_KEY",
        requires = "tls_cert"
    )]
    pub tls_key: Option<PathBuf>,
    /// A second token, with which status and metrics may be read and nothing else: for a board, for
    /// Prometheus
    #[arg(
        long,
        value_name = "TOKEN",
        env = "WINDLASS_STATUS_TOKEN",
        hide_env_values = true
    )]
    pub status_token: Option<String>,
}

impl DispatchArgs {
    /// These flags where they are given, else what `file` says.
    pub fn or(self, file: &Self) -> Self {
        Self {
            listen: self.listen.or(file.listen),
            workers: self.workers.or(file.workers),
            scaler: self.scaler.or_else(|| file.scaler.clone()),
            chunk_rows: self.chunk_rows.or(file.chunk_rows),
            delay: self.delay.or(file.delay),
            allowed_lateness: self.allowed_lateness.or(file.allowed_lateness),
            idle_timeout: self.idle_timeout.or(file.idle_timeout),
            max_slice: self.max_slice.or(file.max_slice),
            max_skew: self.max_skew.or(file.max_skew),
            source_ttl: self.source_ttl.or(file.source_ttl),
            durability: self.durability.or(file.durability),
            prefetch: self.prefetch.or(file.prefetch),
            budget: self.budget.or(file.budget),
            patience: self.patience.or(file.patience),
            jobs: self.jobs.or(file.jobs),
            placement: self.placement.or(file.placement),
            overflow_wait: self.overflow_wait.or(file.overflow_wait),
            job_rate: self.job_rate.or(file.job_rate),
            job_burst: self.job_burst.or(file.job_burst),
            max_jobs: self.max_jobs.or(file.max_jobs),
            job_template: self.job_template.or_else(|| file.job_template.clone()),
            job_start_timeout: self.job_start_timeout.or(file.job_start_timeout),
            advertise: self.advertise.or_else(|| file.advertise.clone()),
            grace: self.grace.or(file.grace),
            tls_cert: self.tls_cert.or_else(|| file.tls_cert.clone()),
            tls_key: self.tls_key.or_else(|| file.tls_key.clone()),
            status_token: self.status_token.or_else(|| file.status_token.clone()),
        }
    }
}

/// What `windlass dispatch` is told, and where: addresses, then how to dispatch.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Dispatch {
    #[command(flatten)]
    broker: BrokerArg,
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    replicas: ReplicasArg,
    #[command(flatten)]
    shards: ShardsArg,
    #[command(flatten)]
    token: TokenArg,
    #[command(flatten)]
    how: DispatchArgs,
}

impl Dispatch {
    /// Dispatches until a signal says to stop, then drains.
    ///
    /// # Errors
    /// If something it needs is not there, or the drain took too long.
    pub async fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let mut signals = Signals::catch()?;
        let settings = self.settings(config)?;
        let server = tokio::select! {
            started = start(settings, &config.stream) => started?,
            () = signals.next() => return Ok(ExitCode::SUCCESS),
        };
        tracing::info!(
            address = %server.address(),
            workers = server.workers(),
            "dispatching; SIGTERM or Ctrl-C drains"
        );
        signals.next().await;
        tracing::info!("draining; a second signal aborts");
        let in_time = tokio::select! {
            in_time = server.drain() => in_time,
            () = signals.next() => {
                bail!("aborted by a second signal; what was in flight comes again, nothing is lost")
            }
        };
        if !in_time {
            bail!(
                "the drain took longer than the grace period; what was in flight comes again, nothing is lost"
            );
        }
        tracing::info!("drained");
        Ok(ExitCode::SUCCESS)
    }

    /// Flags and environment over the file over the defaults.
    ///
    /// # Errors
    /// If there is no broker or no store, or `durability: replica` and no replica.
    pub fn settings(self, config: &Config) -> anyhow::Result<Settings> {
        let replicas = self.replicas.urls(config).to_vec();
        let how = self.how.or(&config.dispatch);
        let placing = PlacingSettings::of(&how)?;
        let durability = how.durability.unwrap_or_default();
        if durability == Durability::Replica && replicas.is_empty() {
            bail!(
                "durability \"replica\" waits for a replica, but none is named; pass --replica URL"
            );
        }
        let tls = match (how.tls_cert, how.tls_key) {
            (Some(certificate), Some(key)) => Some(Tls { certificate, key }),
            (None, None) => None,
            _ => bail!("expected tls-cert and tls-key together, got one of them"),
        };
        if tls.is_some() && how.workers != Some(Workers::Count(0)) {
            bail!(
                "expected --workers 0 with --tls-cert: a certificate is for this host's name, under \
                 which local workers do not call; start them with `windlass function --dispatcher \
                 https://… --ca …`"
            );
        }
        let token = self.token.get(config);
        let status_token = how.status_token.filter(|token| !token.is_empty());
        if status_token.is_some() && token.is_none() {
            bail!(
                "expected --token (WINDLASS_TOKEN) with --status-token: without it nothing is guarded"
            );
        }
        let time = |given: Option<Span>, default_ms| {
            given.map_or(Duration::from_millis(default_ms), |span| span.0)
        };
        Ok(Settings {
            broker: self.broker.url(config)?.to_owned(),
            store: self.store.url(config)?.to_owned(),
            replicas,
            shards: self.shards.count(config),
            token,
            status_token,
            listen: how
                .listen
                .unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7070)),
            workers: how.workers.unwrap_or_else(|| Workers::Count(cores())),
            scaler: how.scaler,
            chunk_rows: how.chunk_rows.unwrap_or(64 << 10),
            delay: time(how.delay, 500),
            allowed_lateness: time(how.allowed_lateness, 5_000),
            idle_timeout: time(how.idle_timeout, 2_000),
            max_slice: time(how.max_slice, 1_000),
            max_skew: time(how.max_skew, 15 * 60_000),
            source_ttl: time(how.source_ttl, 60 * 60_000),
            durability,
            prefetch: how.prefetch.unwrap_or(2_000),
            budget_bytes: how.budget.map_or(48 << 20, |size| size.0),
            patience: time(how.patience, 0),
            placing,
            grace: time(how.grace, 25_000),
            tls,
        })
    }
}

/// One worker a core.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        dispatch: Dispatch,
    }

    fn settings(flags: &[&str], file: &str) -> anyhow::Result<Settings> {
        let addresses = ["", "--broker", "memory:", "--store", "sqlite:x"];
        let line = Line::parse_from(addresses.iter().chain(flags));
        line.dispatch.settings(&toml::from_str(file).unwrap())
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = "shards = 3\n[dispatch]\ndelay = \"1s\"\nmax-slice = \"2s\"";
        let merged = settings(&["--delay", "3s"], file).unwrap();
        assert_eq!(merged.delay, Duration::from_secs(3));
        assert_eq!(merged.max_slice, Duration::from_secs(2));
        assert_eq!(merged.max_skew, Duration::from_secs(900));
        assert_eq!(merged.shards, 3);
        assert_eq!(merged.listen.to_string(), "127.0.0.1:7070");
    }

    #[test]
    fn the_file_writes_values_as_people_do() {
        let file = "replicas = [\"sqlite:y\"]\n[dispatch]\nbudget = \"64MiB\"\n\
                    durability = \"replica\"\nlisten = \"[::]:80\"";
        let read = settings(&[], file).unwrap();
        assert_eq!(read.budget_bytes, 64 << 20);
        assert_eq!(read.durability, Durability::Replica);
        assert_eq!(read.replicas, ["sqlite:y"]);
        assert!(toml::from_str::<DispatchArgs>("prefetch = 70000").is_err());
    }

    #[test]
    fn https_is_for_workers_of_elsewhere() {
        let both = ["--tls-cert", "a.crt", "--tls-key", "a.key"];
        let error = settings(&both, "").err().unwrap().to_string();
        assert!(error.contains("--workers 0"), "{error}");
        let remote = settings(&[&both[..], &["--workers", "0"]].concat(), "").unwrap();
        assert_eq!(remote.tls.unwrap().key, PathBuf::from("a.key"));
        let half = settings(&[], "[dispatch]\nworkers = 0\ntls-cert = \"a.crt\"").err();
        assert!(half.unwrap().to_string().contains("together"));
    }

    #[test]
    fn a_token_for_looking_needs_one_for_working() {
        let error = settings(&["--status-token", "s"], "").err().unwrap();
        assert!(error.to_string().contains("--token"), "{error}");
        let both = settings(&["--status-token", "s", "--token", "t"], "").unwrap();
        assert_eq!(both.status_token.as_deref(), Some("s"));
        let empty = settings(&["--status-token", "", "--token", ""], "").unwrap();
        assert_eq!((empty.token, empty.status_token), (None, None));
    }

    #[test]
    fn waiting_for_a_replica_needs_one() {
        let error = settings(&["--durability", "replica"], "").err();
        assert!(error.unwrap().to_string().contains("--replica"));
    }
}
