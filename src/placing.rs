//! Where invocations run beside the warm pool: the settings, from flags, environment and file, and the
//! way from the dispatcher's orders to whoever starts one-shot workers.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use clap::ValueEnum;
use serde::Deserialize;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use windlass_dispatcher::invoker::Invoker;
use windlass_dispatcher::placement::{self, Order, Placement, Refusal, Report};
use windlass_dispatcher::store::Store;
use windlass_functions::stream::Stream;
use windlass_functions::worker::worker_id;
use windlass_jobs::kubernetes::invocation::{InvocationJobs, Site, deployment};
use windlass_jobs::kubernetes::{Cluster, names};
use windlass_jobs::launch::{self, Heard, Launcher, News};
use windlass_jobs::local::Program;
use windlass_jobs::local_jobs::LocalJobs;

use crate::commands::dispatch::DispatchArgs;
use crate::values::Span;

/// How much longer than its start a Job may take, until the cluster ends it.
const RUN: Duration = Duration::from_secs(120);

/// Who starts a worker for one invocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum JobsIn {
    /// Nobody: all invocations are for the warm pool
    #[default]
    None,
    /// This machine: a process each
    Local,
    /// Kubernetes: a Job each
    Kubernetes,
}

/// Which invocations get a worker of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PlacementArg {
    /// None: all wait for the warm pool
    Pool,
    /// All: the function asks for isolation
    Job,
    /// Those that no warm worker takes within the overflow wait
    Auto,
}

/// Where and when invocations run beside the pool, with nothing left open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacingSettings {
    /// Who starts workers; not [`JobsIn::None`].
    pub by: JobsIn,
    /// When, and how many.
    pub placement: placement::Settings,
    /// The ConfigMap with the pod template.
    pub template: String,
    /// Where Jobs reach the dispatcher.
    pub advertise: String,
}

impl PlacingSettings {
    /// Of the flags or the file, with the defaults; `None` if all invocations are for the pool.
    ///
    /// # Errors
    /// If a placement needs Jobs and nobody makes them.
    pub fn of(how: &DispatchArgs) -> anyhow::Result<Option<Self>> {
        let by = how.jobs.unwrap_or_default();
        let placement = match (by, how.placement) {
            (JobsIn::None, None | Some(PlacementArg::Pool)) => return Ok(None),
            (JobsIn::None, Some(_)) => bail!(
                "expected somebody to make Jobs, which --placement job and auto need, got none; pass \
                 --jobs kubernetes or --jobs local, or --placement pool"
            ),
            (_, Some(PlacementArg::Pool)) => Placement::Pool,
            (_, Some(PlacementArg::Job)) => Placement::Job,
            (_, None | Some(PlacementArg::Auto)) => Placement::Auto,
        };
        let defaults = placement::Settings::default();
        let ms =
            |given: Option<Span>, default| given.map_or(default, |span| span.0.as_millis() as u64);
        Ok(Some(Self {
            by,
            placement: placement::Settings {
                placement,
                overflow_wait_ms: ms(how.overflow_wait, defaults.overflow_wait_ms),
                jobs_per_second: how.job_rate.unwrap_or(defaults.jobs_per_second),
                burst: how.job_burst.unwrap_or(defaults.burst),
                max_live: how.max_jobs.unwrap_or(defaults.max_live),
                start_timeout_ms: ms(how.job_start_timeout, defaults.start_timeout_ms),
            },
            template: how
                .job_template
                .clone()
                .unwrap_or_else(|| names::JOB_TEMPLATE.into()),
            advertise: how.advertise.clone().unwrap_or_else(|| {
                format!("http://{}:{}", names::DISPATCHER, names::DISPATCHER_PORT)
            }),
        }))
    }

    /// Finds the cluster, where there is to be one. `token` says whether workers need the token.
    ///
    /// # Errors
    /// If no cluster is configured.
    pub async fn connect(
        self,
        store: &Store,
        stream: &Stream,
        token: bool,
    ) -> anyhow::Result<Placing> {
        let by = match self.by {
            JobsIn::None | JobsIn::Local => By::Processes,
            JobsIn::Kubernetes => {
                let start = Duration::from_millis(self.placement.start_timeout_ms);
                let site = Site {
                    deployment: deployment(store.name(), &stream.name, &stream.query),
                    made_by: worker_id(),
                    dispatcher: self.advertise,
                    token,
                    deadline_seconds: (start + RUN).as_secs() as u32,
                };
                let cluster = Cluster::infer(None).await?;
                By::Jobs(Box::new(InvocationJobs::new(cluster, site, self.template)))
            }
        };
        Ok(Placing {
            settings: self.placement,
            by,
        })
    }
}

