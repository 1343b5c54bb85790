//! `windlass datagen list`, `logs` and `cancel`: the runs that were submitted.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use futures_util::{AsyncBufReadExt, TryStreamExt};
use serde::Serialize;
use windlass_dispatcher::store::Store;
use windlass_jobs::kubernetes::Cluster;
use windlass_jobs::kubernetes::names;
use windlass_jobs::kubernetes::task::{PodInfo, TaskError, TaskInfo};
use windlass_jobs::name::RunName;

use super::submit::{PREFIX, REQUEST, job};
use crate::cli::{ClusterArgs, StoreArg};
use crate::config::Config;
use crate::output::{self, ReportFormat, grouped, instant};

/// How often the cluster is asked whether a pod has begun.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Arguments of `windlass datagen list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// List the runs that this database knows instead, also those whose Jobs are gone
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// How to show them
    #[arg(long, short = 'o', value_enum, default_value_t)]
    format: ReportFormat,
}

/// Arguments of `windlass datagen logs`.
#[derive(Debug, Args)]
pub(super) struct Logs {
    /// The run's name
    name: RunName,
    /// Go on until the run's pod ends
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Arguments of `windlass datagen cancel`.
#[derive(Debug, Args)]
pub(super) struct Cancel {
    /// The run's name
    name: RunName,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// A run of the cluster, as JSON shows it.
#[derive(Serialize)]
struct Line<'a> {
    run: &'a str,
    state: String,
    /// Pods that died and were replaced.
    failures: u32,
    created_at: i64,
    ended_at: Option<i64>,
    request: &'a str,
}

impl List {
    pub(super) async fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        let mut out = output::stdout();
        match self.store.url(config) {
            Ok(url) => self.stored(&mut out, url, config).await?,
            Err(_) => {
                let cluster = self.cluster.connect().await?;
                let tasks = cluster.tasks(names::COMPONENT_DATAGEN).await?;
                self.submitted(&mut out, &tasks)?;
            }
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }

    fn submitted(&self, out: &mut impl Write, tasks: &[TaskInfo]) -> anyhow::Result<()> {
        let lines = tasks.iter().map(line);
        match self.format {
            ReportFormat::Json => output::json(out, &lines.collect::<Vec<_>>()),
            ReportFormat::Table => {
                let header = ["RUN", "STATE", "REPLACED", "CREATED", "ENDED", "ARGUMENTS"];
                let rows = lines.map(|line| {
                    [
                        line.run.to_owned(),
                        line.state,
                        line.failures.to_string(),
                        instant(line.created_at),
                        line.ended_at.map(instant).unwrap_or_default(),
                        line.request.to_owned(),
                    ]
                });
                let table = output::table(header, 2..3, rows);
                Ok(writeln!(out, "{}", table.trim_fmt())?)
            }
        }
    }

    async fn stored(&self, out: &mut impl Write, url: &str, config: &Config) -> anyhow::Result<()> {
        let store = Store::connect(url).await?;
        let runs = store.runs(&config.stream.name).await?;
        match self.format {
            ReportFormat::Json => output::json(out, &runs),
            ReportFormat::Table => {
                let header = ["RUN", "STATE", "ATTEMPTS", "ORDERS", "BEGUN", "ENDED"];
                let rows = runs.iter().map(|run| {
                    [
                        run.run.clone(),
                        run.state.as_str().to_owned(),
                        run.attempt.to_string(),
                        grouped(run.orders),
                        instant(run.started_at),
                        run.ended_at.map(instant).unwrap_or_default(),
                    ]
                });
                let table = output::table(header, 2..4, rows);
                Ok(writeln!(out, "{}", table.trim_fmt())?)
            }
        }
    }
}

fn line(task: &TaskInfo) -> Line<'_> {
    Line {
        run: task.name.strip_prefix(PREFIX).unwrap_or(&task.name),
        state: task.state.to_string(),
        failures: task.failures,
        created_at: task.created_ms,
        ended_at: task.ended_ms,
        request: task.annotations.get(REQUEST).map_or("", String::as_str),
    }
}

impl Logs {
    pub(super) async fn run(&self) -> anyhow::Result<ExitCode> {
        let cluster = self.cluster.connect().await?;
        let job = job(&self.name);
        let pod = loop {
            match cluster.newest_pod(&job).await? {
                Some(pod) if pod.started => break pod,
                pod => self.nothing_yet(&cluster, &job, pod.as_ref()).await?,
            }
        };
        let logs = cluster.logs(&pod.name, self.follow).await?;
        let mut lines = logs.lines();
        let mut out = output::stdout();
        while let Some(line) = lines.try_next().await.context("the log broke off")? {
            writeln!(out, "{line}")?;
            if self.follow {
                out.flush()?;
            }
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }

    /// Waits a moment, if there may be a log later and somebody follows it.
    async fn nothing_yet(
        &self,
        cluster: &Cluster,
        job: &str,
        pod: Option<&PodInfo>,
    ) -> anyhow::Result<()> {
        let name = &self.name;
        let Some(task) = cluster.task(job).await? else {
            return Err(missing(name));
        };
        if task.state.has_ended() && pod.is_none() {
            bail!(
                "run {name} has no pod any more ({}), and its log went with it",
                task.state
            );
        }
        if !self.follow {
            let unschedulable = pod.and_then(|pod| pod.unschedulable.as_ref());
            let state = match unschedulable {
                Some(why) => format!("no node takes its pod: {why}"),
                None => task.state.to_string(),
            };
            bail!("run {name} has written nothing yet ({state}): try again, or --follow");
        }
        tokio::time::sleep(LOOK_EVERY).await;
        Ok(())
    }
}

impl Cancel {
    pub(super) async fn run(&self) -> anyhow::Result<ExitCode> {
        let cluster = self.cluster.connect().await?;
        let (name, job) = (&self.name, job(&self.name));
        match cluster.task(&job).await? {
            None => return Err(missing(name)),
            Some(task) if task.state.has_ended() => {
                bail!("run {name} has ended already: {}", task.state)
            }
            Some(_) => {}
        }
        match cluster.cancel(&job).await {
            Err(TaskError::Missing(_)) => return Err(missing(name)),
            cancelled => cancelled?,
        }
        let mut out = output::stdout();
        writeln!(
            out,
            "run {name} is being ended; its manifest will hold what was confirmed: windlass audit --run {name}"
        )?;
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}

fn missing(name: &RunName) -> anyhow::Error {
    anyhow::anyhow!(
        "expected the name of a submitted run, the cluster has no Job of {name}: `windlass datagen list` \
         shows which there are"
    )
}
