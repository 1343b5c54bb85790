//! No password or token shows where it is not needed: logs, process titles, workers' environments.

use std::time::Duration;

use url::Url;
use windlass_datagen::message::Format;
use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;

use crate::harness::{Site, service};

/// Of a process of ours.
fn read(path: &str) -> String {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

const WITHIN: Duration = Duration::from_secs(60);
/// Of the broker, of the store, and between dispatcher and workers.
const SECRETS: [&str; 3] = ["br0ker-secret", "st0re-secret", "t0ken-secret"];

#[tokio::test(flavor = "multi_thread")]
async fn no_password_reaches_a_log_a_worker_or_a_process_title() {
    let Some(mut site) = Site::new("passwords").await else {
        return;
    };
    // Users of the test's own, whose passwords are like nothing else.
    let user = site.stream.name.replace('-', "_");
    let as_user = |text: &str, password: &str| {
        let mut url = Url::parse(text).expect("tests/services prints URLs");
        url.set_username(&user).expect("it has a host");
        url.set_password(Some(password)).expect("it has a host");
        url.to_string()
    };
    service(&["rabbitmqctl", "add_user", &user, SECRETS[0]]);
    service(&["rabbitmqctl", "set_permissions", &user, ".*", ".*", ".*"]);
    let create = format!(
        "CREATE USER {user}@'%' IDENTIFIED BY '{}'; GRANT ALL ON *.* TO {user}@'%'",
        SECRETS[1]
    );
    service(&["sql", site.database.service(), "-e", &create]);
    site.broker = as_user(&site.broker, SECRETS[0]);
    site.store = as_user(&site.store, SECRETS[1]);
    let config = std::fs::read_to_string(site.dir.path().join("windlass.toml")).expect("ours");
    let config = format!("token = {:?}\n{config}", SECRETS[2]);
    std::fs::write(site.dir.path().join("windlass.toml"), config).expect("ours");
    let dispatcher = site.dispatch(&["--log", "trace"]);
    let options = Options {
        rate: 500.0,
        duration_ms: 1_000,
        ..Options::default()
    };
    let manifest = site.publish(options, Format::Json, Speed::Max).await;
    site.settled(manifest.totals.orders, WITHIN).await;
    let workers = dispatcher.workers();
    assert_eq!(workers.len(), 1, "one worker was asked for");
    for worker in workers {
        let title = read(&format!("/proc/{worker}/cmdline"));
        assert!(title.contains("function"), "{title}");
        for secret in SECRETS {
            assert!(!title.contains(secret), "{title}");
        }
        // Its own token is all that a worker is told.
        let environment = read(&format!("/proc/{worker}/environ"));
        assert!(environment.contains("WINDLASS_TOKEN"), "{environment}");
        for unknown in ["WINDLASS_BROKER", "WINDLASS_STORE", SECRETS[0], SECRETS[1]] {
            assert!(!environment.contains(unknown), "{environment}");
        }
    }
    let log = dispatcher.logged();
    assert!(log.contains("shard taken over"), "{log}");
    for secret in SECRETS {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "the log tells {secret:?}");
    }
    drop(dispatcher);
    service(&["rabbitmqctl", "delete_user", &user]);
    let drop = format!("DROP USER {user}@'%'");
    service(&["sql", site.database.service(), "-e", &drop]);
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_with_passwords_leave_the_process_title() {
    let Some(site) = Site::new("title").await else {
        return;
    };
    let token = "t0ken-secret";
    let flags = [
        "--broker",
        &site.broker,
        "--replica",
        &site.replica,
        "--token",
        token,
        "--prefetch",
        "77",
    ];
    let store = format!("--store={}", site.store);
    let dispatcher = site.dispatch(&[&flags[..], &[&store]].concat());
    dispatcher.logs("shard taken over", WITHIN).await;
    let process = format!("/proc/{}", dispatcher.id());
    let title = read(&format!("{process}/cmdline"));
    assert!(title.contains("dispatch --listen"), "{title}");
    assert!(
        title.contains("--prefetch 77"),
        "what is no secret stays: {title}"
    );
    for hidden in [
        "windlass:windlass@",
        token,
        "--token",
        "--broker",
        "--store",
        "--replica",
    ] {
        assert!(!title.contains(hidden), "{title}");
    }
    // They are where only this user can read them.
    let environment = read(&format!("{process}/environ"));
    assert!(environment.contains(&format!("WINDLASS_TOKEN={token}")));
    assert!(environment.contains(&format!("WINDLASS_REPLICAS={}", site.replica)));
    let mode = std::fs::metadata(format!("{process}/environ")).expect("it is there");
    let mode = std::os::unix::fs::PermissionsExt::mode(&mode.permissions());
    assert_eq!(mode & 0o777, 0o400);
}
