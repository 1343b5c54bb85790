//! The loop a worker runs: pull an invocation, run the function, answer.
//!
//! A worker holds no state between invocations and needs nothing but a dispatcher's address and
//! its token. Losing it at any moment is harmless: the dispatcher reissues what was not answered.

mod client;
pub mod header;
mod probes;

use std::any::Any;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use serde::Serialize;

use crate::batch::{decode_batch, encode_partials};
use crate::function::Function;
use crate::trust::{self, BadAuthority};

use client::{Answered, Client, Invocation, Next};
use probes::Probes;

/// Bodies up to this size are mapped on the thread that received them: that takes less than a
/// tenth of a millisecond, about what handing them to another thread may cost.
const MAP_INLINE_BYTES: usize = 64 << 10;

/// How long a worker that leaves waits for the answer to a request for work that is under way: an
/// invocation may be in it.
const LAST_CALL: Duration = Duration::from_secs(2);

/// How often an answer is offered before the dispatcher is left to reissue the invocation.
const ANSWER_TRIES: usize = 6;

/// Where a worker finds its work and who it is.
#[derive(Clone)]
pub struct WorkerConfig {
    /// Base address of the dispatcher, such as `http://127.0.0.1:7070` or `https://…`, without user or password.
    pub dispatcher: String,
    /// The bearer token that the dispatcher asks for, if it does.
    pub token: Option<String>,
    /// PEM file of the authority that alone is trusted to vouch for a dispatcher at `https://…`; the
    /// system's without it.
    pub ca: Option<PathBuf>,
    /// Names this worker to the dispatcher; see [`worker_id`].
    pub id: String,
    /// How long one request for work may stay open.
    pub wait: Duration,
    /// Where a kubelet's probes come, if they do: one at the start, then others. [`run`] waits for the second
    /// before it asks for work. A kubelet kills a pod that is deleted before it knows that the program runs,
    /// without a word; what it has probed twice, it knows. While the dispatcher has parked this worker, probes
    /// find the port closed, so that a pool that shrinks loses this pod before one that works.
    pub listen: Option<SocketAddr>,
    /// When this worker's program started.
    pub started: Instant,
}

impl WorkerConfig {
    /// A worker of the dispatcher at `dispatcher`, without a token, whose program starts now.
    #[allow(clippy::disallowed_methods)]
    pub fn new(dispatcher: impl Into<String>) -> Self {
        Self {
            dispatcher: dispatcher.into(),
            token: None,
            ca: None,
            id: worker_id(),
            wait: Duration::from_secs(30),
            listen: None,
            started: Instant::now(),
        }
    }
}

impl std::fmt::Debug for WorkerConfig {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("WorkerConfig")
            .field("dispatcher", &client::without_user(&self.dispatcher))
            .field("token", &self.token.as_ref().map(|_| "hidden"))
            .field("ca", &self.ca)
            .field("id", &self.id)
            .field("wait", &self.wait)
            .field("listen", &self.listen)
            .finish()
    }
}

/// `host-pid`: tells apart the workers of one cluster that are alive together.
pub fn worker_id() -> String {
    let host = rustix::system::uname();
    format!(
        "{}-{}",
        host.nodename().to_string_lossy(),
        std::process::id()
    )
}

/// Why a worker cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The address is no HTTP address.
    #[error(
        "{0:?} is not a dispatcher's address; expected one such as http://127.0.0.1:7070 or https://HOST:7070"
    )]
    Address(String),
    /// The token or the worker's id cannot be sent in a header.
    #[error("the {0} holds characters that an HTTP header cannot carry; expected visible ASCII")]
    Header(&'static str),
    /// The dispatcher refuses the token, or the lack of one.
    #[error(
        "the dispatcher at {0} refuses this worker's token; give the worker the token that the dispatcher was started with"
    )]
    Unauthorized(String),
    /// Something answers at the address, but it does not speak the invocation API.
    #[error(
        "{address} answers {status} to a request for work; expected a windlass dispatcher there"
    )]
    NotADispatcher {
        /// The address asked.
        address: String,
        /// The status it answered.
        status: u16,
    },
    /// The authority's certificate cannot be used.
    #[error(transparent)]
    Authority(#[from] BadAuthority),
    /// No probe can come.
    #[error("cannot wait for a probe on {address}: {error}; choose another address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// The HTTP client cannot be set up.
    #[error("cannot set up the HTTP client: {0}")]
    Client(#[source] reqwest::Error),
    /// The one invocation asked for could not be had.
    #[error("cannot take invocation {id} from the dispatcher: {reason}")]
    Unreachable {
        /// The invocation.
        id: String,
        /// What happened last.
        reason: String,
    },
}

/// How one invocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered, by this worker or by another that was first.
    Answered,
    /// The function failed, which was reported.
    Failed,
    /// It was settled or taken before, or the answer could not be delivered: nothing to do.
    Gone,
}

