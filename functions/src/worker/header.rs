//! The headers of the invocation API, for both ends of it.

/// On a request: the worker's name, unique among live workers.
pub const WORKER: &str = "windlass-worker";
/// On a request: the version of the worker's code.
pub const WORKER_VERSION: &str = "windlass-worker-version";
/// On a request: [`LIVENESS_CONNECTION`] promises that the answer comes on the same connection,
/// so that the connection's end tells that the worker is gone.
pub const LIVENESS: &str = "windlass-liveness";
/// See [`LIVENESS`].
pub const LIVENESS_CONNECTION: &str = "connection";
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
