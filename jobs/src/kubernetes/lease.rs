//! One active process among several, by a Lease (coordination.k8s.io/v1).
//!
//! The holder renews it every third of its duration; who has not seen it renewed for that long, by
//! his own clock, takes it over. Every write carries the version that was read, so that two cannot
//! both succeed. A holder that cannot renew in time stops before the others may begin.
//!
//! RBAC: `get` and `update` on this Lease by `resourceNames`, `create` on `leases`.

use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::Cluster;

/// For how long a Lease holds without being renewed.
const DURATION: Duration = Duration::from_secs(15);
/// How often it is renewed, or looked at by those who wait.
const RENEW: Duration = Duration::from_secs(5);
/// After so long without a renewal a holder stops: sooner than others begin.
const GIVE_UP: Duration = Duration::from_secs(11);

/// A Lease that this process may hold.
#[derive(Clone, Debug)]
pub struct Lease {
    api: Api<Object>,
    name: String,
    holder: String,
}

/// What was last seen of it, and since when by our own clock.
#[derive(Debug)]
struct Observed {
    renewed: Option<Timestamp>,
    holder: Option<String>,
    since: Instant,
}

impl Lease {
    /// The Lease of this name in windlass's namespace, to be held under `holder`.
    pub fn new(cluster: &Cluster, name: &str, holder: &str) -> Self {
        Self {
            api: Api::namespaced(cluster.client.clone(), &cluster.namespace),
            name: name.into(),
            holder: holder.into(),
        }
    }

    /// Waits until it is held here. Faults of the API server are waited out.
    pub async fn acquire(&self) {
        let mut observed: Option<Observed> = None;
        let mut told = false;
        loop {
            match self.try_acquire(&mut observed).await {
                Ok(true) => {
                    info!(lease = self.name, "this process is the active one");
                    return;
                }
                Ok(false) => {
                    if !told {
                        let holder = observed.as_ref().and_then(|seen| seen.holder.as_deref());
                        info!(
                            lease = self.name,
                            holder, "another process is active: standing by"
                        );
                    }
                    told = true;
                }
                Err(error) => warn!(
                    "cannot take the Lease {}, trying again: {error:#}",
                    self.name
                ),
            }
            sleep(RENEW).await;
        }
    }

    /// Renews it; returns when it is lost, or could not be renewed in time.
    pub async fn keep(&self) {
        let mut renewed = now();
        loop {
            sleep(RENEW).await;
            match tokio::time::timeout(RENEW, self.renew()).await {
                Ok(Ok(true)) => renewed = now(),
                Ok(Ok(false)) => {
                    warn!(lease = self.name, "another process has taken over");
                    return;
                }
                Ok(Err(error)) => debug!("cannot renew the Lease {}: {error:#}", self.name),
                Err(_) => debug!("renewing the Lease {} takes too long", self.name),
            }
            if renewed.elapsed() >= GIVE_UP - RENEW {
                warn!(lease = self.name, "could not be renewed in time: given up");
                return;
            }
        }
    }

    /// Gives it up, so that others need not wait for its end.
    ///
    /// # Errors
    /// If the API server does not answer; others then wait.
    pub async fn release(&self) -> anyhow::Result<()> {
        let Some(mut object) = self.api.get_opt(&self.name).await? else {
            return Ok(());
        };
        let spec = object.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.holder) {
            return Ok(());
        }
        spec.holder_identity = None;
        spec.renew_time = None;
        self.replace(&object).await.map(|_| ())
    }

    async fn try_acquire(&self, observed: &mut Option<Observed>) -> anyhow::Result<bool> {
        let found = self.api.get_opt(&self.name).await.with_context(|| {
            format!(
                "cannot read the Lease {}: expected the right to get it",
                self.name
            )
        })?;
        let Some(mut object) = found else {
            let mut object = Object {
                spec: Some(self.spec(0)),
                ..Object::default()
            };
            object.metadata.name = Some(self.name.clone());
            return conflict_is_no(self.api.create(&PostParams::default(), &object).await)
                .with_context(|| format!("cannot create the Lease {}", self.name));
        };
        let spec = object.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.filter(|holder| !holder.is_empty());
        let renewed = spec.renew_time.map(|time| time.0);
        let seen = observed
            .take()
            .filter(|seen| seen.renewed == renewed && seen.holder == holder)
            .unwrap_or_else(|| Observed {
                renewed,
                holder: holder.clone(),
                since: now(),
            });
        // The writer's clock may be wrong; how long it has stood still is measured by ours.
        let stale = seen.since.elapsed() >= DURATION;
        let ours = holder.as_deref() == Some(&self.holder);
        *observed = Some(seen);
        if holder.is_some() && !ours && !stale {
            return Ok(false);
        }
        object.spec = Some(self.spec(spec.lease_transitions.unwrap_or(0) + i32::from(!ours)));
        self.replace(&object).await
    }

    async fn renew(&self) -> anyhow::Result<bool> {
        let mut object = self.api.get(&self.name).await?;
        let spec = object.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.holder) {
            return Ok(false);
        }
        spec.renew_time = Some(MicroTime(timestamp()));
        self.replace(&object).await
    }

    /// `false` if somebody else wrote in between.
    async fn replace(&self, object: &Object) -> anyhow::Result<bool> {
        let params = PostParams::default();
        conflict_is_no(self.api.replace(&self.name, &params, object).await).with_context(|| {
            format!(
                "cannot write the Lease {}: expected the right to update it",
                self.name
            )
        })
    }

    fn spec(&self, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.holder.clone()),
            lease_duration_seconds: Some(DURATION.as_secs() as i32),
            acquire_time: Some(MicroTime(timestamp())),
            renew_time: Some(MicroTime(timestamp())),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}

fn conflict_is_no(written: kube::Result<Object>) -> kube::Result<bool> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(answer)) if answer.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods)]
fn timestamp() -> Timestamp {
    Timestamp::now()
}
