//! `windlass demo` from its start to its audit, and what can be asked of the store it leaves behind:
//! real processes, no servers.

#![allow(
    clippy::disallowed_methods,
    reason = "the tests are a shell: they read clocks"
)]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// `windlass ARGUMENTS`, with no `WINDLASS_*` variable.
fn windlass(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
    command
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(arguments: &[&str]) -> Output {
    windlass(arguments).output().unwrap()
}

/// What it said, which must be a success.
fn said(output: &Output) -> &str {
    let errors = String::from_utf8_lossy(&output.stderr);
    let said = std::str::from_utf8(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}{errors}");
    said
}

/// The demo's audit: published, counted, late, quarantined.
fn audited(said: &str) -> [u64; 4] {
    let line = said.lines().find(|line| line.starts_with("audit: "));
    let line = line.unwrap_or_else(|| panic!("no audit: {said}"));
    let words = line.split(' ').filter_map(|word| word.parse().ok());
    let numbers: Vec<u64> = words.collect();
    numbers.try_into().unwrap_or_else(|_| panic!("{line}"))
}

fn adds_up([published, counted, late, quarantined]: [u64; 4]) {
    assert!(published > 0 && counted > 0);
    assert_eq!(published, counted + late + quarantined);
}

/// A store's URL and the manifest beside it.
fn left_in(directory: &Path) -> (String, String) {
    let store = directory.join("results.sqlite");
    let manifest = directory.join("manifest.json");
    (
        format!("sqlite:{}", store.display()),
        manifest.display().to_string(),
    )
}

#[test]
fn the_demo_ends_by_itself_with_an_audit_that_notices_any_difference() {
    let here = tempfile::tempdir().unwrap();
    let directory = here.path().join("demo");
    let at = directory.display().to_string();
    let demo = run(&["demo", "--for", "2s", "--rate", "300", "--dir", &at]);
    let demo = said(&demo);
    adds_up(audited(demo));
    assert!(demo.contains("no difference in"), "{demo}");
    let (store, manifest) = left_in(&directory);
    assert!(demo.contains(&format!("results: {store}")), "{demo}");

    // As the demo proposes it.
    let audit = format!("audit --store {store} --manifest {manifest}");
    assert!(demo.contains(&format!("windlass {audit}")), "{demo}");
    let audit: Vec<&str> = audit.split(' ').collect();
    assert!(said(&run(&audit)).contains("no difference in"));

    // One order more in one window of what was published.
    let text = std::fs::read(&manifest).unwrap();
    let mut changed: Value = serde_json::from_slice(&text).unwrap();
    let window = &mut changed["windows"][0];
    window["orders"] = (window["orders"].as_u64().unwrap() + 1).into();
    let start = window["start_ms"].as_i64().unwrap();
    let start = jiff::Timestamp::from_millisecond(start).unwrap();
    let key = window["key"].as_str().unwrap().to_owned();
    std::fs::write(&manifest, changed.to_string()).unwrap();
    let differs = run(&audit);
    assert_eq!(differs.status.code(), Some(1));
    let report = std::str::from_utf8(&differs.stdout).unwrap();
    let window = format!("window {start} {key}: expected");
    assert!(report.contains(&window), "expected {window:?}: {report}");
    assert!(report.contains("1 differences in"), "{report}");
    let differs = run(&[&audit[..], &["--format", "json"]].concat());
    assert_eq!(differs.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&differs.stdout).unwrap();
    let differences = report["differences"]["differences"].as_array().unwrap();
    assert_eq!(differences.len(), 1, "{report}");
}

#[test]
fn ctrl_c_drains_the_demo_and_its_rows_can_be_queried() {
    let here = tempfile::tempdir().unwrap();
    let at = here.path().display().to_string();
    let (store, _) = left_in(here.path());
    let mut demo = windlass(&["demo", "--for", "10m", "--rate", "300", "--dir", &at]);
    let demo = demo.spawn().unwrap();
    let started = Instant::now();
    let totals = ["query", "totals", "--store", &store, "--format", "csv"];
    // Three windows with orders, of which the header is no line.
    let gmv = ["query", "gmv", "--store", &store, "--format", "csv"];
    while windows(&run(&gmv)) < 3 {
        assert!(started.elapsed() < Duration::from_secs(60), "no rows");
        std::thread::sleep(Duration::from_millis(100));
    }
    kill_process(Pid::from_raw(demo.id() as i32).unwrap(), Signal::INT).unwrap();
    let demo = demo.wait_with_output().unwrap();
    adds_up(audited(said(&demo)));
    assert!(said(&demo).contains("no difference in"));
    let orders: u64 = said(&run(&totals))
        .lines()
        .skip(1)
        .map(|line| line.split(',').nth(1).unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(
        orders,
        audited(said(&demo))[1],
        "the totals count what the audit counts"
    );
    queries(&store);
}

/// How many windows a CSV answer has; 0 of a store that is not there yet.
fn windows(answer: &Output) -> usize {
    let text = std::str::from_utf8(&answer.stdout).unwrap();
    let mut starts: Vec<&str> = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split(',').next())
        .collect();
    starts.dedup();
    starts.len()
}

/// `query gmv` by last, from, to and province, in each format.
fn queries(store: &str) {
    let ask = |choice: &[&str]| {
        let arguments = ["query", "gmv", "--store", store, "--format", "json"];
        let answer = run(&[&arguments[..], choice].concat());
        let answer: Value = serde_json::from_str(said(&answer)).unwrap();
        answer["rows"].as_array().unwrap().clone()
    };
    let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
    let all = ask(&["--last", "1h"]);
    let mut starts: Vec<String> = all.iter().map(|row| text(row, "window_start")).collect();
    starts.dedup();
    assert!(starts.len() >= 3, "{starts:?}");
    let newest = ask(&["--last", "1s"]);
    assert!(!newest.is_empty());
    for row in newest {
        assert_eq!(text(&row, "window_start"), starts[starts.len() - 1]);
    }

    // From a window's start on, and up to another's: half-open.
    let instant = |at: usize| starts[at].replace(' ', "T") + "Z";
    let between = ask(&["--from", &instant(0), "--to", &instant(2)]);
    let expected = all
        .iter()
        .filter(|row| text(row, "window_start") < starts[2]);
    assert_eq!(between, expected.cloned().collect::<Vec<_>>());

    let province = text(&all[0], "province");
    let of_one = ask(&["--last", "1h", "--province", &province]);
    let expected = all.iter().filter(|row| text(row, "province") == province);
    assert_eq!(of_one, expected.cloned().collect::<Vec<_>>());

    let show = |format: &str| {
        let arguments = [
            "query", "gmv", "--store", store, "--last", "1h", "--format", format,
        ];
        run(&arguments)
    };
    for (format, header) in [
        ("csv", "window_start,province,orders,gmv,"),
        ("table", "WINDOW (UTC)"),
    ] {
        let answer = show(format);
        let mut lines = said(&answer).lines();
        assert!(lines.next().unwrap().trim_start().starts_with(header));
        assert_eq!(lines.count(), all.len(), "{format}");
        let beside = std::str::from_utf8(&answer.stderr).unwrap();
        let expected = format!("{} rows from {store}, 0 ms old\n", all.len());
        assert_eq!(beside, expected);
    }
}
