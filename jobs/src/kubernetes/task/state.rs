//! What Jobs and pods say about how a task stands: pure.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::ResourceExt;

/// The annotation of a Job that a user has cancelled.
pub(super) const CANCELLED: &str = "windlass.io/cancelled";

/// The reason of an Event about a Job whose pod is refused. The Job's status says nothing of it.
pub(super) const REFUSED: &str = "FailedCreate";

/// Why a pod that waits will go on waiting until somebody does something.
const LASTING: [&str; 5] = [
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ImagePullBackOff",
    "InvalidImageName",
];

/// How a task stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// No pod of it runs yet, or one that failed is to be replaced.
    Waiting,
    /// A pod of it was started.
    Running,
    /// It has succeeded.
    Finished,
    /// It has failed for good; why.
    Failed(String),
    /// A user has ended it.
    Cancelled,
}

impl TaskState {
    /// Whether nothing more will happen.
    pub fn has_ended(&self) -> bool {
        !matches!(self, Self::Waiting | Self::Running)
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str("waiting"),
            Self::Running => f.write_str("running"),
            Self::Finished => f.write_str("finished"),
            Self::Failed(why) => write!(f, "failed ({why})"),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

/// A task as its Job shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskInfo {
    /// The Job's name.
    pub name: String,
    /// How it stands.
    pub state: TaskState,
    /// When it was created, ms UTC.
    pub created_ms: i64,
    /// When it ended, ms UTC.
    pub ended_ms: Option<i64>,
    /// How many of its pods failed.
    pub failures: u32,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

impl TaskInfo {
    pub(super) fn of(job: &Job) -> Self {
        let status = job.status.clone().unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let holds = |kind: &str| {
            let mut conditions = conditions.iter();
            conditions.find(|condition| condition.type_ == kind && condition.status == "True")
        };
        let cancelled = job.annotations().contains_key(CANCELLED);
        let active = status.active.unwrap_or(0) > 0;
        let failed = holds("Failed");
        let state = if holds("Complete").is_some() {
            TaskState::Finished
        } else if cancelled {
            TaskState::Cancelled
        } else if let Some(failed) = failed {
            TaskState::Failed(failed.reason.clone().unwrap_or_default())
        } else if active {
            TaskState::Running
        } else {
            TaskState::Waiting
        };
        let ended = status.completion_time.map(|time| time.0);
        let ended =
            ended.or(failed.and_then(|failed| Some(failed.last_transition_time.clone()?.0)));
        Self {
            name: job.name_any(),
            state,
            created_ms: created_ms(job),
            ended_ms: ended.map(|time| time.as_millisecond()),
            failures: status.failed.unwrap_or(0).max(0).cast_unsigned(),
            annotations: job.annotations().clone(),
        }
    }
}

/// When an object was created, ms UTC.
pub(super) fn created_ms(object: &impl ResourceExt) -> i64 {
    let created = object.creation_timestamp();
    created.map_or(0, |time| time.0.as_millisecond())
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

/// Whether a pod's program has begun.
pub(super) fn started(pod: &Pod) -> bool {
    let state = container(pod).and_then(|container| container.state.as_ref());
    state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
}

/// The exit status of a pod's program.
pub(super) fn exit_code(pod: &Pod) -> Option<i32> {
    let state = container(pod)?.state.as_ref()?;
    Some(state.terminated.as_ref()?.exit_code)
}

/// Why a pod will not start by itself.
pub(super) fn stuck(pod: &Pod) -> Option<String> {
    let waiting = container(pod)?.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    let message = waiting.message.as_deref().unwrap_or_default();
    LASTING
        .contains(&reason)
        .then(|| format!("{reason} {message}").trim_end().to_owned())
}

/// Why no node takes a pod, if that is so. It may change by itself: other pods end, nodes come.
pub(super) fn unschedulable(pod: &Pod) -> Option<String> {
    let mut conditions = pod.status.as_ref()?.conditions.iter().flatten();
    let condition = conditions.find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    })?;
    let why = condition.message.as_deref().unwrap_or("no reason given");
    Some(why.to_owned())
}

/// The newest of a Job's [`REFUSED`] Events, if it is not of before `since_ms`, ms UTC.
pub(super) fn refusal(events: &[Event], since_ms: i64) -> Option<String> {
    let at_ms = |event: &Event| {
        let last = event.last_timestamp.as_ref().map(|time| time.0);
        let at = last.or(event.event_time.as_ref().map(|time| time.0));
        at.map_or(i64::MAX, |at| at.as_millisecond())
    };
    let newest = events.iter().max_by_key(|event| at_ms(event))?;
    let said = newest.message.as_deref().unwrap_or("no reason given");
    (at_ms(newest) >= since_ms).then(|| said.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(status: &str, annotations: &str) -> TaskInfo {
        let text = format!(
            r#"{{"metadata": {{"name": "a", "creationTimestamp": "2026-11-11T00:00:00Z",
                "annotations": {annotations}}}, "status": {status}}}"#
        );
        TaskInfo::of(&serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn a_jobs_status_tells_how_its_task_stands() {
        let condition = |kind: &str, reason: &str| {
            format!(
                r#"{{"failed": 1, "conditions": [{{"type": "{kind}", "status": "True",
                    "reason": "{reason}", "lastTransitionTime": "2026-11-11T00:01:00Z"}}]}}"#
            )
        };
        let plain = |status: &str| job(status, "{}").state;
        assert_eq!(plain("{}"), TaskState::Waiting);
        assert_eq!(plain(r#"{"active": 1}"#), TaskState::Running);
        assert_eq!(plain(&condition("Complete", "")), TaskState::Finished);
        let failed = job(&condition("Failed", "BackoffLimitExceeded"), "{}");
        assert_eq!(failed.state.to_string(), "failed (BackoffLimitExceeded)");
        assert_eq!(failed.failures, 1);
        assert_eq!(failed.ended_ms.unwrap() - failed.created_ms, 60_000);
        let cancelled = r#"{"windlass.io/cancelled": "true"}"#;
        let ended = job(&condition("Failed", "DeadlineExceeded"), cancelled);
        assert_eq!(ended.state, TaskState::Cancelled);
        assert_eq!(
            job(&condition("Complete", ""), cancelled).state,
            TaskState::Finished
        );
    }

    #[test]
    fn a_pod_that_waits_for_somebody_says_for_what() {
        let pod = |state: &str| -> Pod {
            let text = format!(
                r#"{{"metadata": {{"name": "p"}}, "status": {{"containerStatuses": [{{"name": "c",
                    "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": {state}}}]}}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let missing = pod(
            r#"{"waiting": {"reason": "CreateContainerConfigError", "message": "secret \"windlass\" not found"}}"#,
        );
        assert!(stuck(&missing).unwrap().contains("secret \"windlass\""));
        assert!(!started(&missing));
        let coming = pod(r#"{"waiting": {"reason": "ContainerCreating"}}"#);
        assert_eq!(stuck(&coming), None);
        let ended = pod(r#"{"terminated": {"exitCode": 1}}"#);
        assert!(started(&ended));
        assert_eq!(exit_code(&ended), Some(1));
    }

    #[test]
    fn a_pod_that_no_node_takes_says_why() {
        let pod = |status: &str, reason: &str| -> Pod {
            let text = format!(
                r#"{{"metadata": {{"name": "p"}}, "status": {{"conditions": [{{"type": "PodScheduled",
                    "status": "{status}", "reason": "{reason}", "message": "0/1 nodes are available"}}]}}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let why = unschedulable(&pod("False", "Unschedulable"));
        assert_eq!(why.as_deref(), Some("0/1 nodes are available"));
        assert_eq!(unschedulable(&pod("True", "")), None);
        assert_eq!(unschedulable(&Pod::default()), None);
    }
    #[test]
    fn the_newest_refusal_of_a_pod_counts_unless_a_pod_has_come_since() {
        let event = |at: &str, message: &str| -> Event {
            let text = format!(
                r#"{{"metadata": {{}}, "involvedObject": {{}}, "reason": "{REFUSED}",
                    "lastTimestamp": {at}, "message": "{message}"}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let events = [
            event("\"1970-01-01T00:00:07Z\"", "exceeded quota"),
            event("\"1970-01-01T00:00:05Z\"", "no such ServiceAccount"),
        ];
        let why = refusal(&events, 7_000);
        assert_eq!(why.as_deref(), Some("exceeded quota"));
        assert_eq!(refusal(&events, 7_001), None);
        assert_eq!(refusal(&[], 0), None);
        // An Event that does not say when is not dropped for it.
        assert!(refusal(&[event("null", "?")], 7_001).is_some());
    }
}
