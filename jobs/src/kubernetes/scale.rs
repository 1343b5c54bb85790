//! The size of one Deployment.
//!
//! RBAC: `get` on this one Deployment and `patch` on its `scale` subresource, both by `resourceNames`, and
//! nothing else. How many of its pods take batches is the dispatcher's to say.

use anyhow::Context;
use k8s_openapi::api::apps::v1::Deployment as Object;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::Cluster;

/// How many pods a Deployment has and is to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scale {
    /// Pods that there are to be.
    pub wanted: u32,
    /// Pods that there are; those that terminate are no longer among them.
    pub present: u32,
    /// Of these, pods that are ready in Kubernetes' sense.
    pub ready: u32,
}

/// One Deployment.
#[derive(Clone, Debug)]
pub struct Deployment {
    api: Api<Object>,
    name: String,
}

impl Deployment {
    /// The Deployment of this name in windlass's namespace; nothing is asked yet.
    pub fn new(cluster: &Cluster, name: &str) -> Self {
        Self {
            api: Api::namespaced(cluster.client.clone(), &cluster.namespace),
            name: name.into(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many pods it has.
    ///
    /// # Errors
    /// If it is not there, or the API server does not answer or refuses.
    pub async fn scale(&self) -> anyhow::Result<Scale> {
        let object = self.api.get(&self.name).await.with_context(|| {
            format!(
                "cannot read the size of the Deployment {}: expected it in the namespace, and the \
                 right to get it",
                self.name
            )
        })?;
        let count = |count: Option<i32>| u32::try_from(count.unwrap_or(0)).unwrap_or(0);
        let status = object.status.unwrap_or_default();
        Ok(Scale {
            wanted: count(object.spec.and_then(|spec| spec.replicas)),
            present: count(status.replicas),
            ready: count(status.ready_replicas),
        })
    }

    /// Asks for another number of pods.
    ///
    /// # Errors
    /// If the API server does not answer or refuses.
    pub async fn resize(&self, size: u32) -> anyhow::Result<()> {
        let patch = json!({ "spec": { "replicas": size } });
        let patch = Patch::Merge(patch);
        self.api
            .patch_scale(&self.name, &PatchParams::default(), &patch)
            .await
            .with_context(|| {
                format!(
                    "cannot scale the Deployment {} to {size}: expected the right to patch \
                     deployments/scale",
                    self.name
                )
            })?;
        Ok(())
    }
}
