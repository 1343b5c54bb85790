//! Workers that run apart from their dispatcher, as processes of their own.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use windlass_datagen::message::Format;
use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;

use crate::harness::{Process, Site, eventually, until};
use crate::raw::{JSON, Raw, counts, order};

const WITHIN: Duration = Duration::from_secs(60);

/// `windlass function`, killed when dropped.
struct Worker(Child);

impl Worker {
    fn of(site: &Site, dispatcher: &Process, token: &str, flags: &[&str]) -> Self {
        let url = format!("http://{}", dispatcher.address);
        let mut command = site.windlass(&["function", "--dispatcher", &url]);
        command.args(flags).env("WINDLASS_TOKEN", token);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        Self(command.spawn().expect("windlass function starts"))
    }

    /// Waits for its end: its exit status, and what it said.
    fn ended(mut self) -> (Option<i32>, String) {
        let mut code = None;
        until(WITHIN, "the worker ends", || {
            let status = self.0.try_wait().expect("it can be asked");
            code = status.and_then(|status| status.code());
            status.is_some()
        });
        let mut said = String::new();
        let mut stderr = self.0.stderr.take().expect("piped");
        std::io::Read::read_to_string(&mut stderr, &mut said).expect("text");
        (code, said)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A site whose dispatcher wants this token and starts no workers.
fn with_token(site: &Site, token: &str) -> Process {
    let config = site.dir.path().join("windlass.toml");
    let text = std::fs::read_to_string(&config).expect("ours");
    std::fs::write(&config, format!("token = {token:?}\n{text}")).expect("ours");
    site.dispatch(&["--workers", "0"])
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_from_elsewhere_do_the_work_and_finish_when_told_to() {
    let Some(site) = Site::new("elsewhere").await else {
        return;
    };
    let dispatcher = with_token(&site, "t0ken");
    let (code, said) = Worker::of(&site, &dispatcher, "wrong", &[]).ended();
    assert_eq!(code, Some(1));
    assert!(said.contains("refuses this worker's token"), "{said}");

    let worker = Worker::of(&site, &dispatcher, "t0ken", &["--name", "far-away"]);
    let options = Options {
        rate: 1_000.0,
        duration_ms: 3_000,
        ..Options::default()
    };
    let manifest = site.publish(options, Format::Json, Speed::Times(1.0)).await;
    site.equals(&manifest, WITHIN).await;
    let pid = Pid::from_raw(worker.0.id() as i32).expect("a process id");
    kill_process(pid, Signal::TERM).expect("the worker is there");
    let (code, said) = worker.ended();
    assert_eq!(code, Some(0), "{said}");
    assert!(dispatcher.workers().is_empty(), "it started none");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_invocation_is_carried_out_by_a_worker_made_for_it() {
    let Some(site) = Site::new("once").await else {
        return;
    };
    let dispatcher = with_token(&site, "t0ken");
    let raw = Raw::to(&site).await;
    let time = crate::harness::unix_ms();
    raw.send(Some(JSON), order("s", 1, time, "Hunan", "1.00"))
        .await;
    // Somebody takes it, to learn its id, and fails.
    let url = format!("http://{}/v1/invocations", dispatcher.address);
    let client = reqwest::Client::new();
    let next = client.get(format!("{url}/next?wait=30s"));
    let next = next.bearer_auth("t0ken").send().await.expect("an answer");
    assert_eq!(next.status(), 200);
    let id = next.headers()["windlass-invocation-id"].to_str();
    let id = id.expect("text").to_owned();
    let failure = r#"{"type":"error","message":"not today"}"#;
    let error = client.post(format!("{url}/{id}/error")).body(failure);
    let error = error.header("content-type", "application/json");
    let error = error.bearer_auth("t0ken").send().await.expect("an answer");
    assert_eq!(error.status(), 202);

    let (code, said) = Worker::of(&site, &dispatcher, "t0ken", &["--once", &id]).ended();
    assert_eq!(code, Some(0), "{said}");
    eventually(WITHIN, "the order is counted", async || {
        let audit = site.audit().await.expect("the store answers");
        counts(&audit, "s") == [1, 0, 0]
    })
    .await;
    // Nothing is left to do under that id, which is no error.
    let (code, said) = Worker::of(&site, &dispatcher, "t0ken", &["--once", &id]).ended();
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = Worker::of(&site, &dispatcher, "t0ken", &["--once", "nonsense"]).ended();
    assert_eq!(code, Some(1), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_cannot_be_started_again_is_a_trouble_until_it_is() {
    let Some(mut site) = Site::new("no_program").await else {
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (whole, program) = (site.program.clone(), dir.path().join("windlass"));
    // By a child: a writable descriptor of this process would be every process's that another test starts now,
    // and a program that is open for writing does not start.
    let copy = || {
        let copied = Command::new("cp").args([&whole, &program]).status();
        assert!(copied.expect("cp starts").success());
    };
    copy();
    site.program.clone_from(&program);
    let dispatcher = site.owned(&["--workers", "1"]).await;
    eventually(WITHIN, "ready", async || dispatcher.ready().await.0).await;

    std::fs::remove_file(&program).expect("the program goes");
    let [worker] = dispatcher.workers()[..] else {
        panic!("one worker");
    };
    let worker = Pid::from_raw(worker).expect("a process id");
    kill_process(worker, Signal::KILL).expect("the worker is there");
    let expected = format!(
        "a local worker is missing, and tried again: cannot start the worker {}",
        program.display()
    );
    eventually(WITHIN, "not ready", async || {
        let (ready, text) = dispatcher.ready().await;
        !ready && text.contains(&expected)
    })
    .await;

    copy();
    eventually(WITHIN, "ready again", async || dispatcher.ready().await.0).await;
    assert_eq!(dispatcher.workers().len(), 1);
}
