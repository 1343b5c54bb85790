//! Invocations as Jobs of a cluster: creates and removes them as ordered, watches them and their pods,
//! sweeps what has finished.
//!
//! A Job's status decides nothing about results: an invocation is done when its program has answered
//! the dispatcher. What is watched here says why a Job does not start, and how long each phase took.
//! When the API server cannot be reached, nothing is concluded: watches are resumed, orders that got no
//! answer are told to be just that.
//!
//! Verbs, in windlass's namespace: `jobs` create, get, list, watch, delete; `pods` list, watch;
//! `configmaps` list, watch on the template.

mod calls;
mod job;
mod reading;
mod seen;
mod template;

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_all};
use kube::{Api, ResourceExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};
use tracing::{error, warn};

use super::Cluster;
use crate::launch::{Heard, News, Order};
use reading::{Read, first, read_template};
use seen::Seen;

pub use job::{Site, deployment};
pub use template::{BadTemplate, Template};

/// Calls at a time.
const CALLS: usize = 16;
/// How often finished Jobs are looked for, and those without a pod.
const SWEEP: Duration = Duration::from_secs(10);

/// Invocation Jobs of one dispatcher.
pub struct InvocationJobs {
    cluster: Cluster,
    site: Site,
    /// The ConfigMap with the pod template.
    template: String,
}

struct Shared {
    jobs: Api<Job>,
    site: Site,
    namespace: String,
    seen: Mutex<Seen>,
    heard: UnboundedSender<Heard>,
    started: Instant,
}

impl InvocationJobs {
    /// Jobs in `cluster`, their pods made of the ConfigMap `template`. Nothing is asked of the API
    /// server yet.
    pub fn new(cluster: Cluster, site: Site, template: impl Into<String>) -> Self {
        Self {
            cluster,
            site,
            template: template.into(),
        }
    }

    pub(crate) async fn run(
        self,
        mut orders: UnboundedReceiver<Order>,
        heard: UnboundedSender<Heard>,
    ) {
        let Cluster { client, namespace } = self.cluster;
        let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
        let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        let maps: Api<ConfigMap> = Api::namespaced(client, &namespace);
        let selector = self.site.selector();
        let shared = Arc::new(Shared {
            jobs: jobs.clone(),
            site: self.site,
            namespace,
            seen: Mutex::default(),
            heard,
            started: now(),
        });
        let (found, template) = watch::channel(None);
        let mut tasks = JoinSet::new();
        let labelled = || watcher::Config::default().labels(&selector);
        let named = watcher::Config::default().fields(&format!("metadata.name={}", self.template));
        tasks.spawn(read_template(
            Arc::clone(&shared),
            self.template,
            watch_all(maps, named).default_backoff(),
            found,
        ));
        tasks.spawn(watch_pods(
            Arc::clone(&shared),
            watch_all(pods, labelled()).default_backoff(),
        ));
        tasks.spawn(watch_jobs(
            Arc::clone(&shared),
            watch_all(jobs, labelled()).default_backoff(),
        ));
        tasks.spawn(sweep(Arc::clone(&shared)));
        let calls = Arc::new(Semaphore::new(CALLS));
        loop {
            tokio::select! {
                order = orders.recv() => {
                    // Jobs outlive this dispatcher: they find out and end.
                    let Some(order) = order else { return };
                    tasks.spawn(carry_out(
                        Arc::clone(&shared),
                        order,
                        template.clone(),
                        Arc::clone(&calls),
                    ));
                }
                Some(ended) = tasks.join_next() => {
                    // Watches go on for ever and calls end by themselves.
                    if let Err(broken) = ended {
                        error!("a part of what makes Jobs has ended, restart the dispatcher: {broken}");
                    }
                }
            }
        }
    }
}

async fn carry_out(
    shared: Arc<Shared>,
    order: Order,
    mut template: watch::Receiver<Option<Read>>,
    calls: Arc<Semaphore>,
) {
    // Never closed: it lives as long as the calls.
    let _turn = calls.acquire().await;
    match order {
        Order::Create(id) => {
            let read = first(&mut template).await;
            let news = shared.create(&id, read).await;
            shared.tell(id, news);
        }
        Order::Remove(id) => shared.remove(&shared.site.name(&id)).await,
    }
}

impl Shared {
    fn tell(&self, id: String, news: News) {
        // Nobody is left to hear it when the dispatcher has stopped.
        let _ = self.heard.send(Heard::Of(id, news));
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
    }
}

async fn watch_pods(
    shared: Arc<Shared>,
    events: impl Stream<Item = Result<Event<Pod>, watcher::Error>>,
) {
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => {
                if let Some(id) = seen::invocation(&pod) {
                    for news in seen::of_pod(&pod) {
                        shared.tell(id.to_owned(), news);
                    }
                }
            }
            // The Job tells of its end.
            Ok(Event::Delete(_) | Event::Init | Event::InitDone) => {}
            // Jobs run all the same, but nobody says why one does not start.
            Err(error) => warn!("cannot watch the pods of Jobs: {}", chain(&error)),
        }
    }
}

async fn watch_jobs(
    shared: Arc<Shared>,
    events: impl Stream<Item = Result<Event<Job>, watcher::Error>>,
) {
    let mut events = pin!(events);
    let mut others = 0;
    while let Some(event) = events.next().await {
        let made_by = &shared.site.made_by;
        let news: Vec<(String, News)> = match event {
            Ok(Event::Apply(job) | Event::InitApply(job)) => {
                let now_ms = shared.now_ms();
                shared
                    .seen()
                    .applied(&job, made_by, now_ms)
                    .into_iter()
                    .collect()
            }
            Ok(Event::Delete(job)) => shared.seen().deleted(&job.name_any()).into_iter().collect(),
            Ok(Event::Init) => {
                shared.seen().listing();
                continue;
            }
            Ok(Event::InitDone) => shared.seen().listed(),
            Err(error) => {
                // Unknown is not gone: nothing is concluded.
                warn!("cannot watch Jobs: {}", chain(&error));
                continue;
            }
        };
        for (id, news) in news {
            shared.tell(id, news);
        }
        let count = shared.seen().others();
        if count != others {
            others = count;
            let _ = shared.heard.send(Heard::Others(others));
        }
    }
}

/// Removes Jobs some time after they have finished; not every cluster does that by itself. Tells of those for
/// which the cluster makes no pod: no watch does.
async fn sweep(shared: Arc<Shared>) {
    let mut ticks = interval(SWEEP);
    loop {
        ticks.tick().await;
        let (due, podless) = {
            let now_ms = shared.now_ms();
            let mut seen = shared.seen();
            (seen.due(now_ms), seen.podless(now_ms))
        };
        for (name, id) in podless {
            let why = format!(
                "the cluster makes no pod for it, as for a quota that is used up, a pod that its policies refuse \
                 or a ServiceAccount that is missing; see `kubectl -n {} describe job {name}`",
                shared.namespace
            );
            shared.tell(id, News::Stuck(why));
        }
        for name in due {
            shared.remove(&name).await;
        }
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text.replace('\n', " ")
}

#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}
