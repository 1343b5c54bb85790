//! `windlass audit --run NAME` from outside: the audit is a Job beside the database, whose log is
//! the report and whose exit status is ours.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueEnum;
use futures_util::AsyncReadExt;
use jiff::Timestamp;
use windlass_jobs::kubernetes::Cluster;
use windlass_jobs::kubernetes::names;
use windlass_jobs::kubernetes::task::{PodInfo, Task, TaskError, TaskInfo, TaskState};
use windlass_jobs::name::RunName;

use super::Audit;
use crate::commands::datagen;
use crate::output;
use crate::shutdown::Signals;
use crate::values::Span;

/// How often the cluster is asked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often in a row it may leave a question unanswered: an API server that is overloaded, or being
/// replaced, is no reason to give an audit up.
const UNANSWERED: u32 = 120;
/// How often in a row it may be seen that a pod has no place, for want of a node or because the cluster makes
/// none: one that grows on demand needs minutes, and what uses a quota up may end.
const NO_PLACE: u32 = 600;

/// Waits for the run's Job to end, if it is still there, then audits.
pub(super) async fn audit(audit: &Audit, name: &RunName) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::catch()?;
    let cluster = audit.cluster.connect().await?;
    tokio::select! {
        ended = run_ended(&cluster, name) => ended?,
        () = signals.next() => bail!("stopped while the run was going on"),
    }
    let task = task(audit, name)?;
    match answered(async || cluster.start(&task).await).await {
        // Begun by a call whose answer was lost: nobody else uses the name.
        Ok(()) | Err(TaskError::Exists(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let ended = tokio::select! {
        ended = report(&cluster, &task.name) => ended,
        () = signals.next() => Err(anyhow::anyhow!("stopped while the audit was going on")),
    };
    if let Err(error) = cluster.remove(&task.name).await {
        tracing::warn!(job = task.name, %error, "the audit's Job stays");
    }
    let (log, exit) = ended?;
    let last = log.trim_ascii_end().rsplit(|byte| *byte == b'\n').next();
    if let Some(problem) = last.and_then(|line| line.strip_prefix(b"error: ")) {
        bail!("{}", String::from_utf8_lossy(problem));
    }
    let mut out = output::stdout();
    out.write_all(&log)?;
    out.flush()?;
    Ok(ExitCode::from(exit))
}

fn task(audit: &Audit, name: &RunName) -> anyhow::Result<Task> {
    let format = audit.format.to_possible_value();
    let format = format.context("a format has a name")?;
    // Names of one moment differ by the process that made them.
    let suffix = Timestamp::now().as_millisecond() ^ (i64::from(std::process::id()) << 8);
    Ok(Task {
        name: format!("windlass-audit-{name}-{:06x}", suffix & 0xff_ffff),
        component: names::COMPONENT_AUDIT,
        args: vec![
            "audit".into(),
            format!("--run={name}"),
            format!("--patience={}", audit.patience),
            format!("--format={}", format.get_name()),
        ],
        secrets: vec![("WINDLASS_STORE", names::SECRET_STORE)],
        // So that the log is the report and nothing else.
        env: vec![("WINDLASS_LOG", "error".into())],
        annotations: BTreeMap::new(),
        retries: 0,
        grace_seconds: 1,
        keep_seconds: 3600,
    })
}

/// Asks until there is an answer, but not for ever.
async fn answered<T>(mut ask: impl AsyncFnMut() -> Result<T, TaskError>) -> Result<T, TaskError> {
    let mut unanswered = 0;
    loop {
        match ask().await {
            Err(TaskError::Unavailable(reason)) if unanswered < UNANSWERED => {
                if unanswered == 0 {
                    tracing::warn!(reason, "the cluster does not answer; asking again");
                }
                unanswered += 1;
                tokio::time::sleep(LOOK_EVERY).await;
            }
            answer => return answer,
        }
    }
}

/// Why nothing runs of a Job that is not done, though nothing is broken that stays so.
#[derive(Clone, Debug, PartialEq, Eq)]
enum NoPlace {
    /// No node takes this pod; why.
    Node(String, String),
    /// The cluster makes no pod for this Job; why.
    Pod(String, String),
}

impl NoPlace {
    /// Looks at a Job that is not done, and at its newest pod.
    async fn of(
        cluster: &Cluster,
        task: &TaskInfo,
        pod: Option<&PodInfo>,
    ) -> Result<Option<Self>, TaskError> {
        if let Some((pod, why)) = pod.and_then(|pod| Some((&pod.name, pod.unschedulable.clone()?)))
        {
            return Ok(Some(Self::Node(pod.clone(), why)));
        }
        if task.state != TaskState::Waiting {
            return Ok(None);
        }
        // What was refused before the newest pod came is over.
        let since_ms = pod.map_or(task.created_ms, |pod| pod.created_ms);
        let refused = answered(async || cluster.pod_refused(&task.name, since_ms).await).await?;
        Ok(refused.map(|why| Self::Pod(task.name.clone(), why)))
    }

    fn say(&self) {
        match self {
            Self::Node(pod, why) => {
                tracing::warn!(pod, why, "no node takes the pod; waiting for one");
            }
            Self::Pod(job, why) => {
                tracing::warn!(
                    job,
                    why,
                    "the cluster makes no pod for the Job; waiting for one"
                );
            }
        }
    }

    fn give_up(&self) -> anyhow::Error {
        let within = Span(LOOK_EVERY * NO_PLACE);
        let template = names::JOB_TEMPLATE;
        match self {
            Self::Node(pod, why) => anyhow::anyhow!(
                "expected a node for pod {pod}, in {within} none has taken it: {why}; make room, or lower the \
                 requests in ConfigMap {template}, and audit again"
            ),
            Self::Pod(job, why) => anyhow::anyhow!(
                "expected a pod of Job {job}, in {within} the cluster has made none: {why}; make room in the \
                 namespace's quota, or correct ConfigMap {template}, and audit again"
            ),
        }
    }
}

/// How often in a row something was seen to have no place.
#[derive(Default)]
struct Looks(u32);

impl Looks {
    /// Looks once more; says so when it begins, and is an error in the end.
    fn look(&mut self, no_place: Option<&NoPlace>) -> anyhow::Result<()> {
        let Some(no_place) = no_place else {
            self.0 = 0;
            return Ok(());
        };
        if self.0 == 0 {
            no_place.say();
        }
        self.0 += 1;
        match self.0 >= NO_PLACE {
            true => Err(no_place.give_up()),
            false => Ok(()),
        }
    }
}

async fn run_ended(cluster: &Cluster, name: &RunName) -> anyhow::Result<()> {
    let job = datagen::job(name);
    let mut said = None;
    let mut looks = Looks::default();
    loop {
        let Some(task) = answered(async || cluster.task(&job).await).await? else {
            // Removed since, or published by hand: the database knows it or not.
            return Ok(());
        };
        if may_be_audited(name, &task.state)? {
            return Ok(());
        }
        // A pod that cannot start is worth an error now, not a wait for ever.
        let pod = answered(async || cluster.newest_pod(&job).await).await?;
        looks.look(NoPlace::of(cluster, &task, pod.as_ref()).await?.as_ref())?;
        if said.as_ref() != Some(&task.state) {
            tracing::info!(run = %name, state = %task.state, "waiting for the run's end");
            said = Some(task.state);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether a run has ended and left something to audit. One that failed may not even have begun, and what
/// is known by its name be of another run.
fn may_be_audited(name: &RunName, state: &TaskState) -> anyhow::Result<bool> {
    if let TaskState::Failed(why) = state {
        bail!(
            "the run {name} failed: {why}; `windlass datagen logs {name}` tells more, \
             `windlass audit` without --run what was counted all the same"
        );
    }
    Ok(state.has_ended())
}

/// The log and the exit status of the audit's pod, once it has ended.
async fn report(cluster: &Cluster, job: &str) -> anyhow::Result<(Vec<u8>, u8)> {
    tracing::info!(job, "the audit runs in the cluster");
    let mut looks = Looks::default();
    let (pod, exit) = loop {
        let newest = answered(async || cluster.newest_pod(job).await).await?;
        if let Some(PodInfo {
            name,
            exit_code: Some(exit),
            ..
        }) = newest
        {
            break (name, exit);
        }
        let task = answered(async || cluster.task(job).await).await?;
        let task = task.context("the audit's Job was deleted: run the audit again")?;
        if newest.is_none() && task.state.has_ended() {
            bail!(
                "the audit's Job has no pod ({}): run the audit again",
                task.state
            );
        }
        looks.look(NoPlace::of(cluster, &task, newest.as_ref()).await?.as_ref())?;
        tokio::time::sleep(LOOK_EVERY).await;
    };
    let mut log = Vec::new();
    let stream = answered(async || cluster.logs(&pod, false).await).await?;
    let mut stream = std::pin::pin!(stream);
    stream
        .read_to_end(&mut log)
        .await
        .context("the report broke off")?;
    Ok((log, u8::try_from(exit).unwrap_or(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_is_asked_again_until_it_is_answered_or_refused() {
        let mut asked = 0;
        let answer = answered(async || {
            asked += 1;
            match asked {
                1 => Err(TaskError::Unavailable("504".into())),
                _ => Ok(asked),
            }
        });
        assert_eq!(answer.await.unwrap(), 2);
        let refused = answered(async || Err::<(), _>(TaskError::Forbidden("no".into())));
        assert!(matches!(refused.await, Err(TaskError::Forbidden(_))));
    }

    #[test]
    fn what_has_no_place_is_waited_for_and_given_up_in_the_end() {
        let full = NoPlace::Node("p".into(), "0/1 nodes are available".into());
        let mut looks = Looks::default();
        for _ in 1..NO_PLACE {
            looks.look(Some(&full)).unwrap();
        }
        // A node has come, and the next pod waits as long again.
        looks.look(None).unwrap();
        for _ in 1..NO_PLACE {
            looks.look(Some(&full)).unwrap();
        }
        let error = looks.look(Some(&full)).unwrap_err().to_string();
        assert!(error.contains("in 10m none"), "{error}");
        assert!(error.contains("0/1 nodes are available"), "{error}");
        let refused = NoPlace::Pod("j".into(), "exceeded quota: few".into());
        let error = looks.look(Some(&refused)).unwrap_err().to_string();
        assert!(error.contains("a pod of Job j, in 10m"), "{error}");
        assert!(error.contains("exceeded quota: few"), "{error}");
    }

    #[test]
    fn a_run_that_failed_is_an_error_and_no_audit_of_what_has_its_name() {
        let name: RunName = "noon".parse().unwrap();
        let audited = |state| may_be_audited(&name, &state);
        assert!(!audited(TaskState::Running).unwrap());
        assert!(audited(TaskState::Finished).unwrap());
        assert!(audited(TaskState::Cancelled).unwrap());
        let why = "BackoffLimitExceeded".to_owned();
        let error = audited(TaskState::Failed(why)).unwrap_err().to_string();
        assert!(
            error.contains("noon failed: BackoffLimitExceeded"),
            "{error}"
        );
        assert!(error.contains("windlass datagen logs noon"), "{error}");
    }
}
