//! What a pod or a Job tells about its invocation: pure.

use std::collections::HashMap;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::kubernetes::names;
use crate::launch::News;

/// The invocation that an object was made for.
pub fn invocation(object: &impl ResourceExt) -> Option<&str> {
    object
        .annotations()
        .get(names::INVOCATION)
        .map(String::as_str)
}

/// What a pod's state says.
pub fn of_pod(pod: &Pod) -> Vec<News> {
    let mut news = Vec::new();
    let Some(status) = &pod.status else {
        return news;
    };
    if pod
        .spec
        .as_ref()
        .is_some_and(|spec| spec.node_name.is_some())
    {
        news.push(News::Scheduled);
    }
    let unschedulable = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unschedulable {
        let why = condition.message.as_deref().unwrap_or("no reason given");
        news.push(News::Stuck(format!("its pod has no node: {why}")));
    }
    for container in status.container_statuses.iter().flatten() {
        let Some(state) = &container.state else {
            continue;
        };
        if let Some(waiting) = &state.waiting
            && let Some(reason) = waiting.reason.as_deref()
            // What every pod goes through.
            && !matches!(reason, "ContainerCreating" | "PodInitializing")
        {
            let why = waiting.message.as_deref().unwrap_or("no reason given");
            news.push(News::Stuck(format!("its pod waits, {reason}: {why}")));
        }
        if let Some(ended) = &state.terminated
            && ended.exit_code != 0
        {
            let reason = ended.reason.as_deref().unwrap_or("Error");
            let code = ended.exit_code;
            news.push(News::Stuck(format!(
                "its program ended, {reason}, exit code {code}"
            )));
        }
    }
    news
}

/// How a Job ended, if it has.
pub fn end_of(job: &Job) -> Option<String> {
    let status = job.status.as_ref()?;
    let done = |kind: &str| {
        let mut conditions = status.conditions.iter().flatten();
        conditions.find(|condition| condition.type_ == kind && condition.status == "True")
    };
    if done("Complete").is_some() {
        return Some("its program ended well".into());
    }
    done("Failed").map(|condition| {
        let reason = condition.reason.as_deref().unwrap_or("no reason given");
        let message = condition.message.as_deref().unwrap_or_default();
        format!("it failed, {reason}: {message}")
    })
}

/// Whether no pod of a Job is at work or was. Why not, its status does not say.
fn lacks_pod(job: &Job) -> bool {
    let counts = job.status.as_ref().map(|status| {
        let counts = [status.active, status.succeeded, status.failed];
        counts.into_iter().flatten().sum::<i32>()
    });
    counts.unwrap_or(0) == 0
}

/// The Jobs of this deployment, as far as they have been seen.
#[derive(Debug, Default)]
pub struct Seen {
    jobs: HashMap<String, Known>,
    /// While the Jobs are being listed anew: those listed so far.
    listed: Option<HashMap<String, Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    invocation: String,
    ours: bool,
    ended: bool,
    /// Since when it is seen without a pod, monotonic ms.
    podless_ms: Option<u64>,
    /// From when on it may be removed, monotonic ms.
    remove_ms: Option<u64>,
}

/// How long a Job that did its work is kept, and one that failed, for a person who looks into its log.
const KEPT_MS: [u64; 2] = [60_000, 600_000];
/// A cluster that makes no pod for so long has a reason.
const PODLESS_MS: u64 = 10_000;

impl Seen {
    /// A Job was listed, added or changed. `made_by` is this dispatcher.
    pub fn applied(&mut self, job: &Job, made_by: &str, now_ms: u64) -> Option<(String, News)> {
        let name = job.name_any();
        let invocation = invocation(job)?.to_owned();
        let end = end_of(job);
        let before = self.jobs.get(&name);
        let failed = end
            .as_deref()
            .is_some_and(|end| end.starts_with("it failed"));
        let remove_ms = before
            .and_then(|known| known.remove_ms)
            .or_else(|| end.as_ref().map(|_| now_ms + KEPT_MS[usize::from(failed)]));
        let known = Known {
            invocation: invocation.clone(),
            ours: job
                .annotations()
                .get(names::MADE_BY)
                .is_some_and(|by| by == made_by),
            ended: end.is_some(),
            podless_ms: lacks_pod(job).then(|| {
                let since = before.and_then(|known| known.podless_ms);
                since.unwrap_or(now_ms)
            }),
            remove_ms,
        };
        let is_news = !before.is_some_and(|known| known.ended);
        if let Some(listed) = &mut self.listed {
            listed.insert(name.clone(), known.clone());
        }
        self.jobs.insert(name, known);
        end.filter(|_| is_news)
            .map(|how| (invocation, News::Ended(how)))
    }

    /// A Job was deleted.
    pub fn deleted(&mut self, name: &str) -> Option<(String, News)> {
        self.jobs.remove(name).and_then(Known::gone)
    }

    /// The Jobs are being listed anew.
    pub fn listing(&mut self) {
        self.listed = Some(HashMap::new());
    }

    /// All have been listed: the rest is gone.
    pub fn listed(&mut self) -> Vec<(String, News)> {
        let Some(listed) = self.listed.take() else {
            return Vec::new();
        };
        let before = std::mem::replace(&mut self.jobs, listed);
        let gone = before
            .into_iter()
            .filter(|(name, _)| !self.jobs.contains_key(name));
        gone.filter_map(|(_, known)| known.gone()).collect()
    }

    /// Unfinished Jobs that another dispatcher made.
    pub fn others(&self) -> usize {
        let others = self.jobs.values().filter(|job| !job.ours && !job.ended);
        others.count()
    }

