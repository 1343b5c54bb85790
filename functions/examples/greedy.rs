//! A worker with a function of its own: gross merchandise volume, but for one amount it takes memory
//! without end. The cluster's tests run it to see a worker killed for its memory.
//!
//! Takes what `windlass function` takes of a Job or a warm pool: the address behind `--dispatcher`,
//! `--once ID`, the token in WINDLASS_TOKEN, and where to wait for probes in WINDLASS_FUNCTION_LISTEN.

use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use windlass_functions::batch::Batch;
use windlass_functions::function::{Function, Gmv};
use windlass_functions::partial::Partials;
use windlass_functions::worker::{WorkerConfig, run, run_once};

/// 666.66.
const POISON: i64 = 66_666;

struct Greedy;

impl Function for Greedy {
    fn name(&self) -> &str {
        Gmv.name()
    }

    fn map(&self, batch: &Batch) -> anyhow::Result<Partials> {
        if batch.amount.contains(&POISON) {
            let mut taken = Vec::new();
            loop {
                // Written to, or the kernel would only promise it.
                taken.push(vec![1_u8; 1 << 20]);
            }
        }
        Gmv.map(batch)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag);
        at.and_then(|at| arguments.get(at + 1)).cloned()
    };
    let dispatcher = after("--dispatcher").context("expected --dispatcher URL, got none")?;
    let mut config = WorkerConfig::new(dispatcher);
    config.token = std::env::var("WINDLASS_TOKEN").ok();
    let listen = std::env::var("WINDLASS_FUNCTION_LISTEN").ok();
    config.listen = listen.map(|address| address.parse()).transpose()?;
    let functions: [Arc<dyn Function>; 1] = [Arc::new(Greedy)];
    if let Some(id) = after("--once") {
        run_once(config, &functions, &id, std::future::pending()).await?;
        return Ok(());
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let told = async {
        terminate.recv().await;
    };
    run(config, &functions, told).await?;
    Ok(())
}
