//! `windlass function`: a worker.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use tokio::sync::oneshot;
use windlass_functions::function::{Function as Runnable, Gmv};
use windlass_functions::worker::{self, Outcome, WorkerConfig};

use crate::cli::{TokenArg, missing};
use crate::config::Config;
use crate::shutdown::Signals;

const EXAMPLES: &str = "\
Examples:
  windlass function --dispatcher http://127.0.0.1:7070
      work until told to stop; SIGTERM finishes the invocation at hand first
  windlass function --dispatcher http://127.0.0.1:7070 --once ID
      carry out one invocation and exit";

/// Arguments of `windlass function`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Function {
    /// Address of the dispatcher, such as http://127.0.0.1:7070
    #[arg(long, value_name = "URL", env = "WINDLASS_DISPATCHER")]
    dispatcher: Option<String>,
    /// Carry out this invocation and exit
    #[arg(long, value_name = "ID")]
    once: Option<String>,
    #[command(flatten)]
    token: TokenArg,
}

impl Function {
    /// Works until the dispatcher or a signal says to stop.
    ///
    /// # Errors
    /// If the dispatcher refuses this worker, or a second signal comes.
    pub async fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        let mut worker = WorkerConfig::new(
            self.dispatcher
                .as_ref()
                .or(config.dispatcher.as_ref())
                .context(missing(
                    "the dispatcher",
                    "dispatcher",
                    "http://127.0.0.1:7070",
                ))?,
        );
        worker.token = self.token.get(config);
        let functions: [Arc<dyn Runnable>; 1] = [Arc::new(Gmv)];
        if let Some(id) = &self.once {
            return match worker::run_once(worker, &functions, id).await? {
                Outcome::Answered | Outcome::Gone => Ok(ExitCode::SUCCESS),
                Outcome::Failed => bail!("the function failed on invocation {id}"),
            };
        }
        let mut signals = Signals::catch()?;
        let (drain, draining) = oneshot::channel();
        let aborted = async {
            signals.next().await;
            tracing::info!("finishing the invocation at hand");
            // Nobody listens any more when the worker has just ended by itself.
            let _ = drain.send(());
            signals.next().await;
        };
        let shutdown = async {
            let _ = draining.await;
        };
        tokio::select! {
            ended = worker::run(worker, &functions, shutdown) => ended?,
            () = aborted => bail!("aborted by a second signal; the dispatcher reissues the invocation"),
        }
        Ok(ExitCode::SUCCESS)
    }
}
