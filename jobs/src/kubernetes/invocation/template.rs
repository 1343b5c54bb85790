//! The pod template of invocation Jobs, as a user edits it: checked whole, so that a misspelt field is
//! an error with its place and not a setting that is ignored.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

/// A template that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(PodTemplateSpec);

/// Why a text is no template: the field, what was expected and what to do.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct BadTemplate(String);

impl Template {
    /// Reads YAML of a `PodTemplateSpec` with one container.
    ///
    /// # Errors
    /// If it is no YAML, has a field that a pod template has not, a value of the wrong kind, or says
    /// something that is the dispatcher's to say.
    pub fn parse(text: &str) -> Result<Self, BadTemplate> {
        let bad = |what: String| Err(BadTemplate(what));
        let given: Value = match serde_saphyr::from_str(text) {
            Ok(given) => given,
            Err(error) => return bad(format!("expected YAML of a pod template: {}", line(&error))),
        };
        let template: PodTemplateSpec = match serde_path_to_error::deserialize(&given) {
            Ok(template) => template,
            Err(error) => {
                let (field, problem) = (error.path().to_string(), line(error.inner()));
                return bad(format!("{field}: {problem}"));
            }
        };
        let known = serde_json::to_value(&template).unwrap_or_default();
        if let Some(field) = unknown(&given, &known, "") {
            return bad(format!(
                "{field}: no such field in a pod template; correct its name or its place"
            ));
        }
        let Some(spec) = &template.spec else {
            return bad("spec: expected the pod's spec, got none".into());
        };
        let [container] = spec.containers.as_slice() else {
            let count = spec.containers.len();
            return bad(format!(
                "spec.containers: expected one, the function's, got {count}; a Job ends with its \
                 function, so nothing can run beside it"
            ));
        };
        if container.image.as_ref().is_none_or(String::is_empty) {
            return bad("spec.containers[0].image: expected an image, got none".into());
        }
        if container.args.is_some() {
            return bad(
                "spec.containers[0].args: the dispatcher says which invocation to run; leave them out"
                    .into(),
            );
        }
        match spec.restart_policy.as_deref() {
            None | Some("Never") => {}
            Some(other) => {
                return bad(format!(
                    "spec.restartPolicy: expected Never or nothing, got {other}; a failed attempt is \
                     reissued by the dispatcher"
                ));
            }
        }
        if spec.automount_service_account_token == Some(true) {
            return bad(
                "spec.automountServiceAccountToken: expected false or nothing; functions get no access \
                 to the cluster"
                    .into(),
            );
        }
        Ok(Self(template))
    }

    /// The template.
    pub fn spec(&self) -> &PodTemplateSpec {
        &self.0
    }
}

/// The first field of `given` that `known`, which was made from it, has lost.
fn unknown(given: &Value, known: &Value, path: &str) -> Option<String> {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => given.iter().find_map(|(name, value)| {
            let path = match path {
                "" => name.clone(),
                _ => format!("{path}.{name}"),
            };
            match known.get(name) {
                // Said to be nothing, which is what it is.
                None if value.is_null() => None,
                None => Some(path),
                Some(known) => unknown(value, known, &path),
            }
        }),
        (Value::Array(given), Value::Array(known)) => {
            let pairs = given.iter().zip(known).enumerate();
            pairs
                .into_iter()
                .find_map(|(at, (given, known))| unknown(given, known, &format!("{path}[{at}]")))
        }
        _ => None,
    }
}

fn line(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
metadata:
  annotations: {team: sales}
spec:
  nodeSelector: {disk: fast}
  tolerations: [{key: functions, operator: Exists}]
  securityContext: {runAsNonRoot: true, runAsUser: 65532}
  containers:
    - name: windlass
      image: windlass:dev
      resources: {requests: {cpu: 50m}, limits: {cpu: 1, memory: 256Mi}}
      env: [{name: TZ, value: UTC}]
";

    #[test]
    fn what_users_edit_is_kept() {
        let template = Template::parse(GOOD).unwrap();
        let spec = template.spec().spec.as_ref().unwrap();
        assert_eq!(spec.node_selector.as_ref().unwrap()["disk"], "fast");
        let resources = spec.containers[0].resources.as_ref().unwrap();
        assert_eq!(resources.limits.as_ref().unwrap()["cpu"].0, "1");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_field_and_what_was_expected() {
        let with = |from: &str, to: &str| {
            assert!(GOOD.contains(from));
            GOOD.replace(from, to)
        };
        for (text, parts) in [
            ("spec: [".into(), ["expected YAML", ""]),
            ("metadata: {}".into(), ["spec:", "got none"]),
            (
                with("nodeSelector", "nodeSelektor"),
                ["spec.nodeSelektor", "no such field"],
            ),
            (
                with("memory: 256Mi}}", "memory: 256Mi}, limit: {}}"),
                ["spec.containers[0].resources.limit", "no such field"],
            ),
            (
                with("65532", "root"),
                ["spec.securityContext.runAsUser", "root"],
            ),
            (
                with("image: windlass:dev", "image: ''"),
                ["spec.containers[0].image", "got none"],
            ),
            (
                with("env:", "args: [x]\n      env:"),
                ["spec.containers[0].args", "leave them out"],
            ),
            (
                with("nodeSelector", "restartPolicy: Always\n  nodeSelector"),
                ["spec.restartPolicy", "expected Never"],
            ),
            (
                with(
                    "nodeSelector",
                    "automountServiceAccountToken: true\n  nodeSelector",
                ),
                ["spec.automountServiceAccountToken", "expected false"],
            ),
            (
                with(
                    "    - name: windlass",
                    "    - {name: a, image: b}\n    - name: windlass",
                ),
                ["spec.containers", "got 2"],
            ),
        ] {
            let error = Template::parse(&text).unwrap_err().to_string();
            for part in parts {
                assert!(error.contains(part), "{error:?} lacks {part:?}");
            }
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
