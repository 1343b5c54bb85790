//! Reads through the command line: replicas in turn, how old the answer is, and what is said when a
//! replica does not answer.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::Duration;

use serde_json::Value;
use url::Url;
use windlass_datagen::message::Format;
use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;

use crate::harness::{Database, Site, eventually};

const WITHIN: Duration = Duration::from_secs(60);

/// The same server under another host and port.
fn at(url: &str, host: &str, port: Option<u16>) -> String {
    let mut url = Url::parse(url).expect("tests/services prints URLs");
    url.set_host(Some(host)).expect("a host");
    if port.is_some() {
        url.set_port(port).expect("it has a host");
    }
    url.to_string()
}

async fn replicas_are_read(database: Database) {
    let Some(site) = Site::on("reading", database).await else {
        return;
    };
    let dispatcher = site.dispatch(&[]);
    let options = Options {
        rate: 1_000.0,
        duration_ms: 2_000,
        ..Options::default()
    };
    let manifest = site.publish(options, Format::Ndjson, Speed::Max).await;
    site.equals(&manifest, WITHIN).await;
    drop(dispatcher);
    let ask = |what: &str, replicas: &[&str]| -> Value {
        let mut arguments = vec!["query", what, "--format", "json"];
        for replica in replicas {
            arguments.extend(["--replica", replica]);
        }
        site.json(&arguments)
    };
    let primary = ask("totals", &[]);
    assert_eq!(primary["warnings"], serde_json::json!([]));
    eventually(WITHIN, "the replica has it all", async || {
        let answer = ask("totals", &[&site.replica]);
        answer["rows"] == primary["rows"] && answer["staleness_ms"] == 0
    })
    .await;

    // One replica under two names: by chance alone one of them is never asked in one of 2^39 runs.
    let both = [
        at(&site.replica, "127.0.0.1", None),
        at(&site.replica, "localhost", None),
    ];
    let both = [both[0].as_str(), both[1].as_str()];
    let mut asked = BTreeSet::new();
    for _ in 0..40 {
        let answer = ask("totals", &both);
        assert_eq!(answer["rows"], primary["rows"]);
        let server = answer["server"].as_str().expect("a name").to_owned();
        assert!(!server.contains(":windlass@"), "{server}");
        let host = Url::parse(&server).expect("a URL");
        asked.insert(host.host_str().expect("a host").to_owned());
        if asked.len() == 2 {
            break;
        }
    }
    assert_eq!(asked.len(), 2, "only {asked:?}");

    // A dead one is passed over with a warning, whenever its turn comes; a live one answers.
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = nobody.local_addr().expect("its address").port();
    drop(nobody);
    let dead = at(&site.replica, "127.0.0.1", Some(port));
    let mut warned = false;
    for _ in 0..40 {
        let answer = ask("gmv", &[&dead, &site.replica]);
        let server = answer["server"].as_str().expect("a name");
        assert!(!server.contains(&format!(":{port}/")), "{server}");
        let warnings = answer["warnings"].as_array().expect("an array");
        if let [warning] = warnings.as_slice() {
            let warning = warning.as_str().expect("a text");
            assert!(
                warning.starts_with("replica skipped: cannot reach"),
                "{warning}"
            );
            warned = true;
            break;
        }
        assert!(warnings.is_empty(), "{warnings:?}");
    }
    assert!(warned, "the dead one's turn never came");

    // With none alive the primary answers, and that is said; in a table, on standard error.
    let answer = ask("totals", &[&dead]);
    assert_eq!(answer["rows"], primary["rows"]);
    assert_eq!(answer["server"], primary["server"]);
    let output = site.run(&["query", "totals", "--replica", &dead]);
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).expect("text");
    let expected = "warning: no replica answered: this is the primary's answer\n";
    assert!(said.contains(expected), "{said}");
    assert!(said.contains("warning: replica skipped: "), "{said}");
    assert!(!said.contains(":windlass@"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_to_mariadb_replicas_in_turn() {
    replicas_are_read(Database::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_to_mysql_replicas_in_turn() {
    replicas_are_read(Database::MySql).await;
}
