//! Every manifest of `k8s/` is of the API that the types here are made from, Kubernetes 1.33: no field
//! that this release has dropped or never had. What 1.20 takes is shown by the tests on a cluster.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, PodTemplateSpec, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn manifests(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            manifests(&path, found);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            found.push(path);
        }
    }
}

/// The first field of `given` that `kept` does not have with the same value.
fn lost(given: &Value, kept: &Value, at: &str) -> Option<String> {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => given.iter().find_map(|(key, value)| {
            let at = format!("{at}.{key}");
            match kept.get(key) {
                Some(kept) => lost(value, kept, &at),
                // What is empty says nothing.
                None if value.as_array().is_some_and(Vec::is_empty) => None,
                None => Some(at),
            }
        }),
        (Value::Array(given), Value::Array(kept)) if given.len() == kept.len() => {
            let pairs = given.iter().zip(kept).enumerate();
            pairs
                .map(|(index, (given, kept))| lost(given, kept, &format!("{at}[{index}]")))
                .find_map(|lost| lost)
        }
        _ => (given != kept).then(|| at.to_owned()),
    }
}

/// What is wrong with an object of type `T`.
fn wrong<T: Serialize + DeserializeOwned>(given: &Value) -> Option<String> {
    match serde_json::from_value::<T>(given.clone()) {
        Ok(read) => lost(given, &serde_json::to_value(read).unwrap(), ""),
        Err(error) => Some(error.to_string()),
    }
}

fn wrong_in(object: &Value) -> Option<String> {
    let api = (object["apiVersion"].as_str(), object["kind"].as_str());
    let (Some(version), Some(kind)) = api else {
        return Some("neither apiVersion nor kind".into());
    };
    match (version, kind) {
        ("apps/v1", "Deployment") => wrong::<Deployment>(object),
        ("apps/v1", "StatefulSet") => wrong::<StatefulSet>(object),
        ("v1", "ConfigMap") => {
            let template = object["data"]["template.yaml"].as_str();
            let template = template.and_then(|text| {
                let template: Value = serde_saphyr::from_str(text).unwrap();
                wrong::<PodTemplateSpec>(&template)
            });
            wrong::<ConfigMap>(object).or(template)
        }
        ("v1", "Namespace") => wrong::<Namespace>(object),
        ("v1", "Secret") => wrong::<Secret>(object),
        ("v1", "Service") => wrong::<Service>(object),
        ("v1", "ServiceAccount") => wrong::<ServiceAccount>(object),
        ("networking.k8s.io/v1", "NetworkPolicy") => wrong::<NetworkPolicy>(object),
        ("policy/v1", "PodDisruptionBudget") => wrong::<PodDisruptionBudget>(object),
        ("rbac.authorization.k8s.io/v1", "Role") => wrong::<Role>(object),
        ("rbac.authorization.k8s.io/v1", "RoleBinding") => wrong::<RoleBinding>(object),
        _ => Some(format!("no {kind} of {version} is known here")),
    }
}

#[test]
fn every_field_of_every_manifest_is_one_of_the_api() {
    let objects = objects();
    let problems: Vec<String> = objects
        .iter()
        .filter_map(|(name, object)| {
            let kind = object["kind"].as_str().unwrap_or_default();
            wrong_in(object).map(|what| format!("{name}, {kind}: {what}"))
        })
        .collect();
    assert!(objects.len() > 40, "{}", objects.len());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Every object of `k8s/`, with the file it is in.
fn objects() -> Vec<(String, Value)> {
    // Tests run in their crate's folder.
    let root = PathBuf::from("../k8s");
    let mut paths = Vec::new();
    manifests(&root, &mut paths);
    let mut objects = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        let name = path.strip_prefix(&root).unwrap_or(&path).display();
        let named = documents.into_iter().filter(|document| {
            let version = document["apiVersion"].as_str().unwrap_or_default();
            !version.starts_with("kustomize.config.k8s.io/")
        });
        objects.extend(named.map(|object| (name.to_string(), object)));
    }
    objects
}

/// Whether a NetworkPolicy is one for the pods of this component, and not for all alike.
fn is_for(policy: &Value, component: &str) -> bool {
    const COMPONENT: &str = "app.kubernetes.io/component";
    let pods = &policy["spec"]["podSelector"];
    let listed = pods["matchExpressions"].as_array().into_iter().flatten();
    let mut listed = listed.filter(|of| of["key"] == COMPONENT && of["operator"] == "In");
    pods["matchLabels"][COMPONENT] == component
        || listed.any(|of| {
            of["values"]
                .as_array()
                .is_some_and(|of| of.contains(&component.into()))
        })
}

/// Where a cluster's network enforces policies, what has none of its own reaches nothing but the names.
#[test]
fn whatever_runs_has_a_network_policy_of_its_own() {
    let objects = objects();
    let of_kind = |kind: &'static str| {
        let objects = objects.iter().map(|(_, object)| object);
        objects.filter(move |object| object["kind"] == kind)
    };
    let workloads = of_kind("Deployment").chain(of_kind("StatefulSet"));
    let labels = workloads.map(|object| &object["spec"]["template"]["metadata"]["labels"]);
    let components = labels.filter_map(|of| of["app.kubernetes.io/component"].as_str());
    let components: BTreeSet<&str> = components
        .chain(["invocation", "datagen", "audit"])
        .collect();
    assert!(components.len() >= 9, "{components:?}");
    let shut_in: Vec<&str> = components
        .into_iter()
        .filter(|component| !of_kind("NetworkPolicy").any(|policy| is_for(policy, component)))
        .collect();
    assert!(shut_in.is_empty(), "{shut_in:?}");
}

#[test]
fn a_field_that_the_api_does_not_have_is_found() {
    let object = serde_json::json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "spec": {"template": {"spec": {"containers": [{"name": "a", "imagePolicy": "Always"}]}}},
    });
    let found = wrong_in(&object).unwrap();
    assert_eq!(found, ".spec.template.spec.containers[0].imagePolicy");
}
