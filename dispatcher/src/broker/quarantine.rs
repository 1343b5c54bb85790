//! What travels to the quarantine queue, and what a person finds there.

use bytes::Bytes;

use crate::broker::SHORT_TEXT_BYTES;

/// A message for the quarantine queue, persistent and confirmed.
#[derive(Clone, Debug, PartialEq)]
pub struct QuarantineMessage {
    /// AMQP `message-id`, at most 255 bytes: tells copies of one message apart from different
    /// messages.
    pub id: String,
    /// AMQP `content-type` of the body.
    pub content_type: Option<String>,
    /// Header `windlass-outcome`: `late`, `quarantined`, `undecodable` or `misrouted`.
    pub outcome: &'static str,
    /// Header `windlass-reason`, for a person; cut at 1,000 bytes.
    pub reason: String,
    /// Headers `windlass-source` and `windlass-seq`, where legible. A source of more than 255 bytes
    /// is left out: it could not be a routing key.
    pub identity: Option<(String, u64)>,
    /// Header `windlass-shard`: whose queue it came from.
    pub shard: u32,
    /// The original body, or the row as JSON when one row of a message is bad.
    pub body: Bytes,
}

impl QuarantineMessage {
    /// Most bytes of a reason: headers must fit one AMQP frame.
    const REASON_BYTES: usize = 1_000;

    /// The same with everything short enough for AMQP headers.
    pub(super) fn fitted(mut self) -> Self {
        let cut = self.reason.floor_char_boundary(Self::REASON_BYTES);
        self.reason.truncate(cut);
        self.identity = self
            .identity
            .filter(|(source, _)| source.len() <= SHORT_TEXT_BYTES);
        self
    }
}

/// A message found in the quarantine queue. Foreign messages may lack every field but the body.
#[derive(Clone, Debug, PartialEq)]
pub struct Quarantined {
    /// AMQP `message-id`; empty if it has none.
    pub id: String,
    /// AMQP `content-type` of the body.
    pub content_type: Option<String>,
    /// `late`, `quarantined`, `undecodable` or `misrouted`; empty if unknown.
    pub outcome: String,
    /// Why it is here, for a person.
    pub reason: String,
    /// Who numbered the tuple.
    pub source: Option<String>,
    /// The tuple's number within its source.
    pub seq: Option<u64>,
    /// The shard that put it here.
    pub shard: Option<u32>,
    /// The original body, or the row as JSON.
    pub body: Bytes,
}

impl Quarantined {
    /// Whether its tuple is settled in the ledger, so that only a replay can count it. The others
    /// were never settled and are simply published again.
    pub fn is_settled(&self) -> bool {
        matches!(self.outcome.as_str(), "late" | "quarantined")
    }
}

impl From<QuarantineMessage> for Quarantined {
    fn from(message: QuarantineMessage) -> Self {
        let (source, seq) = message.identity.unzip();
        Self {
            id: message.id,
            content_type: message.content_type,
            outcome: message.outcome.into(),
            reason: message.reason,
            source,
            seq,
            shard: Some(message.shard),
            body: message.body,
        }
    }
}

/// Which quarantined messages are meant; an empty filter means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuarantineFilter {
    /// If not empty, only these message ids.
    pub ids: Vec<String>,
    /// If given, only tuples of this source.
    pub source: Option<String>,
    /// If given, only this outcome.
    pub outcome: Option<String>,
}

impl QuarantineFilter {
    /// Whether `message` is meant.
    pub fn lets_pass(&self, message: &Quarantined) -> bool {
        let wanted = |wish: &Option<String>, value: Option<&str>| {
            wish.as_deref().is_none_or(|wish| value == Some(wish))
        };
        (self.ids.is_empty() || self.ids.contains(&message.id))
            && wanted(&self.source, message.source.as_deref())
            && wanted(&self.outcome, Some(&message.outcome))
    }
}

/// What a replay of the quarantine did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Published to the stream again and removed from quarantine.
    pub replayed: u64,
    /// Looked at and left in quarantine.
    pub kept: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> QuarantineMessage {
        QuarantineMessage {
            id: "0-1-2".into(),
            content_type: None,
            outcome: "late",
            reason: "after its window was final".into(),
            identity: Some(("a".into(), 7)),
            shard: 0,
            body: Bytes::from_static(b"{}"),
        }
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character_and_a_long_source_left_out() {
        let mut long = message();
        long.reason = "ä".repeat(600);
        long.identity = Some(("x".repeat(256), 1));
        let fitted = long.fitted();
        assert_eq!(fitted.reason, "ä".repeat(500));
        assert_eq!(fitted.identity, None);
        assert_eq!(message().fitted(), message());
    }

    #[test]
    fn a_filter_lets_pass_what_matches_every_wish() {
        let found = Quarantined::from(message());
        assert!(QuarantineFilter::default().lets_pass(&found));
        let source = |name: &str| QuarantineFilter {
            source: Some(name.into()),
            outcome: Some("late".into()),
            ..QuarantineFilter::default()
        };
        assert!(source("a").lets_pass(&found));
        assert!(!source("b").lets_pass(&found));
        let ids = QuarantineFilter {
            ids: vec!["0-1-3".into()],
            ..QuarantineFilter::default()
        };
        assert!(!ids.lets_pass(&found));
    }
}
