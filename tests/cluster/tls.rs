//! The invocation API over HTTPS, from a Secret with the certificate of a private authority: for warm
//! workers, for Jobs, for the scaler, and for whoever asks through the API server.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;

use crate::harness::{Extras, Site, eventually, root};
use crate::submit::{well, windlass};

const WITHIN: Duration = Duration::from_secs(180);

/// The Secret that the component `tls` names.
fn secret(directory: &Path) -> String {
    let make = "die() { echo \"$*\" >&2; exit 1; }; . tests/lib/certificates.sh; \
                dir=$0; make_certificates windlass-dispatcher";
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
        let arrived = |line: &str| line.split(',').nth(6)?.parse::<f64>().ok();
        seconds
            .lines()
            .filter_map(arrived)
            .any(|arrived| arrived > 0.0)
    })
    .await;
}

const TUNING: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: windlass-scaler}\n\
                      data: {mode: \"off\"}\n";
