//! Follows the ConfigMap with the pod template.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};

use super::super::names;
use super::template::Template;
use super::{Shared, chain};

/// How long the first order waits for the template to be read.
const FIRST_TEMPLATE: Duration = Duration::from_secs(5);

/// The template last found good, and what is wrong with the one that is there now.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub good: Option<Arc<Template>>,
    pub problem: Option<String>,
}

/// The template as it is read now; at the start it may take a moment.
pub(super) async fn first(template: &mut watch::Receiver<Option<Read>>) -> Option<Read> {
    let read = timeout(FIRST_TEMPLATE, template.wait_for(Option::is_some)).await;
    read.ok()?.ok()?.clone()
}

/// Follows the template: the last good one stays when a new one is not.
pub(super) async fn read_template(
    shared: Arc<Shared>,
    name: String,
    events: impl Stream<Item = Result<Event<ConfigMap>, watcher::Error>>,
    found: watch::Sender<Option<Read>>,
) {
    let mut events = pin!(events);
    let mut good: Option<Arc<Template>> = None;
    let mut listed = false;
    while let Some(event) = events.next().await {
        let read = match event {
            Ok(Event::Apply(map) | Event::InitApply(map)) => {
                listed = true;
                checked(&shared, &map).await
            }
            Ok(Event::Init) => {
                listed = false;
                continue;
            }
            Ok(Event::InitDone) if listed => continue,
            Ok(Event::Delete(_) | Event::InitDone) => Err(missing(&name, &shared.namespace)),
            Err(error) => {
                warn!("cannot watch the pod template of Jobs: {}", chain(&error));
                if let Some(why) = forbidden(&error) {
                    let why = format!(
                        "the dispatcher may not read ConfigMap {name}: {why}; grant its ServiceAccount \
                         list and watch on it"
                    );
                    if good.is_none() {
                        found.send_replace(Some(Read {
                            good: None,
                            problem: Some(why),
                        }));
                    }
                }
                continue;
            }
        };
        let problem = match read {
            Ok(template) => {
                info!(config_map = name, "pod template of Jobs read");
                good = Some(Arc::new(template));
                None
            }
            Err(problem) => {
                let kept = good.is_some();
                warn!(
                    config_map = name,
                    kept, "the pod template of Jobs cannot be used: {problem}"
                );
                Some(problem)
            }
        };
        let good = good.clone();
        found.send_replace(Some(Read { good, problem }));
    }
}

async fn checked(shared: &Shared, map: &ConfigMap) -> Result<Template, String> {
    let name = map.name_any();
    let key = names::JOB_TEMPLATE_KEY;
    let text = map.data.as_ref().and_then(|data| data.get(key));
    let Some(text) = text else {
        return Err(format!(
            "ConfigMap {name}: expected the key {key} with YAML of a pod template"
        ));
    };
    let template =
        Template::parse(text).map_err(|error| format!("ConfigMap {name}, {key}: {error}"))?;
    match shared.would_refuse(&template).await {
        Some(why) => Err(format!("ConfigMap {name}, {key}: {why}")),
        None => Ok(template),
    }
}

fn missing(name: &str, namespace: &str) -> String {
    let key = names::JOB_TEMPLATE_KEY;
    format!(
        "expected a ConfigMap {name} in namespace {namespace} with a pod template under {key}: apply \
         the manifests, or name another with --job-template"
    )
}

fn forbidden(error: &watcher::Error) -> Option<String> {
    let inner = match error {
        watcher::Error::InitialListFailed(inner) | watcher::Error::WatchStartFailed(inner) => inner,
        _ => return None,
    };
    match inner {
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => {
            Some(status.message.lines().next().unwrap_or_default().to_owned())
        }
        _ => None,
    }
}
