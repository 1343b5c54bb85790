//! `windlass function`: a worker.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use tokio::sync::oneshot;
use windlass_functions::batch::Batch;
use windlass_functions::function::{Function as Runnable, Gmv};
use windlass_functions::partial::Partials;
use windlass_functions::worker::{self, Outcome, WorkerConfig};

use crate::cli::{AuthorityArg, TokenArg, missing};
use crate::config::Config;
use crate::shutdown::Signals;
use crate::values::Pace;

const EXAMPLES: &str = "\
Examples:
  windlass function --dispatcher http://127.0.0.1:7070
      work until told to stop; SIGTERM finishes the invocation at hand first
  windlass function --dispatcher https://dispatcher.example:7070 --ca ca.crt
      over TLS, with a certificate of a private authority
  windlass function --dispatcher http://127.0.0.1:7070 --once ID
      carry out one invocation and exit";

/// Arguments of `windlass function`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Function {
    /// Address of the dispatcher, such as http://127.0.0.1:7070 or https://HOST:7070
    #[arg(long, value_name = "URL", env = "WINDLASS_DISPATCHER")]
    dispatcher: Option<String>,
    /// Carry out this invocation and exit
    #[arg(long, value_name = "ID")]
    once: Option<String>,
    #[command(flatten)]
    token: TokenArg,
    #[command(flatten)]
    authority: AuthorityArg,
    /// This worker's name, unique among live workers [default: host and process]
    #[arg(long, value_name = "NAME", env = "WINDLASS_WORKER_NAME")]
    name: Option<String>,
    /// Be probed here, by connections, by a kubelet. Work is asked for after the second: a kubelet kills a pod
    /// that is deleted before it knows that the program runs. The port is closed while the dispatcher has
    /// parked this worker, so that a pool that shrinks loses its pod first
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "WINDLASS_FUNCTION_LISTEN",
        conflicts_with = "once"
    )]
    listen: Option<SocketAddr>,
    /// Take at least so long for a batch and a tuple of it, such as 50ms+600us: to rehearse how the
    /// scaler copes with a slow function
    #[arg(long, value_name = "TIMES", env = "WINDLASS_PACE")]
    pace: Option<Pace>,
    /// Exit when standard input ends: how a pool's workers outlive no pool
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
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
        worker.ca = self.authority.file().map(Into::into);
        worker.listen = self.listen;
        if let Some(name) = &self.name {
            worker.id.clone_from(name);
        }
        let functions: [Arc<dyn Runnable>; 1] = match self.pace {
            None => [Arc::new(Gmv)],
            Some(pace) => [Arc::new(Paced(pace))],
        };
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
        let work = async {
            match &self.once {
                Some(id) => worker::run_once(worker, &functions, id, shutdown).await,
                None => worker::run(worker, &functions, shutdown)
                    .await
                    .map(|()| Outcome::Answered),
            }
        };
        tokio::select! {
            ended = work => {
                if let (Outcome::Failed, Some(id)) = (ended?, &self.once) {
                    bail!("the function failed on invocation {id}");
                }
            }
            () = stdin_ended(), if self.exit_with_stdin => bail!("the pool that started this worker is gone"),
            () = aborted => bail!("aborted by a second signal; the dispatcher reissues the invocation"),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// [`Gmv`], which takes its time.
struct Paced(Pace);

impl Runnable for Paced {
    fn name(&self) -> &str {
        Gmv.name()
    }

    fn map(&self, batch: &Batch) -> anyhow::Result<Partials> {
        let partials = Gmv.map(batch);
        let tuples = u32::try_from(batch.amount.len()).unwrap_or(u32::MAX);
        std::thread::sleep(self.0.batch + self.0.tuple * tuples);
        partials
    }
}

/// Waits for the end of standard input, whose other end a pool holds for as long as it lives.
async fn stdin_ended() {
    let (ended, end) = oneshot::channel();
    // A thread of its own: one blocked in the runtime would hold up the runtime's end.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = ended.send(());
    });
    let _ = end.await;
}
