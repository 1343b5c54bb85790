//! The calls that create and remove Jobs, and what a refusal of the API server means.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, PostParams};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::reading::Read;
use super::template::Template;
use super::{Shared, chain, seen};
use crate::launch::{News, Refusal};

/// A call that takes longer got no answer.
const CALL: Duration = Duration::from_secs(10);
/// How long a used-up quota is left alone.
const QUOTA_MS: u64 = 5_000;
const PROBE: &str = "template-check";

enum Failed {
    Exists,
    Not(Refusal, String),
}

impl Shared {
    pub(super) async fn create(&self, id: &str, read: Option<Read>) -> News {
        let Some(read) = read else {
            let why =
                "the API server has not told the pod template of Jobs yet; warm workers go on";
            return News::Refused(Refusal::Unreachable, why.into());
        };
        let Some(template) = read.good else {
            let why = read.problem.unwrap_or_default();
            return News::Refused(Refusal::Template, why);
        };
        let job = self.site.job(&template, id);
        match self.post(&job, false).await {
            Ok(()) => News::Created,
            Err(Failed::Exists) => self.existing(&self.site.name(id)).await,
            Err(Failed::Not(why, message)) => News::Refused(why, message),
        }
    }

    async fn post(&self, job: &Job, dry_run: bool) -> Result<(), Failed> {
        let how = PostParams {
            dry_run,
            ..PostParams::default()
        };
        match timeout(CALL, self.jobs.create(&how, job)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.failed(error)),
            Err(_) => Err(self.no_answer("no answer to a create in time")),
        }
    }

    /// A Job of this name is there: made by an order whose answer was lost, or long finished.
    async fn existing(&self, name: &str) -> News {
        debug!(
            job = name,
            "the Job exists already: the same attempt was ordered before"
        );
        match timeout(CALL, self.jobs.get_opt(name)).await {
            Ok(Ok(Some(job))) => {
                let going = job.metadata.deletion_timestamp.is_some();
                let finished = going || seen::end_of(&job).is_some();
                News::Exists { finished }
            }
            // It has just gone.
            Ok(Ok(None)) => News::Exists { finished: true },
            Ok(Err(error)) => match self.failed(error) {
                Failed::Not(why, message) => News::Refused(why, message),
                Failed::Exists => News::Exists { finished: false },
            },
            Err(_) => match self.no_answer("no answer to a get in time") {
                Failed::Not(why, message) => News::Refused(why, message),
                Failed::Exists => News::Exists { finished: false },
            },
        }
    }

    fn no_answer(&self, what: &str) -> Failed {
        let message = format!(
            "the API server cannot be reached ({what}); no Job is created, warm workers go on"
        );
        Failed::Not(Refusal::Unreachable, message)
    }

    fn failed(&self, error: kube::Error) -> Failed {
        let status = match error {
            kube::Error::Api(status) => status,
            other => return self.no_answer(&chain(&other)),
        };
        let said = status.message.lines().next().unwrap_or_default().to_owned();
        let namespace = &self.namespace;
        let not = |why, message| Failed::Not(why, message);
        match status.code {
            409 if status.is_already_exists() => Failed::Exists,
            403 if said.contains("exceeded quota") => not(
                Refusal::Throttled(QUOTA_MS),
                format!("a quota of namespace {namespace} is used up: {said}"),
            ),
            401 | 403 => not(
                Refusal::Forbidden,
                format!(
                    "the API server forbids it: {said}; grant the dispatcher's ServiceAccount the verb \
                     create on jobs in namespace {namespace}; until then batches wait for warm workers"
                ),
            ),
            429 => {
                let after = status
                    .details
                    .as_ref()
                    .map_or(0, |details| details.retry_after_seconds);
                not(
                    Refusal::Throttled(u64::from(after) * 1_000),
                    format!("the API server asks to slow down: {said}"),
                )
            }
            400 | 404 | 422 => not(
                Refusal::Template,
                format!("the API server refuses the Job: {said}; correct the pod template"),
            ),
            code => not(
                Refusal::Failing,
                format!("the API server fails with {code}: {said}"),
            ),
        }
    }

    pub(super) async fn remove(&self, name: &str) {
        let deleted = timeout(CALL, self.jobs.delete(name, &DeleteParams::background())).await;
        match deleted {
            Ok(Ok(_)) => debug!(job = name, "Job removed"),
            Ok(Err(kube::Error::Api(status))) if status.is_not_found() => {}
            // It is swept later, by us or by the cluster.
            Ok(Err(error)) => warn!(job = name, "cannot remove a Job: {}", chain(&error)),
            Err(_) => warn!(job = name, "cannot remove a Job: no answer in time"),
        }
    }

    /// Whether the API server would take a Job of this template; only a plain no counts.
    pub(super) async fn would_refuse(&self, template: &Template) -> Option<String> {
        match self.post(&self.site.job(template, PROBE), true).await {
            Err(Failed::Not(Refusal::Template, why)) => Some(why),
            _ => None,
        }
    }
}
