//! An invocation as a Job: pure.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, SecretKeySelector};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::{Digest, Sha256};

use super::Template;
use crate::kubernetes::names;

/// Longest name of a Job whose pods' names end in what Kubernetes adds.
const NAME: usize = 57;
/// Where the cluster removes finished Jobs by itself it does so after this long; the sweep is sooner.
const TTL_SECONDS: i32 = 600;
const TOKEN_VARIABLE: &str = "WINDLASS_TOKEN";

/// What all Jobs of a dispatcher have in common.
#[derive(Clone, Debug)]
pub struct Site {
    /// Tells this deployment's Jobs from others in the namespace; see [`deployment`].
    pub deployment: String,
    /// This dispatcher among those that there were.
    pub made_by: String,
    /// Where Jobs reach the dispatcher.
    pub dispatcher: String,
    /// Whether the dispatcher asks for the token.
    pub token: bool,
    /// A Job that runs for longer than this is ended by the cluster: nobody waits for it any more.
    pub deadline_seconds: u32,
}

/// Eight digits that stand for a stream in a database: the same after a restart, others for others.
pub fn deployment(store: &str, stream: &str, query: &str) -> String {
    digits(&[store, stream, query], 8)
}

fn digits(of: &[&str], count: usize) -> String {
    let mut hash = Sha256::new();
    for part in of {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let text: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    text[..count].to_owned()
}

impl Site {
    /// The Job's name: the same for the same attempt, so that a second create is refused as a double.
    pub fn name(&self, id: &str) -> String {
        let legible = format!("windlass-{}-{}", self.deployment, id.replace('.', "-"));
        let fits = legible.len() <= NAME
            && legible
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase() || byte == b'-');
        match fits {
            true => legible,
            false => format!("windlass-{}-{}", self.deployment, digits(&[id], 32)),
        }
    }

    /// Selects the Jobs of this deployment, and their pods.
    pub fn selector(&self) -> String {
        let own = self.labels();
        let own: Vec<String> = own
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        own.join(",")
    }

    fn labels(&self) -> BTreeMap<String, String> {
        [
            (names::PART_OF, "windlass"),
            (names::COMPONENT, names::COMPONENT_INVOCATION),
            (names::INSTANCE, &self.deployment),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }

    /// The Job that carries out `id`, its pod made of `template`.
    pub fn job(&self, template: &Template, id: &str) -> Job {
        let mut pod = template.spec().clone();
        let invocation = (names::INVOCATION.to_owned(), id.to_owned());
        let metadata = pod.metadata.get_or_insert_default();
        metadata
            .labels
            .get_or_insert_default()
            .extend(self.labels());
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.extend([invocation.clone()]);
        let spec = pod.spec.get_or_insert_default();
        spec.restart_policy = Some("Never".into());
        spec.automount_service_account_token = Some(false);
        // A template has one container.
        for container in &mut spec.containers {
            let args = ["function", "--dispatcher", &self.dispatcher, "--once", id];
            container.args = Some(args.map(str::to_owned).into());
            let env = container.env.get_or_insert_default();
            env.retain(|variable| variable.name != TOKEN_VARIABLE);
            env.extend(self.token.then(token));
        }
        let made_by = (names::MADE_BY.to_owned(), self.made_by.clone());
        Job {
            metadata: ObjectMeta {
                name: Some(self.name(id)),
                labels: Some(self.labels()),
                annotations: Some([invocation, made_by].into()),
                ..ObjectMeta::default()
            },
            spec: Some(JobSpec {
                // A second try is the dispatcher's to decide, with an attempt of its own.
                backoff_limit: Some(0),
                active_deadline_seconds: Some(self.deadline_seconds.into()),
                ttl_seconds_after_finished: Some(TTL_SECONDS),
                template: pod,
                ..JobSpec::default()
            }),
            status: None,
        }
    }
}

fn token() -> EnvVar {
    EnvVar {
        name: TOKEN_VARIABLE.into(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: names::TOKEN.into(),
                key: names::TOKEN_KEY.into(),
                optional: None,
            }),
            ..EnvVarSource::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        Site {
            deployment: deployment("mysql://db/windlass", "orders", "gmv"),
            made_by: "host:1".into(),
            dispatcher: "http://windlass-dispatcher:7070".into(),
            token: true,
            deadline_seconds: 180,
        }
    }

    #[test]
    fn a_name_is_legible_the_same_for_the_same_attempt_and_fits_a_label() {
        let site = site();
        let name = site.name("0.7.42.1700000000000.0.0.1");
        assert_eq!(
            name,
            format!("windlass-{}-0-7-42-1700000000000-0-0-1", site.deployment)
        );
        let largest = u64::MAX;
        let long = format!("4294967295.{largest}.{largest}.1700000000000.4294967295.0.1");
        let hashed = site.name(&long);
        assert!(hashed.len() <= 57, "{hashed}");
        assert_ne!(hashed, site.name(&long.replace(".0.1", ".0.2")));
        assert_eq!(hashed, site.name(&long));
        let other = Site {
            deployment: deployment("mysql://db/other", "orders", "gmv"),
            ..site
        };
        assert_ne!(other.name("0.7.42.1700000000000.0.0.1"), name);
    }

    #[test]
    fn the_pod_is_the_templates_with_one_invocation_and_no_secret_but_the_token() {
        let template = Template::parse(
            "spec: {containers: [{name: f, image: i, env: [{name: WINDLASS_TOKEN, value: x}, \
             {name: TZ, value: UTC}]}]}",
        )
        .unwrap();
        let job = site().job(&template, "0.1.2.3.0.0.1");
        let spec = job.spec.unwrap();
        assert_eq!(spec.backoff_limit, Some(0));
        let labels = spec.template.metadata.unwrap().labels.unwrap();
        assert_eq!(labels[names::COMPONENT], names::COMPONENT_INVOCATION);
        let pod = spec.template.spec.unwrap();
        assert_eq!(pod.restart_policy.as_deref(), Some("Never"));
        assert_eq!(pod.automount_service_account_token, Some(false));
        let container = &pod.containers[0];
        let args = container.args.as_ref().unwrap().join(" ");
        assert_eq!(
            args,
            "function --dispatcher http://windlass-dispatcher:7070 --once 0.1.2.3.0.0.1"
        );
        let env = container.env.as_ref().unwrap();
        assert_eq!(env.len(), 2);
        assert_eq!(env[1].name, "WINDLASS_TOKEN");
        assert_eq!(env[1].value, None, "the token is referred to");
    }
}
