//! The cluster as a user reaches it: by `kubectl`.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long an API server may be out of reach.
const PATIENCE: Duration = Duration::from_secs(20);

fn run(arguments: &[&str], input: Option<&str>) -> Output {
    let mut command = Command::new("kubectl");
    command.args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().expect("kubectl starts");
    if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
        pipe.write_all(input.as_bytes())
            .expect("kubectl reads its input");
    }
    child.wait_with_output().expect("kubectl ends")
}

/// The same; what only reads is tried again while a busy API server does not take it.
fn patiently(arguments: &[&str]) -> Output {
    let reads = arguments.iter().any(|word| matches!(*word, "get" | "logs"));
    let started = Instant::now();
    loop {
        let output = run(arguments, None);
        let said = String::from_utf8_lossy(&output.stderr);
        let away = [
            "Unable to connect to the server",
            "did you specify the right host",
            "etcdserver:",
        ];
        let again = reads && !output.status.success() && away.iter().any(|why| said.contains(why));
        if !again || started.elapsed() > PATIENCE {
            return output;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn all_said(output: &Output) -> String {
    let said = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

/// Whether the command succeeds, and what it prints.
pub fn tried(arguments: &[&str]) -> (bool, String) {
    let output = run(arguments, None);
    (output.status.success(), all_said(&output))
}

/// What the command prints; it must succeed.
pub fn kubectl(arguments: &[&str]) -> String {
    let output = patiently(arguments);
    let said = all_said(&output);
    let succeeded = output.status.success();
    assert!(succeeded, "kubectl {}: {said}", arguments.join(" "));
    said
}

/// `kubectl apply` of manifests given as text.
pub fn apply(manifests: &str) {
    let output = run(&["apply", "--filename", "-"], Some(manifests));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kubectl apply: {said}");
}

/// An object, or a list of them, as JSON.
pub fn json(arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = [arguments, &["--output", "json"]].concat();
    let output = patiently(&arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "kubectl {}: {said}",
        arguments.join(" ")
    );
    serde_json::from_slice(&output.stdout).expect("kubectl prints JSON")
}

/// The objects of a list.
pub fn items(arguments: &[&str]) -> Vec<Value> {
    let mut list = json(arguments);
    match list["items"].take() {
        Value::Array(items) => items,
        other => panic!("expected a list, got {other}"),
    }
}
