//! The whole system on a real cluster: what the manifests bring up, and what it survives.
//!
//! Needs KUBECONFIG to name a cluster of `k8s/local/up` with its images loaded, whose Services this
//! machine reaches; `tests/kubernetes` sees to that. Without WINDLASS_TEST_CLUSTER=1 every test is skipped.

#![allow(
    clippy::disallowed_methods,
    reason = "tests are a shell: they read clocks"
)]

mod faults;
mod harness;
mod image;
mod jobs;
mod kubectl;
#[path = "../system/load.rs"]
mod load;
mod local;
mod manifests;
mod overlay;
mod rendered;
mod scaler;
mod scaling;
mod schedule;
mod submit;
mod tls;
