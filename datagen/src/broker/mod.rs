//! RabbitMQ: a channel that publishes with confirms. This module and its child alone name the
//! AMQP client.
//!
//! Its own recovery stays off: what was not confirmed when a connection is lost is for the caller
//! to send again, in order, on a new [`Publisher`].

mod topology;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::tcp::OwnedTLSConfig;
use lapin::uri::AMQPUri;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ErrorKind,
    PublisherConfirm,
};
use url::Url;
use windlass_functions::trust;

use crate::message::Message;

/// A silent broker is taken for dead after twice this, unless the URL says `?heartbeat=`. Seconds.
const HEARTBEAT: u16 = 10;
/// How long the broker may take to answer a request other than a publish.
const ANSWER: Duration = Duration::from_secs(30);
/// How long closing may take before the socket is simply dropped.
const GOODBYE: Duration = Duration::from_secs(2);
/// AMQP's delivery mode of messages that survive a restart of the broker.
const PERSISTENT: u8 = 2;

/// Why the broker did not do as asked. Messages never carry a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// Trying again is pointless until a person has changed something.
    #[error("{0}")]
    Refused(String),
    /// The connection is lost or was never made: it may come back.
    #[error("{0}")]
    Lost(String),
}

/// A stream on a RabbitMQ server.
#[derive(Clone)]
pub struct Target {
    uri: AMQPUri,
    /// Trusted besides the system's authorities, PEM.
    authority: Option<String>,
    stream: String,
    shards: u32,
}

/// Shows neither user nor password.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = &self.uri.authority;
        write!(f, "{}:{}", authority.host, authority.port)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("address", &self.to_string())
            .field("stream", &self.stream)
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}

impl Target {
    /// The stream `stream` of `shards` shards on the server at `url`
    /// (`amqp://USER:PASSWORD@HOST:5672/VHOST` or `amqps://…`; the default vhost is `/`). The query may
    /// name a private authority's certificates: `?cacertfile=/etc/ssl/ca.crt`.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] if the URL is none of these, or there are no shards.
    pub fn parse(url: &str, stream: &str, shards: u32) -> Result<Self, BrokerError> {
        let bad = |why: &str| {
            BrokerError::Refused(format!(
                "the broker's URL {why}; expected amqp://USER:PASSWORD@HOST:5672/VHOST or amqps://…"
            ))
        };
        let parsed = Url::parse(url).map_err(|_| bad("is not a URL"))?;
        if !matches!(parsed.scheme(), "amqp" | "amqps") {
            return Err(bad("has another scheme"));
        }
        let host = parsed.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| bad("names no host"))?;
        // The client's parser may quote the URL, password included: its words are not passed on.
        let mut uri: AMQPUri = url.parse().map_err(|_| bad("has a malformed part"))?;
        // That parser takes IPv6 literals for "no host" and an empty path for a vhost named "".
        uri.authority.host = host.trim_matches(['[', ']']).to_owned();
        if uri.vhost.is_empty() {
            uri.vhost = "/".into();
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        let file = parsed.query_pairs().find(|(name, _)| name == "cacertfile");
        let authority = file.map(|(_, path)| trust::authority(Path::new(&*path)));
        let authority = authority
            .transpose()
            .map_err(|error| bad(&format!("names a bad file ({error})")))?;
        if shards == 0 {
            return Err(BrokerError::Refused(
                "expected at least 1 shard, got 0".into(),
            ));
        }
        Ok(Self {
            uri,
            authority,
            stream: stream.to_owned(),
            shards,
        })
    }

    /// Connects and makes sure that the stream's exchange and queues exist, as the dispatcher
    /// declares them.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] for wrong credentials, vhost, privileges or number of shards,
    /// [`BrokerError::Lost`] if nobody answers.
    pub async fn open(&self) -> Result<Publisher, BrokerError> {
        let publisher = self.reopen().await?;
        topology::declare(&publisher.connection, &self.stream, self.shards).await?;
        Ok(publisher)
    }

    /// Connects to a stream that exists. A queue that was deleted meanwhile stays so: that its
    /// messages are gone must show, as an unroutable message does.
    ///
    /// # Errors
    /// As [`Target::open`].
    pub async fn reopen(&self) -> Result<Publisher, BrokerError> {
        trust::use_ring();
        let properties =
            ConnectionProperties::default().with_connection_name("windlass datagen".into());
        let tls = OwnedTLSConfig {
            cert_chain: self.authority.clone(),
            ..OwnedTLSConfig::default()
        };
        let connecting = async {
            let runtime = lapin::runtime::default_runtime()?;
            Connection::connect_uri_with_config(self.uri.clone(), properties, tls, runtime).await
        };
        let connection = within(connecting)
            .await
            .map_err(|fault| self.explain(&fault))?;
        let channel = within(connection.create_channel())
            .await
            .map_err(|fault| fault.lost("opening a channel"))?;
        within(channel.confirm_select(ConfirmSelectOptions::default()))
            .await
            .map_err(|fault| fault.lost("asking for publisher confirms"))?;
        Ok(Publisher {
            stream: self.stream.clone(),
            connection,
            channel,
        })
    }

    fn explain(&self, fault: &Fault) -> BrokerError {
        let (user, vhost) = (&self.uri.authority.userinfo.username, &self.uri.vhost);
        let Fault { code, reason } = fault;
        match *code {
            code::ACCESS_REFUSED => BrokerError::Refused(format!(
                "the broker at {self} refused user {user:?} or its password; check the URL's \
                 credentials (RabbitMQ lets `guest` in from localhost only)"
            )),
            code::NOT_ALLOWED | code::NOT_FOUND => BrokerError::Refused(format!(
                "the broker at {self} does not let user {user:?} into vhost {vhost:?} ({reason}); \
                 create it, grant permissions, or correct the end of the URL"
            )),
            _ => {
                let meaning = trust::explain(reason).unwrap_or("check that it runs and the URL");
                BrokerError::Lost(format!(
                    "cannot reach the broker at {self}: {reason}; {meaning}"
                ))
            }
        }
    }
}

