//! What `kubectl kustomize` makes of `k8s/`: its root, each of its components and each of its overlays, without
//! a cluster.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::harness::{has_kubectl, relative, root};
use crate::kubectl::kubectl;
use crate::manifests::are_restricted;

/// The names of the folders under `k8s/NAME`.
fn folders(name: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(root().join("k8s").join(name)).expect("the folder");
    entries
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.into_string().expect("a name in Unicode"))
        .collect()
}

fn rendered(folder: &Path) -> Vec<Value> {
    let text = kubectl(&["kustomize", &folder.display().to_string()]);
    serde_saphyr::from_multiple(&text).expect("YAML")
}

/// The base with components, rendered.
fn with(components: &[&str]) -> Vec<Value> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let k8s = relative(dir.path(), &root().join("k8s"));
    let k8s = k8s.display();
    let components = components.iter();
    let components: String = components
        .map(|name| format!("  - {k8s}/components/{name}\n"))
        .collect();
    let text = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: windlass\n\
         resources:\n  - {k8s}/base\ncomponents:\n{components}"
    );
    std::fs::write(dir.path().join("kustomization.yaml"), text).expect("the kustomization");
    rendered(dir.path())
}

fn names(objects: &[Value]) -> BTreeSet<String> {
    let name = |object: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        format!(
            "{}/{}",
            text(&object["kind"]),
            text(&object["metadata"]["name"])
        )
    };
    objects.iter().map(name).collect()
}

/// The pods of workloads and of the template of Jobs, as if they were live.
fn pods(objects: &[Value]) -> Vec<Value> {
    let pods = objects.iter().filter_map(|object| {
        let mut template = match object["kind"].as_str()? {
            "Deployment" | "StatefulSet" => object["spec"]["template"].clone(),
            "ConfigMap" => {
                let text = object["data"]["template.yaml"].as_str()?;
                serde_saphyr::from_str(text).expect("YAML of a pod template")
            }
            _ => return None,
        };
        template["metadata"]["name"] = object["metadata"]["name"].clone();
        Some(template)
    });
    pods.collect()
}

/// What all of `k8s/` promises, whatever it is put together of.
fn keeps_its_promises(what: &str, objects: &[Value], images: &[&str]) {
    let pods = pods(objects);
    // Dispatcher, workers, Jobs.
    assert!(pods.len() >= 3, "{what}: only {} pods", pods.len());
    are_restricted(&pods);
    for pod in &pods {
        let of = ["initContainers", "containers"].map(|kind| pod["spec"][kind].as_array());
        for container in of.into_iter().flatten().flatten() {
            let image = container["image"].as_str().expect("an image");
            assert!(
                images.contains(&image),
                "{what}: {} runs {image}",
                pod["metadata"]["name"]
            );
        }
    }
    for object in objects {
        let name = &object["metadata"]["name"];
        match object["kind"].as_str() {
            Some("Role") => assert!(!object.to_string().contains("\"*\""), "{what}: {name}"),
            Some("Namespace") => {}
            _ => assert_eq!(
                object["metadata"]["namespace"], "windlass",
                "{what}: {name}"
            ),
        }
    }
}

const WINDLASS: &str = "windlass:dev";
const SHIPPED: [&str; 3] = [WINDLASS, "rabbitmq:4-management", "mysql:8.4"];

#[test]
fn the_root_and_every_component_are_restricted_and_hold_no_secret() {
    if !has_kubectl() {
        return;
    }
    let root = rendered(&root().join("k8s"));
    assert_eq!(
        names(&root),
        names(&rendered(&crate::harness::root().join("k8s/base")))
    );
    keeps_its_promises("k8s", &root, &[WINDLASS]);
    let of_root = names(&root);
    let components = folders("components");
    assert!(components.contains("pdb"), "{components:?}");
    for component in &components {
        let objects = with(&[component]);
        keeps_its_promises(component, &objects, &SHIPPED);
        let kinds = names(&objects);
        assert!(
            !kinds.iter().any(|of| of.starts_with("Secret/")),
            "{kinds:?}"
        );
        assert!(
            kinds.is_superset(&of_root),
            "{component} takes something away"
        );
        assert!(objects != root, "{component} does nothing");
    }
    let all: Vec<&str> = components.iter().map(String::as_str).collect();
    keeps_its_promises("all of them", &with(&all), &SHIPPED);
}

#[test]
fn the_disruption_budgets_are_for_pods_that_there_are() {
    if !has_kubectl() {
        return;
    }
    let components = folders("components");
    let all: Vec<&str> = components.iter().map(String::as_str).collect();
    let objects = with(&all);
    let budgets = objects
        .iter()
        .filter(|object| object["kind"] == "PodDisruptionBudget");
    let pods = pods(&objects);
    let mut count = 0;
    for budget in budgets {
        count += 1;
        let wanted = budget["spec"]["selector"]["matchLabels"].as_object();
        let wanted = wanted.expect("labels");
        let has = |pod: &&Value| {
            wanted
                .iter()
                .all(|(key, value)| pod["metadata"]["labels"][key] == *value)
        };
        assert!(pods.iter().any(|pod| has(&pod)), "{budget} is for nobody");
    }
    assert!(count > 0, "no budget");
}

#[test]
fn every_overlay_brings_the_secrets_that_its_pods_refer_to() {
    if !has_kubectl() {
        return;
    }
    for overlay in folders("overlays") {
        let objects = rendered(&root().join("k8s/overlays").join(&overlay));
        let local = [
            WINDLASS,
            "windlass.local/rabbitmq:1",
            "windlass.local/mysql:1",
        ];
        keeps_its_promises(&overlay, &objects, &local);
        let has = |name: &str, key: &str| {
            let mut secrets = objects.iter().filter(|object| object["kind"] == "Secret");
            secrets.any(|secret| {
                let named = secret["metadata"]["name"] == name;
                named && (!secret["stringData"][key].is_null() || !secret["data"][key].is_null())
            })
        };
        let mut count = 0;
        for pod in pods(&objects) {
            let of = ["initContainers", "containers"].map(|kind| pod["spec"][kind].as_array());
            let variables = of.into_iter().flatten().flatten();
            let variables = variables.filter_map(|container| container["env"].as_array());
            for variable in variables.flatten() {
                let secret = &variable["valueFrom"]["secretKeyRef"];
                let (Some(name), Some(key)) = (secret["name"].as_str(), secret["key"].as_str())
                else {
                    continue;
                };
                count += 1;
                let optional = secret["optional"] == true;
                assert!(
                    optional || has(name, key),
                    "{overlay}: no {key} in Secret {name}"
                );
            }
        }
        assert!(count >= 5, "{overlay}: only {count} references");
    }
}
