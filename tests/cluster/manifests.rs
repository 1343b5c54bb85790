//! What the manifests promise, held against the cluster's own word and against live pods.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json as value};

use crate::harness::{SHARED, Site, base_configuration, eventually, root, turn};
use crate::kubectl::{items, kubectl, tried};
use crate::submit::{well, windlass};

const WITHIN: Duration = Duration::from_secs(120);

/// Every container of live pods, with its pod.
fn containers(pods: &[Value]) -> Vec<(&Value, &Value)> {
    let mut found = Vec::new();
    for pod in pods {
        for kind in ["initContainers", "containers"] {
            let of = pod["spec"][kind].as_array();
            found.extend(of.into_iter().flatten().map(|container| (pod, container)));
        }
    }
    found
}

fn component(pod: &Value) -> &str {
    let label = &pod["metadata"]["labels"]["app.kubernetes.io/component"];
    label.as_str().expect("every pod says what it is")
}

/// Holds pods against the Pod Security Standard `restricted`, and more.
pub fn are_restricted(pods: &[Value]) {
    for (pod, container) in containers(pods) {
        let name = format!("{}/{}", pod["metadata"]["name"], container["name"]);
        let of_pod = &pod["spec"]["securityContext"];
        let context = &container["securityContext"];
        assert_eq!(of_pod["runAsNonRoot"], true, "{name}");
        assert_ne!(of_pod["runAsUser"], 0, "{name}");
        assert_eq!(of_pod["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(context["capabilities"], value!({"drop": ["ALL"]}), "{name}");
        assert!(context["privileged"].is_null(), "{name}");
        for host in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(pod["spec"][host].is_null(), "{name}: {host}");
        }
        for kind in ["requests", "limits"] {
            for resource in ["cpu", "memory"] {
                let set = &container["resources"][kind][resource];
                assert!(set.is_string(), "{name} has no {kind} of {resource}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn live_pods_pass_the_restricted_standard_with_a_read_only_root() {
    let Some(_turn) = turn().await else { return };
    let pods = items(&["-n", SHARED, "get", "pods"]);
    assert!(pods.len() >= 9, "only {} pods run", pods.len());
    are_restricted(&pods);
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_hold_the_invocation_token_and_no_other_secret() {
    let Some(_turn) = turn().await else { return };
    let pods = items(&["-n", SHARED, "get", "pods"]);
    // The scaler says how many there are.
    assert!(functions_among(&pods) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_jobs_are_as_restricted_and_hold_no_more_than_they_need() {
    let Some(site) = Site::with("restricted", "placement = \"job\"\n").await else {
        return;
    };
    let run = ["datagen", "submit", "--rate", "100", "--for", "5s"];
    well(&windlass(&site, &run));
    let mut pods = Vec::new();
    // Pods stay for a while when they have ended.
    for component in ["invocation", "datagen"] {
        eventually(WITHIN, "there are pods of Jobs", async || {
            let found = site.pods(component);
            let some = !found.is_empty();
            pods.extend(found);
            some
        })
        .await;
    }
    are_restricted(&pods);
    assert!(functions_among(&pods) > 0);
    for (_, container) in containers(&pods)
        .iter()
        .filter(|(pod, _)| component(pod) == "datagen")
    {
        let url = |key: &str| value!({"name": "windlass", "key": key});
        assert_eq!(secrets(container), [&url("broker"), &url("store")]);
    }
}

/// The keys of Secrets that a container's variables refer to.
fn secrets(container: &Value) -> Vec<&Value> {
    let env = container["env"].as_array().expect("variables");
    env.iter()
        .map(|variable| &variable["valueFrom"]["secretKeyRef"])
        .filter(|secret| !secret.is_null())
        .collect()
}

/// How many of these pods run functions, each of which is seen to hold the invocation token and nothing
/// else; no pod but those that need it can call the API server.
fn functions_among(pods: &[Value]) -> usize {
    let mut functions = 0;
    for (pod, container) in containers(pods) {
        let mounts_token = pod["spec"]["volumes"]
            .to_string()
            .contains("serviceAccountToken")
            || container["volumeMounts"]
                .to_string()
                .contains("serviceaccount");
        if ["dispatcher", "scaler", "scheduler"].contains(&component(pod)) {
            assert!(mounts_token, "the check of mounted tokens is blind");
            continue;
        }
        assert!(
            !mounts_token,
            "{} can call the API server",
            pod["metadata"]["name"]
        );
        if !["worker", "invocation"].contains(&component(pod)) {
            continue;
        }
        functions += 1;
        let token = value!({"name": "windlass-token", "key": "token"});
        assert_eq!(secrets(container), [&token]);
        assert!(container["envFrom"].is_null());
        assert!(!pod["spec"]["volumes"].to_string().contains("secret"));
    }
    functions
}

type Rules<'a> = &'a [(&'a str, &'a [&'a str])];

/// What each account's part of windlass calls, and all that it may call.
const MAY: &[(&str, Rules<'static>)] = &[
    (
        "windlass-dispatcher",
        &[
            ("jobs.batch", &["create", "get", "list", "watch", "delete"]),
            ("pods", &["list", "watch"]),
            ("configmaps/windlass-job-template", &["list", "watch"]),
        ],
    ),
    (
        "windlass-scaler",
        &[
            ("configmaps/windlass-scaler", &["get", "list", "watch"]),
            ("deployments.apps/windlass-workers", &["get"]),
            ("deployments.apps/windlass-workers/scale", &["patch"]),
            ("leases.coordination.k8s.io", &["create"]),
            (
                "leases.coordination.k8s.io/windlass-scaler",
                &["get", "update"],
            ),
            ("events.events.k8s.io", &["create", "patch"]),
        ],
    ),
    (
        "windlass-scheduler",
        &[
            ("jobs.batch", &["create", "list", "delete"]),
            ("configmaps/windlass-schedules", &["get"]),
            ("configmaps/windlass-schedules-state", &["get", "patch"]),
            ("configmaps/windlass-job-template", &["get"]),
        ],
    ),
];

/// An account's permissions in a namespace, as `kubectl auth can-i --list` knows them: resource, or
/// resource/name, and verbs in order. What every account may ask about itself is left out.
fn permissions(account: &str, namespace: &str) -> BTreeMap<String, BTreeSet<String>> {
    let who = format!("--as=system:serviceaccount:{SHARED}:{account}");
    let list = kubectl(&[
        "-n",
        namespace,
        "auth",
        "can-i",
        "--list",
        "--no-headers",
        &who,
    ]);
    let mut found = BTreeMap::<String, BTreeSet<String>>::new();
    for line in list.lines() {
        let words =
            |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
        // Resources, non-resource URLs, resource names, verbs; each list in brackets but the first.
        let (resource, lists) = line.split_once(' ').unwrap_or((line, ""));
        let lists: Vec<Vec<String>> = lists
            .split('[')
            .skip(1)
            .map(|list| words(list.split(']').next().unwrap_or_default()))
            .collect();
        let [urls, names, verbs] = &lists[..] else {
            panic!("expected three lists, got {line:?}");
        };
        if !urls.is_empty() || resource.starts_with("selfsubject") {
            continue;
        }
        let resources = match names.is_empty() {
            true => vec![resource.to_owned()],
            false => names.iter().map(|name| named(resource, name)).collect(),
        };
        for resource in resources {
            found.entry(resource).or_default().extend(verbs.clone());
        }
    }
    found
}

/// `deployments.apps/scale` of one Deployment is `deployments.apps/NAME/scale` here.
fn named(resource: &str, name: &str) -> String {
    match resource.split_once('/') {
        Some((of, part)) => format!("{of}/{name}/{part}"),
        None => format!("{resource}/{name}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_account_may_do_what_its_part_does_and_nothing_else() {
    let Some(_turn) = turn().await else { return };
    for (account, rules) in MAY {
        let expected: BTreeMap<String, BTreeSet<String>> = rules
            .iter()
            .map(|(resource, verbs)| {
                let verbs = verbs.iter().map(|&verb| verb.to_owned()).collect();
                ((*resource).to_owned(), verbs)
            })
            .collect();
        assert_eq!(permissions(account, SHARED), expected, "{account}");
        assert_eq!(
            permissions(account, "default"),
            BTreeMap::new(),
            "{account} elsewhere in the cluster"
        );
        let who = format!("--as=system:serviceaccount:{SHARED}:{account}");
        // The list is the server's; some of it asked one by one as well.
        for (verb, resource, may) in [
            ("get", "secrets", false),
            ("list", "secrets", false),
            ("create", "pods/exec", false),
            ("create", "jobs.batch", *account != "windlass-scaler"),
        ] {
            let (granted, said) = tried(&["-n", SHARED, "auth", "can-i", verb, resource, &who]);
            assert_eq!(granted, may, "{account}: {verb} {resource}: {said}");
        }
    }
}

#[test]
fn the_shipped_configuration_is_understood() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("windlass.toml");
    std::fs::write(&file, base_configuration()).unwrap();
    let ran = std::process::Command::new(env!("CARGO_BIN_EXE_windlass"))
        .args(["migrate", "--config"])
        .arg(&file)
        .arg("--store")
        .arg(format!("sqlite:{}", dir.path().join("rows").display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "{said}");
}

#[test]
fn names_are_the_same_in_manifests_and_code() {
    use windlass_jobs::kubernetes::names;
    let read = |file: &str| {
        let path = root().join("k8s/base").join(file);
        std::fs::read_to_string(path).unwrap()
    };
    let named = |file: &str, name: &str| {
        let line = format!("  name: {name}\n");
        assert!(read(file).contains(&line), "{file} names no {name}");
    };
    named("dispatcher.yaml", names::DISPATCHER);
    named("workers.yaml", names::WORKERS);
    named("job-template.yaml", names::JOB_TEMPLATE);
    let port = format!("port: {}", names::DISPATCHER_PORT);
    assert!(read("dispatcher.yaml").contains(&port));
    let key = format!("  {}: |\n", names::JOB_TEMPLATE_KEY);
    assert!(read("job-template.yaml").contains(&key));
    let label = format!("{}: {}\n", names::COMPONENT, names::COMPONENT_WORKER);
    assert!(read("workers.yaml").contains(&label));
}
