//! What a test publishes by hand, byte by byte, and what it then expects to find.

use std::time::{Duration, Instant};

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use windlass_dispatcher::broker::{QuarantineFilter, Quarantined};
use windlass_dispatcher::store::{Audit, SourceAudit};

use crate::harness::{Process, Site};

pub const JSON: &str = "application/json";
pub const NDJSON: &str = "application/x-ndjson";
pub const ARROW: &str = "application/vnd.apache.arrow.stream";

/// Sends any body with any properties to a site's stream, and waits for each confirm.
pub struct Raw {
    _connection: Connection,
    channel: Channel,
    stream: String,
}

impl Raw {
    /// A publisher for this site, whose queues it declares.
    pub async fn to(site: &Site) -> Self {
        site.broker().await.close().await;
        let connection = Connection::connect(&site.broker, ConnectionProperties::default()).await;
        let connection = connection.expect("the broker answers");
        let channel = connection.create_channel().await.expect("a channel");
        let confirms = ConfirmSelectOptions::default();
        channel.confirm_select(confirms).await.expect("confirms");
        Self {
            _connection: connection,
            channel,
            stream: site.stream.name.clone(),
        }
    }

    /// Sends a body under a content type, or under none.
    pub async fn send(&self, content_type: Option<&str>, body: impl AsRef<[u8]>) {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let properties = match content_type {
            Some(text) => properties.with_content_type(text.into()),
            None => properties,
        };
        self.send_with(properties, body).await;
    }

    /// Sends a body with properties of choice.
    pub async fn send_with(&self, properties: BasicProperties, body: impl AsRef<[u8]>) {
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let (exchange, key) = (self.stream.as_str().into(), "by-hand".into());
        let confirm = self
            .channel
            .basic_publish(exchange, key, options, body.as_ref(), properties)
            .await
            .expect("the channel is open");
        let confirm = confirm.await.expect("the broker answers");
        assert_eq!(confirm, Confirmation::Ack(None), "the broker has it");
    }
}

/// One order as a producer would write it.
pub fn order(source: &str, seq: u64, ts: i64, province: &str, amount: &str) -> String {
    format!(
        r#"{{"source":"{source}","seq":{seq},"ts":{ts},"province":"{province}","amount":{amount}}}"#
    )
}

/// What the ledger says of one source; all zero if it does not know it.
pub fn of(audit: &Audit, source: &str) -> SourceAudit {
    let found = audit.sources.iter().find(|of| of.source == source);
    found.cloned().unwrap_or_else(|| SourceAudit {
        source: source.into(),
        counted: 0,
        late: 0,
        quarantined: 0,
        low: 0,
        gaps: Vec::new(),
    })
}

/// Counted, late and quarantined of one source.
pub fn counts(audit: &Audit, source: &str) -> [i64; 3] {
    let of = of(audit, source);
    [of.counted, of.late, of.quarantined]
}

impl Site {
    /// Starts a dispatcher and waits until it owns the shard.
    pub async fn owned(&self, flags: &[&str]) -> Process {
        let dispatcher = self.dispatch(flags);
        dispatcher.becomes("owner", Duration::from_secs(60)).await;
        dispatcher
    }

    /// Waits until the ledger is as expected, and returns it.
    pub async fn audited(
        &self,
        within: Duration,
        what: &str,
        is_so: impl Fn(&Audit) -> bool,
    ) -> Audit {
        let started = Instant::now();
        loop {
            let audit = self.audit().await;
            if let Some(audit) = &audit
                && is_so(audit)
            {
                return audit.clone();
            }
            assert!(
                started.elapsed() < within,
                "not within {within:?}: {what}; the ledger says {audit:?}"
            );
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// What is in quarantine, as a library user sees it.
    pub async fn quarantined(&self) -> Vec<Quarantined> {
        let broker = self.broker().await;
        let found = broker
            .browse_quarantine(&QuarantineFilter::default(), 10_000)
            .await;
        broker.close().await;
        found.expect("the quarantine queue is there")
    }

    /// Runs a subcommand that answers in JSON.
    pub fn json(&self, subcommand: &[&str]) -> serde_json::Value {
        let output = self.run(subcommand);
        assert!(
            output.status.success(),
            "{subcommand:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).expect("one JSON value")
    }

    /// Rows of `gmv_per_second`, all of them.
    pub fn rows(&self) -> Vec<serde_json::Value> {
        let from = "1970-01-01T00:00:00Z";
        let answer = self.json(&["query", "gmv", "--from", from, "--format", "json"]);
        answer["rows"].as_array().expect("an array of rows").clone()
    }

    /// Asserts that no tuple was late and no row was corrected after it was closed.
    pub async fn nothing_was_late(&self) {
        let audit = self.audit().await.expect("the store answers");
        let late: Vec<&SourceAudit> = audit.sources.iter().filter(|of| of.late > 0).collect();
        assert!(late.is_empty(), "late tuples: {late:?}");
        let rows = self.rows();
        assert!(!rows.is_empty(), "there are results");
        for row in rows {
            assert_eq!(row["revision"], 0, "a row was corrected: {row}");
        }
    }
}
