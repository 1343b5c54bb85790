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
use windlass_jobs::kubernetes::task::{PodInfo, Task, TaskError, TaskState};
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
/// How often in a row a pod may be seen that no node takes: a cluster that grows on demand needs minutes.
const UNSCHEDULABLE: u32 = 600;

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

/// How often in a row a pod was seen that no node takes.
#[derive(Default)]
struct Unschedulable(u32);

impl Unschedulable {
    /// Looks at a pod once more; says so when it begins to have no node, and is an error in the end.
    fn look(&mut self, pod: Option<&PodInfo>) -> anyhow::Result<()> {
        let unschedulable = pod.and_then(|pod| Some((&pod.name, pod.unschedulable.as_ref()?)));
        let Some((pod, why)) = unschedulable else {
            self.0 = 0;
            return Ok(());
        };
        if self.0 == 0 {
            tracing::warn!(pod, why, "no node takes the pod; waiting for one");
        }
        self.0 += 1;
        if self.0 >= UNSCHEDULABLE {
            bail!(
                "expected a node for pod {pod}, in {} none has taken it: {why}; make room, or lower the \
                 requests in ConfigMap {}, and audit again",
                Span(LOOK_EVERY * UNSCHEDULABLE),
                names::JOB_TEMPLATE
            );
        }
        Ok(())
    }
}

async fn run_ended(cluster: &Cluster, name: &RunName) -> anyhow::Result<()> {
    let job = datagen::job(name);
    let mut said = None;
    let mut unschedulable = Unschedulable::default();
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
        unschedulable.look(pod.as_ref())?;
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
    let mut unschedulable = Unschedulable::default();
    let (pod, exit) = loop {
        let newest = answered(async || cluster.newest_pod(job).await).await?;
        unschedulable.look(newest.as_ref())?;
        match newest {
            Some(PodInfo {
                name,
                exit_code: Some(exit),
                ..
            }) => break (name, exit),
            Some(_) => {}
            None => {
                let task = answered(async || cluster.task(job).await).await?;
                let task = task.context("the audit's Job was deleted: run the audit again")?;
                if task.state.has_ended() {
                    bail!(
                        "the audit's Job has no pod ({}): run the audit again",
                        task.state
                    );
                }
            }
        }
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
    fn a_pod_that_no_node_takes_is_waited_for_and_given_up_in_the_end() {
        let pod = |why: Option<&str>| PodInfo {
            name: "p".into(),
            started: false,
            exit_code: None,
            unschedulable: why.map(str::to_owned),
        };
        let full = pod(Some("0/1 nodes are available"));
        let mut looks = Unschedulable::default();
        for _ in 1..UNSCHEDULABLE {
            looks.look(Some(&full)).unwrap();
        }
        // A node has come, and the next pod waits as long again.
        looks.look(Some(&pod(None))).unwrap();
        for _ in 1..UNSCHEDULABLE {
            looks.look(Some(&full)).unwrap();
        }
        let error = looks.look(Some(&full)).unwrap_err().to_string();
        assert!(error.contains("in 10m none"), "{error}");
        assert!(error.contains("0/1 nodes are available"), "{error}");
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
