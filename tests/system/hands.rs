//! Workers of the test's own making: the real loop with a function of choice.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use windlass_functions::batch::Batch;
use windlass_functions::function::{Function, Gmv};
use windlass_functions::partial::Partials;
use windlass_functions::worker::{WorkerConfig, run};

use crate::harness::Process;

/// A worker in the test's process, gone when dropped.
pub struct Hand {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Hand {
    /// Starts a worker of this dispatcher that runs `function`.
    pub fn of(dispatcher: &Process, name: &str, function: impl Function + 'static) -> Self {
        let config = WorkerConfig {
            id: name.into(),
            wait: Duration::from_secs(5),
            ..WorkerConfig::new(format!("http://{}", dispatcher.address))
        };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let functions: [Arc<dyn Function>; 1] = [Arc::new(function)];
            let stopped = async {
                let _ = stopped.await;
            };
            let ended = run(config, &functions, stopped).await;
            ended.expect("the dispatcher takes the worker");
        });
        Self {
            stop: Some(stop),
            task,
        }
    }

    /// Lets it finish what it has and end.
    pub async fn leave(mut self) {
        drop(self.stop.take());
        (&mut self.task).await.expect("the worker ends well");
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Takes so long for every batch.
pub struct Slow(pub Duration);

impl Function for Slow {
    fn name(&self) -> &str {
        Gmv.name()
    }

    fn map(&self, batch: &Batch) -> anyhow::Result<Partials> {
        std::thread::sleep(self.0);
        Gmv.map(batch)
    }
}

/// Cannot digest amounts of which this is true.
pub struct Chokes(pub fn(i64) -> bool);

impl Function for Chokes {
    fn name(&self) -> &str {
        Gmv.name()
    }

    fn map(&self, batch: &Batch) -> anyhow::Result<Partials> {
        if let Some(amount) = batch.amount.iter().find(|amount| (self.0)(**amount)) {
            anyhow::bail!("cannot digest {amount}");
        }
        Gmv.map(batch)
    }
}
