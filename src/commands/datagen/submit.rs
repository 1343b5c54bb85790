//! `windlass datagen submit`: a run as a Job in the cluster.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use windlass_jobs::kubernetes::names;
use windlass_jobs::kubernetes::task::{Task, TaskError};
use windlass_jobs::name::RunName;

use super::traffic::Traffic;
use crate::cli::ClusterArgs;
use crate::output;

/// The Job of a run is called by this and the run's name.
pub(super) const PREFIX: &str = "windlass-datagen-";
/// The annotation with the arguments of the run.
pub(super) const REQUEST: &str = "windlass.io/request";
/// How long a pod waits for broker and database.
const WAIT: &str = "10m";
/// How often a pod that died is replaced: the run goes on where it would be.
const RETRIES: u32 = 6;
/// Enough for what is on its way to be confirmed, and for the manifest.
const GRACE_SECONDS: u32 = 60;
const KEEP_SECONDS: u32 = 7 * 24 * 3600;

const EXAMPLES: &str = "\
Examples:
  windlass datagen submit --rate 20000 --for 60s
      then: windlass audit --run NAME, with the name that it prints
  windlass datagen submit --rate 500 --for 2h --pattern diurnal --name rehearsal

The run is a Job made of the pod template in ConfigMap windlass-job-template. It waits up to 10
minutes for broker and database. A pod that dies is replaced: the new one publishes the same orders
under the same numbers and catches up, so nothing is missing and nothing is counted twice. The run's
manifest is kept in the database, also when the Job is long gone.";

/// Arguments of `windlass datagen submit`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Submit {
    #[command(flatten)]
    load: Load,
    /// The run's name, used once [default: run- and the time]
    #[arg(long, value_name = "NAME")]
    name: Option<RunName>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// What a submitted or scheduled run publishes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Load {
    /// Generate so many orders a second
    #[arg(long, value_name = "N")]
    rate: f64,
    #[command(flatten)]
    traffic: Traffic,
    /// The stream to publish to [default: that of the cluster's configuration]
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
}

impl Load {
    /// The Job that publishes this under `name`. `submission` tells it from another of the same name.
    pub(crate) fn task(&self, name: &RunName, submission: &str) -> Task {
        let mut load = self.traffic.args(self.rate);
        load.extend(self.stream.as_ref().map(|name| format!("--stream={name}")));
        let mut args: Vec<String> = ["datagen", "publish"].map(str::to_owned).into();
        args.extend(load.iter().cloned());
        args.extend([
            format!("--run={name}"),
            format!("--wait={WAIT}"),
            format!("--submission={submission}"),
        ]);
        Task {
            name: job(name),
            component: names::COMPONENT_DATAGEN,
            args,
            secrets: vec![
                ("WINDLASS_BROKER", names::SECRET_BROKER),
                ("WINDLASS_STORE", names::SECRET_STORE),
            ],
            env: Vec::new(),
            annotations: BTreeMap::from([(REQUEST.to_owned(), load.join(" "))]),
            retries: RETRIES,
            grace_seconds: GRACE_SECONDS,
            keep_seconds: KEEP_SECONDS,
        }
    }
}

/// The name of a run's Job.
pub(crate) fn job(name: &RunName) -> String {
    format!("{PREFIX}{name}")
}

impl Submit {
    pub(super) async fn run(&self) -> anyhow::Result<ExitCode> {
        let now = Timestamp::now();
        let name = match &self.name {
            Some(name) => name.clone(),
            None => now.strftime("run-%Y%m%d-%H%M%S").to_string().parse()?,
        };
        let cluster = self.cluster.connect().await?;
        let task = self.load.task(&name, &now.to_string());
        match cluster.start(&task).await {
            Ok(()) => {}
            Err(TaskError::Exists(_)) => {
                let state = cluster.task(&task.name).await?;
                let state =
                    state.map_or_else(|| "gone by now".into(), |task| task.state.to_string());
                anyhow::bail!(
                    "expected an unused name, but a run {name} exists ({state}): choose another --name, \
                     check it with `windlass audit --run {name}`, or end it with `windlass datagen \
                     cancel {name}`"
                );
            }
            Err(error) => return Err(error.into()),
        }
        let mut out = output::stdout();
        writeln!(
            out,
            "run {name} is submitted to namespace {}; check it with: windlass audit --run {name}",
            cluster.namespace
        )?;
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}
