//! The `windlass` command as a user meets it: real processes, their output and exit status.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// `windlass ARGUMENTS` in `directory`, with no `WINDLASS_*` variable but those given.
fn windlass(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
    command
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null());
    command
}

fn run(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    windlass(directory, arguments, variables).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Asserts failure with exactly one line on standard error, and returns it.
fn one_line(output: &Output) -> &str {
    let line = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.starts_with("error: "), "{line}");
    assert!(!line.contains("s3cret"), "{line}");
    line
}

#[test]
fn help_teaches_by_example() {
    let here = tempfile::tempdir().unwrap();
    for arguments in [
        &["--help"][..],
        &["migrate", "--help"],
        &["function", "--help"],
        &["query", "--help"],
        &["query", "gmv", "--help"],
        &["audit", "--help"],
        &["quarantine", "--help"],
        &["quarantine", "replay", "--help"],
        &["scaler", "--help"],
        &["scaler", "bench", "--help"],
        &["scaler", "train", "--help"],
        &["scaler", "policy", "--help"],
    ] {
        let output = run(here.path(), arguments, &[]);
        assert!(output.status.success());
        let help = text(&output.stdout);
        assert!(help.contains("Examples:\n  "), "{help}");
    }
}

#[test]
fn help_shows_no_secret_of_the_environment() {
    let here = tempfile::tempdir().unwrap();
    let secrets = [
        ("WINDLASS_STORE", "mysql://u:s3cret@h/d"),
        ("WINDLASS_BROKER", "amqp://u:s3cret@h"),
        ("WINDLASS_REPLICAS", "mysql://u:s3cret@h/d"),
        ("WINDLASS_TOKEN", "s3cret"),
    ];
    for command in [
        &["function"][..],
        &["query", "gmv"],
        &["quarantine", "list"],
        &["migrate"],
    ] {
        let output = run(here.path(), &[command, &["--help"]].concat(), &secrets);
        assert!(!text(&output.stdout).contains("s3cret"));
    }
}

#[test]
fn an_unknown_key_in_the_configuration_is_refused_with_the_known_ones() {
    let here = tempfile::tempdir().unwrap();
    std::fs::write(here.path().join("w.toml"), "[dispatch]\nmax-slize = \"1s\"").unwrap();
    let output = run(here.path(), &["migrate", "--config", "w.toml"], &[]);
    let line = one_line(&output);
    assert!(line.contains("w.toml, line 2"), "{line}");
    assert!(
        line.contains("max-slize") && line.contains("`max-slice`"),
        "{line}"
    );
}

#[test]
fn an_unknown_variable_is_refused_with_the_likely_one() {
    let here = tempfile::tempdir().unwrap();
    let store = ("WINDLASS_STORE", "sqlite:w.db");
    for (name, likely) in [
        ("WINDLASS_PREFETC", "WINDLASS_PREFETCH"),
        ("WINDLASS_STROE", "WINDLASS_STORE"),
    ] {
        let output = run(here.path(), &["migrate"], &[store, (name, "s3cret")]);
        let line = one_line(&output);
        assert!(line.contains(&format!("got {name}, ")), "{line}");
        assert!(line.contains(&format!("mean {likely}?")), "{line}");
    }
    assert!(!here.path().join("w.db").exists());
    // What tests are told by, and what Kubernetes sets for a service of that name.
    let others = [
        store,
        ("WINDLASS_TEST_AMQP", "x"),
        ("WINDLASS_SERVICE_HOST", "10.0.0.1"),
        ("WINDLASS_PORT_7070_TCP_ADDR", "10.0.0.1"),
    ];
    assert!(run(here.path(), &["migrate"], &others).status.success());
}

#[test]
fn flags_win_over_the_environment_which_wins_over_the_file() {
    let here = tempfile::tempdir().unwrap();
    let made = |name: &str| here.path().join(name).exists();
    std::fs::write(here.path().join("w.toml"), "store = \"sqlite:file.db\"").unwrap();
    let file = ["migrate", "--config", "w.toml"];
    let environment = [("WINDLASS_STORE", "sqlite:environment.db")];
    let flags = [&file[..], &["--store", "sqlite:flag.db"]].concat();

    assert!(run(here.path(), &flags, &environment).status.success());
    assert!(made("flag.db") && !made("environment.db") && !made("file.db"));
    assert!(run(here.path(), &file, &environment).status.success());
    assert!(made("environment.db") && !made("file.db"));
    assert!(run(here.path(), &file, &[]).status.success());
    assert!(made("file.db"));
}

