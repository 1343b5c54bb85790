//! Jobs that carry out one windlass command beside the broker and the database: datagen runs and
//! audits. Their pods are made of the same template as those of invocations, so that image, resources
//! and security are set in one place, and get what the command needs by reference: nobody here reads a
//! secret.
//!
//! Verbs, in windlass's namespace: `configmaps` get (the template); `jobs` create, get, list, patch,
//! delete; `pods` list; `pods/log` get. A user's kubeconfig needs all of them, the scheduler's
//! ServiceAccount all but the last two. A user who may list `events` is told why a Job's pod is refused.

mod job;
mod state;

use std::collections::BTreeMap;

use futures_util::io::AsyncBufRead;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod, PodTemplateSpec};
use kube::api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};

pub use state::{TaskInfo, TaskState};

use super::{Cluster, names};

/// What a Job is to carry out.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// The Job's name.
    pub name: String,
    /// Which part of windlass it is, a `COMPONENT_` constant of [`names`].
    pub component: &'static str,
    /// The command's arguments.
    pub args: Vec<String>,
    /// Variables, and under which key of the Secret [`names::SECRET`] their values are.
    pub secrets: Vec<(&'static str, &'static str)>,
    /// Variables.
    pub env: Vec<(&'static str, String)>,
    /// Annotations of the Job: what `list` shows.
    pub annotations: BTreeMap<String, String>,
    /// How often a pod that failed is replaced.
    pub retries: u32,
    /// How long a pod may take to end once it is told to, seconds.
    pub grace_seconds: u32,
    /// How long the finished Job is kept where the cluster removes Jobs by itself, seconds.
    pub keep_seconds: u32,
}

/// Why the cluster did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// A Job of that name exists.
    #[error("a Job {0} exists already")]
    Exists(String),
    /// There is no such Job.
    #[error("there is no Job {0}")]
    Missing(String),
    /// The pods' template is missing or no template.
    #[error("{0}")]
    Template(String),
    /// Windlass is not there.
    #[error(
        "namespace {0} has no {1}: apply windlass's manifests there, or name its namespace with -n"
    )]
    NotInstalled(String, &'static str),
    /// The user may not.
    #[error("the cluster forbids it: {0}; ask for that verb on that resource in this namespace")]
    Forbidden(String),
    /// A pod cannot start.
    #[error("{0}")]
    Stuck(String),
    /// Nobody answers, or not as expected. Trying again later may help.
    #[error("the cluster's API server does not do as asked: {0}")]
    Unavailable(String),
}

impl TaskError {
    pub(super) fn of(error: kube::Error, job: &str) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                404 => Self::Missing(job.to_owned()),
                409 => Self::Exists(job.to_owned()),
                401 | 403 => Self::Forbidden(status.message),
                _ => Self::Unavailable(status.message),
            },
            other => {
                let mut text = other.to_string();
                let mut cause = std::error::Error::source(&other);
                while let Some(inner) = cause {
                    text = format!("{text}: {inner}");
                    cause = inner.source();
                }
                Self::Unavailable(text)
            }
        }
    }
}

impl Cluster {
    /// Creates the Job of `task`.
    ///
    /// # Errors
    /// [`TaskError::Exists`] if there is one of that name, however it stands.
    pub async fn start(&self, task: &Task) -> Result<(), TaskError> {
        let template = self.template().await?;
        let job = job::job(template, task).map_err(TaskError::Template)?;
        let jobs = self.jobs();
        jobs.create(&PostParams::default(), &job)
            .await
            .map_err(|error| TaskError::of(error, &task.name))?;
        Ok(())
    }

    /// The Jobs of a part of windlass, oldest first.
    ///
    /// # Errors
    /// If the cluster refuses or does not answer.
    pub async fn tasks(&self, component: &str) -> Result<Vec<TaskInfo>, TaskError> {
        let labels = format!(
            "{}=windlass,{}={component}",
            names::PART_OF,
            names::COMPONENT
        );
        self.labelled(&labels).await
    }

    /// All Jobs of windlass, whatever they are for, oldest first.
    ///
    /// # Errors
    /// If the cluster refuses or does not answer.
    pub async fn all_tasks(&self) -> Result<Vec<TaskInfo>, TaskError> {
        self.labelled(&format!("{}=windlass", names::PART_OF)).await
    }

    async fn labelled(&self, labels: &str) -> Result<Vec<TaskInfo>, TaskError> {
        let found = self
            .jobs()
            .list(&ListParams::default().labels(labels))
            .await;
        let jobs = found.map_err(|error| TaskError::of(error, ""))?;
        let mut tasks: Vec<TaskInfo> = jobs.iter().map(TaskInfo::of).collect();
        tasks.sort_by(|a, b| (a.created_ms, &a.name).cmp(&(b.created_ms, &b.name)));
        Ok(tasks)
    }

