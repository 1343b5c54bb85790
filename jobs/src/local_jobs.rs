//! One-shot workers as processes of this machine: what Jobs are to a cluster, for a machine without one.

use std::collections::HashMap;
use std::ffi::OsString;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::{AbortHandle, JoinSet};

use crate::launch::{Heard, News, Order, Refusal};
use crate::local::{Program, describe, spawn};

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct LocalJobs {
    /// The worker, without the arguments that name an invocation.
    pub program: Program,
}

impl LocalJobs {
    pub(crate) async fn run(
        self,
        mut orders: UnboundedReceiver<Order>,
        heard: UnboundedSender<Heard>,
    ) {
        // Dropped with this future, and with it every process.
        let mut running = JoinSet::new();
        let mut handles: HashMap<String, AbortHandle> = HashMap::new();
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    None => return,
                    Some(Order::Create(id)) if handles.contains_key(&id) => {
                        let exists = News::Exists { finished: false };
                        let _ = heard.send(Heard::Of(id, exists));
                    }
                    Some(Order::Create(id)) => {
                        let process = process(self.program.clone(), id.clone(), heard.clone());
                        handles.insert(id, running.spawn(process));
                    }
                    Some(Order::Remove(id)) => {
                        if let Some(handle) = handles.remove(&id) {
                            handle.abort();
                        }
                    }
                },
                Some(ended) = running.join_next() => {
                    if let Ok(id) = ended {
                        handles.remove(&id);
                    }
                }
            }
        }
    }
}

/// Runs one worker to its end. What is told goes nowhere once the dispatcher has stopped.
async fn process(mut program: Program, id: String, heard: UnboundedSender<Heard>) -> String {
    let once = ["--once".into(), OsString::from(&id)];
    program.args.extend(once);
    let tell = |news| {
        let _ = heard.send(Heard::Of(id.clone(), news));
    };
    match spawn(&program, &format!("local-job-{id}")) {
        Err(error) => tell(News::Refused(Refusal::Failing, format!("{error:#}"))),
        Ok(mut child) => {
            tell(News::Created);
            // Waiting would close the pipe whose end tells the worker that this process is gone.
            let _alive = child.stdin.take();
            let how = describe(child.wait().await);
            tell(News::Ended(how));
        }
    }
    id
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    /// A shell is given the id as its second argument.
    fn jobs(script: &str) -> LocalJobs {
        LocalJobs {
            program: Program {
                path: "/bin/sh".into(),
                args: vec!["-c".into(), script.into()],
                env: Vec::new(),
                name_variable: "NAME".into(),
            },
        }
    }

    #[tokio::test]
    async fn a_worker_is_started_with_its_invocation_and_its_end_is_told() {
        let (order, orders) = unbounded_channel();
        let (heard, mut news) = unbounded_channel();
        let running =
            tokio::spawn(jobs("test \"$0 $1\" = '--once 1.2' && exit 3").run(orders, heard));
        order.send(Order::Create("1.2".into())).unwrap();
        let of = |news| Heard::Of("1.2".into(), news);
        assert_eq!(news.recv().await, Some(of(News::Created)));
        let ended = News::Ended("exit status: 3".into());
        assert_eq!(news.recv().await, Some(of(ended)));
        drop(order);
        running.await.unwrap();
    }

    #[tokio::test]
    async fn a_second_order_for_the_same_invocation_is_harmless_and_a_removed_worker_ends() {
        let (order, orders) = unbounded_channel();
        let (heard, mut news) = unbounded_channel();
        let running = tokio::spawn(jobs("read line").run(orders, heard));
        for order_of in [Order::Create, Order::Create] {
            order.send(order_of("7".into())).unwrap();
        }
        let of = |news| Some(Heard::Of("7".into(), news));
        let mut both = [news.recv().await, news.recv().await];
        both.sort_by_key(|news| format!("{news:?}"));
        let exists = News::Exists { finished: false };
        assert_eq!(both, [of(News::Created), of(exists)]);
        order.send(Order::Remove("7".into())).unwrap();
        drop(order);
        running.await.unwrap();
        assert_eq!(news.recv().await, None, "nobody is left to tell anything");
    }
}
