//! What cannot be counted: a copy for the quarantine queue, and an outcome where the tuple has an
//! identity. The copy is confirmed before the commit that settles the tuple.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use windlass_functions::decode::{BadRow, JSON};
use windlass_functions::ledger::{Insert, MAX_RAGGED_BLOCKS};
use windlass_functions::tuple::Tuples;
use windlass_functions::window;

use super::{Delivery, Pending, Shard};
use crate::broker::{QuarantineMessage, SHORT_TEXT_BYTES};
use crate::plan::{Outcome, OutcomeKind, OutcomeTuple};

/// What a quarantined message or outcome costs in memory beyond its text, bytes.
pub(super) const OUTCOME_BYTES: usize = 512;

impl Shard {
    pub(super) fn settle_uncounted(
        &mut self,
        number: usize,
        tuples: &Tuples,
        row: usize,
        kind: OutcomeKind,
        reason: String,
    ) {
        let key = Arc::clone(self.open.dictionaries.keys.text(tuples.key[row]));
        let source = Arc::clone(&self.source(number).name);
        let (outcome, message) = self.uncounted(source, key, tuples, row, kind, reason);
        self.hold(OUTCOME_BYTES + message.body.len());
        self.open.outcomes.push(outcome);
        self.open.quarantine.push(message);
    }

    /// The ledger's row and the quarantined copy of a tuple that is settled without being counted.
    pub(super) fn uncounted(
        &self,
        source: Arc<str>,
        key: Arc<str>,
        tuples: &Tuples,
        row: usize,
        kind: OutcomeKind,
        reason: String,
    ) -> (Outcome, QuarantineMessage) {
        let (seq, ts, amount) = (tuples.seq[row], tuples.ts[row], tuples.amount[row]);
        let id = fitting(format!("{}:{source}:{seq}", kind.as_str()));
        let message = QuarantineMessage {
            id: id.clone(),
            content_type: Some("application/json".to_owned()),
            outcome: kind.as_str(),
            reason: reason.clone(),
            identity: Some((source.to_string(), seq)),
            shard: self.number,
            body: self
                .stream
                .tuple_json(&source, seq, ts, &key, amount)
                .into(),
        };
        let outcome = Outcome {
            source,
            seq,
            kind,
            reason,
            quarantine_id: id,
            tuple: Some(OutcomeTuple {
                ts,
                window: window::start_of(ts, self.stream.window_ms),
                key,
                amount,
            }),
        };
        (outcome, message)
    }

    /// A tuple that the ledger has no room for, because its source does not number its tuples, is not
    /// settled: like one without a seq it goes to quarantine for somebody to mend.
    pub(super) fn refuse_scattered(&mut self, number: usize, tuples: &Tuples, row: usize) {
        let key = Arc::clone(self.open.dictionaries.keys.text(tuples.key[row]));
        let source = Arc::clone(&self.source(number).name);
        let (seq, ts, amount) = (tuples.seq[row], tuples.ts[row], tuples.amount[row]);
        let body = self.stream.tuple_json(&source, seq, ts, &key, amount);
        self.open.tallies.undecodable += 1;
        self.hold(OUTCOME_BYTES + body.len());
        self.open.quarantine.push(QuarantineMessage {
            id: fitting(format!("undecodable:{source}:{seq}")),
            content_type: Some("application/json".to_owned()),
            outcome: "undecodable",
            reason: scattered(&source, seq),
            identity: None,
            shard: self.number,
            body: body.into(),
        });
    }

    pub(super) fn take_bad_rows(&mut self, pending: &Pending) {
        for bad in &pending.bad {
            let Some((name, seq)) = &bad.identity else {
                self.open.tallies.undecodable += 1;
                self.quarantine_row(pending, bad, "undecodable", None);
                continue;
            };
            let number = self.by_name[name.as_str()];
            if self.source(number).home != self.number {
                self.open.tallies.misrouted += 1;
                self.quarantine_row(pending, bad, "misrouted", bad.identity.clone());
                continue;
            }
            match self.source(number).settled.insert(*seq) {
                Insert::Fresh => {}
                Insert::Known => {
                    self.open.tallies.duplicates += 1;
                    // A replay's only copy is the one at hand; an ordinary duplicate's first copy is
                    // safe.
                    if pending.delivery.replay {
                        self.quarantine_row(pending, bad, "quarantined", bad.identity.clone());
                    }
                    continue;
                }
                Insert::Scattered => {
                    self.open.tallies.undecodable += 1;
                    self.quarantine_row(pending, bad, "undecodable", None);
                    continue;
                }
            }
            self.touch(number).quarantined += 1;
            let quarantine_id =
                self.quarantine_row(pending, bad, "quarantined", bad.identity.clone());
            let source = Arc::clone(&self.source(number).name);
            self.open.outcomes.push(Outcome {
                source,
                seq: *seq,
                kind: OutcomeKind::Quarantined,
                reason: bad.reason.clone(),
                quarantine_id,
                tuple: None,
            });
        }
    }