/// Pulls and answers invocations until the dispatcher says to drain or `shutdown` completes.
///
/// While the dispatcher is unreachable or failing, it is asked again with exponential backoff,
/// for ever. On `shutdown` the dispatcher is told to give this worker nothing more, and what it may
/// have given in that moment is carried out; a running invocation is finished and answered first.
///
/// # Errors
/// If the configuration is wrong or the dispatcher refuses it for good: see [`WorkerError`].
pub async fn run(
    config: WorkerConfig,
    functions: &[Arc<dyn Function>],
    shutdown: impl Future<Output = ()>,
) -> Result<(), WorkerError> {
    let client = Client::new(&config)?;
    let mut shutdown = pin!(shutdown);
    let mut probes = None;
    if let Some(address) = config.listen {
        let probed = tokio::select! {
            biased;
            () = &mut shutdown => return Ok(()),
            probed = Probes::second(address) => probed,
        };
        let open = probed.map_err(|error| WorkerError::Listen { address, error })?;
        probes = Some(open);
    }
    let mut pauses = backoff();
    let mut failing = false;
    let mut leaving = false;
    while !leaving {
        tokio::select! {
            biased;
            () = &mut shutdown => return Ok(()),
            () = std::future::ready(()) => {}
        }
        let mut asked = pin!(client.ask_next(probes.as_ref().map(Probes::shown)));
        let response = tokio::select! {
            biased;
            () = &mut shutdown => {
                leaving = true;
                client.leave(&config.id).await;
                match tokio::time::timeout(LAST_CALL, asked).await {
                    Ok(response) => response,
                    Err(_) => return Ok(()),
                }
            }
            response = &mut asked => response,
        };
        let next = match response {
            Ok(response) => client.receive(response).await?,
            Err(error) => Next::Unavailable(trust::chain(&error)),
        };
        if let Some(probes) = &mut probes {
            probes.show(matches!(next, Next::Parked)).await;
        }
        match next {
            Next::Drain => return Ok(()),
            Next::Unavailable(_) if leaving => return Ok(()),
            Next::Unavailable(reason) => {
                if !failing {
                    tracing::warn!(dispatcher = %config.dispatcher, reason, "no work to be had; trying again");
                }
                failing = true;
                let pause = pauses.next().unwrap_or_default();
                tokio::select! {
                    biased;
                    () = &mut shutdown => return Ok(()),
                    () = tokio::time::sleep(pause) => {}
                }
                continue;
            }
            Next::Nothing | Next::Parked => {}
            Next::Invocation(invocation) => {
                carry_out(&client, functions, invocation).await?;
            }
        }
        if failing {
            tracing::info!(dispatcher = %config.dispatcher, "the dispatcher is back");
            failing = false;
            pauses = backoff();
        }
    }
    Ok(())
}