#[test]
fn a_broken_address_gives_one_line_that_says_what_to_do() {
    let here = tempfile::tempdir().unwrap();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let mysql = format!("mysql://u:s3cret@127.0.0.1:{port}/d");
    let amqp = format!("amqp://u:s3cret@127.0.0.1:{port}");
    for (arguments, said) in [
        (&["migrate"][..], "WINDLASS_STORE"),
        (&["migrate", "--store", "u:s3cret@h"], "mysql://"),
        (&["migrate", "--store", &mysql], "127.0.0.1"),
        (&["audit", "--store", &mysql], "127.0.0.1"),
        (&["query", "totals", "--store", &mysql], "127.0.0.1"),
        (&["audit", "--store", "sqlite:no.db"], "migrate"),
        (&["quarantine", "list"], "WINDLASS_BROKER"),
        (
            &["quarantine", "list", "--broker", "u:s3cret@h"],
            "expected amqp://",
        ),
        (&["quarantine", "list", "--broker", &amqp], "127.0.0.1"),
        (&["quarantine", "replay", "--broker", &amqp], "--all"),
        (&["function"], "WINDLASS_DISPATCHER"),
        (&["function", "--dispatcher", "127.0.0.1:1"], "http://"),
        (&["migrate", "--log", "a=b=c"], "log filter"),
        (&["migrate", "--config", "nowhere.toml"], "nowhere.toml"),
        (
            &["audit", "--store", "sqlite:x", "--manifest", "no.json"],
            "no.json",
        ),
    ] {
        let output = run(here.path(), arguments, &[]);
        let line = one_line(&output);
        assert!(line.contains(said), "{arguments:?}: {line}");
    }
}

#[test]
fn an_empty_stream_is_audited_and_queried() {
    let here = tempfile::tempdir().unwrap();
    let store = [("WINDLASS_STORE", "sqlite:w.db")];
    assert!(run(here.path(), &["migrate"], &store).status.success());

    let audit = run(here.path(), &["audit", "--format", "json"], &store);
    assert!(audit.status.success(), "{}", text(&audit.stderr));
    let audit: serde_json::Value = serde_json::from_slice(&audit.stdout).unwrap();
    assert_eq!(audit["sources"], serde_json::json!([]));
    assert_eq!(audit["duplicates"], 0);
    assert!(audit.get("differences").is_none());

    let query = run(here.path(), &["query", "gmv", "--format", "json"], &store);
    let answer: serde_json::Value = serde_json::from_slice(&query.stdout).unwrap();
    assert_eq!(answer["rows"], serde_json::json!([]));
    for arguments in [&["audit"][..], &["query", "gmv"], &["query", "totals"]] {
        let output = run(here.path(), arguments, &store);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    for (what, header) in [
        (
            "gmv",
            "window_start,province,orders,gmv,mean,min_amount,max_amount,revision,state\n",
        ),
        ("totals", "province,orders,gmv,mean,min_amount,max_amount\n"),
    ] {
        let output = run(here.path(), &["query", what, "--format", "csv"], &store);
        assert_eq!(text(&output.stdout), header, "{}", text(&output.stderr));
    }
}

#[test]
fn a_stream_that_exists_with_other_shards_is_refused() {
    let here = tempfile::tempdir().unwrap();
    let store = [("WINDLASS_STORE", "sqlite:w.db")];
    assert!(run(here.path(), &["migrate"], &store).status.success());
    let output = run(here.path(), &["migrate", "--shards", "2"], &store);
    assert!(one_line(&output).contains("shards"));
}

#[test]
fn a_worker_that_is_to_be_probed_asks_for_work_after_the_second_probe() {
    let here = tempfile::tempdir().unwrap();
    let dispatcher = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    let probes = format!("127.0.0.1:{port}");
    drop(free);
    let url = format!("http://{}", dispatcher.local_addr().unwrap());
    let arguments = ["function", "--dispatcher", &url, "--listen", &probes];
    let mut worker = windlass(here.path(), &arguments, &[])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // It listens, and would have called by now. To connect would be to probe.
    let listening = format!("0100007F:{port:04X} 00000000:0000 0A");
    let sockets = || std::fs::read_to_string("/proc/net/tcp").unwrap();
    while !sockets().contains(&listening) {
        assert_eq!(worker.try_wait().unwrap(), None, "the worker has ended");
    }
    dispatcher.set_nonblocking(true).unwrap();
    for probed in 0..2 {
        std::thread::sleep(Duration::from_millis(300));
        assert!(
            dispatcher.accept().is_err(),
            "it asks after {probed} probes"
        );
        TcpStream::connect(&probes).unwrap();
    }
    dispatcher.set_nonblocking(false).unwrap();
    let (mut call, _) = dispatcher.accept().unwrap();
    let mut head = [0; 26];
    call.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"GET /v1/invocations/next?w");
    TcpStream::connect(&probes).expect("a kubelet that was restarted probes again");
    worker.kill().unwrap();
    worker.wait().unwrap();
}

