//! What is set up wrongly is one clear line and a non-zero exit, without a password.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use url::Url;
use windlass_datagen::broker::{BrokerError, Target};
use windlass_datagen::feed::Feed;
use windlass_datagen::message::{Format, Messages, Packing};
use windlass_datagen::workload::Options;

use crate::harness::{Database, Site, service};

/// Who or what has to be right is known at once; only a silent network is waited for.
const WITHIN: Duration = Duration::from_secs(40);

/// A site with its queues, which no dispatcher will live to make.
async fn declared(name: &str, database: Database) -> Option<Site> {
    let site = Site::on(name, database).await?;
    site.broker().await.close().await;
    Some(site)
}

/// `windlass dispatch` with some settings otherwise.
fn dispatch(site: &Site, changed: &[(&str, &str)]) -> Command {
    let mut command = site.windlass(&["dispatch", "--workers", "0"]);
    command.env("WINDLASS_LISTEN", "127.0.0.1:0");
    command.envs(changed.iter().copied());
    command
}

/// Runs it to its end, which must be one line of error with these words and none of these secrets.
fn is_refused(mut command: Command, says: &[&str], secrets: &[&str]) {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("windlass starts");
    let started = Instant::now();
    while child.try_wait().expect("it can be asked").is_none() {
        if started.elapsed() > WITHIN {
            child.kill().expect("it is there");
            panic!("still running after {WITHIN:?}, expected {says:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().expect("its last words");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(output.stdout, b"", "{said}");
    let line = said.strip_suffix('\n').expect("a whole line");
    assert!(line.starts_with("error: "), "{said}");
    assert!(!line.contains('\n'), "more than one line: {said}");
    assert!(
        !line.contains("panicked") && !line.contains("stack backtrace"),
        "{said}"
    );
    for words in says {
        assert!(line.contains(words), "expected {words:?}: {said}");
    }
    for secret in secrets {
        assert!(!line.contains(secret), "{said}");
    }
    println!("{line}");
}

fn url(text: &str, change: impl FnOnce(&mut Url)) -> String {
    let mut url = Url::parse(text).expect("tests/services prints URLs");
    change(&mut url);
    url.to_string()
}

fn password(text: &str, password: &str) -> String {
    url(text, |url| {
        url.set_password(Some(password)).expect("it has a host")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_broker_is_one_clear_line() {
    let Some(site) = declared("wrong_broker", Database::MariaDb).await else {
        return;
    };
    let refused = |broker: &str, says: &[&str]| {
        is_refused(
            dispatch(&site, &[("WINDLASS_BROKER", broker)]),
            says,
            &["s3cret"],
        );
    };
    refused("u:s3cret@h", &["expected amqp://"]);
    let elsewhere = url(&password(&site.broker, "s3cret"), |url| {
        url.set_port(Some(1)).expect("it has a host");
    });
    refused(
        &elsewhere,
        &[
            "cannot reach the broker at amqp://127.0.0.1:1",
            "check that it runs",
        ],
    );
    refused(
        "amqp://u:s3cret@no-such-host.invalid",
        &["cannot reach the broker", "no-such-host"],
    );
    let wrong = password(&site.broker, "s3cret");
    refused(
        &wrong,
        &[
            "refused user",
            "or its password",
            "check the URL's credentials",
        ],
    );
    let vhost = url(&site.broker, |url| url.set_path("/nowhere"));
    refused(&vhost, &["into vhost \"nowhere\"", "rabbitmqctl add_vhost"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_user_without_a_privilege_is_one_clear_line() {
    let Some(mut site) = Site::new("denied").await else {
        return;
    };
    let user = site.stream.name.replace('-', "_");
    service(&["rabbitmqctl", "add_user", &user, "s3cret"]);
    let everything = site.broker.clone();
    site.broker = url(&password(&site.broker, "s3cret"), |url| {
        url.set_username(&user).expect("it has a host");
    });
    let exchange = format!("the broker denies exchange {:?}", site.stream.name);
    let grant = format!(
        "\"{}.*\" with `rabbitmqctl set_permissions`",
        site.stream.name
    );
    let permit = |configure: &str, write: &str, read: &str| {
        let granted = [user.as_str(), configure, write, read];
        service(&[&["rabbitmqctl", "set_permissions"], &granted[..]].concat());
    };
    // No privilege to configure; then none to read, which binding a queue needs.
    permit("^$", ".*", ".*");
    is_refused(dispatch(&site, &[]), &[&exchange, &grant], &["s3cret"]);
    permit(".*", ".*", "^$");
    let binding = format!(
        "the broker denies binding of queue \"{}.0\"",
        site.stream.name
    );
    is_refused(dispatch(&site, &[]), &[&binding, &grant], &["s3cret"]);
    service(&["rabbitmqctl", "delete_user", &user]);
    site.broker = everything;
    site.broker().await.close().await;
}

fn wrong_database(site: &Site) {
    let refused = |store: &str, says: &[&str]| {
        is_refused(
            dispatch(site, &[("WINDLASS_STORE", store)]),
            says,
            &["s3cret"],
        );
    };
    refused(
        "postgres://u:s3cret@h/d",
        &["expected a store URL like mysql://"],
    );
    let elsewhere = url(&password(&site.store, "s3cret"), |url| {
        url.set_port(Some(1)).expect("it has a host");
    });
    refused(
        &elsewhere,
        &["cannot reach mysql://", ":1/", "is the server running"],
    );
    refused(
        &password(&site.store, "s3cret"),
        &["denies access", "check user, password"],
    );
    let missing = url(&site.store, |url| url.set_path("/windlass_nowhere"));
    refused(
        &missing,
        &["windlass_nowhere has no such database", "create it first"],
    );
    let reader = url(&site.store, |url| {
        url.set_username("windlass_reader").expect("it has a host");
        url.set_password(Some("reader")).expect("it has a host");
    });
    let schema = Url::parse(&site.store).expect("a URL").path()[1..].to_owned();
    let grant = format!("ON `{schema}`.* TO");
    refused(
        &reader,
        &["lacks a privilege", "GRANT SELECT, INSERT", &grant],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_mariadb_is_one_clear_line() {
    if let Some(site) = declared("wrong_mariadb", Database::MariaDb).await {
        wrong_database(&site);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_mysql_is_one_clear_line() {
    if let Some(site) = declared("wrong_mysql", Database::MySql).await {
        wrong_database(&site);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_another_version_is_left_alone() {
    let Some(site) = declared("other_version", Database::MariaDb).await else {
        return;
    };
    assert!(site.run(&["migrate"]).status.success());
    let schema = Url::parse(&site.store).expect("a URL").path()[1..].to_owned();
    let update = format!("UPDATE {schema}.windlass_schema SET version = 99");
    service(&["sql", site.database.service(), "-e", &update]);
    let says = ["windlass schema version 99", "use the release that made it"];
    is_refused(dispatch(&site, &[]), &says, &[]);
    for reading in [&["audit"][..], &["query", "gmv"], &["migrate"]] {
        is_refused(site.windlass(reading), &says, &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_shards_cannot_change() {
    let Some(site) = Site::new("other_shards").await else {
        return;
    };
    let dispatcher = site.dispatch(&[]);
    dispatcher.becomes("owner", WITHIN).await;
    dispatcher.kill();
    let says = ["created with", "that cannot change", "under another name"];
    is_refused(dispatch(&site, &[("WINDLASS_SHARDS", "2")]), &says, &[]);

    // The broker remembers it, too, where the database is a fresh one.
    let fresh = site.dir.path().join("fresh.sqlite");
    let fresh = format!("sqlite:{}", fresh.display());
    let changed = [("WINDLASS_SHARDS", "2"), ("WINDLASS_STORE", fresh.as_str())];
    is_refused(
        dispatch(&site, &changed),
        &["another number of shards than 2"],
        &[],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_or_open_to_all_is_one_clear_line() {
    let Some(site) = declared("listening", Database::MariaDb).await else {
        return;
    };
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("its address").to_string();
    let in_use = dispatch(&site, &[("WINDLASS_LISTEN", &address)]);
    is_refused(in_use, &["cannot listen on", &address, "--listen"], &[]);
    let open = dispatch(&site, &[("WINDLASS_LISTEN", "0.0.0.0:0")]);
    is_refused(
        open,
        &["expected a token", "WINDLASS_TOKEN", "127.0.0.1"],
        &[],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_no_queue_takes_is_an_error_at_the_publisher() {
    let Some(site) = Site::new("unroutable").await else {
        return;
    };
    let target = Target::parse(&site.broker, &site.stream.name, 1).expect("a good URL");
    let publisher = target.open().await.expect("the broker answers");
    let packing = Packing {
        format: Format::Json,
        batch: 1,
        duplicates: 0.0,
        seed: 1,
    };
    let workload = site.workload(Options::default());
    let mut messages = Messages::new(Feed::Workload(Box::new(workload)), packing);
    let message = messages
        .next()
        .expect("a message")
        .expect("no file is read");
    let mut sent = publisher
        .publish(&message)
        .await
        .expect("the channel is open");
    sent.verdict().await.expect("the queue takes it");

    service(&[
        "rabbitmqctl",
        "delete_queue",
        &format!("{}.0", site.stream.name),
    ]);
    let mut sent = publisher
        .publish(&message)
        .await
        .expect("the channel is open");
    let error = sent.verdict().await.expect_err("nobody takes it");
    let BrokerError::Refused(said) = &error else {
        panic!("{error:?}");
    };
    assert!(said.contains("returned a message"), "{said}");
    assert!(said.contains("a shard's queue is missing"), "{said}");
    publisher.close().await;
    // Makes the queue again, for the site's own cleaning up.
    target
        .open()
        .await
        .expect("the broker answers")
        .close()
        .await;
}
