//! TLS from a Secret with the certificate of a private authority: the invocation API over HTTPS, for warm
//! workers, for Jobs, for the scaler, and for whoever asks through the API server; broker and database as
//! pods reach them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;

use crate::harness::{Extras, Site, eventually, root};
use crate::submit::{said, well, windlass};

const WITHIN: Duration = Duration::from_secs(180);

/// The Secret that the component `tls` names, for the dispatcher and for the servers of [`SERVERS`].
fn secret(directory: &Path) -> String {
    let make = "die() { echo \"$*\" >&2; exit 1; }; . tests/lib/certificates.sh; \
                dir=$0; make_certificates windlass-dispatcher broker database";
    let made = Command::new("bash")
        .args(["-euo", "pipefail", "-c", make])
        .arg(directory)
        .current_dir(root())
        .output()
        .expect("bash starts");
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{said}");
    let read = |name: &str| {
        std::fs::read_to_string(directory.join("tls").join(name)).expect("a certificate or key")
    };
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "windlass-tls"},
        "stringData": {
            "ca.crt": read("ca.crt"), "tls.crt": read("server.crt"), "tls.key": read("server.key"),
        },
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_jobs_and_the_scaler_speak_https_to_the_dispatcher() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let secret = secret(directory.path());
    let extras = Extras {
        // The scaler looks on: the pool is emptied by hand.
        patches: &[TUNING],
        components: &["scaler", "tls"],
        manifests: &secret,
        ..Extras::default()
    };
    let Some(site) = Site::beside("tls", &extras).await else {
        return;
    };
    let options = Options {
        rate: 500.0,
        ..Options::default()
    };
    let load = site.load(options, Speed::Times(1.0));
    site.progresses(WITHIN).await;
    site.kubectl(&["scale", "deployment/windlass-workers", "--replicas=0"]);
    eventually(WITHIN, "windows run as Jobs", async || {
        let said = well(&windlass(&site, &["status", "-o", "json"]));
        let status: Value = serde_json::from_str(&said).expect("JSON");
        status["placement"]["ran"]["overflow"].as_u64() > Some(0)
    })
    .await;
    site.progresses(WITHIN).await;
    let manifest = load.end().await;
    site.equals(&manifest, WITHIN).await;
    let seconds = site.dir.path().join("seconds.csv");
    eventually(WITHIN, "the scaler sees what arrives", async || {
        let log = site.kubectl(&["logs", "deployment/windlass-scaler"]);
        assert!(!log.contains("certificate"), "{log}");
        let mut export = Command::new(env!("CARGO_BIN_EXE_windlass"));
        export
            .args(["scaler", "replay", "--export"])
            .arg(&seconds)
            .env("WINDLASS_CONFIG", site.dir.path().join("windlass.toml"))
            .env("WINDLASS_STORE", &site.store);
        well(&export.output().expect("the windlass command starts"));
        let seconds = std::fs::read_to_string(&seconds).expect("the seconds");
        let arrived = |line: &str| line.split(',').nth(7)?.parse::<f64>().ok();
        seconds
            .lines()
            .filter_map(arrived)
            .any(|arrived| arrived > 0.0)
    })
    .await;
}

/// A broker and a database that speak TLS only, each by its name and by another that is not in its
/// certificate.
const SERVERS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: servers}
data:
  rabbitmq.conf: |
    listeners.tcp = none
    listeners.ssl.default = 5671
    ssl_options.cacertfile = /tls/ca.crt
    ssl_options.certfile = /tls/tls.crt
    ssl_options.keyfile = /tls/tls.key
    ssl_options.verify = verify_none
    default_user = windlass
    default_pass = local
  init.sql: |
    CREATE DATABASE windlass;
    CREATE USER windlass@'%' IDENTIFIED BY 'local';
    GRANT ALL PRIVILEGES ON windlass.* TO windlass@'%';
---
apiVersion: v1
kind: Pod
metadata: {name: broker, labels: {server: broker}}
spec:
  enableServiceLinks: false
  securityContext: {runAsUser: 999, runAsGroup: 999, fsGroup: 999}
  containers:
    - name: rabbitmq
      image: windlass.local/rabbitmq:1
      env:
        - {name: HOME, value: /data}
        - {name: RABBITMQ_NODENAME, value: rabbit@localhost}
        - {name: RABBITMQ_CONFIG_FILE, value: /etc/servers/rabbitmq.conf}
        - {name: RABBITMQ_MNESIA_BASE, value: /data/mnesia}
        - {name: RABBITMQ_PID_FILE, value: /data/pid}
        - {name: RABBITMQ_GENERATED_CONFIG_DIR, value: /data/generated}
        - {name: RABBITMQ_LOG_BASE, value: /data/log}
        - {name: RABBITMQ_LOGS, value: '-'}
      readinessProbe: {tcpSocket: {port: 5671}, periodSeconds: 1}
      volumeMounts:
        - {name: data, mountPath: /data}
        - {name: tls, mountPath: /tls}
        - {name: configuration, mountPath: /etc/servers}
  volumes:
    - {name: data, emptyDir: {}}
    - {name: tls, secret: {secretName: windlass-tls}}
    - {name: configuration, configMap: {name: servers}}
