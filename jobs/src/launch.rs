//! One-shot workers: a program a batch, started for it and gone with it. What the dispatcher orders is
//! carried out by local processes or by Kubernetes Jobs, and what becomes of them is told.
//!
//! An id here is the text of an attempt's id; nothing in this crate looks into it.

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::kubernetes::invocation::InvocationJobs;
use crate::local_jobs::LocalJobs;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Start a worker that carries out this invocation and ends.
    Create(String),
    /// End it, if it is there.
    Remove(String),
}

/// Why a worker was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many, for now; wait at least so many ms.
    Throttled(u64),
    /// The other side is at fault.
    Failing,
    /// No answer; it may have been started.
    Unreachable,
    /// It may not be started.
    Forbidden,
    /// How to start it is not known, or not valid.
    Template,
}

/// What became of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It has been created.
    Created,
    /// It was there already; `finished` if it will not ask for its invocation any more.
    Exists {
        /// Whether it has finished.
        finished: bool,
    },
    /// It was not created; why, for a person.
    Refused(Refusal, String),
    /// It has a machine to run on.
    Scheduled,
    /// Something keeps it from starting, in words.
    Stuck(String),
    /// It has ended, or is gone; how.
    Ended(String),
}

/// What is told to the dispatcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Of the worker of this invocation.
    Of(String, News),
    /// So many unfinished workers of this deployment were created by others, most of them gone.
    Others(usize),
}

/// Who carries orders out.
pub enum Launcher {
    /// Processes on this machine.
    Local(LocalJobs),
    /// Jobs of a cluster.
    Kubernetes(Box<InvocationJobs>),
}

impl Launcher {
    /// Carries orders out until there are no more to come. Local workers end with it, Jobs do not.
    pub async fn run(self, orders: UnboundedReceiver<Order>, heard: UnboundedSender<Heard>) {
        match self {
            Self::Local(jobs) => jobs.run(orders, heard).await,
            Self::Kubernetes(jobs) => jobs.run(orders, heard).await,
        }
    }
}
