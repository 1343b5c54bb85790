//! A task as a Job: pure.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, Container, EnvVar, EnvVarSource, KeyToPath, PodSpec, PodTemplateSpec,
    SecretKeySelector, SecretVolumeSource, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Task;
use crate::kubernetes::names;

/// The variable that names the configuration file.
const CONFIG_VARIABLE: &str = "WINDLASS_CONFIG";

/// Reads the template of pods.
pub(super) fn parse_template(text: &str) -> Result<PodTemplateSpec, String> {
    let (map, key) = (names::JOB_TEMPLATE, names::JOB_TEMPLATE_KEY);
    let template: PodTemplateSpec = serde_saphyr::from_str(text).map_err(|error| {
        let line = error.to_string();
        let line = line.lines().next().unwrap_or_default();
        format!("expected a PodTemplateSpec under {key} of ConfigMap {map}: {line}")
    })?;
    let containers = template
        .spec
        .as_ref()
        .map_or(0, |spec| spec.containers.len());
    match containers {
        1 => Ok(template),
        other => Err(format!(
            "expected one container under {key} of ConfigMap {map}, got {other}"
        )),
    }
}

/// The Job of `task`, its pod made of `template`.
pub(super) fn job(template: PodTemplateSpec, task: &Task) -> Result<Job, String> {
    let labels = BTreeMap::from([
        (names::PART_OF.to_owned(), "windlass".to_owned()),
        (names::COMPONENT.to_owned(), task.component.to_owned()),
    ]);
    let mut metadata = template.metadata.unwrap_or_default();
    metadata
        .labels
        .get_or_insert_default()
        .extend(labels.clone());
    let spec = template
        .spec
        .ok_or("expected a pod's spec in the template")?;
    Ok(Job {
        metadata: ObjectMeta {
            name: Some(task.name.clone()),
            labels: Some(labels),
            annotations: Some(task.annotations.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(task.retries.cast_signed()),
            ttl_seconds_after_finished: Some(task.keep_seconds.cast_signed()),
            template: PodTemplateSpec {
                metadata: Some(metadata),
                spec: Some(pod(spec, task)?),
            },
            ..JobSpec::default()
        }),
        status: None,
    })
}

fn pod(mut pod: PodSpec, task: &Task) -> Result<PodSpec, String> {
    pod.restart_policy = Some("Never".into());
    pod.automount_service_account_token = Some(false);
    pod.termination_grace_period_seconds = Some(task.grace_seconds.into());
    let container = pod.containers.first_mut();
    let container = container.ok_or("expected a container in the template")?;
    container.args = Some(task.args.clone());
    environment(container, task);
    let mounts = container.volume_mounts.get_or_insert_default();
    let volumes = pod.volumes.get_or_insert_default();
    // The template's own may be there for invocations; ours replace those of the same name.
    for (volume, folder) in [config_volume(), authority_volume()] {
        mounts.retain(|mount| mount.name != volume.name && mount.mount_path != folder);
        mounts.push(VolumeMount {
            name: volume.name.clone(),
            mount_path: folder.into(),
            read_only: Some(true),
            ..VolumeMount::default()
        });
        volumes.retain(|other| other.name != volume.name);
        volumes.push(volume);
    }
    Ok(pod)
}

/// The template's variables but windlass's own, which are for invocations, and the task's.
fn environment(container: &mut Container, task: &Task) {
    let env = container.env.get_or_insert_default();
    env.retain(|variable| !variable.name.starts_with("WINDLASS_"));
    let config = format!("{}/{}", names::CONFIG_FOLDER, names::CONFIG_KEY);
    let plain = task.env.iter().map(|(name, value)| (*name, value.clone()));
    for (name, value) in plain.chain([(CONFIG_VARIABLE, config)]) {
        env.push(EnvVar {
            name: name.into(),
            value: Some(value),
            value_from: None,
        });
    }
    for (name, key) in &task.secrets {
        env.push(EnvVar {
            name: (*name).into(),
            value: None,
            value_from: Some(EnvVarSource {
                secret_key_ref: Some(SecretKeySelector {
                    name: names::SECRET.into(),
                    key: (*key).into(),
                    optional: None,
                }),
                ..EnvVarSource::default()
            }),
        });
    }
}

