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
    /// From the pod's ServiceAccount inside a cluster, else from `KUBECONFIG` or `~/.kube/config`, for whoever
    /// keeps a pace of his own: see [`Cluster::asked_once`]. Nothing is asked of the API server yet.
    ///
    /// # Errors
    /// If neither is there or it cannot be read.
    pub async fn infer(namespace: Option<String>) -> anyhow::Result<Self> {
        let (config, namespace) = found(namespace, None).await?;
        Self::asked_once(config, namespace)
    }

    /// A cluster whose refusals are told as they come. Left to itself the client asks again up to fifteen
    /// times at 429, 503 and 504, soon at first, beside whatever pace its caller keeps.
    ///
    /// # Errors
    /// If the configuration cannot be used.
    pub fn asked_once(mut config: Config, namespace: String) -> anyhow::Result<Self> {
        config.default_retry = false;
        Self::new(config, namespace)
    }

    /// The same, or by a kubeconfig's `context`; what an API server refuses because it is overloaded, the
    /// client asks again by itself. Without a `namespace` it is the pod's or the context's; where a context
    /// says nothing but `default`, it is `windlass`, which the manifests use.
    ///
    /// # Errors
    /// As [`Cluster::infer`].
    pub async fn of(namespace: Option<String>, context: Option<String>) -> anyhow::Result<Self> {
        let (config, namespace) = found(namespace, context).await?;
        Self::new(config, namespace)
    }

    fn new(config: Config, namespace: String) -> anyhow::Result<Self> {
        let client = Client::try_from(config).context("cannot use the cluster's configuration")?;
        Ok(Self { client, namespace })
    }
}

/// How a cluster is reached, and windlass's namespace in it.
async fn found(
    namespace: Option<String>,
    context: Option<String>,
) -> anyhow::Result<(Config, String)> {
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
    Ok((config, namespace))
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}
