//! ConfigMaps read and written now and then: what users write, and what the scheduler notes.
//!
//! Verbs, in windlass's namespace: `configmaps` get, and for whoever writes create and patch.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};

use super::super::task::TaskError;
use super::super::{Cluster, names};

impl Cluster {
    /// A ConfigMap's keys and texts; `None` if there is none of that name.
    ///
    /// # Errors
    /// If the cluster refuses or does not answer.
    pub async fn map(&self, name: &str) -> Result<Option<BTreeMap<String, String>>, TaskError> {
        let found = self.maps().get_opt(name).await;
        let map = found.map_err(|error| TaskError::of(error, name))?;
        Ok(map.map(|map| map.data.unwrap_or_default()))
    }

    /// Writes one key of a ConfigMap, or removes it; makes the ConfigMap if it is missing.
    ///
    /// # Errors
    /// If the cluster refuses or does not answer.
    pub async fn write_map(
        &self,
        name: &str,
        key: &str,
        text: Option<&str>,
    ) -> Result<(), TaskError> {
        let patch = serde_json::json!({"data": {(key): text}});
        let patch = Patch::Merge(&patch);
        let patched = self
            .maps()
            .patch(name, &PatchParams::default(), &patch)
            .await;
        match patched.map_err(|error| TaskError::of(error, name)) {
            Err(TaskError::Missing(_)) => {}
            patched => return patched.map(drop),
        }
        let text = text.map(|text| (key.to_owned(), text.to_owned()));
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some([(names::PART_OF.to_owned(), "windlass".to_owned())].into()),
                ..ObjectMeta::default()
            },
            data: Some(text.into_iter().collect()),
            ..ConfigMap::default()
        };
        let created = self.maps().create(&PostParams::default(), &map).await;
        created
            .map_err(|error| TaskError::of(error, name))
            .map(drop)
    }

    fn maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}