#[test]
fn a_reader_who_goes_away_is_no_error() {
    let here = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let mut child = windlass(here.path(), &["completions", shell], &[])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        let mut stderr = child.stderr.take().unwrap();
        stderr.read_to_string(&mut said).unwrap();
        assert!(child.wait().unwrap().success(), "{said}");
        assert_eq!(said, "");
    }
}

#[test]
fn generated_files_are_of_the_kind_that_the_folder_or_the_flag_names() {
    let here = tempfile::tempdir().unwrap();
    let generate = |out: &str, more: &[&str]| {
        let arguments = [
            "datagen", "generate", "--out", out, "--files", "3", "--rows", "40",
        ];
        run(here.path(), &[&arguments[..], more].concat(), &[])
    };
    for (out, flags, kind) in [
        ("plain", &[][..], "csv"),
        ("orders.csv", &[], "csv"),
        ("orders.parquet", &[], "parquet"),
        ("orders.arrow", &["--format", "arrow"], "arrow"),
        ("orders.2025", &["--format", "parquet"], "parquet"),
    ] {
        let output = generate(out, flags);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let said = text(&output.stdout);
        assert!(said.starts_with("wrote 120 orders to 3 files"), "{said}");
        let names = std::fs::read_dir(here.path().join(out)).unwrap();
        let mut names: Vec<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        let mut expected: Vec<_> = (0..3).map(|n| format!("orders-0{n}.{kind}")).collect();
        expected.push("windlass-manifest.json".into());
        assert_eq!(names, expected);
        let manifest = here.path().join(out).join("windlass-manifest.json");
        let manifest = std::fs::read(manifest).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["totals"]["orders"], 120);
    }
    let magic =
        |path: &str, length| std::fs::read(here.path().join(path)).unwrap()[..length].to_vec();
    assert_eq!(magic("orders.parquet/orders-00.parquet", 4), b"PAR1");
    assert_eq!(magic("orders.arrow/orders-00.arrow", 6), b"ARROW1");

    for (out, flags, says) in [
        (
            "other.parquet",
            &["--format", "csv"][..],
            "expected --format parquet",
        ),
        ("other.ndjson", &[], "not generated"),
        ("plain", &[], "expected an empty folder"),
    ] {
        let output = generate(out, flags);
        assert!(one_line(&output).contains(says), "{}", text(&output.stderr));
    }
}

#[test]
fn scaler_bench_scores_in_json_and_names_what_it_knows() {
    let here = tempfile::tempdir().unwrap();
    let bench = [
        "scaler",
        "bench",
        "--seeds",
        "5000..5001",
        "--patterns",
        "steady",
    ];
    let some = ["--policies", "oracle,slo-ds2-tuned", "-o", "json"];
    let output = run(here.path(), &[&bench[..], &some].concat(), &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(lines.as_array().unwrap().len(), 2);
    assert_eq!(lines[0]["policy"], "oracle");
    assert_eq!(lines[0]["cost"], 1.0);
    for key in ["j", "cost", "late_percent", "p99", "actions"] {
        assert!(lines[1][key].is_number(), "{key}");
    }
    let output = run(here.path(), &["scaler", "bench", "--policies", "best"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("slo-ds2-tuned"));
}

#[test]
fn scaler_draws_the_shipped_policy_and_prints_every_tuning_key() {
    let here = tempfile::tempdir().unwrap();
    let drawn = run(here.path(), &["scaler", "policy"], &[]);
    assert!(
        text(&drawn.stdout).contains("volatility"),
        "{}",
        text(&drawn.stderr)
    );
    let files = ["scaler", "policy", "--svg", "p.svg", "--csv", "p.csv"];
    assert!(run(here.path(), &files, &[]).status.success());
    let svg = std::fs::read_to_string(here.path().join("p.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    let csv = std::fs::read_to_string(here.path().join("p.csv")).unwrap();
    assert!(
        csv.lines().next().unwrap().ends_with("greedy,visits,gap"),
        "{csv}"
    );
    let example = run(here.path(), &["scaler", "example"], &[]);
    // The ConfigMap's `_example` block, to the letter.
    let shipped = include_str!("../k8s/components/scaler/tuning.example.txt");
    assert_eq!(text(&example.stdout), shipped);
    std::fs::write(here.path().join("t.txt"), "hello").unwrap();
    let refused = run(here.path(), &["scaler", "policy", "--table", "t.txt"], &[]);
    assert!(one_line(&refused).contains("t.txt"));
}

#[test]
fn scaler_train_is_reproducible() {
    let here = tempfile::tempdir().unwrap();
    let train = ["scaler", "train", "--hours", "2", "--seed", "9"];
    let (once, again) = (run(here.path(), &train, &[]), run(here.path(), &train, &[]));
    assert!(once.status.success() && !once.stdout.is_empty());
    assert_eq!(once.stdout, again.stdout);
}
