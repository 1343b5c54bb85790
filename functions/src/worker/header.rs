//! The headers of the invocation API, for both ends of it.

/// On a request: the worker's name, unique among live workers.
pub const WORKER: &str = "windlass-worker";
/// On a request: the version of the worker's code.
pub const WORKER_VERSION: &str = "windlass-worker-version";
/// On a request for one invocation: for how long the worker's program has run, ms.
pub const WORKER_AGE: &str = "windlass-worker-age";
/// On a request: [`LIVENESS_CONNECTION`] promises that the connection of this request stays open until the
/// answer was given, on it or on another, so that its end tells that the worker is gone.
pub const LIVENESS: &str = "windlass-liveness";
/// See [`LIVENESS`].
pub const LIVENESS_CONNECTION: &str = "connection";
/// On a request for work: [`PARKING_ACTIVE`] or [`PARKING_PARKED`] says that this worker can show whether
/// it is parked, and which it shows. On an answer without a batch: [`PARKING_PARKED`] if it is parked from
/// now on; with every other answer it is at work.
pub const PARKING: &str = "windlass-parking";
/// See [`PARKING`].
pub const PARKING_ACTIVE: &str = "active";
/// See [`PARKING`].
pub const PARKING_PARKED: &str = "parked";
/// On a batch: the attempt's id, for the answer's path.
pub const INVOCATION_ID: &str = "windlass-invocation-id";
/// On a batch: the function to run.
pub const FUNCTION: &str = "windlass-function";
/// On a batch: the window's start, ms since the epoch (UTC).
pub const WINDOW_START: &str = "windlass-window-start";
/// On a batch: the window's end, ms since the epoch (UTC).
pub const WINDOW_END: &str = "windlass-window-end";
/// On a batch: 0 while the window is open, 1 for a revision of a closed one.
pub const REVISION: &str = "windlass-revision";
/// On a batch: when the attempt is given up, ms since the epoch (UTC).
pub const DEADLINE: &str = "windlass-deadline";
