//! What the AMQP client says when something fails, in words that a person can act on.

use lapin::{Error, ErrorKind};

use super::ANSWER;
use crate::broker::BrokerError;

/// AMQP reply codes that callers tell apart.
pub mod code {
    pub const ACCESS_REFUSED: u16 = 403;
    pub const NOT_FOUND: u16 = 404;
    pub const PRECONDITION_FAILED: u16 = 406;
    pub const COMMAND_INVALID: u16 = 503;
    pub const NOT_ALLOWED: u16 = 530;
}

/// A failed call: the broker's reply code if it answered, and what it said.
#[derive(Debug)]
pub struct Fault {
    /// AMQP reply code; 0 when it was not the broker that spoke.
    pub code: u16,
    /// One line.
    pub reason: String,
}

impl Fault {
    /// This fault as something that may pass by itself.
    pub fn failed(self, what: &str) -> BrokerError {
        BrokerError::Failed {
            what: what.into(),
            reason: self.reason,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::ProtocolError(error) => Self {
                code: error.get_id(),
                reason: error.get_message().to_string().replace('\n', " "),
            },
            ErrorKind::IOError(error) => Self {
                code: 0,
                reason: error.to_string(),
            },
            ErrorKind::MissingHeartbeatError => Self {
                code: 0,
                reason: "the broker fell silent (no heartbeat)".into(),
            },
            ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidConnectionState(_) => Self {
                code: 0,
                reason: "the connection is closed".into(),
            },
            // The client takes every short text of the protocol for UTF-8, which the broker does not
            // check; it gives up the connection, and would again at the same message.
            ErrorKind::ParsingError(error) => Self {
                code: 0,
                reason: format!(
                    "it sent what the client cannot read, probably a message whose routing key, \
                     content type or header names are not UTF-8 ({error}); take that message out \
                     of the queue with another client"
                ),
            },
            _ => Self {
                code: 0,
                reason: error.to_string(),
            },
        }
    }
}

/// Awaits a call, but not for ever.
pub async fn within<T>(call: impl Future<Output = lapin::Result<T>>) -> Result<T, Fault> {
    match tokio::time::timeout(ANSWER, call).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Fault {
            code: 0,
            reason: format!("no answer within {} s", ANSWER.as_secs()),
        }),
    }
}