---
apiVersion: v1
kind: Pod
metadata: {name: database, labels: {server: database}}
spec:
  enableServiceLinks: false
  securityContext: {runAsUser: 999, runAsGroup: 999, fsGroup: 999}
  containers:
    - name: mysql
      image: windlass.local/mysql:1
      command:
        - sh
        - -euc
        - |
          mysqld --no-defaults --datadir=/data/db --initialize-insecure
          exec mysqld --no-defaults --datadir=/data/db --socket=/data/socket --pid-file=/data/pid --mysqlx=OFF \
            --secure-file-priv=NULL --skip-name-resolve --init-file=/etc/servers/init.sql \
            --require-secure-transport=ON --ssl-ca=/tls/ca.crt --ssl-cert=/tls/tls.crt --ssl-key=/tls/tls.key
      readinessProbe: {tcpSocket: {port: 3306}, periodSeconds: 1}
      volumeMounts:
        - {name: data, mountPath: /data}
        - {name: tls, mountPath: /tls}
        - {name: configuration, mountPath: /etc/servers}
  volumes:
    - {name: data, emptyDir: {}}
    - {name: tls, secret: {secretName: windlass-tls}}
    - {name: configuration, configMap: {name: servers}}
---
apiVersion: v1
kind: Service
metadata: {name: broker}
spec: {selector: {server: broker}, ports: [{port: 5671}]}
---
apiVersion: v1
kind: Service
metadata: {name: another-broker}
spec: {selector: {server: broker}, ports: [{port: 5671}]}
---
apiVersion: v1
kind: Service
metadata: {name: database}
spec: {selector: {server: database}, ports: [{port: 3306}]}
---
apiVersion: v1
kind: Service
metadata: {name: another-database}
spec: {selector: {server: database}, ports: [{port: 3306}]}
";

/// The Secret with the URLs of these hosts.
fn urls(broker: &str, database: &str) -> Value {
    let authority = "/etc/windlass-tls/ca.crt";
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "windlass"},
        "stringData": {
            "broker": format!("amqps://windlass:local@{broker}:5671/%2f?cacertfile={authority}"),
            "store": format!(
                "mysql://windlass:local@{database}:3306/windlass?ssl-mode=VERIFY_IDENTITY&ssl-ca={authority}"
            ),
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_reach_broker_and_database_by_tls_and_no_others_in_their_place() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let manifests = format!("{}\n---{SERVERS}", secret(directory.path()));
    let good = urls("broker", "database");
    let extras = Extras {
        components: &["tls"],
        manifests: &manifests,
        patches: &[&good.to_string()],
        ..Extras::default()
    };
    let Some(site) = Site::beside("tls-servers", &extras).await else {
        return;
    };
    let submit = |name: &str| {
        let run = [
            "datagen", "submit", "--rate", "100", "--for", "5s", "--name",
        ];
        well(&windlass(&site, &[&run[..], &[name]].concat()));
    };
    submit("good");
    let audit = || windlass(&site, &["audit", "--run", "good"]);
    let report = well(&audit());
    assert!(report.contains("no difference"), "{report}");

    let refused_run = async |name: &str, why: &str| {
        submit(name);
        eventually(
            WITHIN,
            "the broker is not taken for the right one",
            async || {
                let log = said(&windlass(&site, &["datagen", "logs", name]));
                log.contains("cannot reach the broker yet") && log.contains(why)
            },
        )
        .await;
    };
    let refused_audit = |why: &str| {
        let audit = audit();
        assert!(
            !audit.status.success() && said(&audit).contains(why),
            "{}",
            said(&audit)
        );
    };
    site.apply(&urls("another-broker", "another-database"));
    refused_run("another-host", WRONG_HOST).await;
    refused_audit(WRONG_HOST);

    site.apply(&good);
    let authority = directory.path().join("tls/other-ca.crt");
    let authority = std::fs::read_to_string(authority).expect("a certificate");
    let patch = json!({"stringData": {"ca.crt": authority}}).to_string();
    site.kubectl(&["patch", "secret", "windlass-tls", "--patch", &patch]);
    refused_run("another-authority", WRONG_AUTHORITY).await;
    refused_audit(WRONG_AUTHORITY);
}

const WRONG_AUTHORITY: &str = "an authority that is not trusted here";
const WRONG_HOST: &str = "its certificate is for other hosts";

const TUNING: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: windlass-scaler}\n\
                      data: {mode: \"off\"}\n";
