//! A broker's URL: parsed once, shown without the password, connected to.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use lapin::tcp::OwnedTLSConfig;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};
use url::Url;
use windlass_functions::trust;

use super::fault::{Fault, code};
use crate::broker::BrokerError;

/// Detects a dead broker within twice this, unless the URL says `?heartbeat=`. Seconds.
const HEARTBEAT: u16 = 10;

/// How long reaching the broker and the handshake may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Where a broker is and how to log in. Its `Display` shows no credentials.
pub struct Address {
    uri: AMQPUri,
    /// Trusted besides the system's authorities, PEM.
    authority: Option<String>,
}

impl Address {
    /// Parses `amqp://` and `amqps://` URLs; a missing vhost is `/`. The query may name a private
    /// authority's certificates, as RabbitMQ's own clients do: `?cacertfile=/etc/ssl/ca.crt`.
    ///
    /// # Errors
    /// [`BrokerError::BadUrl`], which never quotes the URL.
    pub fn parse(text: &str) -> Result<Self, BrokerError> {
        let bad = |why: String| BrokerError::BadUrl(why);
        let url = Url::parse(text).map_err(|error| bad(format!("is not a URL ({error})")))?;
        if !matches!(url.scheme(), "amqp" | "amqps") {
            return Err(bad(format!("has the scheme {:?}", url.scheme())));
        }
        let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
            return Err(bad("names no host".into()));
        };
        let host = host.trim_matches(['[', ']']).to_string();
        // The client's parser may quote the URL, password included: its words are not passed on.
        let mut uri = text
            .parse::<AMQPUri>()
            .map_err(|_| bad("has a malformed part (percent-encoding or query)".into()))?;
        // That parser takes IPv6 literals for "no host" and an empty path for a vhost named "".
        uri.authority.host = host;
        if uri.vhost.is_empty() {
            uri.vhost = "/".into();
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        let file = url.query_pairs().find(|(name, _)| name == "cacertfile");
        let authority = file.map(|(_, path)| trust::authority(Path::new(&*path)));
        let authority = authority.transpose();
        let authority = authority.map_err(|error| bad(format!("names a bad file ({error})")))?;
        Ok(Self { uri, authority })
    }

    /// Opens a connection that the broker lists under `name`.
    pub async fn connect(&self, name: &str) -> Result<Connection, BrokerError> {
        trust::use_ring();
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let tls = OwnedTLSConfig {
            cert_chain: self.authority.clone(),
            ..OwnedTLSConfig::default()
        };
        let connecting = async {
            let runtime = lapin::runtime::default_runtime()?;
            Connection::connect_uri_with_config(self.uri.clone(), properties, tls, runtime).await
        };
        match tokio::time::timeout(CONNECT, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(self.explain(error.into())),
            Err(_) => Err(self.unreachable(format!("no answer within {} s", CONNECT.as_secs()))),
        }
    }

    fn explain(&self, fault: Fault) -> BrokerError {
        let user = self.uri.authority.userinfo.username.clone();
        match fault.code {
            code::ACCESS_REFUSED => BrokerError::Credentials {
                address: self.to_string(),
                user,
            },
            code::NOT_ALLOWED | code::NOT_FOUND => BrokerError::Vhost {
                address: self.to_string(),
                user,
                vhost: self.uri.vhost.clone(),
                reason: fault.reason,
            },
            _ => self.unreachable(fault.reason),
        }
    }

    fn unreachable(&self, mut reason: String) -> BrokerError {
        if let Some(meaning) = trust::explain(&reason) {
            reason = format!("{reason}; {meaning}");
        }
        BrokerError::Unreachable {
            address: self.to_string(),
            reason,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.uri.scheme {
            AMQPScheme::AMQP => "amqp",
            AMQPScheme::AMQPS => "amqps",
        };
        let authority = &self.uri.authority;
        if authority.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", authority.host, authority.port)
        } else {
            write!(f, "{scheme}://{}:{}", authority.host, authority.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> String {
        Address::parse(url).unwrap().to_string()
    }

    #[test]
    fn an_address_shows_neither_user_nor_password() {
        assert_eq!(
            shown("amqp://me:s3cret@broker.example:5673/orders"),
            "amqp://broker.example:5673"
        );
        assert_eq!(shown("amqps://me:s3cret@[::1]/"), "amqps://[::1]:5671");
    }

    #[test]
    fn a_missing_vhost_is_the_default_one_and_a_given_heartbeat_stays() {
        let vhost = |url| Address::parse(url).unwrap().uri.vhost;
        assert_eq!(vhost("amqp://h"), "/");
        assert_eq!(vhost("amqp://h/"), "/");
        assert_eq!(vhost("amqp://h/%2f"), "/");
        assert_eq!(vhost("amqp://h/a%2Fb"), "a/b");
        let heartbeat = |url| Address::parse(url).unwrap().uri.query.heartbeat;
        assert_eq!(heartbeat("amqp://h"), Some(HEARTBEAT));
        assert_eq!(heartbeat("amqp://h/%2f?heartbeat=3"), Some(3));
    }

    #[test]
    fn a_bad_url_is_refused_without_quoting_its_password() {
        for url in [
            "amqp:s3cret",
            "http://u:s3cret@h",
            "u:s3cret@h",
            "amqp://u:s3cret@h:port",
            "amqp://u:s3cret@h/%ff",
            "amqp://u:s3cret@h/?heartbeat=s3cret",
            "amqp://",
            "",
        ] {
            let error = Address::parse(url).err().map(|error| error.to_string());
            let error = error.unwrap_or_else(|| panic!("{url} was taken"));
            assert!(error.contains("expected amqp://"), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
