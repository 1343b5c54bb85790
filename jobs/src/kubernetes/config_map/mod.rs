//! One ConfigMap: watched for edits, edited, and told about by Events.
//!
//! RBAC: `get`, `list` and `watch` on this ConfigMap by `resourceNames` (a watch by name needs `list`,
//! which `resourceNames` bounds to it), `create` and `patch` on `events` of `events.k8s.io`. Editing
//! (`patch`) is for the person who runs `windlass scaler set`, not for the scaler. What is merely read or
//! written now and then is in `once`.

mod once;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap as Object, ObjectReference};
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::watcher::{DefaultBackoff, watch_object};
use serde_json::json;
use tokio::sync::watch;
use tracing::warn;

use super::Cluster;

/// The pairs of a ConfigMap; `None` while it is not there.
pub type Pairs = Option<BTreeMap<String, String>>;

/// One ConfigMap.
#[derive(Clone)]
pub struct ConfigMap {
    cluster: Cluster,
    api: Api<Object>,
    name: String,
    reporter: Reporter,
    last: Arc<Mutex<Option<Told>>>,
}

/// The last Event, and the recorder that would count an equal one.
struct Told {
    reason: String,
    note: String,
    recorder: Recorder,
}

impl std::fmt::Debug for ConfigMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigMap")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl ConfigMap {
    /// The ConfigMap of this name in windlass's namespace; nothing is asked yet. `reporter` is who
    /// its Events come from.
    pub fn new(cluster: &Cluster, name: &str, reporter: &str) -> Self {
        let reporter = Reporter {
            controller: reporter.into(),
            instance: None,
        };
        Self {
            api: Api::namespaced(cluster.client.clone(), &cluster.namespace),
            reporter,
            last: Arc::default(),
            cluster: cluster.clone(),
            name: name.into(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its pairs now.
    ///
    /// # Errors
    /// If the API server does not answer or refuses.
    pub async fn read(&self) -> anyhow::Result<Pairs> {
        let found = self.api.get_opt(&self.name).await.with_context(|| {
            format!(
                "cannot read the ConfigMap {}: expected the right to get it in the namespace {}",
                self.name, self.cluster.namespace
            )
        })?;
        Ok(found.map(|object| object.data.unwrap_or_default()))
    }

    /// Sends every later state, the present one first, for as long as anybody listens. A watch that
    /// breaks is begun again, with growing pauses; what is known stays meanwhile.
    pub async fn follow(self, pairs: watch::Sender<Pairs>) {
        let mut states = watch_object(self.api.clone(), &self.name)
            .backoff(DefaultBackoff::default())
            .boxed();
        let mut failing = false;
        loop {
            let state = tokio::select! {
                state = states.next() => state,
                () = pairs.closed() => return,
            };
            match state {
                Some(Ok(object)) => {
                    failing = false;
                    pairs.send_replace(object.map(|object| object.data.unwrap_or_default()));
                }
                Some(Err(error)) => {
                    if !failing {
                        warn!(
                            "cannot watch the ConfigMap {}, trying again: {error}",
                            self.name
                        );
                    }
                    failing = true;
                }
                None => return,
            }
        }
    }

    /// Sets these keys and leaves the others; makes it where it is missing.
    ///
    /// # Errors
    /// If the API server does not answer or refuses.
    pub async fn set(&self, keys: &BTreeMap<String, String>) -> anyhow::Result<()> {
        let expected = || {
            format!(
                "cannot edit the ConfigMap {}: expected the right to patch it in the namespace {}",
                self.name, self.cluster.namespace
            )
        };
        let there = self.api.get_opt(&self.name).await.with_context(expected)?;
        if there.is_none() {
            let mut object = Object::default();
            object.metadata.name = Some(self.name.clone());
            object.data = Some(keys.clone());
            self.api
                .create(&Default::default(), &object)
                .await
                .with_context(expected)?;
            return Ok(());
        }
        let patch = Patch::Merge(json!({ "data": keys }));
        self.api
            .patch(&self.name, &PatchParams::default(), &patch)
            .await
            .with_context(expected)?;
        Ok(())
    }

    /// Publishes an Event about it; one that equals the last within minutes is counted and not repeated.
    ///
    /// # Errors
    /// If the API server does not answer or refuses.
    pub async fn tell(&self, warning: bool, reason: &str, note: &str) -> anyhow::Result<()> {
        // The API server takes a kilobyte.
        let note: String = note.chars().take(250).collect();
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("ConfigMap".into()),
            name: Some(self.name.clone()),
            namespace: Some(self.cluster.namespace.clone()),
            ..ObjectReference::default()
        };
        let event = Event {
            type_: if warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: reason.into(),
            note: Some(note.clone()),
            action: "Tune".into(),
            secondary: None,
        };
        self.recorder(reason, note)
            .publish(&event, &about)
            .await
            .with_context(|| format!("cannot publish an Event about the ConfigMap {}", self.name))
    }

    /// A recorder takes Events for equal that differ in their notes only, and counts them under the first
    /// note: so each note has one of its own.
    fn recorder(&self, reason: &str, note: String) -> Recorder {
        let locked = self.last.lock();
        let mut last = locked.unwrap_or_else(|broken| broken.into_inner());
        match &*last {
            Some(told) if told.reason == reason && told.note == note => told.recorder.clone(),
            _ => {
                let recorder = Recorder::new(self.cluster.client.clone(), self.reporter.clone());
                *last = Some(Told {
                    reason: reason.into(),
                    note,
                    recorder: recorder.clone(),
                });
                recorder
            }
        }
    }
}