    fn quarantine_row(
        &mut self,
        pending: &Pending,
        bad: &BadRow,
        outcome: &'static str,
        identity: Option<(String, u64)>,
    ) -> String {
        let id = fitting(match &identity {
            Some((source, seq)) => format!("{outcome}:{source}:{seq}"),
            None => {
                let message = pending
                    .copy_id
                    .get_or_init(|| self.copy_id(&pending.delivery));
                format!("{message}.{}", bad.row)
            }
        });
        self.hold(OUTCOME_BYTES + bad.body.len() + bad.reason.len());
        self.open.quarantine.push(QuarantineMessage {
            id: id.clone(),
            content_type: Some("application/json".to_owned()),
            outcome,
            reason: format!("row {}: {}", bad.row, bad.reason),
            identity,
            shard: self.number,
            body: Bytes::copy_from_slice(&bad.body),
        });
        id
    }

    /// The rows of a source that belongs to another shard: a copy for each source, so that a replay
    /// takes it to where that source's messages go. The message itself if it holds nothing else.
    pub(super) fn quarantine_misrouted(
        &mut self,
        pending: &Pending,
        tuples: &Tuples,
        source: &Arc<str>,
        home: u32,
        runs: &[Range<usize>],
    ) {
        // Bad rows have copies of their own.
        let (delivery, alone) = (&pending.delivery, pending.bad.is_empty());
        let (here, stream) = (self.number, &self.stream.name);
        let reason = format!(
            "source {source:?} belongs to shard {home} and came on shard {here}: publish to the exchange \
             {stream:?} with the source as routing key, as a replay does"
        );
        let rows = || runs.iter().cloned().flatten();
        let first = rows().next().map(|row| tuples.seq[row]);
        let mut copy = QuarantineMessage {
            id: fitting(format!("{}:{source}", self.copy_id(delivery))),
            content_type: delivery.content_type.clone(),
            outcome: "misrouted",
            reason,
            identity: first.map(|seq| (source.to_string(), seq)),
            shard: here,
            body: delivery.body.clone(),
        };
        if !alone || rows().count() < tuples.len() {
            copy.content_type = Some(JSON.to_owned());
            let mut body = Vec::new();
            for row in rows() {
                let key = self.open.dictionaries.keys.text(tuples.key[row]);
                let (seq, ts, amount) = (tuples.seq[row], tuples.ts[row], tuples.amount[row]);
                body.push(if body.is_empty() { b'[' } else { b',' });
                body.append(&mut self.stream.tuple_json(source, seq, ts, key, amount));
            }
            body.push(b']');
            copy.body = body.into();
        }
        self.hold(OUTCOME_BYTES + copy.body.len() + copy.reason.len());
        self.open.quarantine.push(copy);
    }

    pub(super) fn quarantine_message(
        &mut self,
        delivery: &Delivery,
        outcome: &'static str,
        reason: String,
    ) {
        let id = fitting(self.copy_id(delivery));
        self.hold(OUTCOME_BYTES + delivery.body.len() + reason.len());
        self.open.quarantine.push(QuarantineMessage {
            id,
            content_type: delivery.content_type.clone(),
            outcome,
            reason,
            identity: None,
            shard: self.number,
            body: delivery.body.clone(),
        });
    }

    /// A name for the copy of a message that has no identity of its own: the same whenever the message
    /// comes again, and another for another body, also where producers use one message id for all.
    fn copy_id(&self, delivery: &Delivery) -> String {
        let sum = checksum(delivery);
        match &delivery.message_id {
            // A copy that was replayed comes with the name it has.
            Some(id) if id.ends_with(&sum) => id.clone(),
            Some(id) => format!("{id}:{sum}"),
            None => format!("{}.{}:{sum}", self.stream.name, self.number),
        }
    }
}

/// The first 128 bits of SHA-256 over content type and body, in hexadecimal.
fn checksum(delivery: &Delivery) -> String {
    let mut sum = Sha256::new();
    sum.update(delivery.content_type.as_deref().unwrap_or_default());
    sum.update([0]);
    sum.update(&delivery.body);
    let digest = sum.finalize();
    let bytes = digest.iter().take(16);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

fn scattered(source: &str, seq: u64) -> String {
    format!(
        "seq is not gap-free: {seq} of source {source:?} is far from the others, and those have holes in \
         {MAX_RAGGED_BLOCKS} blocks of 65,536 already; have the source number its tuples 1, 2, 3, … \
         (under a new name, since this one's ledger is full), then publish this one so"
    )
}

/// A copy's name within what AMQP takes. Of one too long, the end gives way to a checksum of all of it,
/// so that different copies keep different names and the same copy keeps its own.
fn fitting(mut id: String) -> String {
    if id.len() > SHORT_TEXT_BYTES {
        // FNV-1a, 64 bits.
        let sum = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
            (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let sum = format!("~{sum:016x}");
        id.truncate(id.floor_char_boundary(SHORT_TEXT_BYTES - sum.len()));
        id.push_str(&sum);
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_too_long_for_the_broker_is_cut_and_stays_unique() {
        let of = |seq: u64| fitting(format!("late:{}:{seq}", "ä".repeat(127)));
        assert!(of(1).len() <= SHORT_TEXT_BYTES);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        assert!(of(1).starts_with("late:ää"));
        let longest = "x".repeat(SHORT_TEXT_BYTES);
        assert_eq!(fitting(longest.clone()), longest);
    }
}
