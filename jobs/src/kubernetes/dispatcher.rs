//! Asking the dispatcher from outside the cluster, through the API server's proxy: no port is opened
//! and no pod is started.
//!
//! Verbs of the user who asks, in windlass's namespace: `services/proxy` get; `deployments` (apps) get
//! for the pool's size; `secrets` get on `windlass-token`, unless the user has the token anyway.

use std::time::Duration;

use futures_util::future::{Either, select};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde::Serialize;

use super::task::TaskError;
use super::{Cluster, names};

/// How long a dispatcher may take to answer through the API server.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The warm pool as its Deployment shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pool {
    /// How many workers there should be.
    pub desired: u32,
    /// How many are ready.
    pub ready: u32,
}

impl Cluster {
    /// The dispatcher's `/v1/status`; `token` as in [`Cluster::token`].
    ///
    /// # Errors
    /// If the cluster refuses, or no dispatcher answers.
    pub async fn dispatcher_status(&self, token: Option<&str>) -> Result<String, TaskError> {
        // One of them is what it does not speak, of which the proxy says that nothing answers; the client
        // asks that again for minutes, as it does where there is no dispatcher.
        let plain = std::pin::pin!(self.proxied("", token));
        let tls = std::pin::pin!(self.proxied("https:", token));
        match select(plain, tls).await {
            Either::Left((Err(TaskError::Unavailable(why)), tls)) => {
                tls.await.or(Err(TaskError::Unavailable(why)))
            }
            Either::Right((Err(TaskError::Unavailable(_)), plain)) => plain.await,
            Either::Left((answered, _)) | Either::Right((answered, _)) => answered,
        }
    }

    async fn proxied(&self, scheme: &str, token: Option<&str>) -> Result<String, TaskError> {
        let (name, port) = (names::DISPATCHER, names::DISPATCHER_PORT);
        let path = format!(
            "/api/v1/namespaces/{}/services/{scheme}{name}:{port}/proxy/v1/status",
            self.namespace
        );
        let mut request = http::Request::get(path);
        if let Some(token) = token {
            // The API server keeps `authorization` for itself.
            request = request.header(names::TOKEN_HEADER, token);
        }
        let request = request
            .body(Vec::new())
            .map_err(|error| TaskError::Unavailable(error.to_string()))?;
        let asking = self.client.request_text(request);
        let answer = tokio::time::timeout(TIMEOUT, asking).await.map_err(|_| {
            TaskError::Unavailable(format!(
                "no answer through the API server within {} s",
                TIMEOUT.as_secs()
            ))
        })?;
        answer.map_err(|error| match TaskError::of(error, name) {
            TaskError::Missing(_) => {
                TaskError::NotInstalled(self.namespace.clone(), "Service windlass-dispatcher")
            }
            other => other,
        })
    }

    /// The token between dispatcher and workers, which the status wants, too; `None` if the cluster
    /// has none.
    ///
    /// # Errors
    /// If the user may not read it.
    pub async fn token(&self) -> Result<Option<String>, TaskError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = secrets.get_opt(names::TOKEN).await;
        let secret = found.map_err(|error| TaskError::of(error, names::TOKEN))?;
        let token = secret.and_then(|secret| secret.data?.remove(names::TOKEN_KEY));
        Ok(token.map(|token| String::from_utf8_lossy(&token.0).trim().to_owned()))
    }

    /// The warm pool; `None` if it is no Deployment of this cluster.
    ///
    /// # Errors
    /// If the cluster refuses or does not answer.
    pub async fn pool(&self) -> Result<Option<Pool>, TaskError> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = deployments.get_opt(names::WORKERS).await;
        let deployment = found.map_err(|error| TaskError::of(error, names::WORKERS))?;
        Ok(deployment.map(|deployment| {
            let count = |count: Option<i32>| count.unwrap_or(0).max(0).cast_unsigned();
            Pool {
                desired: count(deployment.spec.and_then(|spec| spec.replicas)),
                ready: count(deployment.status.and_then(|status| status.ready_replicas)),
            }
        }))
    }
}