/// A channel in confirm mode.
pub struct Publisher {
    stream: String,
    connection: Connection,
    channel: Channel,
}

/// A message on its way: resolves to the broker's word on it.
#[derive(Debug)]
pub struct Pending(PublisherConfirm);

/// The broker's word on a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Stored: the broker answers for it from now on.
    Confirmed,
    /// Not stored (a queue is full or has no quorum): to be sent again.
    Refused,
}

impl Publisher {
    /// Sends `message`, persistent and mandatory, to the stream's exchange.
    ///
    /// # Errors
    /// [`BrokerError::Lost`] if the channel or connection is closed, [`BrokerError::Refused`] if
    /// the source is too long for a routing key.
    pub async fn publish(&self, message: &Message) -> Result<Pending, BrokerError> {
        let Ok(routing_key) = lapin::types::ShortString::try_new(&*message.source) else {
            return Err(BrokerError::Refused(format!(
                "expected sources of at most 255 bytes, one has {}; AMQP's routing key takes no more",
                message.source.len()
            )));
        };
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type(message.content_type.into());
        let exchange = self.stream.as_str().into();
        self.channel
            .basic_publish(exchange, routing_key, options, &message.body, properties)
            .await
            .map(Pending)
            .map_err(|error| Fault::from(error).lost("publishing"))
    }

    /// Whether the broker has said that it takes no messages for now, being short of memory or disk.
    pub fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Says goodbye to the broker.
    pub async fn close(self) {
        // Failing to say it is no loss: everything that matters is confirmed.
        let _ = tokio::time::timeout(GOODBYE, self.connection.close(200, "bye".into())).await;
    }
}

impl Pending {
    /// Awaits the broker's word. Cancelling loses nothing: it can be awaited again.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] if the broker returned the message because no queue takes it,
    /// [`BrokerError::Lost`] if the channel closed before it answered.
    pub async fn verdict(&mut self) -> Result<Verdict, BrokerError> {
        match (&mut self.0).await {
            Ok(Confirmation::Ack(None) | Confirmation::NotRequested) => Ok(Verdict::Confirmed),
            Ok(Confirmation::Nack(None)) => Ok(Verdict::Refused),
            Ok(Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned))) => {
                Err(BrokerError::Refused(format!(
                    "the broker returned a message for exchange {:?} with routing key {:?}: {}; a \
                     shard's queue is missing or not bound: declare the stream again or check its \
                     bindings",
                    returned.delivery.exchange.as_str(),
                    returned.delivery.routing_key.as_str(),
                    returned.reply_text
                )))
            }
            Err(error) => {
                let fault = Fault::from(error);
                if fault.code == code::NOT_FOUND {
                    return Err(BrokerError::Refused(format!(
                        "the stream was deleted while it was published to ({})",
                        fault.reason
                    )));
                }
                Err(fault.lost("waiting for a confirm"))
            }
        }
    }
}

/// AMQP reply codes that are told apart.
mod code {
    pub(super) const ACCESS_REFUSED: u16 = 403;
    pub(super) const NOT_FOUND: u16 = 404;
    pub(super) const PRECONDITION_FAILED: u16 = 406;
    pub(super) const COMMAND_INVALID: u16 = 503;
    pub(super) const NOT_ALLOWED: u16 = 530;
}

/// A failed call: the broker's reply code, 0 when it was not the broker that spoke, and a line.
struct Fault {
    code: u16,
    reason: String,
}

impl Fault {
    fn lost(self, what: &str) -> BrokerError {
        BrokerError::Lost(format!("the broker failed while {what}: {}", self.reason))
    }
}

impl From<lapin::Error> for Fault {
    fn from(error: lapin::Error) -> Self {
        match error.kind() {
            ErrorKind::ProtocolError(error) => Self {
                code: error.get_id(),
                reason: error.get_message().to_string().replace('\n', " "),
            },
            ErrorKind::IOError(error) => Self {
                code: 0,
                reason: error.to_string(),
            },
            ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidConnectionState(_) => Self {
                code: 0,
                reason: "the connection is closed".into(),
            },
            _ => Self {
                code: 0,
                reason: error.to_string(),
            },
        }
    }
}

/// Awaits a call, but not for ever.
async fn within<T>(call: impl Future<Output = lapin::Result<T>>) -> Result<T, Fault> {
    match tokio::time::timeout(ANSWER, call).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Fault {
            code: 0,
            reason: format!("no answer within {} s", ANSWER.as_secs()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_url_is_refused_without_quoting_its_password() {
        for url in [
            "http://u:s3cret@h",
            "u:s3cret@h",
            "amqp://u:s3cret@h:port",
            "amqp://u:s3cret@h/%ff",
            "amqp://u:s3cret@h/?heartbeat=s3cret",
            "amqp://",
        ] {
            let error = Target::parse(url, "orders", 1).unwrap_err().to_string();
            assert!(error.contains("expected amqp://"), "{url}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_target_shows_no_password() {
        let target = Target::parse("amqp://me:s3cret@h:5673", "orders", 1).unwrap();
        assert_eq!(target.to_string(), "h:5673");
        assert!(!format!("{target:?}").contains("s3cret"));
    }
}