    /// Unfinished Jobs for which the cluster has made no pod for a while, name and invocation: each time it is
    /// asked, since a pod may have come and gone in between.
    pub fn podless(&self, now_ms: u64) -> Vec<(String, String)> {
        let is_podless = |known: &Known| {
            let since = known.podless_ms.filter(|_| known.ours && !known.ended);
            since.is_some_and(|since| since + PODLESS_MS <= now_ms)
        };
        let podless = self.jobs.iter().filter(|(_, known)| is_podless(known));
        podless
            .map(|(name, known)| (name.clone(), known.invocation.clone()))
            .collect()
    }

    /// The names of Jobs whose time has come, each once in a while until it is gone.
    pub fn due(&mut self, now_ms: u64) -> Vec<String> {
        let due = self
            .jobs
            .iter_mut()
            .filter(|(_, job)| job.remove_ms.is_some_and(|at| at <= now_ms));
        due.map(|(name, job)| {
            job.remove_ms = Some(now_ms + KEPT_MS[0]);
            name.clone()
        })
        .collect()
    }
}

impl Known {
    fn gone(self) -> Option<(String, News)> {
        let how = "it was deleted".to_owned();
        (!self.ended).then_some((self.invocation, News::Ended(how)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str, made_by: &str, condition: &str) -> Job {
        let conditions = match condition {
            "" => serde_json::json!([]),
            kind => {
                serde_json::json!([{"type": kind, "status": "True", "reason": "R", "message": "m"}])
            }
        };
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "annotations": {
                (names::INVOCATION): format!("of-{name}"), (names::MADE_BY): made_by,
            }},
            "status": {"conditions": conditions},
        }))
        .unwrap()
    }

    fn pod(status: serde_json::Value) -> Pod {
        let spec = serde_json::json!({"containers": [], "nodeName": "n"});
        serde_json::from_value(serde_json::json!({"spec": spec, "status": status})).unwrap()
    }

    #[test]
    fn an_end_is_told_once_and_the_job_is_removed_later() {
        let mut seen = Seen::default();
        assert_eq!(seen.applied(&job("a", "me", ""), "me", 0), None);
        assert!(seen.due(1_000_000).is_empty(), "it runs");
        let (of, news) = seen.applied(&job("a", "me", "Complete"), "me", 5).unwrap();
        assert_eq!(of, "of-a");
        assert_eq!(news, News::Ended("its program ended well".into()));
        assert_eq!(seen.applied(&job("a", "me", "Complete"), "me", 6), None);
        assert!(seen.due(60_004).is_empty());
        assert_eq!(seen.due(60_005), ["a"]);
        assert!(seen.due(60_006).is_empty(), "it has been asked for");
        assert_eq!(seen.due(120_005), ["a"], "but is still there");
        assert_eq!(seen.deleted("a"), None);
    }

    #[test]
    fn a_job_without_a_pod_is_told_of_after_a_while_until_it_has_one() {
        let with = |active: i32| {
            let mut job = job("a", "me", "");
            job.status.get_or_insert_default().active = Some(active);
            job
        };
        let mut seen = Seen::default();
        seen.applied(&with(0), "me", 5);
        seen.applied(&job("b", "the dead", ""), "me", 5);
        assert!(seen.podless(10_004).is_empty());
        seen.applied(&with(0), "me", 9_000);
        let expected = [("a".to_owned(), "of-a".to_owned())];
        assert_eq!(seen.podless(10_005), expected);
        seen.applied(&with(1), "me", 10_006);
        assert!(seen.podless(99_999).is_empty());
    }

    #[test]
    fn failed_jobs_are_kept_for_longer_and_say_how() {
        let mut seen = Seen::default();
        let (_, news) = seen.applied(&job("a", "me", "Failed"), "me", 0).unwrap();
        assert_eq!(news, News::Ended("it failed, R: m".into()));
        assert!(seen.due(599_999).is_empty());
        assert_eq!(seen.due(600_000), ["a"]);
    }

    #[test]
    fn what_a_new_list_lacks_is_gone_and_others_are_counted() {
        let mut seen = Seen::default();
        for (name, by) in [("a", "me"), ("b", "the dead"), ("c", "the dead")] {
            seen.applied(&job(name, by, ""), "me", 0);
        }
        assert_eq!(seen.others(), 2);
        seen.listing();
        seen.applied(&job("c", "the dead", "Complete"), "me", 0);
        let gone = seen.listed();
        let mut of: Vec<&str> = gone.iter().map(|(of, _)| of.as_str()).collect();
        of.sort_unstable();
        assert_eq!(of, ["of-a", "of-b"]);
        assert_eq!(seen.others(), 0);
    }

    #[test]
    fn a_pod_that_cannot_start_says_why() {
        let unschedulable = serde_json::json!({"conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}
        ]});
        let pulling = serde_json::json!({"containerStatuses": [
            {"name": "f", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
             "state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}
        ]});
        let killed = serde_json::json!({"containerStatuses": [
            {"name": "f", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
             "state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}
        ]});
        for (status, part) in [
            (unschedulable, "0/1 nodes are available"),
            (pulling, "ErrImagePull: no such image"),
            (killed, "OOMKilled, exit code 137"),
        ] {
            let news = of_pod(&pod(status));
            assert_eq!(news[0], News::Scheduled);
            let News::Stuck(why) = &news[1] else {
                panic!("{news:?}")
            };
            assert!(why.contains(part), "{why}");
        }
    }
}
