//! The cluster as a user reaches it: by `kubectl`.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

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

/// Whether the command succeeds, and what it prints.
pub fn tried(arguments: &[&str]) -> (bool, String) {
    let output = run(arguments, None);
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// What the command prints; it must succeed.
pub fn kubectl(arguments: &[&str]) -> String {
    let (succeeded, said) = tried(arguments);
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
    let output = run(&arguments, None);
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
