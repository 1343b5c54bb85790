//! The boundaries that ARCHITECTURE.md draws, held against the sources.

use std::path::{Path, PathBuf};

/// Library sources outside tests and benchmarks that name a crate.
fn naming(name: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = Vec::new();
    for folder in [
        "functions",
        "dispatcher",
        "jobs",
        "scaler",
        "datagen",
        "board",
        ".",
    ] {
        for file in sources(&root.join(folder).join("src")) {
            let text = std::fs::read_to_string(&file).unwrap();
            let path = format!("{name}::");
            let uses = text.lines().any(|line| {
                let code = line.split("//").next().unwrap_or_default();
                code.match_indices(&path).any(|(at, _)| {
                    let before = code[..at].chars().next_back();
                    before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
                })
            });
            if uses {
                let relative = file.strip_prefix(root).unwrap();
                let text = relative.display().to_string();
                named.push(text.trim_start_matches("./").to_owned());
            }
        }
    }
    named
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn only_under(name: &str, places: &[&str]) {
    let named = naming(name);
    assert!(
        !named.is_empty(),
        "nothing names {name}: is the check blind?"
    );
    for file in named {
        let allowed = places.iter().any(|place| file.starts_with(place));
        assert!(allowed, "{file} names {name}, which belongs in {places:?}");
    }
}

#[test]
fn rabbitmq_is_named_in_the_broker_modules_only() {
    only_under("lapin", &["dispatcher/src/broker/", "datagen/src/broker"]);
}

#[test]
fn sql_is_named_in_the_store_only() {
    only_under("sqlx", &["dispatcher/src/store/"]);
}

#[test]
fn kubernetes_is_named_in_jobs_only() {
    only_under("kube", &["jobs/src/kubernetes/"]);
    only_under("k8s_openapi", &["jobs/src/kubernetes/"]);
}

#[test]
fn the_scaler_decides_without_the_world() {
    let manifest = include_str!("../scaler/Cargo.toml");
    let (_, dependencies) = manifest.split_once("[dependencies]").unwrap();
    let dependencies = dependencies.split("[dev-dependencies]").next().unwrap();
    for forbidden in ["lapin", "sqlx", "kube", "axum", "reqwest", "tokio"] {
        assert!(
            !dependencies.contains(forbidden),
            "scaler/ depends on {forbidden}"
        );
    }
}

#[test]
fn the_core_depends_on_no_broker_and_no_database() {
    let manifest = include_str!("../functions/Cargo.toml");
    let (_, dependencies) = manifest.split_once("[dependencies]").unwrap();
    let dependencies = dependencies.split("[dev-dependencies]").next().unwrap();
    for forbidden in ["lapin", "sqlx", "kube", "axum"] {
        assert!(
            !dependencies.contains(forbidden),
            "functions/ depends on {forbidden}"
        );
    }
}
