//! TLS of broker, database and invocation API, with a private authority; what it does not vouch for,
//! and another host's certificate, are refused with a clear error.

use std::path::PathBuf;
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use url::Url;
use windlass_datagen::message::Format;
use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;

use crate::harness::{Database, Process, Site, free_address};

const WITHIN: Duration = Duration::from_secs(60);
const TOKEN: &str = "t0ken";

/// A file that `tests/services` has made.
fn made(name: &str) -> String {
    let folder = std::env::var("WINDLASS_TEST_TLS").expect("tests/services env names it");
    PathBuf::from(folder).join(name).display().to_string()
}

fn broker(host: &str, authority: &str) -> String {
    let url = std::env::var("WINDLASS_TEST_AMQPS").expect("tests/services env names it");
    let mut url = Url::parse(&url).expect("tests/services prints URLs");
    url.set_host(Some(host)).expect("a host");
    url.query_pairs_mut()
        .append_pair("cacertfile", &made(authority));
    url.to_string()
}

fn store(site: &Site, host: &str, authority: &str) -> String {
    let mut url = Url::parse(&site.store).expect("made by the harness");
    url.set_host(Some(host)).expect("a host");
    url.set_query(None);
    url.query_pairs_mut()
        .append_pair("ssl-mode", "VERIFY_IDENTITY")
        .append_pair("ssl-ca", &made(authority));
    url.to_string()
}

/// A worker over HTTPS; killed when dropped.
struct Worker(Child);

impl Worker {
    fn of(site: &Site, dispatcher: &str) -> Self {
        let mut command = site.windlass(&["function", "--dispatcher", dispatcher]);
        command.env("WINDLASS_CA", made("ca.crt"));
        command.env("WINDLASS_TOKEN", TOKEN);
        let child = command.stderr(Stdio::null()).spawn();
        Self(child.expect("a worker starts"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A dispatcher that serves HTTPS, and its address by name.
fn dispatcher(site: &Site) -> (Process, String) {
    let address = free_address();
    let listen = address.to_string();
    let (certificate, key) = (made("server.crt"), made("server.key"));
    let mut command = site.windlass(&["dispatch", "--listen", &listen, "--workers", "0"]);
    command.args(["--tls-cert", &certificate, "--tls-key", &key]);
    command.env("WINDLASS_TOKEN", TOKEN);
    let process = Process::start(command, site.dir.path(), address);
    process.answers();
    (process, format!("https://localhost:{}", address.port()))
}

fn status(site: &Site, dispatcher: &str, authority: &str) -> Output {
    let mut command = site.windlass(&["status", "--dispatcher", dispatcher, "-o", "json"]);
    command.env("WINDLASS_CA", made(authority));
    command.env("WINDLASS_TOKEN", TOKEN);
    command.output().expect("windlass status starts")
}

fn refused(output: &Output, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains(why), "expected {why:?} in: {said}");
}

const WRONG_AUTHORITY: &str = "an authority that is not trusted here";
const WRONG_HOST: &str = "its certificate is for other hosts";

async fn every_order_counts_over_tls(database: Database) {
    let Some(mut site) = Site::on("tls", database).await else {
        return;
    };
    site.broker = broker("localhost", "ca.crt");
    site.store = store(&site, "localhost", "ca.crt");
    let (_dispatcher, address) = dispatcher(&site);
    let _worker = Worker::of(&site, &address);
    let options = Options {
        rate: 500.0,
        duration_ms: 2_000,
        ..Options::default()
    };
    let manifest = site.publish(options, Format::Json, Speed::Max).await;
    site.equals(&manifest, WITHIN).await;
    let shown = status(&site, &address, "ca.crt");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("\"idle\": 1"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_order_counts_over_tls_with_mariadb() {
    every_order_counts_over_tls(Database::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_order_counts_over_tls_with_mysql() {
    every_order_counts_over_tls(Database::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_authority_and_a_wrong_host_are_refused_with_what_is_wrong() {
    let Some(mut site) = Site::new("tls-wrong").await else {
        return;
    };
    let (good_broker, good_store) = (
        broker("localhost", "ca.crt"),
        store(&site, "localhost", "ca.crt"),
    );
    for (host, authority, why) in [
        ("localhost", "other-ca.crt", WRONG_AUTHORITY),
        ("127.0.0.1", "ca.crt", WRONG_HOST),
    ] {
        let bad_store = store(&site, host, authority);
        refused(&site.run(&["migrate", "--store", &bad_store]), why);
        let bad_broker = broker(host, authority);
        let publish = ["datagen", "publish", "--rate", "1", "--broker", &bad_broker];
        refused(&site.run(&publish), why);
        let dispatch = ["dispatch", "--broker", &bad_broker, "--store", &good_store];
        refused(&site.run(&dispatch), why);
    }
    (site.broker, site.store) = (good_broker, good_store);
    let (process, address) = dispatcher(&site);
    refused(&status(&site, &address, "other-ca.crt"), WRONG_AUTHORITY);
    let by_number = format!("https://{}", process.address);
    refused(&status(&site, &by_number, "ca.crt"), WRONG_HOST);
    let plain = format!("http://{}", process.address);
    assert!(!status(&site, &plain, "ca.crt").status.success());
}
