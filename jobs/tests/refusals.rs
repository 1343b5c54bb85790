//! What an API server's refusals of a create mean: an API server played by this process says each.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::Config;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;
use windlass_jobs::kubernetes::invocation::{InvocationJobs, Site};
use windlass_jobs::kubernetes::{Cluster, names};
use windlass_jobs::launch::{Heard, Launcher, News, Order, Refusal};

/// What is answered to the create of each attempt's Job, status and body; later attempts are created.
type Answers = Vec<(u16, String)>;
/// The attempts whose Jobs were asked for, in order.
type Asked = Arc<Mutex<Vec<usize>>>;

/// How the API server itself words a refusal.
fn status(code: u16, reason: &str, message: &str, details: Value) -> (u16, String) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "details": details, "code": code,
    });
    (code, status.to_string())
}

async fn serve(listener: TcpListener, answers: Answers, asked: Asked) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(answer(stream, answers.clone(), Arc::clone(&asked)));
    }
}

/// Answers the requests of one connection; watches never tell anything.
async fn answer(mut stream: TcpStream, answers: Answers, asked: Asked) {
    let mut read = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let text = String::from_utf8_lossy(&read[..head]).to_lowercase();
        let length = text.split("content-length: ").nth(1);
        let length = length.and_then(|rest| rest.lines().next()?.parse::<usize>().ok());
        let end = head + length.unwrap_or(0);
        while read.len() < end {
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let body = String::from_utf8_lossy(&read[head..end]).into_owned();
        read.drain(..end);
        let line = text.lines().next().unwrap_or_default();
        if line.contains("watch=true") {
            let silence = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            let _ = stream.write_all(silence.as_bytes()).await;
            return std::future::pending().await;
        }
        let (code, body) = if line.starts_with("get ") {
            (200, list(line).to_string())
        } else if line.contains("dryrun") {
            (201, body)
        } else {
            let attempt = attempt(&body);
            asked.lock().unwrap().push(attempt);
            answers.get(attempt).cloned().unwrap_or((201, body))
        };
        let length = body.len();
        let answer = format!("HTTP/1.1 {code} X\r\ncontent-length: {length}\r\n\r\n{body}");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Of the invocation that a Job is made for.
fn attempt(job: &str) -> usize {
    let job: Value = serde_json::from_str(job).unwrap();
    let id = job["metadata"]["annotations"][names::INVOCATION].as_str();
    let (_, attempt) = id.unwrap().rsplit_once('.').unwrap();
    attempt.parse().unwrap()
}

fn list(request: &str) -> Value {
    let template = json!({
        "metadata": {"name": names::JOB_TEMPLATE},
        "data": {(names::JOB_TEMPLATE_KEY): "spec: {containers: [{name: windlass, image: i}]}"},
    });
    let (kind, items) = if request.contains("/configmaps") {
        ("ConfigMapList", json!([template]))
    } else if request.contains("/pods") {
        ("PodList", json!([]))
    } else {
        ("JobList", json!([]))
    };
    let api = if kind == "JobList" { "batch/v1" } else { "v1" };
    json!({"kind": kind, "apiVersion": api, "metadata": {"resourceVersion": "1"}, "items": items})
}

#[tokio::test]
async fn each_refusal_is_told_as_what_it_is_and_throttling_with_its_time() {
    let job = json!({"name": "j", "group": "batch", "kind": "jobs"});
    let slow = json!({"retryAfterSeconds": 7});
    let quota = "jobs.batch \"j\" is forbidden: exceeded quota: few, requested: count/jobs.batch=1";
    let expected = [
        (
            status(429, "TooManyRequests", "slow down", slow),
            Refusal::Throttled(7_000),
            "slow down",
        ),
        // What a server that is over its limit of requests says without further thought.
        (
            (429, "Too many requests, please try again later.".into()),
            Refusal::Throttled(0),
            "asks to slow down",
        ),
        (
            status(403, "Forbidden", quota, job.clone()),
            Refusal::Throttled(5_000),
            "a quota of namespace ns is used up",
        ),
        (
            status(403, "Forbidden", "User \"x\" cannot create", job.clone()),
            Refusal::Forbidden,
            "the verb create on jobs",
        ),
        (
            status(
                500,
                "InternalError",
                "etcdserver: leader changed",
                job.clone(),
            ),
            Refusal::Failing,
            "fails with 500: etcdserver: leader changed",
        ),
        (
            (503, "apiserver is shutting down".into()),
            Refusal::Failing,
            "fails with 503",
        ),
        (
            status(504, "Timeout", "request timed out", job.clone()),
            Refusal::Failing,
            "fails with 504",
        ),
        (
            status(422, "Invalid", "spec.template: Invalid value", job),
            Refusal::Template,
            "correct the pod template",
        ),
    ];
    let answers = expected.iter().map(|(answer, ..)| answer.clone());
    let asked = Asked::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(listener, answers.collect(), Arc::clone(&asked)));

    let config = Config::new(format!("http://{address}").parse().unwrap());
    let cluster = Cluster::asked_once(config, "ns".into()).unwrap();
    let site = Site {
        deployment: "0badcafe".into(),
        made_by: "test".into(),
        dispatcher: "http://127.0.0.1:1".into(),
        token: false,
        deadline_seconds: 300,
    };
    let jobs = InvocationJobs::new(cluster, site, names::JOB_TEMPLATE);
    let (orders, ordered) = unbounded_channel();
    let (tell, mut heard) = unbounded_channel();
    tasks.spawn(Launcher::Kubernetes(Box::new(jobs)).run(ordered, tell));
    let mut news_of = async |id: &str| {
        orders.send(Order::Create(id.into())).unwrap();
        let news = async {
            loop {
                match heard.recv().await.unwrap() {
                    Heard::Of(of, news) if of == id => return news,
                    _ => {}
                }
            }
        };
        let news = tokio::time::timeout(Duration::from_secs(60), news);
        news.await.expect("the answer is told")
    };
    for (attempt, (_, refusal, part)) in expected.iter().enumerate() {
        let news = news_of(&format!("0.1.2.1700000000000.0.0.{attempt}")).await;
        let News::Refused(why, message) = news else {
            panic!("expected {refusal:?}, got {news:?}");
        };
        assert_eq!(why, *refusal, "{message}");
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
    let next = expected.len();
    let news = news_of(&format!("0.1.2.1700000000000.0.0.{next}")).await;
    assert_eq!(news, News::Created);
    // How soon to ask again is the dispatcher's to decide.
    assert_eq!(*asked.lock().unwrap(), (0..=next).collect::<Vec<_>>());
}