/// Takes the invocation `id`, carries it out and answers it. `shutdown` gives up only what has not
/// been taken: [`Outcome::Gone`].
///
/// # Errors
/// As [`run`], and if the dispatcher stays unreachable for about half a minute.
pub async fn run_once(
    config: WorkerConfig,
    functions: &[Arc<dyn Function>],
    id: &str,
    shutdown: impl Future<Output = ()>,
) -> Result<Outcome, WorkerError> {
    let client = Client::new(&config)?;
    let mut shutdown = pin!(shutdown);
    let mut pauses = backoff().take(8);
    loop {
        let response = tokio::select! {
            biased;
            () = &mut shutdown => return Ok(Outcome::Gone),
            response = client.ask_for(id) => response,
        };
        let next = match response {
            Ok(response) => client.receive(response).await?,
            Err(error) => Next::Unavailable(trust::chain(&error)),
        };
        let reason = match next {
            Next::Drain => return Ok(Outcome::Gone),
            Next::Invocation(invocation) => {
                return carry_out(&client, functions, invocation).await;
            }
            Next::Nothing | Next::Parked => "it is not ready".into(),
            Next::Unavailable(reason) => reason,
        };
        let Some(pause) = pauses.next() else {
            let id = id.to_owned();
            return Err(WorkerError::Unreachable { id, reason });
        };
        tokio::select! {
            biased;
            () = &mut shutdown => return Ok(Outcome::Gone),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// 100 ms, 200 ms, … up to 10 s, each with up to as much again at random.
fn backoff() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(10))
        .with_jitter()
        .without_max_times()
        .build()
}

/// What the body of `POST …/error` says.
#[derive(Debug, Serialize)]
struct Failure {
    r#type: &'static str,
    message: String,
}

async fn carry_out(
    client: &Client,
    functions: &[Arc<dyn Function>],
    invocation: Invocation,
) -> Result<Outcome, WorkerError> {
    let answer = match functions
        .iter()
        .find(|function| function.name() == invocation.function)
    {
        Some(function) => map(Arc::clone(function), invocation.body).await,
        None => Err(Failure {
            r#type: "unknown-function",
            message: format!(
                "this worker does not know the function {:?}; it knows {:?}",
                invocation.function,
                functions
                    .iter()
                    .map(|known| known.name())
                    .collect::<Vec<_>>()
            ),
        }),
    };
    if let Err(failure) = &answer {
        tracing::warn!(invocation.id = %invocation.id, failure.r#type, failure.message, "the function failed");
    }
    let mut pauses = backoff();
    for _ in 0..ANSWER_TRIES {
        let answered = match &answer {
            Ok(partials) => client.answer(&invocation.id, partials.clone()).await?,
            Err(failure) => client.report(&invocation.id, failure).await?,
        };
        match answered {
            Answered::Taken if answer.is_err() => return Ok(Outcome::Failed),
            Answered::Taken => return Ok(Outcome::Answered),
            Answered::Refused(status) => {
                tracing::debug!(invocation.id = %invocation.id, status, "the answer is no longer wanted");
                return Ok(if status == 409 {
                    Outcome::Answered
                } else {
                    Outcome::Gone
                });
            }
            Answered::Unavailable(reason) => {
                tracing::warn!(invocation.id = %invocation.id, reason, "cannot deliver the answer yet");
                tokio::time::sleep(pauses.next().unwrap_or_default()).await;
            }
        }
    }
    Ok(Outcome::Gone)
}

async fn map(function: Arc<dyn Function>, body: Bytes) -> Result<Bytes, Failure> {
    if body.len() <= MAP_INLINE_BYTES {
        return map_now(&*function, &body);
    }
    tokio::task::spawn_blocking(move || map_now(&*function, &body))
        .await
        .unwrap_or_else(|_| {
            Err(Failure {
                r#type: "cancelled",
                message: "the worker is shutting down".into(),
            })
        })
}

fn map_now(function: &dyn Function, body: &[u8]) -> Result<Bytes, Failure> {
    let batch = decode_batch(body).map_err(|error| Failure {
        r#type: "batch",
        message: error.to_string(),
    })?;
    // A function is pure: what a panic leaves half done is dropped with the batch.
    match catch_unwind(AssertUnwindSafe(|| function.map(&batch))) {
        Ok(Ok(partials)) => Ok(encode_partials(&partials)),
        Ok(Err(error)) => Err(Failure {
            r#type: "error",
            message: format!("{error:#}"),
        }),
        Err(panic) => Err(Failure {
            r#type: "panic",
            message: panic_message(&*panic).to_owned(),
        }),
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("the function panicked without a message")
}
