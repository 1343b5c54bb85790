//! `windlass status`: the pool, the queue, and where recent windows ran and why.

mod answer;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use windlass_functions::trust;
use windlass_jobs::kubernetes::Pool;

use answer::{Answer, Placement, cold_starts};

use crate::cli::{AuthorityArg, ClusterArgs, TokenArg};
use crate::config::Config;
use crate::output::{self, ReportFormat, grouped, instant};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How many windows the table shows.
const WINDOWS: usize = 10;

const EXAMPLES: &str = "\
Examples:
  windlass status
      of the cluster that KUBECONFIG names
  windlass status --dispatcher http://127.0.0.1:7070 -o json

Through a cluster the status comes by the API server's proxy. The dispatcher's token is read from Secret
windlass-token with your rights, unless --token or WINDLASS_TOKEN says it.
Exit status: 0 if the dispatcher is well, 1 if it is in trouble or cannot be reached.";

/// Arguments of `windlass status`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Status {
    /// Address of a dispatcher, instead of a cluster
    #[arg(long, value_name = "URL", env = "WINDLASS_DISPATCHER")]
    dispatcher: Option<String>,
    #[command(flatten)]
    token: TokenArg,
    #[command(flatten)]
    authority: AuthorityArg,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// How to show it
    #[arg(long, short = 'o', value_enum, default_value_t)]
    output: ReportFormat,
}

/// The JSON form: what the dispatcher says, and the pool's size in a cluster.
#[derive(Serialize)]
struct Document {
    #[serde(flatten)]
    dispatcher: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<Pool>,
}

impl Status {
    /// Asks and shows.
    ///
    /// # Errors
    /// If no dispatcher can be asked. One in trouble is no error, but exit status 1.
    pub async fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        let url = self.dispatcher.as_ref().or(config.dispatcher.as_ref());
        let token = self.token.get(config);
        let (text, pool) = match url {
            Some(url) => (self.ask(url, token.as_deref()).await?, None),
            None => {
                let cluster = self.cluster.connect().await?;
                let token = match token {
                    Some(token) => Some(token),
                    None => cluster.token().await.context(
                        "cannot read the dispatcher's token in Secret windlass-token; pass --token",
                    )?,
                };
                let text = cluster.dispatcher_status(token.as_deref()).await?;
                (text, cluster.pool().await?)
            }
        };
        let answer: Answer = serde_json::from_str(&text)
            .context("expected the status of a dispatcher, got something else")?;
        let mut out = output::stdout();
        match self.output {
            ReportFormat::Json => {
                let dispatcher = serde_json::from_str(&text)?;
                output::json(&mut out, &Document { dispatcher, pool })?;
            }
            ReportFormat::Table => show(&mut out, &answer, pool)?,
        }
        out.flush()?;
        let troubled =
            answer.halted.is_some() || answer.shards.values().any(|shard| shard.trouble.is_some());
        Ok(ExitCode::from(u8::from(troubled)))
    }

    async fn ask(&self, url: &str, token: Option<&str>) -> anyhow::Result<String> {
        let client = trust::http(self.authority.file())?
            .no_proxy()
            .timeout(TIMEOUT)
            .build()
            .context("cannot set up HTTP")?;
        let address = format!("{}/v1/status", url.trim_end_matches('/'));
        let mut request = client.get(&address);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.map_err(|error| {
            // Its own text may quote an address with a password.
            let why = trust::chain(&error.without_url());
            anyhow::anyhow!("cannot reach the dispatcher: {why}")
        })?;
        match answer.status().as_u16() {
            200 => Ok(answer.text().await?),
            401 => bail!(
                "the dispatcher refuses the token: pass the one that it was started with (WINDLASS_TOKEN)"
            ),
            status => bail!("expected a dispatcher's status, got HTTP status {status}"),
        }
    }
}

fn show(out: &mut impl Write, answer: &Answer, pool: Option<Pool>) -> anyhow::Result<()> {
    let load = &answer.invocations;
    if let Some(Pool { desired, ready }) = pool {
        writeln!(out, "pool: {ready} of {desired} workers ready")?;
    }
    write!(out, "workers: {} busy, {} idle", load.busy, load.idle)?;
    if load.parked > 0 {
        write!(out, ", {} parked because the pool shrinks", load.parked)?;
    }
    writeln!(out)?;
    writeln!(
        out,
        "batches: {} waiting, {} in flight; windows open: {}",
        load.waiting,
        load.in_flight,
        answer.windows_open()
    )?;
    for (number, shard) in &answer.shards {
        writeln!(
            out,
            "shard {number}: {}, {} messages ready, {} unacknowledged{}",
            shard.role,
            grouped(shard.queue_ready),
            grouped(shard.queue_unacked),
            said(shard.trouble.as_deref())
        )?;
    }
    if let Some(halted) = &answer.halted {
        writeln!(out, "nothing is handed out: {halted}")?;
    }
    writeln!(
        out,
        "orders counted: {}; window closed to committed: p50 {:.0} ms, p99 {:.0} ms; handed out to \
         answered: p50 {:.1} ms, p99 {:.1} ms",
        grouped(answer.tuples_counted),
        answer.window_latency.p50_ms,
        answer.window_latency.p99_ms,
        answer.invocation_latency.p50_ms,
        answer.invocation_latency.p99_ms
    )?;
    match &answer.placement {
        Some(placement) => placed(out, placement),
        None => Ok(()),
    }
}

fn placed(out: &mut impl Write, placement: &Placement) -> anyhow::Result<()> {
    writeln!(
        out,
        "placement: {}; Jobs live: {}; batches waiting for a worker or a Job: {}{}",
        placement.mode,
        placement.live_jobs,
        placement.waiting,
        said(placement.creating_paused.as_deref())
    )?;
    if !placement.recent.is_empty() {
        let header = [
            "WINDOW",
            "ORDERS",
            "WHERE",
            "WAITED MS",
            "ANSWERED AFTER MS",
        ];
        let rows = placement.recent.iter().take(WINDOWS).map(|run| {
            let took: u64 = run.phases_ms.values().flatten().sum();
            [
                instant(run.window_start),
                run.rows.to_string(),
                run.place_and_reason(),
                run.waited_ms.to_string(),
                took.to_string(),
            ]
        });
        let mut table = output::table(header, 3..5, rows);
        if let Some(orders) = table.column_mut(1) {
            orders.set_cell_alignment(comfy_table::CellAlignment::Right);
        }
        writeln!(out, "\n{}", table.trim_fmt())?;
    }
    let phases = cold_starts(&placement.recent);
    if !phases.is_empty() {
        let header = ["COLD START, UNTIL", "JOBS", "P50 MS", "MAX MS"];
        let rows = phases.iter().map(|phase| {
            let numbers = [phase.jobs as u64, phase.p50_ms, phase.max_ms];
            let [jobs, p50, max] = numbers.map(|number| number.to_string());
            [phase.name.to_owned(), jobs, p50, max]
        });
        writeln!(out, "\n{}", output::table(header, 1..4, rows).trim_fmt())?;
    }
    Ok(())
}

/// `: what` after a line, if there is something to say.
fn said(what: Option<&str>) -> String {
    what.map_or_else(String::new, |what| format!(": {what}"))
}