    /// One Job; `None` if there is none of that name.
    ///
    /// # Errors
    /// If the cluster refuses or does not answer.
    pub async fn task(&self, name: &str) -> Result<Option<TaskInfo>, TaskError> {
        let found = self.jobs().get_opt(name).await;
        let job = found.map_err(|error| TaskError::of(error, name))?;
        Ok(job.as_ref().map(TaskInfo::of))
    }

    /// Ends a Job's pods in good order and keeps the Job, so that its name stays taken.
    ///
    /// # Errors
    /// If there is none, or the cluster refuses.
    pub async fn cancel(&self, name: &str) -> Result<(), TaskError> {
        // The one part of a running Job that every version lets us change and that ends its pods.
        let patch = serde_json::json!({
            "metadata": {"annotations": {(state::CANCELLED): "true"}},
            "spec": {"activeDeadlineSeconds": 1},
        });
        let patched = self
            .jobs()
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        patched.map_err(|error| TaskError::of(error, name))?;
        Ok(())
    }

    /// Deletes a Job and its pods; nothing to do is no error.
    ///
    /// # Errors
    /// If the cluster refuses or does not answer.
    pub async fn remove(&self, name: &str) -> Result<(), TaskError> {
        let deleted = self.jobs().delete(name, &DeleteParams::background()).await;
        match deleted.map_err(|error| TaskError::of(error, name)) {
            Err(TaskError::Missing(_)) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The newest pod of a Job.
    ///
    /// # Errors
    /// If the cluster refuses, or the pod cannot start for a reason that lasts.
    pub async fn newest_pod(&self, job: &str) -> Result<Option<PodInfo>, TaskError> {
        let labels = format!("job-name={job}");
        let found = self
            .pods()
            .list(&ListParams::default().labels(&labels))
            .await;
        let pods = found.map_err(|error| TaskError::of(error, job))?;
        let newest = pods.iter().max_by_key(|pod| state::created_ms(*pod));
        newest.map(PodInfo::of).transpose()
    }

    /// Why the cluster makes no pod for a Job that has none at work, such as a quota that is used up, if it has
    /// said so since `since_ms`, ms UTC. A user who may not see it is told where it is to be seen.
    ///
    /// # Errors
    /// If the cluster does not answer.
    pub async fn pod_refused(&self, job: &str, since_ms: i64) -> Result<Option<String>, TaskError> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let of = format!(
            "involvedObject.kind=Job,involvedObject.name={job},reason={}",
            state::REFUSED
        );
        let found = events.list(&ListParams::default().fields(&of)).await;
        match found.map_err(|error| TaskError::of(error, job)) {
            Ok(events) => Ok(state::refusal(&events.items, since_ms)),
            Err(TaskError::Forbidden(_)) => Ok(Some(format!(
                "`kubectl -n {} describe job {job}` says why to whoever may list events",
                self.namespace
            ))),
            Err(error) => Err(error),
        }
    }

    /// What a pod has written; with `follow`, what it writes until it ends.
    ///
    /// # Errors
    /// If the cluster refuses or does not answer.
    pub async fn logs(
        &self,
        pod: &str,
        follow: bool,
    ) -> Result<impl AsyncBufRead + use<>, TaskError> {
        let how = LogParams {
            follow,
            ..LogParams::default()
        };
        let stream = self.pods().log_stream(pod, &how).await;
        stream.map_err(|error| TaskError::of(error, pod))
    }

    fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn template(&self) -> Result<PodTemplateSpec, TaskError> {
        let (name, key) = (names::JOB_TEMPLATE, names::JOB_TEMPLATE_KEY);
        let map = self.map(name).await?;
        let text = map.and_then(|mut map| map.remove(key)).ok_or_else(|| {
            TaskError::Template(format!(
                "expected a ConfigMap {name} with the key {key} in namespace {}: apply windlass's \
                 manifests there, or name its namespace with -n",
                self.namespace
            ))
        })?;
        job::parse_template(&text).map_err(TaskError::Template)
    }
}

/// A pod of a Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodInfo {
    /// Its name.
    pub name: String,
    /// When it was created, ms UTC.
    pub created_ms: i64,
    /// Whether its program has begun.
    pub started: bool,
    /// Its program's exit status, once it has ended.
    pub exit_code: Option<i32>,
    /// Why no node takes it, while that is so.
    pub unschedulable: Option<String>,
}

impl PodInfo {
    fn of(pod: &Pod) -> Result<Self, TaskError> {
        let name = pod.name_any();
        if let Some(why) = state::stuck(pod) {
            return Err(TaskError::Stuck(format!("pod {name} cannot start: {why}")));
        }
        Ok(Self {
            created_ms: state::created_ms(pod),
            started: state::started(pod),
            exit_code: state::exit_code(pod),
            unschedulable: state::unschedulable(pod),
            name,
        })
    }
}
