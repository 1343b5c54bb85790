//! `k8s/local`, as far as it can be told from outside.

use std::process::Command;

use crate::harness::{root, turn};

#[tokio::test(flavor = "multi_thread")]
async fn up_leaves_it_at_a_cluster_that_answers() {
    let Some(_turn) = turn().await else { return };
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other");
    let output = Command::new(root().join("k8s/local/up"))
        .env("WINDLASS_KUBERNETES_DIR", &other)
        .output()
        .expect("k8s/local/up starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let kubeconfig = std::env::var("KUBECONFIG").expect("a cluster's tests have it");
    assert_eq!(said, format!("KUBECONFIG={kubeconfig}\n"));
    assert!(!other.exists(), "a second cluster was begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn down_takes_no_directory_that_holds_no_cluster() {
    let Some(_turn) = turn().await else { return };
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("precious"), "").unwrap();
    let down = |dir: &std::path::Path| {
        let mut down = Command::new(root().join("k8s/local/down"));
        let output = down.env("WINDLASS_KUBERNETES_DIR", dir).output();
        output.expect("k8s/local/down starts").status.success()
    };
    assert!(!down(dir.path()));
    assert!(dir.path().join("precious").exists());
    assert!(down(&dir.path().join("none")), "nothing to end is no error");
}