fn config_volume() -> (Volume, &'static str) {
    let volume = Volume {
        name: "windlass-config".into(),
        config_map: Some(ConfigMapVolumeSource {
            name: names::CONFIG.into(),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    };
    (volume, names::CONFIG_FOLDER)
}

/// The private authority's certificate, without the key beside it in the Secret.
fn authority_volume() -> (Volume, &'static str) {
    let volume = Volume {
        name: "windlass-tls".into(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(names::TLS.into()),
            items: Some(vec![KeyToPath {
                key: names::TLS_CA.into(),
                path: names::TLS_CA.into(),
                mode: None,
            }]),
            optional: Some(true),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    (volume, names::TLS_FOLDER)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "
metadata:
  labels:
    app.kubernetes.io/component: invocation
    team: sales
spec:
  serviceAccountName: windlass-workers
  containers:
    - name: windlass
      image: windlass:dev
      resources: {limits: {cpu: 1, memory: 256Mi}}
      securityContext: {readOnlyRootFilesystem: true}
      env:
        - {name: WINDLASS_TOKEN, valueFrom: {secretKeyRef: {name: windlass-token, key: token}}}
        - {name: TZ, value: UTC}
";

    fn task() -> Task {
        Task {
            name: "windlass-datagen-nightly".into(),
            component: names::COMPONENT_DATAGEN,
            args: vec!["datagen".into(), "publish".into()],
            secrets: vec![("WINDLASS_BROKER", names::SECRET_BROKER)],
            env: vec![("WINDLASS_LOG", "info".into())],
            annotations: BTreeMap::new(),
            retries: 6,
            grace_seconds: 60,
            keep_seconds: 3600,
        }
    }

    #[test]
    fn a_tasks_pod_is_the_templates_with_what_the_command_needs_and_nothing_of_invocations() {
        let job = job(parse_template(TEMPLATE).unwrap(), &task()).unwrap();
        let spec = job.spec.unwrap();
        let template = spec.template;
        let labels = template.metadata.unwrap().labels.unwrap();
        assert_eq!(labels[names::COMPONENT], "datagen");
        assert_eq!(labels["team"], "sales");
        let pod = template.spec.unwrap();
        assert_eq!(pod.restart_policy.as_deref(), Some("Never"));
        assert_eq!(pod.automount_service_account_token, Some(false));
        let container = &pod.containers[0];
        assert_eq!(container.args.as_ref().unwrap(), &["datagen", "publish"]);
        assert_eq!(container.image.as_deref(), Some("windlass:dev"));
        let limits = container.resources.as_ref().unwrap().limits.as_ref();
        assert_eq!(limits.unwrap()["cpu"].0, "1");
        let env = container.env.as_ref().unwrap();
        let names: Vec<_> = env.iter().map(|variable| variable.name.as_str()).collect();
        assert_eq!(
            names,
            ["TZ", "WINDLASS_LOG", "WINDLASS_CONFIG", "WINDLASS_BROKER"]
        );
        assert_eq!(env[3].value, None, "a secret is only referred to");
        let mounts = container.volume_mounts.as_ref().unwrap();
        assert_eq!(mounts.len(), pod.volumes.unwrap().len());
    }

    #[test]
    fn a_template_that_is_none_is_refused_with_its_place() {
        for (text, part) in [
            ("spec: [", "expected a PodTemplateSpec"),
            ("spec: {containers: 7}", "expected a PodTemplateSpec"),
            ("spec: {containers: []}", "got 0"),
            ("metadata: {}", "got 0"),
        ] {
            let error = parse_template(text).unwrap_err();
            assert!(error.contains(part), "{error}");
            assert!(error.contains("windlass-job-template"), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
