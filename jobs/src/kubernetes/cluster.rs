//! A connection to a cluster, and the namespace in it that windlass lives in.

use anyhow::Context;
use kube::config::KubeConfigOptions;
use kube::{Client, Config};

use super::names;

/// A cluster and the namespace of windlass in it.
#[derive(Clone)]
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
}

impl Cluster {
    /// From the pod's ServiceAccount inside a cluster, else from `KUBECONFIG` or `~/.kube/config`.
    /// Nothing is asked of the API server yet.
    ///
    /// # Errors
    /// If neither is there or it cannot be read.
    pub async fn infer(namespace: Option<String>) -> anyhow::Result<Self> {
        Self::of(namespace, None).await
    }

    /// The same, or by a kubeconfig's `context`. Without a `namespace` it is the pod's or the context's;
    /// where a context says nothing but `default`, it is `windlass`, which the manifests use.
    ///
    /// # Errors
    /// As [`Cluster::infer`].
    pub async fn of(namespace: Option<String>, context: Option<String>) -> anyhow::Result<Self> {
        // TLS needs one process-wide provider; if somebody installed one before us, theirs stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = match context {
            None => Config::infer().await.context(
                "expected a cluster: run inside a pod with a ServiceAccount, or set KUBECONFIG",
            )?,
            Some(context) => {
                let options = KubeConfigOptions {
                    context: Some(context),
                    ..KubeConfigOptions::default()
                };
                Config::from_kubeconfig(&options)
                    .await
                    .context("cannot use that context of the kubeconfig")?
            }
        };
        let is_pods = Config::incluster().is_ok_and(|pod| pod.cluster_url == config.cluster_url);
        let namespace = namespace.unwrap_or_else(|| match config.default_namespace.as_str() {
            "default" if !is_pods => names::NAMESPACE.to_owned(),
            other => other.to_owned(),
        });
        let client = Client::try_from(config).context("cannot use the cluster's configuration")?;
        Ok(Self { client, namespace })
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}
