//! What windlass's objects are called; the manifests in `k8s/` use the same names.

/// The namespace that the manifests use.
pub const NAMESPACE: &str = "windlass";
/// The Deployment of the dispatcher, and the Service in front of its invocation API.
pub const DISPATCHER: &str = "windlass-dispatcher";
/// The port of the invocation API.
pub const DISPATCHER_PORT: u16 = 7070;
/// The Deployment of warm workers.
pub const WORKERS: &str = "windlass-workers";
/// The ConfigMap with the pod template of Jobs, under [`JOB_TEMPLATE_KEY`].
pub const JOB_TEMPLATE: &str = "windlass-job-template";
/// The template's key: YAML of a `PodTemplateSpec`.
pub const JOB_TEMPLATE_KEY: &str = "template.yaml";
/// The ConfigMap with the schedules: one key a schedule.
pub const SCHEDULES: &str = "windlass-schedules";
/// The ConfigMap that tunes the scaler.
pub const SCALER: &str = "windlass-scaler";

/// The label that says which part of windlass an object is: one of the `COMPONENT_` constants.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// A warm worker.
pub const COMPONENT_WORKER: &str = "worker";
/// A Job that runs one invocation.
pub const COMPONENT_INVOCATION: &str = "invocation";
/// A Job that runs datagen.
pub const COMPONENT_DATAGEN: &str = "datagen";
/// The label of everything that belongs to windlass, with the value `windlass`.
pub const PART_OF: &str = "app.kubernetes.io/part-of";

/// The Secret with the URLs of broker and database, under [`SECRET_BROKER`] and [`SECRET_STORE`].
pub const SECRET: &str = "windlass";
/// The broker's URL in [`SECRET`].
pub const SECRET_BROKER: &str = "broker";
/// The database's URL in [`SECRET`].
pub const SECRET_STORE: &str = "store";
/// The ConfigMap with the configuration file, under [`CONFIG_KEY`].
pub const CONFIG: &str = "windlass";
/// The configuration file's key and name.
pub const CONFIG_KEY: &str = "windlass.toml";
/// The folder in which pods find the configuration file.
pub const CONFIG_FOLDER: &str = "/etc/windlass";
/// The optional Secret with certificates; pods that only connect need its [`TLS_CA`].
pub const TLS: &str = "windlass-tls";
/// The certificate of the private authority in [`TLS`].
pub const TLS_CA: &str = "ca.crt";
/// The folder in which pods find certificates.
pub const TLS_FOLDER: &str = "/etc/windlass-tls";
/// A Job that audits a run.
pub const COMPONENT_AUDIT: &str = "audit";
/// The ConfigMap in which the scheduler notes what it did, one key a schedule.
pub const SCHEDULES_STATE: &str = "windlass-schedules-state";
/// The Deployment of the scheduler.
pub const SCHEDULER: &str = "windlass-scheduler";
/// The Secret with the token between dispatcher and workers, under [`TOKEN_KEY`].
pub const TOKEN: &str = "windlass-token";
/// The token's key.
pub const TOKEN_KEY: &str = "token";
/// The header that carries the token where `authorization` is taken.
pub const TOKEN_HEADER: &str = "windlass-token";
/// The label that tells the Jobs of one deployment (stream and database) from those of another.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// The annotation of a Job and its pod: the invocation that it was made for.
pub const INVOCATION: &str = "windlass.io/invocation";
/// The annotation of a Job: the dispatcher that made it.
pub const MADE_BY: &str = "windlass.io/made-by";