/// When invocations run beside the pool, and by whom.
pub struct Placing {
    /// When, and how many.
    pub settings: placement::Settings,
    /// By whom.
    pub by: By,
}

/// Who starts workers for single invocations.
pub enum By {
    /// Processes of this machine.
    Processes,
    /// Jobs of a cluster.
    Jobs(Box<InvocationJobs>),
}

impl By {
    /// `program` is a worker of this machine.
    ///
    /// # Errors
    /// If there is no such program.
    pub fn launcher(
        self,
        program: impl FnOnce() -> anyhow::Result<Program>,
    ) -> anyhow::Result<Launcher> {
        Ok(match self {
            Self::Processes => Launcher::Local(LocalJobs {
                program: program()?,
            }),
            Self::Jobs(jobs) => Launcher::Kubernetes(jobs),
        })
    }
}

/// Has `launcher` carry out what the dispatcher orders, and tells the dispatcher what becomes of it.
pub async fn launch(
    launcher: Launcher,
    invoker: Arc<Invoker>,
    mut ordered: UnboundedReceiver<Order>,
) {
    let (order, orders) = unbounded_channel();
    let (heard, mut hearing) = unbounded_channel();
    let passing_on = async {
        while let Some(ordered) = ordered.recv().await {
            let passed_on = order.send(match ordered {
                Order::Create(id) => launch::Order::Create(id.to_string()),
                Order::Remove(id) => launch::Order::Remove(id.to_string()),
            });
            if passed_on.is_err() {
                return;
            }
        }
    };
    let listening = async {
        while let Some(heard) = hearing.recv().await {
            match heard {
                Heard::Others(unfinished) => invoker.other_jobs(unfinished),
                // What another deployment wrote there is none of ours.
                Heard::Of(id, news) => {
                    if let Ok(id) = id.parse() {
                        invoker.reported(id, report(news));
                    }
                }
            }
        }
    };
    tokio::join!(launcher.run(orders, heard), passing_on, listening);
}

fn report(news: News) -> Report {
    match news {
        News::Created => Report::Created,
        News::Exists { finished } => Report::Exists { finished },
        News::Refused(why, message) => {
            let why = match why {
                launch::Refusal::Throttled(ms) => Refusal::Throttled(ms),
                launch::Refusal::Failing => Refusal::Failing,
                launch::Refusal::Unreachable => Refusal::Unreachable,
                launch::Refusal::Forbidden => Refusal::Forbidden,
                launch::Refusal::Template => Refusal::Template,
            };
            Report::Refused(why, message)
        }
        News::Scheduled => Report::Scheduled,
        News::Stuck(why) => Report::Stuck(why),
        News::Ended(how) => Report::Ended(how),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(file: &str) -> anyhow::Result<Option<PlacingSettings>> {
        PlacingSettings::of(&toml::from_str(file).unwrap())
    }

    #[test]
    fn without_jobs_everything_is_for_the_pool() {
        assert_eq!(settings("").unwrap(), None);
        assert_eq!(settings("placement = 'pool'").unwrap(), None);
        for needs in ["placement = 'job'", "placement = 'auto'"] {
            let error = settings(needs).unwrap_err().to_string();
            assert!(error.contains("--jobs kubernetes"), "{error}");
        }
    }

    #[test]
    fn with_jobs_the_pool_overflows_unless_told_otherwise() {
        let auto = settings("jobs = 'kubernetes'").unwrap().unwrap();
        assert_eq!(auto.placement.placement, Placement::Auto);
        assert_eq!(auto.placement.overflow_wait_ms, 500);
        assert_eq!(auto.advertise, "http://windlass-dispatcher:7070");
        let file = "jobs = 'local'\nplacement = 'job'\njob-rate = 2\nmax-jobs = 3\n\
                    overflow-wait = '2s'\njob-start-timeout = '90s'";
        let job = settings(file).unwrap().unwrap();
        assert_eq!(job.placement.placement, Placement::Job);
        assert_eq!(job.placement.max_live.get(), 3);
        assert_eq!(job.placement.start_timeout_ms, 90_000);
        assert!(toml::from_str::<DispatchArgs>("max-jobs = 0").is_err());
    }
}
